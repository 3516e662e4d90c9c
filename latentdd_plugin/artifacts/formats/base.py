"""The contract of a format, and the dataclasses that pass between formats and artifacts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from latentdd_plugin.artifacts.artifact import Artifact
from latentdd_plugin.artifacts.file import ARTIFACT
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import ImageData


@dataclass(frozen=True)
class ExternalSet:
    """A distilled set as another project holds it."""

    images: Tensor  # float32 (N, C, H, W), in the source's value space
    labels: Tensor  # int64 (N,), or float32 (N, classes)
    label_kind: str = "hard"  # hard | probabilities | logits
    lr: float | None = None  # learned learning rate, if the source keeps one
    classes: tuple[str, ...] | None = None  # names by label, if the source has them
    ipc: int | None = None  # images per class, if the source states it
    values: str | None = None  # name of the value space, if the source states it
    imagenet_order: str | None = None  # the list by which the source numbers ImageNet's classes, if it has one
    factor: int = 1  # images are enlarged so many times before use (IDC)
    size: tuple[int, int] | None = None  # (H, W) after enlarging; None if nothing is enlarged


@dataclass(frozen=True)
class ImportOptions:
    """The caller's statements about an external set; if its files state something too, both must agree."""

    values: str | None = None  # name of its value space
    classes: tuple[str, ...] | None = None  # class names by its own labels; or one word of `class_order.WORDS`
    ipc: int | None = None  # images per class it must have
    dataset: ImageData | None = None  # the dataset it was distilled from
    experiment: int | None = None  # which of several sets in one file, from 0
    factor: int | None = None  # IDC's multi-formation factor


class Format(ABC):
    """One project's files. A format that cannot be written leaves `write` alone and `writable` false."""

    name: ClassVar[str]  # on the command line
    writable: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset()  # of `experiment` and `factor`: the options that it reads
    out: ClassVar[str | None] = None  # value space of the files it writes, if the format has one of its own

    @abstractmethod
    def read(self, path: Path, options: ImportOptions) -> ExternalSet:
        """Return the set at `path`.

        Args:
            path: a file or folder of this format.
            options: the caller's statements; a format reads `experiment` and `factor` from it.

        Raises:
            UsageError: the set is missing, damaged, not of this format, or it is not stated which set is meant.
        """

    def space_of(self, stored: Artifact) -> str | None:
        """Return the name of the value space for writing this artifact, if format and dataset decide it."""
        return self.out

    def write(self, external: ExternalSet, folder: Path) -> None:
        """Write the set into an existing, empty folder.

        Raises:
            UsageError: the format cannot hold such a set.
        """
        raise UsageError(f"{self.name} is read only: a {ARTIFACT} cannot be written as it")


def sorted_by_class(external: ExternalSet, format_name: str) -> ExternalSet:
    """Return the set class by class, for formats in which the order alone tells the class.

    Raises:
        UsageError: a class has more or fewer images than another.
    """
    if external.ipc is None:
        raise UsageError(f"{format_name} holds equally many images per class; this set does not")
    if external.labels.ndim == 2:
        return external  # soft labels travel beside their images
    order = external.labels.argsort(stable=True)
    return replace(external, images=external.images[order], labels=external.labels[order])
