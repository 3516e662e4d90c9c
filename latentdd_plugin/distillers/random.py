"""Random real codes, not optimised: the control every method has to beat, and the draw that `init=real` starts from."""

from __future__ import annotations

import torch

from latentdd_plugin.core.types import SyntheticSet
from latentdd_plugin.distillers.base import Distiller
from latentdd_plugin.distillers.task import Task


class Random(Distiller):
    """Keep `codes_per_class` real codes of each class; a class with fewer gives all it has."""

    match_spaces = ("code", "pixel")

    def distill(self, task: Task) -> SyntheticSet:
        """The drawn real codes and their labels."""
        drawn = [task.draw(label) for label in range(task.num_classes)]
        labels = torch.cat([torch.full((len(d),), label) for label, d in enumerate(drawn)])
        return SyntheticSet(task.codes.take(torch.cat(drawn)), labels)
