"""Selection methods: real codes that represent their class, chosen by distances in the match space, not optimised."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from latentdd_plugin.core.processes import group
from latentdd_plugin.core.types import SyntheticSet
from latentdd_plugin.distillers.base import Distiller
from latentdd_plugin.distillers.task import Task
from latentdd_plugin.distillers.work import TaskSize, Work


class Selection(Distiller):
    """Base of the methods that choose real samples class by class. Derive and write `choose`.

    Distances are Euclidean, between standardised and flattened samples of the match space; no network takes part. A
    class with no more samples than the budget gives all it has.
    """

    match_spaces: ClassVar[tuple[str, ...]] = ("code", "pixel")
    is_selection: ClassVar[bool] = True
    changes_codes: ClassVar[bool] = False
    shares_classes: ClassVar[bool] = True

    @abstractmethod
    def choose(self, samples: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Return the positions int64 (n,) of n distinct rows.

        Args:
            samples: float32 (N, D), N > n, of one class, with their mean subtracted; may be overwritten.
            n: number of samples to choose.
            generator: for methods that draw; derived from the run's seed and the class.
        """

    def distill(self, task: Task) -> SyntheticSet:
        """Return the chosen real codes and their labels, class by class."""
        chosen = []
        for label in task.own_classes:
            members = task.real.by_class[label]
            if len(members) > task.codes_per_class:
                samples = task.real.take(members).flatten(1)
                samples -= samples.mean(0)
                positions = self.choose(samples, task.codes_per_class, task.generator("selection", label))
                members = members[positions.cpu()]
            chosen.append(members)
            task.progress(label + 1, task.num_classes, math.nan)
        chosen = [members for some in group().gather(chosen) for members in some]
        labels = [torch.full((len(members),), label) for label, members in enumerate(chosen)]
        return SyntheticSet(task.codes.take(torch.cat(chosen)), torch.cat(labels))


def greedy_work(size: TaskSize) -> Work:
    """Return one product of all samples with each chosen one, and the norms."""
    return Work(size.classes, operations=2.0 * size.samples * size.values * (size.codes_per_class + 2))


def squared_norms(samples: Tensor) -> Tensor:
    """Return the squared norms (N,) of rows (N, D), without a second copy of the rows."""
    norms: Tensor = torch.linalg.vector_norm(samples, dim=1)
    return norms.square()


def squared_distances(samples: Tensor, norms: Tensor, point: Tensor) -> Tensor:
    """Return the squared distances (N,) of rows (N, D), whose squared norms are given, to one point (D,)."""
    distances: Tensor = norms + point.square().sum() - 2 * (samples @ point)
    return distances.clamp_min_(0)
