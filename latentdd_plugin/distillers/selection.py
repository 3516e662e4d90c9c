"""Selection methods: real codes that represent their class, chosen by distances between samples, not optimised."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from latentdd_plugin.core.plugins import config_of
from latentdd_plugin.core.processes import group
from latentdd_plugin.core.types import Json, SyntheticSet
from latentdd_plugin.distillers.base import Distiller
from latentdd_plugin.distillers.task import Task
from latentdd_plugin.distillers.work import TaskSize, Work
from latentdd_plugin.nn.architectures import forward_batch

FEATURES = ("match", "teacher")


@dataclass
class Selection(Distiller):
    """Base of the methods that choose real samples class by class. Derive and write `choose`.

    Distances are Euclidean. A class with no more samples than the budget gives all it has.

    Args:
        features: what distances are taken between. `match`: samples of the match space, standardised and flattened; no
            network takes part. `teacher`: what the run's teacher computes of the images before its last layer.
    """

    match_spaces: ClassVar[tuple[str, ...]] = ("code", "pixel")
    is_selection: ClassVar[bool] = True
    changes_codes: ClassVar[bool] = False
    shares_classes: ClassVar[bool] = True

    features: str = field(default="match", kw_only=True)

    def __post_init__(self) -> None:
        if self.features not in FEATURES:
            raise ValueError(f"features={self.features}: choose one of {', '.join(FEATURES)}")
        self.needs_teacher = self.features == "teacher"
        self.compares = self.features == "match"

    def config(self) -> dict[str, Json]:
        """Return the constructor's arguments as JSON; `features` only if it is set."""
        return config_of(self, ("features",) if self.features == "match" else ())

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
                samples = self._samples(task, members)
                samples -= samples.mean(0)
                positions = self.choose(samples, task.codes_per_class, task.generator("selection", label))
                members = members[positions.cpu()]
            chosen.append(members)
            task.progress(label + 1, task.num_classes, math.nan)
        chosen = [members for some in group().gather(chosen) for members in some]
        labels = [torch.full((len(members),), label) for label, members in enumerate(chosen)]
        return SyntheticSet(task.codes.take(torch.cat(chosen)), torch.cat(labels))

    def _samples(self, task: Task, members: Tensor) -> Tensor:
        """Return the rows float32 (N, D) of these training samples that are compared."""
        if self.features == "match":
            return task.real.take(members).flatten(1)
        parts = members.split(
            forward_batch(task.teacher.card.input_shape)
        )  # a class of large images may not fit in memory
        return torch.cat([task.teacher.features(task.images(part)) for part in parts])

    def _products(self, size: TaskSize, number: int) -> Work:
        """Return the work of so many products of every sample with another; features count as a sample's values."""
        taught = size.samples if self.features == "teacher" else 0
        return Work(size.classes, teacher_passes=taught, operations=2.0 * size.samples * size.values * number)


def squared_norms(samples: Tensor) -> Tensor:
    """Return the squared norms (N,) of rows (N, D), without a second copy of the rows."""
    norms: Tensor = torch.linalg.vector_norm(samples, dim=1)
    return norms.square()


def squared_distances(samples: Tensor, norms: Tensor, point: Tensor) -> Tensor:
    """Return the squared distances (N,) of rows (N, D), whose squared norms are given, to one point (D,)."""
    distances: Tensor = norms + point.square().sum() - 2 * (samples @ point)
    return distances.clamp_min_(0)
