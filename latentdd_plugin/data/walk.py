"""Safe listing of a dataset's folder: links are followed inside it only, and what is never read is counted."""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from latentdd_plugin.core.errors import DataError

JUNK_FOLDERS = ("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "__pycache__")
JUNK_FILES = ("thumbs.db", "desktop.ini", "ehthumbs.db")

JUNK = frozenset((*JUNK_FOLDERS, *JUNK_FILES))

HIDDEN = "hidden, or left by the operating system"
UNREADABLE_NAME = "a name that holds control characters or is not UTF-8"
OUTSIDE = "a link that leads outside the folder"
BROKEN = "a link that leads nowhere"
LOOP = "a link to a folder that contains it"
SPECIAL = "a device, FIFO or socket"
CLOSED = "a folder that cannot be opened"


@dataclass(frozen=True)
class File:
    """A regular file of a dataset's folder."""

    name: str  # relative to the folder, with `/`, as it is reached (through links)
    path: Path  # where it really lies; inside the folder

    @property
    def suffix(self) -> str:
        """The lower-case suffix of the name, with its dot."""
        return posixpath.splitext(self.name)[1].lower()

    @property
    def last(self) -> str:
        """The name without its folders."""
        return self.name.rpartition("/")[2]

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders between the dataset's folder and the file."""
        return tuple(self.name.split("/")[:-1])


@dataclass(frozen=True)
class Tree:
    """Every entry of a dataset's folder: files that may be read, and those that never are."""

    root: Path  # resolved
    files: tuple[File, ...]  # sorted by name
    left_out: tuple[tuple[str, str], ...] = ()  # (name, reason) of every entry that is not read
    empty: tuple[str, ...] = ()  # folders without any entry

    @cached_property
    def by_last(self) -> Mapping[str, list[File]]:
        """The files by their names without folders, in order."""
        found: dict[str, list[File]] = {}
        for file in self.files:
            found.setdefault(file.last, []).append(file)
        return found

    @cached_property
    def _by_suffix(self) -> Mapping[str, list[File]]:
        found: dict[str, list[File]] = {}
        for file in self.files:
            found.setdefault(file.suffix, []).append(file)
        return found

    def ending(self, *suffixes: str) -> list[File]:
        """Return the files with one of these lower-case suffixes, in order."""
        found = [file for suffix in suffixes for file in self._by_suffix.get(suffix, [])]
        return sorted(found, key=lambda file: file.name)


def list_folder(folder: Path) -> Tree:
    """List a folder and everything below it.

    Raises:
        DataError: the folder itself cannot be opened.
    """
    root = folder.resolve()
    walk = _Walk(root)
    try:
        os.scandir(root).close()
    except OSError as error:
        raise DataError(f"dataset {folder}: the folder cannot be opened: {error.strerror}") from error
    walk.descend(root, "", (root,))
    files = tuple(sorted(walk.files, key=lambda file: file.name))
    return Tree(root, files, tuple(sorted(walk.left_out)), tuple(sorted(walk.empty)))


def single_file(path: Path) -> Tree:
    """Return the tree that holds one file alone."""
    real = path.resolve()
    return Tree(real.parent, (File(path.name, real),))


def stamp_of(path: Path) -> str:
    """Return the sha256 over names, sizes and times of a file, or of everything below a folder, links included.

    It changes when an entry does that may be read. No file is opened and no link to a folder is followed: what is read
    through one lies inside the folder, and counts there.
    """
    digest, waiting, root = hashlib.sha256(), [str(path)], len(str(path))
    if not path.is_dir():
        waiting, found = [], path.stat()
        digest.update(f"{path.name}\0{found.st_size}\0{found.st_mtime_ns}".encode("utf-8", "surrogateescape"))
    while waiting:
        folder, lines = waiting.pop(), list[str]()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:  # a million of them: every call counts
                    name = entry.name
                    if name[0] == "." or name.lower() in JUNK:
                        continue
                    if entry.is_file(follow_symlinks=False):
                        there = entry.stat(follow_symlinks=False)
                        lines.append(f"{name}\0{there.st_size}\0{there.st_mtime_ns}")
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                        lines.append(f"{name}/")
                    else:
                        lines.append(_linked(entry))
        except OSError as error:
            lines.append(f"closed\0{error.errno}")
        lines.sort()
        digest.update("\0".join([folder[root:], *lines, ""]).encode("utf-8", "surrogateescape"))
        waiting.sort()
    return digest.hexdigest()


def _linked(entry: os.DirEntry[str]) -> str:
    """Return name, target, size and time of a link; of anything else its name."""
    if not entry.is_symlink():
        return entry.name
    target = str(Path(entry.path).readlink())
    try:
        found = entry.stat()
    except OSError:  # it leads nowhere
        return f"{entry.name}\0{target}"
    return f"{entry.name}\0{target}\0{found.st_size}\0{found.st_mtime_ns}"


@dataclass
class _Walk:
    root: Path
    files: list[File] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    def descend(self, folder: Path, name: str, above: tuple[Path, ...], reason: str | None = None) -> None:
        """Add all entries of `folder`; with a `reason`, leave all of them out for it."""
        try:
            with os.scandir(folder) as listing:
                entries = list(listing)
        except OSError:
            self.left_out.append((name, CLOSED))
            return
        if not entries and reason is None:
            self.empty.append(name)
        for entry in entries:
            path = f"{name}/{entry.name}" if name else entry.name
            why = reason or _reason_by_name(entry)
            if entry.is_symlink():
                self._link(entry, path, above, why)
            elif entry.is_dir(follow_symlinks=False):
                inside = folder / entry.name
                self.descend(inside, path, (*above, inside), why)
            elif not entry.is_file(follow_symlinks=False):
                self.left_out.append((path, SPECIAL))
            elif why:
                self.left_out.append((path, why))
            else:
                self.files.append(File(path, folder / entry.name))

    def _link(self, entry: os.DirEntry[str], path: str, above: tuple[Path, ...], why: str | None) -> None:
        try:
            target = Path(entry.path).resolve(strict=True)
            mode = target.stat().st_mode
        except (OSError, RuntimeError):  # RuntimeError: a circle of links, before Python 3.13
            self.left_out.append((path, BROKEN))
            return
        if why:
            self.left_out.append((path, why))
        elif not target.is_relative_to(self.root):
            self.left_out.append((path, OUTSIDE))
        elif any(reason_of_part(part) for part in target.relative_to(self.root).parts):
            self.left_out.append((path, HIDDEN))
        elif stat.S_ISDIR(mode):
            if target in above:
                self.left_out.append((path, LOOP))
            else:
                self.descend(target, path, (*above, target))
        elif stat.S_ISREG(mode):
            self.files.append(File(path, target))
        else:
            self.left_out.append((path, SPECIAL))


def reason_of_part(name: str) -> str | None:
    """Return why a file or folder of this name is never read, or None."""
    if not name.isprintable() and any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        return UNREADABLE_NAME
    return HIDDEN if name.startswith(".") else None


def _reason_by_name(entry: os.DirEntry[str]) -> str | None:
    found = reason_of_part(entry.name)
    if found is None and entry.name.lower() in JUNK:
        return HIDDEN
    return found


def printable(names: list[str] | tuple[str, ...], most: int = 3) -> str:
    """Return up to `most` names, safe to print, and an ellipsis for the rest."""
    shown = ["".join(_printable_letters(name)) for name in names[:most]]
    return ", ".join(shown + (["…"] if len(names) > most else []))


def _printable_letters(name: str) -> Iterator[str]:
    for letter in name:
        control = unicodedata.category(letter) in ("Cc", "Cs")
        yield letter.encode("unicode_escape", "backslashreplace").decode() if control else letter
