"""Predictions of a tested network: right by class, among its five best guesses, and its most frequent mistakes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

TOP5_FROM = 50  # classes from which on top-5 is reported
MISTAKES = 20  # pairs of classes that are listed


@dataclass(frozen=True)
class Predictions:
    """A network's answers to the held-out images, on the CPU."""

    labels: Tensor  # int64 (N,)
    given: Tensor  # int64 (N,), the class of the largest logit
    near: Tensor | None  # bool (N,): the label is among the five largest logits; None below `TOP5_FROM` classes
    num_classes: int

    @property
    def accuracy(self) -> float:
        """The fraction that is right."""
        return int((self.given == self.labels).sum()) / len(self.labels)

    def details(self) -> dict[str, Any]:
        """Return the fields of a `Score` beside its accuracy; their size is bounded for any number of images."""
        return {
            "top5": None if self.near is None else int(self.near.sum()) / len(self.labels),
            "by_class": self._by_class(),
            "confused": self._confused(),
        }

    def _by_class(self) -> tuple[float | None, ...]:
        """Return the fraction of each class that is right, to four digits; None of a class without images."""
        total = self.labels.bincount(minlength=self.num_classes)
        right = self.labels[self.given == self.labels].bincount(minlength=self.num_classes)
        return tuple(round(r / t, 4) if t else None for r, t in zip(right.tolist(), total.tolist(), strict=True))

    def _confused(self) -> tuple[tuple[int, int, int], ...]:
        """Return the most frequent mistakes: the class, the class given instead, and how many images."""
        wrong = self.given != self.labels
        pairs, counts = (self.labels[wrong] * self.num_classes + self.given[wrong]).unique(return_counts=True)
        order = counts.argsort(descending=True, stable=True)[:MISTAKES]
        found = zip(pairs[order].tolist(), counts[order].tolist(), strict=True)
        return tuple((*divmod(pair, self.num_classes), count) for pair, count in found)


def among_five(logits: Tensor, labels: Tensor) -> Tensor:
    """Return bool (n,): whether the label is among the five largest logits (n, classes)."""
    found: Tensor = (logits.topk(5, 1).indices == labels[:, None]).any(1)
    return found
