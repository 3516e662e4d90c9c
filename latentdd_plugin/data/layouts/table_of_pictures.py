"""A table of labels beside pictures: CSV, TSV, JSON lines or parquet whose cells name the picture files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.accounting import Ledger
from latentdd_plugin.data.columns import label_by_name
from latentdd_plugin.data.file_kinds import PICTURES, is_picture, not_a_picture
from latentdd_plugin.data.layouts.base import Layout, Reading
from latentdd_plugin.data.paths import Lookup, path_column
from latentdd_plugin.data.splits import split_of, split_of_file
from latentdd_plugin.data.tables import TABLES, Table, header, read_table
from latentdd_plugin.data.walk import File, Tree, printable

if TYPE_CHECKING:
    from latentdd_plugin.core.config import DatasetConfig

SPLIT_COLUMNS = ("split", "set", "subset", "partition", "phase", "usage", "fold")
UNNAMED = "a picture that no table names"


@dataclass(frozen=True)
class _Rows:
    """The rows of one table that name a picture."""

    table: Table
    pictures: list[File | None]  # N
    path_column: str

    def split_of_row(self, row: int, by_column: str | None, by_folder: bool) -> str:
        """Return a row's split: by its column, the table's name, the table's folder, or the picture's folder."""
        file, picture = self.table.file, self.pictures[row]
        if by_column is not None:
            return split_of(str(self.table.columns[by_column][row])) or "train"
        named = split_of_file(PurePosixPath(file.name).stem) or next(filter(None, map(split_of, file.folders)), None)
        if named is None and by_folder and picture is not None:
            named = next(filter(None, map(split_of, picture.folders)), None)
        return named or "train"


class TableOfPictures(Layout):
    """Pictures whose labels stand in tables; the columns are found by `columns.find_columns`, or asked for."""

    name = "pictures named in tables"

    def matches(self, tree: Tree, config: DatasetConfig) -> bool:
        """Return whether there are pictures, and a table with a column that names them."""
        pictures = [file for file in tree.files if is_picture(file)]
        return bool(pictures) and bool(_read_tables(tree, pictures, config))

    def read(self, tree: Tree, config: DatasetConfig) -> Reading:
        """Read the tables; a row without a picture, and a picture without a row, are left out and counted."""
        pictures = [file for file in tree.files if is_picture(file)]
        found = _read_tables(tree, pictures, config)
        if not found:
            raise DataError(
                f"dataset {config.name}: no table with a header and a column that names pictures in its folder"
            )
        ledger, rows, missing, repeats = Ledger(tree), _Collected(), [], _Repeats()
        for part in found:
            by_column, by_folder = _split_column(part), _folders_are_splits(part)
            for row, picture in enumerate(part.pictures):
                if picture is None:
                    missing.append(f"{part.table.file.name} line {part.table.lines[row]}")
                    continue
                values = {n: v[row] for n, v in part.table.columns.items() if n != part.path_column}
                split = part.split_of_row(row, by_column, by_folder)
                if ledger.use(picture, split):
                    rows.add(split, picture, values)
                repeats.add(picture, values)
        for part in found:
            ledger.leave(part.table.file, "a table, read for the labels")
        ledger.leave_rest(_why_not)
        notes = [note for part in found if (note := part.table.note)]
        notes.append("labels are read from " + printable([part.table.file.name for part in found], 5))
        warnings = []
        if missing:
            warnings.append(
                f"{len(missing)} rows name no picture in the folder and are left out: {printable(missing, 20)}"
            )
        warnings += repeats.check(config)
        unnamed = sum(not ledger.is_used(file) for file in pictures)
        if unnamed:
            warnings.append(f"{unnamed} of {len(pictures)} pictures are named in no table and are left out")
        return Reading(rows.datasets(), ledger.close(self.name, ("train", "validation", "test")), notes, warnings)


def _why_not(file: File) -> str:
    """Return why a file is not used."""
    if is_picture(file):
        return UNNAMED
    first = header(file) if file.suffix in TABLES else ()
    if any(PurePosixPath(name).suffix.lower() in PICTURES for name in first):
        return "a table without a header line"
    return "a table that is not read" if first else not_a_picture(file)


class _Repeats:
    """Rows that name a picture again, as tables of boxes or of several annotators do."""

    def __init__(self) -> None:
        self._first: dict[Path, dict[str, Any]] = {}
        self._differing: dict[str, list[str]] = {}  # column -> pictures whose rows differ in it
        self._again = 0

    def add(self, picture: File, values: dict[str, Any]) -> None:
        """Compare a row with the first one of its picture."""
        first = self._first.setdefault(picture.path, values)
        if first is values:
            return
        self._again += 1
        for name, value in values.items():
            if first.get(name) != value:
                self._differing.setdefault(name, []).append(picture.name)

    def check(self, config: DatasetConfig) -> list[str]:
        """Return a warning if there are such rows.

        Raises:
            DataError: they differ in their labels.
        """
        columns = list(dict.fromkeys(name for values in self._first.values() for name in values))
        label = config.label_column or label_by_name(columns)
        if label in self._differing:
            names = list(dict.fromkeys(self._differing[label]))
            raise DataError(
                f"dataset {config.name}: {len(names)} picture(s) with several rows that differ in {label}: "
                f"{printable(names, 20)}; keep one row of each"
            )
        differ = ", ".join(f"{name} ({len(set(names))})" for name, names in self._differing.items()) or "nothing"
        text = f"{self._again} rows name a picture again; the first row of each is used; they differ in {differ}"
        return [text] if self._again else []


class _Collected:
    """Rows by split, to become datasets with the same columns."""

    def __init__(self) -> None:
        self._rows: dict[str, list[tuple[File, dict[str, Any]]]] = {}

    def add(self, split: str, picture: File, values: dict[str, Any]) -> None:
        self._rows.setdefault(split, []).append((picture, values))

    def datasets(self) -> dict[str, Any]:
        """Return a `datasets.Dataset` per split with the column `image`, and every column that a table has."""
        import datasets

        names = list(dict.fromkeys(name for rows in self._rows.values() for _, values in rows for name in values))
        taken = "image" in names
        made: dict[str, Any] = {}
        for split in ("train", "validation", "test"):
            if split not in self._rows:
                continue
            rows = self._rows[split]
            columns: dict[str, Any] = {"image": [{"bytes": None, "path": str(file.path)} for file, _ in rows]}
            for name in names:
                key = f"{name}_value" if name == "image" and taken else name
                columns[key] = _alike([values.get(name) for _, values in rows], self._is_text(name))
            made[split] = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
        return made

    def _is_text(self, name: str) -> bool:
        return any(isinstance(values.get(name), str) for rows in self._rows.values() for _, values in rows)


def _alike(values: list[Any], text: bool) -> list[Any]:
    """Return a column's values as one type, so that arrow can hold it."""
    if text:
        return [None if value is None else str(value) for value in values]
    if any(isinstance(value, float) for value in values):
        return [None if value is None else float(value) for value in values]
    return values


def _read_tables(tree: Tree, pictures: list[File], config: DatasetConfig) -> list[_Rows]:
    """Return the tables that name pictures; only those with the asked label column, if one is asked for.

    If some tables are named as splits are, those that only repeat their pictures are left out.
    """
    lookup = Lookup(pictures, str(tree.root))
    found = []
    for file in tree.ending(*TABLES):
        columns = header(file)
        if not columns or (config.label_column is not None and config.label_column not in columns):
            continue
        if any(PurePosixPath(name).suffix.lower() in PICTURES for name in columns):
            continue  # no header: its first line names a picture
        table = read_table(file)
        named = path_column(table.columns, lookup, file) if len(table) else None
        if named is not None:
            found.append(_Rows(table, named[1], named[0]))
    parts = [rows for rows in found if split_of_file(PurePosixPath(rows.table.file.name).stem)]
    known = {picture.path for rows in parts for picture in rows.pictures if picture}
    return [rows for rows in found if rows in parts or not {p.path for p in rows.pictures if p} <= known]


def _split_column(rows: _Rows) -> str | None:
    """Return the column whose values are all names of splits, one of them the training split's."""
    for name, values in rows.table.columns.items():
        if name.lower() in SPLIT_COLUMNS:
            splits = {split_of(str(value)) for value in values}
            if None not in splits and "train" in splits:
                return name
    return None


def _folders_are_splits(rows: _Rows) -> bool:
    """Return whether every named picture lies in a folder with a split's name, some in the training split's."""
    splits = {next(filter(None, map(split_of, file.folders)), None) for file in rows.pictures if file is not None}
    return None not in splits and "train" in splits
