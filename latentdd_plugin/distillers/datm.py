"""DATM: difficulty-aligned trajectory matching (Guo et al., arXiv 2310.05773), on top of MTT.

Early epochs of an expert teach easy patterns and late ones hard patterns, which few samples cannot hold. So the start
epoch t is drawn from a window whose upper end grows linearly to what suits the number of samples, and labels are
learned with the samples. They begin as the logits of those experts that are right about a sample. A step whose loss is
above a threshold, where the student ran away from the expert, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from latentdd_plugin.distillers.loop import Variables, one_of
from latentdd_plugin.distillers.task import Task
from latentdd_plugin.distillers.trajectories import GRADIENTS, TrajectoryMatching, raised
from latentdd_plugin.distillers.work import TaskSize, Work

INITS = ("predicted", "real", "noise")
CHUNK = 256  # samples that an expert classifies at a time


@dataclass
class DATM(TrajectoryMatching):
    """Trajectory matching with difficulty alignment and learned soft labels.

    Options that are not named here are MTT's; the defaults are those of the authors for CIFAR-10 at IPC 10.

    Args:
        min_start_epoch: smallest t.
        first_max_start_epoch: t is drawn below it at first (paper: 10); at most max_start_epoch.
        max_start_epoch: t is drawn below it in the end (paper: 4, 20, 40 at IPC 1, 10, 50).
        expansion: steps in which the window grows from one to the other (paper: 1,000); 0 begins with the whole one.
        threshold: largest loss of a step that counts (paper: 1); null lets all count.
        labels: `soft` (paper) or `hard`.
        lr_labels: step size of soft labels (paper: 2).
        momentum_labels: momentum of soft labels (paper: 0.9).
        init: `predicted` draws real samples that the first expert classifies rightly (paper), `real`, or `noise`.
    """

    may_skip: ClassVar[bool] = True
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "quick": {
            "iterations": 100,
            "syn_steps": 5,
            "expert_epochs": 1,
            "experts": 2,
            "batch_syn": 128,
            "expert_precision": "fp16",
            "optimizer": "adam",
            "lr": 0.01,
            "lr_student": 0.06,
            "lr_lr": 1e-3,
            "first_max_start_epoch": 1,
            "max_start_epoch": 3,
            "expansion": 50,
            "lr_labels": 0.05,
        },
    }

    iterations: int = 10_000
    lr: float = 100.0
    syn_steps: int = 80
    min_start_epoch: int = 0
    first_max_start_epoch: int = 10
    max_start_epoch: int = 20
    expansion: int = 1000
    threshold: float | None = 1.0
    batch_syn: int | None = 100
    lr_lr: float = 1e-5
    labels: str = "soft"
    lr_labels: float = 2.0
    momentum_labels: float = 0.9
    init: str = "predicted"

    def __post_init__(self) -> None:
        one_of("gradient", self.gradient, GRADIENTS)
        one_of("labels", self.labels, ("hard", "soft"))
        one_of("init", self.init, INITS)
        if not 0 <= self.min_start_epoch < self.first_max_start_epoch <= self.max_start_epoch:
            raise ValueError(
                f"min_start_epoch={self.min_start_epoch}, first_max_start_epoch={self.first_max_start_epoch}, "
                f"max_start_epoch={self.max_start_epoch}: each must be above the one before; the last two may agree"
            )
        if self.expansion < 0:
            raise ValueError(f"expansion={self.expansion}: must be 0 or more")

    @property
    def label_momentum(self) -> dict[str, float]:
        """Options of the optimiser for soft labels alone."""
        return {"momentum": self.momentum_labels} if self.optimizer == "sgd" else {}

    def window(self, step: int) -> tuple[int, int]:
        """Return the first start epoch t that may be drawn at this step, and the first that may not."""
        share = min(1.0, step / self.expansion) if self.expansion else 1.0
        grown = int((self.max_start_epoch - self.first_max_start_epoch) * share)
        return self.min_start_epoch, self.first_max_start_epoch + grown

    def iteration(self, task: Task, variables: Variables, step: int) -> Iterator[Tensor]:
        """Yield MTT's loss, without its gradient if it is above the threshold."""
        for loss in super().iteration(task, variables, step):
            above = self.threshold is not None and float(loss.detach()) > self.threshold
            yield loss.detach() if above else loss

    def work(self, size: TaskSize) -> Work:
        """Return the work of matching trajectories; a step above the threshold costs as much as any."""
        return super().work(size)

    def start(self, task: Task) -> tuple[Tensor, Tensor]:
        """Return initial codes (M, c, h, w) and their classes; `predicted` fills up with other samples if it must."""
        if self.init != "predicted":
            return task.init(self.init)
        chosen = []
        for label in range(task.num_classes):
            members = task.codes.by_class[label]
            order = members[torch.randperm(len(members), generator=task.generator("init", label))]
            right = self._right(task, order, label)
            order = torch.cat([order[right], order[~right]])
            chosen.append(order.repeat(-(-task.codes_per_class // len(order)))[: task.codes_per_class])
        labels = torch.arange(task.num_classes).repeat_interleave(task.codes_per_class)
        return task.codes.take(torch.cat(chosen)).clone(), labels.to(task.device)

    def _right(self, task: Task, order: Tensor, label: int) -> Tensor:
        """Return which samples the first expert classifies rightly, bool (n,); it stops looking when it has enough."""
        right = torch.zeros(len(order), dtype=torch.bool)
        for rows in torch.arange(len(order)).split(CHUNK):
            logits = self._expert_logits(task, 0, task.real.take(order[rows]))
            right[rows] = (logits.argmax(1) == label).cpu()
            if int(right.sum()) >= task.codes_per_class:
                break
        return right

    def _first_logits(self, task: Task, codes: Tensor, labels: Tensor) -> Tensor:
        """Return the mean logits (M, classes) of the experts that are right about a sample, of all if none is."""
        with torch.no_grad():
            view = task.view(codes, labels)
            logits = torch.stack([self._expert_logits(task, expert, view) for expert in range(self.experts)])
        right = (logits.argmax(2) == labels).float()
        weights = torch.where(right.sum(0) > 0, right, 1.0)
        return raised((logits * weights[:, :, None]).sum(0) / weights.sum(0)[:, None], labels)
