"""Random real codes, not optimised: the baseline of every method, and the draw that `init=real` starts from."""

from __future__ import annotations

from typing import ClassVar

import torch

from latentdd_plugin.core.types import SyntheticSet
from latentdd_plugin.distillers.base import Distiller
from latentdd_plugin.distillers.task import Task
from latentdd_plugin.distillers.work import TaskSize, Work


class Random(Distiller):
    """Keep `codes_per_class` real codes of each class; a class with fewer gives all it has."""

    match_spaces: ClassVar[tuple[str, ...]] = ("code", "pixel")
    compares = False
    is_selection: ClassVar[bool] = True
    changes_codes: ClassVar[bool] = False
    is_baseline: ClassVar[bool] = True

    def work(self, size: TaskSize) -> Work:
        """Return a draw per class."""
        return Work(size.classes)

    def distill(self, task: Task) -> SyntheticSet:
        """Return the drawn real codes and their labels, class by class."""
        drawn = [task.draw(label) for label in range(task.num_classes)]
        labels = torch.cat([torch.full((len(d),), label) for label, d in enumerate(drawn)])
        return SyntheticSet(task.codes.take(torch.cat(drawn)), labels)
