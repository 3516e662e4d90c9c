"""NCFM: neural characteristic function matching (Wang et al., arXiv 2502.20653).

The characteristic function of features f is Phi(t) = E exp(i <t, f>). For each class, and with frequencies t that a
sampling network psi draws from noise,

    min_S max_psi  E_t sqrt( alpha (|Phi_T| - |Phi_S|)^2
                             + (1 - alpha) 2 |Phi_T| |Phi_S| (1 - cos(arg Phi_T - arg Phi_S)) ),

amplitude and phase; at alpha = 1/2 it is |Phi_T - Phi_S| / sqrt 2. Features are normalised to length 1 and come from a
network between an untrained one and the same one trained, a new mixture at each step. A second step lowers the
cross-entropy of the trained network on the synthetic samples (calibration).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from latentdd_plugin.distillers.embedding import Embedding
from latentdd_plugin.distillers.experts import Experts, ExpertTraining, obtain_experts
from latentdd_plugin.distillers.loop import INITS, Matching, Variables, one_of
from latentdd_plugin.distillers.siamese import class_cross_entropy, class_means, siamese
from latentdd_plugin.distillers.task import Task
from latentdd_plugin.distillers.work import TaskSize, Work

LAYERS = 3  # of the sampling network
SCALE = 300.0  # of the discrepancy, as in the authors' code
SMALLEST = 1e-12  # under the root, whose slope at 0 is not finite


@dataclass
class NCFM(Matching):
    """Neural characteristic function matching.

    Args:
        iterations: steps (paper: 20,000).
        lr: step size of the codes, with Adam; None is 0.1 / sqrt(codes per class). The authors' 0.001 is in units of
            pixels, about 0.004 deviations.
        momentum: first beta of Adam.
        batch_real: real samples per class and step (paper: 1,024).
        init: `real` or `noise`.
        optimizer: `adam` or `sgd`, of codes and sampling network.
        frequencies: number of t at each step, the same for all classes (paper: 4,096).
        alpha: weight of the amplitude; that of the phase is 1 - alpha (paper: 0.5 on CIFAR-10).
        sampling: `network` learns the frequencies (the min-max of the paper); `gaussian` draws them, as the authors'
            configuration files do.
        lr_sampling: step size of the sampling network (paper: 0.001).
        calibration: weight of the cross-entropy (paper: 1); 0 leaves the step out.
        networks: trained networks (paper: 20).
        epochs: epochs that each is trained for (paper: 60).
        lr_expert: step size of that training.
        batch_expert: samples per step of that training.
        expert_precision: how their weights are stored, `fp32` or `fp16`.
        rate: a number shows codes as they will be stored and adds it times their share of the bytes; None does not.
    """

    shares_classes: ClassVar[bool] = True
    second_beta: ClassVar[float] = 0.999
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "quick": {
            "iterations": 200,
            "batch_real": 64,
            "lr": None,
            "frequencies": 256,
            "networks": 2,
            "epochs": 2,
            "expert_precision": "fp16",
        },
    }

    iterations: int = 20_000
    lr: float | None = 0.004
    momentum: float = 0.9
    batch_real: int = 1024
    init: str = "real"
    optimizer: str = "adam"
    frequencies: int = 4096
    alpha: float = 0.5
    sampling: str = "network"
    lr_sampling: float = 1e-3
    calibration: float = 1.0
    networks: int = 20
    epochs: int = 60
    lr_expert: float = 0.01
    batch_expert: int = 256
    expert_precision: str = "fp32"
    rate: float | None = None

    def __post_init__(self) -> None:
        one_of("init", self.init, INITS)
        one_of("sampling", self.sampling, ("network", "gaussian"))
        if self.frequencies < 2:
            raise ValueError(f"frequencies={self.frequencies}: must be at least 2")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha={self.alpha:g}: must be between 0 and 1")

    def prepare(self, task: Task) -> None:
        """Train the networks; the processes of a run share them."""
        self._experts(task)

    def variables(self, task: Task) -> Variables:
        """Return the codes, which descend, and the sampling network, which ascends."""
        codes, labels = task.init(self.init)
        codes.requires_grad_()
        groups: list[dict[str, Any]] = [{"params": [codes], "lr": self.step_size(task)}]
        sampler = {}
        if self.sampling == "network":
            sampler = sampling_network(task.networks.network.num_features, task.generator("ncfm/sampler"))
            sampler = {name: tensor.to(task.device).requires_grad_() for name, tensor in sampler.items()}
            groups.append({"params": list(sampler.values()), "lr": self.lr_sampling, "maximize": True})
        return Variables(codes, labels, self.optimizer_of(groups), more=sampler)

    def iteration(self, task: Task, variables: Variables, step: int) -> Iterator[Tensor]:
        """Yield the calibration, then the discrepancy, each summed over classes."""
        g = task.generator("ncfm/network", step)
        expert, share = int(torch.randint(self.networks, (1,), generator=g)), float(torch.rand((), generator=g))
        if self.calibration:
            features = self._network(task, expert, 0.0, len(variables.codes))
            _, synthetic = siamese(task, variables.codes, self.batch_real, "ncfm", step)
            yield self.calibration * self._calibration(task, features, synthetic)
        features = self._network(task, expert, share, len(variables.codes))
        real, synthetic = siamese(task, variables.codes, self.batch_real, "ncfm", step)
        t = self._frequencies(task, variables, step)
        with torch.no_grad():
            targets = features(torch.cat(real))
        wanted, given = characteristic(targets, real, t), characteristic(features(torch.cat(synthetic)), synthetic, t)
        yield SCALE * discrepancy(wanted, given, self.alpha).sum()

    def work(self, size: TaskSize) -> Work:
        """Return the training of the networks, and per step both losses; the sampling network is not in it."""
        real, both = size.classes * min(self.batch_real, size.class_size), 2 if self.calibration else 1
        return Work(
            self.iterations,
            self.iterations * (real + 3 * both * size.codes),
            both * self.iterations * size.codes,
            expert_passes=3 * self.networks * self.epochs * size.samples,
            snapshots=self.networks * (self.epochs + 1),
        )

    def _calibration(self, task: Task, features: Embedding, synthetic: list[Tensor]) -> Tensor:
        """Return the cross-entropy of the network on synthetic samples, the mean of each class, summed over classes."""
        head = task.networks.network.head
        return class_cross_entropy(head(features(torch.cat(synthetic))), synthetic, task.own_classes)

    def _frequencies(self, task: Task, variables: Variables, step: int) -> Tensor:
        """Return this step's frequencies (n, F)."""
        size = task.networks.network.num_features
        noise = torch.randn((self.frequencies, size), generator=task.generator("ncfm/frequencies", step))
        noise = noise.to(task.device)
        return sampled(variables.more, noise) if variables.more else noise

    def _network(self, task: Task, expert: int, share: float, codes: int) -> Embedding:
        """Return the features of a mixture: this share of the untrained network, the rest of the trained one."""
        experts, network = self._experts(task), task.networks.network
        start, end = experts.snapshot(expert, 0), experts.snapshot(expert, self.epochs)
        with torch.no_grad():
            for parameter, first, last in zip(network.parameters(), start, end, strict=True):
                parameter.copy_(share * first + (1 - share) * last)
        work = task.flops(self.iterations * (task.num_classes * self.batch_real + 6 * codes))
        return task.embedding(task.numerics.mode(work))

    def _experts(self, task: Task) -> Experts:
        precision = self.expert_precision
        training = ExpertTraining(self.networks, self.epochs, self.lr_expert, self.batch_expert, precision)
        return obtain_experts(task, training)


def characteristic(features: Tensor, classes: list[Tensor], t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the real and the imaginary part (classes, n) of each class's characteristic function.

    Args:
        features: (N, F), class by class; they are normalised to length 1.
        classes: the samples of each class, whose numbers part the features.
        t: frequencies (n, F).
    """
    angles = F.normalize(features, dim=1) @ t.T
    return class_means(angles.cos(), classes), class_means(angles.sin(), classes)


def discrepancy(wanted: tuple[Tensor, Tensor], given: tuple[Tensor, Tensor], alpha: float) -> Tensor:
    """Return the discrepancy (classes,) of characteristic functions, the mean over frequencies of the equation above.

    2 |a| |b| (1 - cos(arg a - arg b)) is 2 (|a| |b| - Re a conj b): no angle is computed.
    """
    (a, b), (c, d) = wanted, given
    first, second = (torch.sqrt(x * x + y * y + SMALLEST) for x, y in (wanted, given))
    amplitude = (first - second).square()
    phase = 2 * (first * second - a * c - b * d)
    return torch.sqrt((alpha * amplitude + (1 - alpha) * phase).clamp_min(SMALLEST)).mean(1)


def sampling_network(size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Return the parameters of a new sampling network from (n, size) to (n, size), by name."""
    found, bound = {}, 1 / math.sqrt(size)
    for layer in range(LAYERS):
        for name, shape in (("weight", (size, size)), ("bias", (size,))):
            found[f"sampler.{layer}.{name}"] = (2 * torch.rand(shape, generator=generator) - 1) * bound
        found[f"sampler.{layer}.gain"], found[f"sampler.{layer}.shift"] = torch.ones(size), torch.zeros(size)
    return found


def sampled(network: dict[str, Tensor], noise: Tensor) -> Tensor:
    """Return frequencies (n, F) for noise (n, F): linear layers, each with BatchNorm; leaky ReLU, at last tanh."""
    x = noise
    for layer in range(LAYERS):
        weight, bias, gain, shift = (network[f"sampler.{layer}.{name}"] for name in ("weight", "bias", "gain", "shift"))
        x = F.batch_norm(F.linear(x, weight, bias), None, None, gain, shift, training=True)
        x = x.tanh() if layer == LAYERS - 1 else F.leaky_relu(x, 0.2)
    return x
