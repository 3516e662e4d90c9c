"""IDM: improved distribution matching (Zhao et al., CVPR 2023, arXiv 2307.09742).

DM with two changes. The networks psi are not random but taken from the first epochs of their training, and a
class-aware term keeps synthetic samples recognisable. For each class c,

    || 1/|T_c| sum A(psi(x in T_c))  -  1/|S_c| sum A(psi(s in S_c)) ||^2  +  w a(psi) 1/|S_c| sum CE(psi(A(s)), c),

with Siamese augmentations A and the accuracy a of psi in per cent. The paper's third idea, several small pictures in
the bytes of one, is a matter of storage: the codec `downscale` does it for any method.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from latentdd_plugin.core.processes import group
from latentdd_plugin.distillers.embedding import Embedding
from latentdd_plugin.distillers.experts import Experts, ExpertTraining, obtain_experts
from latentdd_plugin.distillers.loop import INITS, Matching, Variables, one_of
from latentdd_plugin.distillers.siamese import class_cross_entropy, class_means, siamese
from latentdd_plugin.distillers.task import Task
from latentdd_plugin.distillers.work import TaskSize, Work


@dataclass
class IDM(Matching):
    """Improved distribution matching.

    Args:
        iterations: steps, each with one snapshot of one network (paper: 20,000).
        lr: step size of the codes (paper: 0.2, with SGD); None is 0.1 / sqrt(codes per class), for Adam.
        momentum: of the optimiser on the codes (paper: 0.5).
        batch_real: real samples per class and step (paper: 256; 5,000 at one image per class).
        init: `real` or `noise` (paper: real).
        optimizer: `sgd` (paper) or `adam`, whose step does not depend on the number and size of the codes.
        ce: weight of the cross-entropy, times the snapshot's accuracy in per cent (paper: 0.5; 0.1 at 50 images per
            class); 0 leaves it out.
        networks: trained networks (paper: a queue of 100).
        epochs: last epoch of a snapshot; the first is 0, the untrained network. The authors' networks leave their queue
            after about three.
        lr_expert: step size of the networks' training, SGD without momentum (paper: 0.01 with momentum 0.9).
        batch_expert: samples per step of that training.
        expert_precision: how their weights are stored, `fp32` or `fp16`.
        rate: a number shows codes as they will be stored and adds it times their share of the bytes; None does not.
    """

    shares_classes: ClassVar[bool] = True
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "quick": {
            "iterations": 200,
            "batch_real": 64,
            "optimizer": "adam",
            "lr": None,
            "networks": 2,
            "epochs": 2,
            "expert_precision": "fp16",
        },
    }

    iterations: int = 20_000
    lr: float | None = 0.2
    momentum: float = 0.5
    batch_real: int = 256
    init: str = "real"
    optimizer: str = "sgd"
    ce: float = 0.5
    networks: int = 100
    epochs: int = 3
    lr_expert: float = 0.1
    batch_expert: int = 256
    expert_precision: str = "fp32"
    rate: float | None = None

    def __post_init__(self) -> None:
        one_of("init", self.init, INITS)
        if self.ce < 0:
            raise ValueError(f"ce={self.ce:g}: must be 0 or a positive number")

    def prepare(self, task: Task) -> None:
        """Train the networks; the processes of a run share them."""
        self._experts(task)

    def iteration(self, task: Task, variables: Variables, step: int) -> Iterator[Tensor]:
        """Yield the equation above for one snapshot, summed over classes."""
        psi, head = self._snapshot(task, step, len(variables.codes)), task.networks.network.head
        real, synthetic = siamese(task, variables.codes, self.batch_real, "idm", step)
        with torch.no_grad():
            seen = psi(torch.cat(real))
            percent = 100 * _accuracy(head(seen), real, task.own_classes)
        features = psi(torch.cat(synthetic))
        distance = (class_means(seen, real) - class_means(features, synthetic)).square().sum()
        yield distance + self.ce * percent * class_cross_entropy(head(features), synthetic, task.own_classes)

    def work(self, size: TaskSize) -> Work:
        """Return the networks' training; per step, a pass of the real samples and one both ways of the synthetic."""
        real = size.classes * min(self.batch_real, size.class_size)
        return Work(
            self.iterations,
            self.iterations * (real + 3 * size.codes),
            self.iterations * size.codes,
            expert_passes=3 * self.networks * self.epochs * size.samples,
            snapshots=self.networks * (self.epochs + 1),
        )

    def _snapshot(self, task: Task, step: int, codes: int) -> Embedding:
        """Return the features of a network after one of its epochs, both drawn for this step."""
        experts, network, g = self._experts(task), task.networks.network, task.generator("idm/network", step)
        expert, epoch = (int(torch.randint(n, (1,), generator=g)) for n in (self.networks, self.epochs + 1))
        with torch.no_grad():
            for parameter, weight in zip(network.parameters(), experts.snapshot(expert, epoch), strict=True):
                parameter.copy_(weight)
        work = task.flops(self.iterations * (task.num_classes * self.batch_real + 3 * codes))
        return task.embedding(task.numerics.mode(work))

    def _experts(self, task: Task) -> Experts:
        precision = self.expert_precision
        training = ExpertTraining(self.networks, self.epochs, self.lr_expert, self.batch_expert, precision)
        return obtain_experts(task, training)


def _accuracy(logits: Tensor, classes: list[Tensor], own: range) -> float:
    """Return the share of samples that logits (N, classes) put into their class, over the classes of all processes."""
    parts = logits.argmax(1).split([len(samples) for samples in classes])
    right = sum(int((part == label).sum()) for label, part in zip(own, parts, strict=True))
    everywhere = group().sum_(torch.tensor([right, len(logits)], dtype=torch.float64, device=logits.device))
    return float(everywhere[0] / everywhere[1])
