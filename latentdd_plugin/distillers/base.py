"""The distiller contract: `distill(task) -> SyntheticSet`. A distiller never knows which codec it runs on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from latentdd_plugin.core.plugins import config_of
from latentdd_plugin.core.types import Json, SyntheticSet
from latentdd_plugin.distillers.task import Task


class Distiller(ABC):
    """A method: its hyper-parameters are the constructor's arguments, kept as attributes of the same names.

    Attributes:
        presets: named sets of arguments; `paper` is the published one, `quick` fits two CPU cores.
        match_spaces: where it can look; a method that never calls `task.view` supports `code` only.
        selection: which iterate it returns; `unknown` of a set that was made elsewhere.
    """

    contract: ClassVar[int] = 1
    presets: ClassVar[dict[str, dict[str, Json]]] = {"paper": {}, "quick": {}}
    match_spaces: ClassVar[tuple[str, ...]] = ("code",)
    selection: ClassVar[str] = "last-iterate"

    @abstractmethod
    def distill(self, task: Task) -> SyntheticSet:
        """The synthetic set for this task."""

    def label_bits(self, num_classes: int) -> int:
        """Bits of one code's label that the budget counts: none for hard labels."""
        return 0

    def faults(self) -> list[str]:
        """What is wrong with its options; told with all other faults, before any work."""
        return []

    def config(self) -> dict[str, Json]:
        """Return the constructor's arguments as JSON: the same object comes back from them."""
        return config_of(self)
