"""The contract of a layout: one way in which datasets lie on disk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.accounting import FileAccount
from latentdd_plugin.data.file_kinds import LFS, first_bytes
from latentdd_plugin.data.walk import File, Tree

if TYPE_CHECKING:
    from latentdd_plugin.core.config import DatasetConfig


@dataclass(frozen=True)
class Reading:
    """The splits of a dataset read from a folder; no picture is decoded yet."""

    splits: Mapping[str, Any]  # split name -> datasets.Dataset
    account: FileAccount
    notes: Sequence[str] = ()  # decisions worth telling, one sentence each
    warnings: Sequence[str] = ()  # the same, if they may be a mistake


class Layout(ABC):
    """One way in which datasets lie on disk. `matches` looks at names and first bytes only."""

    name: str  # for the account: "read as …"

    @abstractmethod
    def matches(self, tree: Tree, config: DatasetConfig) -> bool:
        """Return whether the folder has this layout."""

    @abstractmethod
    def read(self, tree: Tree, config: DatasetConfig) -> Reading:
        """Read splits and labels, and account for every file.

        Raises:
            DataError: the folder has the layout, but cannot be read.
        """


def picture_table(
    pictures: Sequence[Any], labels: Sequence[int], classes: Sequence[str], more: Mapping[str, Any] | None = None
) -> Any:
    """Return a `datasets.Dataset` with the columns `image` and `label`.

    Args:
        pictures: N paths of picture files, or N (name, bytes) pairs of pictures held in memory.
        labels: N class numbers.
        classes: class names by number.
        more: further columns of N values.
    """
    import datasets

    cells = [
        {"bytes": None, "path": str(one)} if isinstance(one, Path) else {"bytes": one[1], "path": one[0]}
        for one in pictures
    ]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(classes))})
    found = datasets.Dataset.from_dict({"image": cells, "label": list(labels)}, features=features)
    for name, values in (more or {}).items():
        found = found.add_column(name, values)
    return found


def refuse_pointer(file: File) -> None:
    """Raise DataError if a data file is a git-lfs pointer or empty."""
    start = first_bytes(file)
    if start.startswith(LFS):
        raise DataError(f"{file.name}: a git-lfs pointer, not the file itself; run `git lfs pull` in its repository")
    if not start:
        raise DataError(f"{file.name}: an empty file (0 bytes), or one that cannot be opened")


def value_table(pictures: Sequence[tuple[str, bytes]], labels: Sequence[int] | Sequence[str]) -> Any:
    """Return a `datasets.Dataset` of (name, bytes) pictures whose labels are plain values, to become classes later."""
    import datasets

    cells = [{"bytes": data, "path": name} for name, data in pictures]
    return datasets.Dataset.from_dict({"image": cells, "label": list(labels)}).cast_column("image", datasets.Image())
