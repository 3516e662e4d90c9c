"""The account of a dataset's files: each one is used in one split, or left out with a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.core.types import Json
from latentdd_plugin.data.walk import File, Tree, printable

LINKED_TWICE = "a link to a picture that is used already"


@dataclass(frozen=True)
class FileAccount:
    """Numbers of files in a folder: those used per split, and those left out, by reason."""

    layout: str  # how the folder was read: "class folders", "tables", …
    used: Mapping[str, int]  # split -> files
    left_out: Mapping[str, tuple[str, ...]]  # reason -> names
    empty: tuple[str, ...] = ()  # empty folders

    @property
    def found(self) -> int:
        """The number of files in the folder, of any kind."""
        return sum(self.used.values()) + sum(map(len, self.left_out.values()))

    def without(self, unused: Mapping[str, str]) -> FileAccount:
        """Return the account with the splits that are not used moved to the files left out; `unused`: split -> why."""
        left = dict(self.left_out)
        for split in self.used:
            if split in unused and self.used[split]:
                left[f"split {split}: {unused[split]}"] = ("",) * self.used[split]
        return FileAccount(self.layout, {k: n for k, n in self.used.items() if k not in unused}, left, self.empty)

    def line(self) -> str:
        """Return the account as one line for the log."""
        used = ", ".join(f"{split} {count}" for split, count in self.used.items()) or "none used"
        parts = [f"{self.found} file{'' if self.found == 1 else 's'}, read as {self.layout}: {used}"]
        if self.left_out:
            reasons = sorted(self.left_out.items(), key=lambda item: -len(item[1]))
            told = []
            for why, names in reasons:
                shown = printable([name for name in names if name])
                told.append(f"{len(names)} {why}" + (f" ({shown})" if shown else ""))
            parts.append(f"left out {sum(len(names) for _, names in reasons)}: {'; '.join(told)}")
        else:
            parts.append("left out none")
        if self.empty:
            parts.append(f"empty folders {len(self.empty)} ({printable(self.empty)})")
        return "; ".join(parts)

    def to_json(self) -> dict[str, Json]:
        """Return the account for the record: numbers and reasons, no file names."""
        return {
            "layout": self.layout,
            "found": self.found,
            "used": dict(self.used),
            "left_out": {why: len(names) for why, names in sorted(self.left_out.items())},
            "empty_folders": len(self.empty),
        }


@dataclass
class Ledger:
    """An account in the making. `close` refuses one in which a file is missing."""

    tree: Tree
    _used: dict[str, tuple[str, str | None]] = field(default_factory=dict)  # name -> (split, label)
    _real: dict[Path, str] = field(default_factory=dict)  # real path -> name under which it is used
    _left: dict[str, str] = field(default_factory=dict)  # name -> reason

    def use(self, file: File, split: str, label: str | None = None) -> bool:
        """Count a file as used in a split; return False if it is used there already, through a link.

        Raises:
            DataError: the same file is used in another split, or with another label.
        """
        earlier = self._real.setdefault(file.path, file.name)
        if earlier == file.name and file.name not in self._used:
            self._used[file.name] = (split, label)
            return True
        split_before, label_before = self._used[earlier]
        same = f"{earlier} and {file.name} are" if earlier != file.name else f"{file.name} is named twice:"
        if split_before != split:
            raise DataError(f"{same} one file, in the splits {split_before} and {split}; keep it in one of them")
        if label_before != label:
            raise DataError(f"{same} one file, in the classes {label_before} and {label}; keep it in one")
        if earlier != file.name:
            self._left[file.name] = LINKED_TWICE
        return False

    def leave(self, file: File, reason: str) -> None:
        """Count a file as left out."""
        self._left[file.name] = reason

    def is_used(self, file: File) -> bool:
        """Return whether the file, or another name of it, is used."""
        return file.path in self._real

    def is_open(self, file: File) -> bool:
        """Return whether the file is neither used nor left out so far."""
        return file.name not in self._used and file.name not in self._left

    def leave_rest(self, reason: Callable[[File], str]) -> None:
        """Leave out every file that is still open."""
        for file in self.tree.files:
            if self.is_open(file):
                self.leave(file, reason(file))

    def close(self, layout: str, splits: Sequence[str] = ()) -> FileAccount:
        """Return the finished account, the splits in the order given.

        Raises:
            DataError: a file is neither used nor left out.
        """
        lost = [file.name for file in self.tree.files if self.is_open(file)]
        if lost or set(self._used) & set(self._left):
            raise DataError(f"{self.tree.root}: {len(lost)} files are not accounted for ({printable(lost)})")
        used = Counter(split for split, _ in self._used.values())
        left: dict[str, list[str]] = {}
        for name, reason in [*self._left.items(), *self.tree.left_out]:
            left.setdefault(reason, []).append(name)
        order = [split for split in splits if split in used] + [split for split in used if split not in splits]
        return FileAccount(
            layout,
            {split: used[split] for split in order},
            {reason: tuple(sorted(names)) for reason, names in left.items()},
            self.tree.empty,
        )
