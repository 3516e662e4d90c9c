"""Coresets by a score of difficulty, taken from networks trained on the real set in the match space.

EL2N: Paul, Ganguli & Dziugaite, arXiv 2107.07075. Forgetting: Toneva et al., arXiv 1812.05159. Margin: Coleman et al.,
"Selection via Proxy", arXiv 1906.11829.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from latentdd_plugin.core.types import Json, SyntheticSet
from latentdd_plugin.distillers.base import Distiller
from latentdd_plugin.distillers.gradients import weights_of
from latentdd_plugin.distillers.task import Task
from latentdd_plugin.distillers.work import TaskSize, Work

BATCH = 256


@dataclass
class Scored(Distiller):
    """Base of the methods that rank the real samples of a class by a score. Derive and write `score`.

    Args:
        networks: networks whose scores are averaged.
        epochs: epochs that each is trained for; a score may use every one of them.
        lr: step size of that training.
        keep: `easy` takes the samples of the lowest score, `hard` those of the highest. At few samples per class easy
            ones serve better (Sorscher et al., arXiv 2206.14486).
    """

    presets: ClassVar[dict[str, dict[str, Json]]] = {"paper": {}, "quick": {"networks": 1, "epochs": 2}}
    match_spaces: ClassVar[tuple[str, ...]] = ("code", "pixel")
    is_selection: ClassVar[bool] = True
    changes_codes: ClassVar[bool] = False

    networks: int = 10
    epochs: int = 20
    lr: float = 0.01
    keep: str = "easy"

    def __post_init__(self) -> None:
        if self.keep not in ("easy", "hard"):
            raise ValueError(f"keep={self.keep}: choose easy or hard")

    @abstractmethod
    def score(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the difficulty (N,) of every sample.

        Args:
            logits: float32 (epochs, N, classes) of one network after each epoch.
            labels: int64 (N,).
        """

    def distill(self, task: Task) -> SyntheticSet:
        """Return the real codes that rank first, class by class."""
        labels = task.real.labels
        total = torch.zeros(len(labels))
        for number in range(self.networks):
            total += self.score(self._trained(task, number), labels)
            task.progress(number + 1, self.networks, math.nan)
        order = total if self.keep == "easy" else -total
        chosen = [
            members[order[members].argsort(stable=True)[: task.codes_per_class]] for members in task.codes.by_class
        ]
        found = torch.cat([torch.full((len(rows),), label) for label, rows in enumerate(chosen)])
        return SyntheticSet(task.codes.take(torch.cat(chosen)), found)

    def work(self, size: TaskSize) -> Work:
        """Return the training of the networks, and a forward pass of the whole set after each epoch."""
        epochs = self.networks * self.epochs
        return Work(epochs * math.ceil(size.samples / BATCH), 4 * epochs * size.samples)

    def _trained(self, task: Task, number: int) -> Tensor:
        """Return the logits (epochs, N, classes) of one network on the whole set, after each epoch of SGD."""
        network, total = task.network("scores/network", number), len(task.real.labels)
        gradients = task.gradients(task.numerics.mode(task.flops(4 * total * self.epochs * self.networks)))
        weights, order = weights_of(network), task.generator("scores/order", number)
        labels, size, found = task.real.labels.to(task.device), min(BATCH, total), []
        names = [name for name, _ in network.named_parameters()]
        for _ in range(self.epochs):
            for rows in torch.randperm(total, generator=order).split(size):
                if len(rows) == size:  # another shape would be compiled again
                    steps = gradients.at(weights, task.real.take(rows), labels[rows.to(task.device)])
                    weights = tuple(w - self.lr * s for w, s in zip(weights, steps, strict=True))
            with torch.no_grad():
                state = dict(zip(names, weights, strict=True))
                parts = torch.arange(total).split(size)
                calls = [torch.func.functional_call(network, state, (task.real.take(part),)) for part in parts]
                found.append(torch.cat(calls).float().cpu())
        return torch.stack(found)


class EL2N(Scored):
    """EL2N: the norm of the error vector, early in training."""

    def score(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return || softmax(logits) - onehot ||_2 after the last epoch."""
        error = logits[-1].softmax(1) - F.one_hot(labels, logits.shape[2])
        norms: Tensor = error.norm(dim=1)
        return norms


class Forgetting(Scored):
    """Forgetting: how often a sample that was right becomes wrong; one that never was right counts most."""

    def score(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the number of times that a sample was forgotten between epochs."""
        right = logits.argmax(2) == labels
        forgotten = (right[:-1] & ~right[1:]).sum(0).float()
        return torch.where(right.any(0), forgotten, len(logits))


class Margin(Scored):
    """Margin: the smaller the lead of the best class over the second, the harder the sample."""

    def score(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the negative difference of the two largest probabilities after the last epoch."""
        best = logits[-1].softmax(1).topk(2, 1).values
        return best[:, 1] - best[:, 0]
