"""Train a network from scratch on the distilled images and test it once: the standard evaluation of the field."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from latentdd_plugin.core.compute import Mode, forward_flops, try_compiled
from latentdd_plugin.core.heap import give_back_freed_memory
from latentdd_plugin.core.random import seeded
from latentdd_plugin.core.types import Json, Score
from latentdd_plugin.evaluators.base import Evaluator
from latentdd_plugin.evaluators.predictions import TOP5_FROM, Predictions, among_five
from latentdd_plugin.evaluators.protocols import Protocol
from latentdd_plugin.evaluators.trial import Trial
from latentdd_plugin.nn.architectures import build, forward_batch


@dataclass(frozen=True)
class TrainScratch(Evaluator):
    """Train `arch` from scratch under the protocol.

    Args:
        arch: any timm name, or `convnet` for the field's ConvNet with the depth that fits the image size.
    """

    arch: str = "convnet"

    def evaluate(self, trial: Trial, seed: int) -> Score:
        """Return the score of one network on the held-out images."""
        return self.session(trial)(seed)

    def session(self, trial: Trial) -> Callable[[int], Score]:
        """Return a function from seed to score; the network is compiled for the first seed and used for all."""
        return TrainingSession(self, trial).score

    def network(self, trial: Trial) -> tuple[nn.Module, str, dict[str, Json]]:
        """Return a new network for the trial's inputs, its timm name and the options it was built with."""
        return build(self.arch, trial.shape, trial.num_classes)


@dataclass(frozen=True)
class CompiledNetwork:
    """A network with its loss and logits, compiled if the mode says so; training changes the network in place."""

    network: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]  # inputs (n, C, H, W) and targets -> ()
    logits: Callable[[Tensor], Tensor]  # inputs (n, C, H, W) -> (n, classes)
    mode: Mode

    def to_layout(self, inputs: Tensor) -> Tensor:
        """Return the inputs in the memory layout that the functions were compiled for."""
        return inputs.contiguous(memory_format=torch.channels_last) if self.mode.compile else inputs


class TrainingSession:
    """Training and testing of one evaluator's networks on one trial, compiled once for all seeds.

    Args:
        evaluator: makes the networks.
        trial: the distilled set.
    """

    def __init__(self, evaluator: TrainScratch, trial: Trial) -> None:
        self.evaluator, self.trial = evaluator, trial
        self._compiled: CompiledNetwork | None = None

    def score(self, seed: int) -> Score:
        """Train one network and return its score on the held-out images."""
        arch, trial = self.evaluator.arch, self.trial
        with seeded(seed, f"evaluate/{arch}"):
            network, name, kwargs = self.evaluator.network(trial)
        network = network.to(trial.numerics.device)
        if self._compiled is None:
            self._compiled = compile_network(network, trial, seed)
        else:
            self._compiled.network.load_state_dict(network.state_dict())
        with seeded(seed, f"train/{arch}"):  # dropout and stochastic depth use the global generators
            train(self._compiled, trial, seed)
        give_back_freed_memory()  # testing takes larger blocks, for which those of a step are too small
        params = sum(p.numel() for p in network.parameters())
        found = predict(self._compiled, trial)
        return Score(arch, name, kwargs, params, seed, found.accuracy, **found.details())


def compile_network(network: nn.Module, trial: Trial, seed: int) -> CompiledNetwork:
    """Compile a network for a trial if its training is large enough; the weights stay as they are."""
    forward = forward_flops(network.eval(), trial.shape, trial.numerics.device)
    mode = trial.numerics.mode(forward * (3 * sum(trial.batch_sizes) + len(trial.held_out)))
    if mode.compile:
        network = network.to(memory_format=torch.channels_last)

    protocol = trial.protocol

    def loss(inputs: Tensor, targets: Tensor) -> Tensor:
        with mode.autocast():
            found = network(inputs)
            if targets.dtype == torch.int64 or protocol.loss == "ce":
                return F.cross_entropy(found, targets)
            if protocol.loss == "mse+ce":
                return logit_loss(found, targets, protocol.ce)
            return F.kl_div(F.log_softmax(found / protocol.temperature, 1), targets, reduction="batchmean")

    def logits(inputs: Tensor) -> Tensor:
        with mode.autocast():
            found: Tensor = network(inputs)
            return found

    plain = CompiledNetwork(network, loss, logits, mode)
    if not mode.compile:
        return plain
    start = {k: t.clone() for k, t in network.state_dict().items()}
    network.train()
    inputs, targets = next(trial.batches(seed))
    compiled, mode = try_compiled(mode, loss, plain.to_layout(inputs), targets)
    network.load_state_dict(start)
    return CompiledNetwork(network, compiled, mode.compiled(logits), mode)


def logit_loss(logits: Tensor, targets: Tensor, ce: float) -> Tensor:
    """Return the mean squared error of logits, and the cross-entropy with this weight, a scalar.

    CDA (arXiv 2311.18838) and EDC (arXiv 2404.13733) train on a teacher's logits. A distribution gives them up to a
    constant, so those of both sides are taken from their mean over the classes.

    Args:
        logits: of the network, (n, classes).
        targets: probabilities float32 (n, classes); those below 1e-12 count as 1e-12.
        ce: weight of the cross-entropy with the same targets.
    """
    wanted, found = targets.clamp_min(1e-12).log(), logits.float()
    apart = (found - found.mean(1, keepdim=True)) - (wanted - wanted.mean(1, keepdim=True))
    return apart.square().mean() + ce * F.cross_entropy(found, targets)


def train(compiled: CompiledNetwork, trial: Trial, seed: int) -> None:
    """Train in place by the trial's protocol."""
    protocol, steps = trial.protocol, len(trial.batch_sizes)
    lr = trial.lr if protocol.lr_from == "artifact" and trial.lr is not None else protocol.lr
    optimizer = make_optimizer(compiled.network, protocol, lr)
    average = get_ema_multi_avg_fn(protocol.ema)
    averaged = AveragedModel(compiled.network, multi_avg_fn=average, use_buffers=True) if protocol.ema else None
    compiled.network.train()
    for step, (inputs, targets) in enumerate(trial.batches(seed)):
        train_step(compiled, optimizer, inputs, targets, rate_at(protocol, step, steps, lr))
        if averaged is not None:
            averaged.update_parameters(compiled.network)
    if averaged is not None:
        compiled.network.load_state_dict(averaged.module.state_dict())


def train_step(
    compiled: CompiledNetwork, optimizer: torch.optim.Optimizer, inputs: Tensor, targets: Tensor, lr: float
) -> None:
    """Take one step of the optimiser at this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    loss = compiled.loss(compiled.to_layout(inputs), targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def make_optimizer(network: nn.Module, protocol: Protocol, lr: float) -> torch.optim.Optimizer:
    """Return the protocol's optimiser over all parameters."""
    parameters: list[dict[str, Any]] = [{"params": list(network.parameters())}]
    if protocol.decay == "weights":
        flat, matrices = ([p for p in network.parameters() if (p.ndim > 1) == wanted] for wanted in (False, True))
        parameters = [{"params": matrices}, {"params": flat, "weight_decay": 0.0}]
    if protocol.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr, weight_decay=protocol.weight_decay, fused=True)
    return torch.optim.SGD(parameters, lr, protocol.momentum, weight_decay=protocol.weight_decay, fused=True)


def rate_at(protocol: Protocol, step: int, steps: int, lr: float) -> float:
    """Return the learning rate of a step.

    `cosine` rises over the first tenth of the steps and falls as half a cosine; `drop` falls to a tenth at half way.
    `half-cosine` falls epoch by epoch along a quarter of a cosine's period, to a half.
    """
    if protocol.schedule == "half-cosine":
        epoch = step * protocol.epochs // steps
        return lr * 0.5 * (1 + math.cos(math.pi * epoch / protocol.epochs / 2))
    if protocol.schedule == "cosine":
        warm = max(1, steps // 10)
        return lr * min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / steps)))
    return lr * (0.1 if step > steps // 2 else 1.0)


def predict(compiled: CompiledNetwork, trial: Trial) -> Predictions:
    """Return the network's answers to the held-out images."""
    compiled.network.eval()
    labels = trial.held_out.labels.to(trial.numerics.device)
    # Written in place: small results kept between large batches would make the heap grow by each batch.
    given = torch.empty(len(labels), dtype=torch.int64)
    near = torch.empty(len(labels), dtype=torch.bool) if trial.num_classes >= TOP5_FROM else None
    with torch.no_grad():
        start, size = 0, forward_batch(trial.shape)
        for part in trial.test_batches(size):
            rows = slice(start, start + len(part))
            if len(part) < size:  # pad to the one shape that was compiled
                part = torch.cat([part, part[-1:].expand(size - len(part), -1, -1, -1)])
            logits = compiled.logits(compiled.to_layout(part))[: rows.stop - start]
            given[rows] = logits.argmax(1)
            if near is not None:
                near[rows] = among_five(logits, labels[rows])
            start = rows.stop
    return Predictions(labels.cpu(), given, near, trial.num_classes)
