"""The distiller contract: `distill(task) -> SyntheticSet`. A distiller never knows which codec it runs on.

A new method is one file with one class, named in the entry-point group `dd_bench.distillers`. There are three ways to
write one:

- derive from `loop.Matching` and write the loss: methods that optimise codes;
- derive from `selection.Selection` and choose real samples of one class by distances, or from
  `scored_selection.Scored` and choose them by a score that networks give;
- derive from `Distiller` and write `distill`: anything else.

A method reads the `Task`: `task.real` and `task.codes` (real samples in the match space, and as codes),
`task.codes_per_class`, `task.num_classes`, `task.init`, `task.draw`, `task.view`. It draws from `task.generator` and
`task.network` only. `task.augment`, `task.embedding`, `task.gradients`, `task.checkpoint` and `task.progress` are
services that a method may use.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from latentdd_plugin.core.plugins import config_of
from latentdd_plugin.core.types import Json, SyntheticSet
from latentdd_plugin.distillers.task import Task
from latentdd_plugin.distillers.work import TaskSize, Work

__all__ = ["Distiller", "SyntheticSet", "Task"]


class Distiller(ABC):
    """A distillation method. The constructor's arguments are its hyper-parameters, kept as attributes of equal names.

    Attributes:
        presets: named sets of arguments; `paper` is the published one, `quick` fits two CPU cores.
        match_spaces: match spaces it supports; a method that never calls `task.view` supports `code` only.
        compares: it looks at `task.real`, the real samples of the match space; a method that only draws samples, or
            makes them with a teacher, does not, and works on codes of any kind.
        selection: the iterate that it returns; `unknown` for a set that was made elsewhere.
        is_selection: it returns real codes as they are, without optimising anything.
        changes_codes: it computes codes, by gradients or otherwise. False: every code that it returns is one that
            `task.codes` or `task.encode` gave, as it is; only such a method runs with a codec of tokens.
        trains_decoder: it optimises `task.codec_parameters()` with the codes, where a run asks for that.
        needs_teacher: it reads `task.teacher`; a run without one is refused. If an option decides
            this, or `compares`, the constructor sets it.
        is_baseline: it is what other methods are compared with, and is not compared with itself.
        shares_classes: on several processes, each of them works on its block of the classes; otherwise the first one
            distils alone.
    """

    contract: ClassVar[int] = 1
    presets: ClassVar[dict[str, dict[str, Json]]] = {"paper": {}, "quick": {}}
    match_spaces: ClassVar[tuple[str, ...]] = ("code",)
    compares: bool = True
    selection: ClassVar[str] = "last-iterate"
    is_selection: ClassVar[bool] = False
    changes_codes: ClassVar[bool] = True
    trains_decoder: ClassVar[bool] = False
    needs_teacher: bool = False
    is_baseline: ClassVar[bool] = False
    shares_classes: ClassVar[bool] = False

    def prepare(self, task: Task) -> None:  # noqa: B027 - optional
        """Do in every process of a run what `distill` can then read from the disk; nothing by default."""

    @abstractmethod
    def distill(self, task: Task) -> SyntheticSet:
        """Return the synthetic set for this task: at most `codes_per_class` codes for each class, with labels."""

    def label_bits(self, num_classes: int) -> int:
        """Return the bits per code that its label costs in the budget: none for hard labels."""
        return 0

    def teacher_faults(self, arch: str) -> list[str]:
        """Return the reasons why it cannot use a teacher of this architecture, a timm name; seen before any work."""
        return []

    def work(self, size: TaskSize) -> Work | None:
        """Return what `distill` computes on a task of this size, for estimates of time; None if that is not known.

        A derived class that writes `distill` or `iteration` anew states it anew: what it inherits is then not read.
        """
        return None

    def faults(self) -> list[str]:
        """Return the faults of its options; they are reported with all other faults, before any work."""
        return []

    def config(self) -> dict[str, Json]:
        """Return the constructor's arguments as JSON; they make an equal object."""
        return config_of(self)
