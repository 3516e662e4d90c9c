"""Small tables beside pictures: CSV, TSV and JSON lines with a header. Every value is text, a number or None."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.file_kinds import LFS
from latentdd_plugin.data.walk import File

TABLES = (".csv", ".tsv", ".jsonl", ".json", ".ndjson", ".parquet")
LARGEST = 1 << 30  # bytes of a text table
SEPARATORS = (",", ";", "\t", "|")
WORDS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")


@dataclass(frozen=True)
class Table:
    """A table in memory."""

    file: File
    columns: dict[str, list[Any]]  # name -> N values: str, int, float, bool or None
    lines: list[int]  # line of the file that each row begins on; counted from 1
    note: str = ""  # its separator, if that is not what the suffix says

    def __len__(self) -> int:
        return len(self.lines)


def header(file: File) -> tuple[str, ...]:
    """Return the columns of a table; none if it is not one, or cannot be read."""
    try:
        return _header(file.path, file.path.stat().st_mtime_ns, file.suffix)
    except (OSError, DataError, ValueError):
        return ()


@lru_cache(maxsize=256)
def _header(path: Path, _changed: int, suffix: str) -> tuple[str, ...]:
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        return tuple(pq.read_schema(path).names)
    if suffix in (".jsonl", ".ndjson"):
        with path.open("rb") as opened:
            first = json.loads(opened.readline(1 << 20).decode("utf-8-sig"))
        return tuple(first) if isinstance(first, dict) else ()
    if suffix == ".json":
        return tuple(read_table(File(path.name, path)).columns) if path.stat().st_size < 1 << 24 else ()
    with path.open("rb") as opened:
        text = _decoded(opened.read(1 << 16), path.name, partial=True)
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2:
        return ()
    columns = next(csv.reader([lines[0]], delimiter=_separator(lines)))
    return tuple(name.strip() for name in columns) if len(columns) > 1 else ()


def read_table(file: File) -> Table:
    """Read a CSV, TSV, JSON-lines or parquet file, or a JSON file that holds a list of objects.

    Numbers are converted in a column only if all its values are numbers in plain notation; empty cells are None.

    Raises:
        DataError: not such a table, or one whose lines have other columns than its header.
    """
    if file.suffix == ".parquet":
        return _parquet(file)
    if file.path.stat().st_size > LARGEST:
        raise DataError(f"{file.name}: a table of more than 1 GiB is not read as text; save it as parquet")
    text = _decoded(file.path.read_bytes(), file.name)
    if file.suffix in (".jsonl", ".ndjson", ".json"):
        return _json(file, text)
    return _delimited(file, text)


def _parquet(file: File) -> Table:
    import pyarrow.parquet as pq

    try:
        found = pq.read_table(file.path)
    except Exception as error:
        raise DataError(f"{file.name}: not a readable parquet file ({' '.join(str(error).split())[:200]})") from error
    columns = {name: found.column(name).to_pylist() for name in found.column_names}
    return Table(file, columns, list(range(1, found.num_rows + 1)))


def _decoded(data: bytes, name: str, *, partial: bool = False) -> str:
    if data.startswith(LFS):
        raise DataError(f"{name}: a git-lfs pointer, not the file itself; run `git lfs pull` in its repository")
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        return data.decode("utf-16" if wide else "utf-8-sig", "replace" if partial else "strict")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: not UTF-8 (byte {error.start}); save it as 'CSV UTF-8'") from error


def _separator(lines: list[str]) -> str:
    """Return the separator that splits the first lines most evenly into most columns."""
    sample = lines[:50]

    def score(separator: str) -> tuple[int, int]:
        widths = [len(row) for row in csv.reader(sample, delimiter=separator)]
        even = sum(width == widths[0] for width in widths)
        return (even if widths[0] > 1 else 0, widths[0])

    return max(SEPARATORS, key=score)


def _delimited(file: File, text: str) -> Table:
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{file.name}: an empty table")
    separator = _separator(lines)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    names = [name.strip() for name in next((row for row in reader if any(row)), [])]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{file.name}: the column {twice[0]!r} is named twice in its first line")
    rows, numbers = [], []
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(names):
            raise DataError(
                f"{file.name}, line {reader.line_num}: {len(row)} values for the {len(names)} columns of its first "
                f"line, separated by {WORDS[separator]}; write values that hold the separator in quotation marks"
            )
        rows.append(row)
        numbers.append(reader.line_num)
    columns = {name: typed([row[i].strip() for row in rows]) for i, name in enumerate(names)}
    usual = "\t" if file.suffix == ".tsv" else ","
    return Table(
        file, columns, numbers, "" if separator == usual else f"{file.name} is separated by {WORDS[separator]}"
    )


def typed(cells: list[str]) -> list[Any]:
    """Return a column's cells as integers or floats if all are, else as text; empty ones are None."""
    given = [cell for cell in cells if cell]
    if given and all(INTEGER.fullmatch(cell) for cell in given):
        return [int(cell) if cell else None for cell in cells]
    if given and all(_is_decimal(cell) for cell in given):
        return [float(cell) if cell else None for cell in cells]
    return [cell or None for cell in cells]


def _is_decimal(cell: str) -> bool:
    return (
        bool(re.fullmatch(r"-?[0-9]+(\.[0-9]*)?", cell))
        and math.isfinite(float(cell))
        and not re.match(r"-?0[0-9]", cell)
    )


def _json(file: File, text: str) -> Table:
    try:
        if file.suffix == ".json":
            rows, numbers = json.loads(text), None
            numbers = list(range(1, len(rows) + 1)) if isinstance(rows, list) else []
        else:
            numbered = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
            numbers = [i for i, _ in numbered]
            rows = [json.loads(line) for _, line in numbered]
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file.name}: not JSON ({str(error)[:200]})") from error
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{file.name}: not a list of objects with the same keys")
    names = list(dict.fromkeys(key for row in rows for key in row))
    plain = (str, int, float, bool, type(None))
    columns = {name: [row.get(name) for row in rows] for name in names}
    return Table(file, {n: v for n, v in columns.items() if all(isinstance(x, plain) for x in v)}, numbers)
