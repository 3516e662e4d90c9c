"""Names of pictures in a table's cells, looked up among the files of the dataset's folder. Opens no file."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.splits import split_of, split_of_file
from latentdd_plugin.data.walk import File

NAMES = (
    "file_name",
    "filename",
    "file",
    "path",
    "filepath",
    "file_path",
    "image",
    "image_path",
    "img",
    "image_id",
    "id",
)


class Lookup:
    """Pictures by the names that a table gives them: a path, a file's name, or a name without its suffix."""

    def __init__(self, pictures: Sequence[File], root: str) -> None:
        self._root = root
        self._whole = {file.name: file for file in pictures}
        self._last: dict[str, list[File]] = {}
        for file in pictures:
            last = posixpath.basename(file.name)
            for key in {last, posixpath.splitext(last)[0]}:
                self._last.setdefault(key, []).append(file)

    def find(self, value: str, table: File) -> File | None:
        """Return the picture that a cell names, relative to the table, to the folder, or alone of its name in it.

        Raises:
            DataError: the cell names a path outside the folder.
        """
        text = value.strip()
        if "/" not in text and "\\" in text:
            text = text.replace("\\", "/")
        base = "/".join(table.folders)
        if posixpath.isabs(text):
            if not text.startswith(self._root + "/"):
                raise DataError(outside(value, table))
            text, base = text[len(self._root) + 1 :], ""
        for start in dict.fromkeys((base, "")):
            whole = posixpath.normpath(posixpath.join(start, text))
            if whole in self._whole:
                return self._whole[whole]
        if posixpath.normpath(posixpath.join(base, text)).split("/")[0] == "..":
            raise DataError(outside(value, table))
        return self._by_last_name(posixpath.normpath(text), table)

    def _by_last_name(self, text: str, table: File) -> File | None:
        ends = f"/{text}"
        found = [
            file
            for file in self._last.get(posixpath.basename(text), [])
            if f"/{file.name}".endswith(ends) or posixpath.splitext(f"/{file.name}")[0].endswith(ends)
        ]
        if len(found) > 1:
            wanted = split_of_file(posixpath.splitext(posixpath.basename(table.name))[0])
            found = [file for file in found if wanted and wanted in map(split_of, file.folders)]
        return found[0] if len(found) == 1 else None


def outside(value: str, table: File) -> str:
    """Return the message for a cell that names a path outside the folder."""
    return (
        f"{table.name}: {value!r} lies outside the dataset's folder, where nothing is read; write paths relative to "
        "the table or to the folder"
    )


def path_column(columns: dict[str, list[Any]], lookup: Lookup, table: File) -> tuple[str, list[File | None]] | None:
    """Return the column that names most pictures, and the picture of each row; None if no column names half of them."""
    best: tuple[float, int, str, list[File | None]] | None = None
    for name, values in columns.items():
        given = [value for value in values if isinstance(value, str | int) and not isinstance(value, bool)]
        if not given or (isinstance(given[0], int) and name not in NAMES):
            continue
        found = [
            lookup.find(str(v), table) if isinstance(v, str | int) and _may_name(v, name) else None for v in values
        ]
        share = sum(file is not None for file in found) / len(values)
        rank = len(NAMES) - NAMES.index(name.lower()) if name.lower() in NAMES else 0
        if share >= 0.5 and (best is None or (share, rank) > best[:2]):
            best = (share, rank, name, found)
    return (best[2], best[3]) if best else None


def _may_name(value: str | int, column: str) -> bool:
    """Return whether a cell may be a path, so that free text and addresses are never taken for one outside."""
    text = str(value)
    return column.lower() in NAMES or (
        len(text) < 256 and "\n" not in text and "://" not in text and " " not in text[:1]
    )
