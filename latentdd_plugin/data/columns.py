"""The columns of a split that hold image and label, and what the labels are. Reads no image."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.classes import class_order
from latentdd_plugin.data.walk import printable

if TYPE_CHECKING:
    from latentdd_plugin.core.config import DatasetConfig

log = logging.getLogger(__name__)

Ints = NDArray[np.int64]

NAMES = ("label", "labels", "class", "category", "target", "class_name", "class_id", "cls")  # in order of preference
RANKS = (("ClassLabel",), ("integer", "text"), ("float",))
FEW_ROWS = 10  # below it, a different label in every row does not mean a wrong column


def find_columns(dataset: Any, config: DatasetConfig, where: str) -> tuple[str, str]:
    """Return the names of the image and the label column of a `datasets.Dataset`.

    The label is the only ClassLabel column; else a column of integers or text named `label` or the like; else the
    only one of integers or text; else the only one of floating-point numbers. Columns whose values all differ, and
    those whose names begin with `__`, are not taken for labels unless asked for.

    Raises:
        DataError: a column asked for is not there or holds something else; none or several may be meant.
    """
    kinds = {name: _kind(feature) for name, feature in dataset.features.items()}
    image = _find(kinds, "image_column", config.image_column, (("Image",),), where)
    possible = {name: kind for name, kind in kinds.items() if not name.startswith("__") or name == config.label_column}
    label = _find(possible, "label_column", config.label_column, RANKS, where, dataset)
    return image, label


def _find(
    kinds: dict[str, str],
    option: str,
    asked: str | None,
    ranks: Sequence[Sequence[str]],
    where: str,
    dataset: Any = None,
) -> str:
    columns = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
    allowed = " or ".join(kind for rank in ranks for kind in rank)
    if asked is not None:
        if asked not in kinds:
            raise DataError(f"{where}: no column {asked!r} for dataset.{option}; the columns are {columns}")
        if not any(kinds[asked] in rank for rank in ranks):
            raise DataError(f"{where}: dataset.{option}={asked} holds {kinds[asked]}, allowed are {allowed}")
        return asked
    if (
        "label" in kinds
        and option == "label_column"
        and "ClassLabel" not in kinds.values()
        and kinds["label"] == "float"
    ):
        return "label"
    for rank in ranks:
        found = [name for name, kind in kinds.items() if kind in rank]
        if len(found) > 1 and dataset is not None:
            named = label_by_name(found)
            found = [named] if named else _repeated(dataset, found)
        if len(found) > 1:
            raise DataError(f"{where}: several columns may be meant: {', '.join(found)}; set dataset.{option} to one")
        if found:
            if option == "label_column" and rank != RANKS[0] and found[0] not in NAMES:
                log.info(
                    "%s: labels are read from the column %s; dataset.label_column=NAME reads another", where, found[0]
                )
            return found[0]
    raise DataError(f"{where}: no column of {allowed} for dataset.{option}; the columns are {columns}")


def label_by_name(names: Sequence[str]) -> str | None:
    """Return the column that is named `label` or the like, or None."""
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[name] for name in NAMES if name in lower), None)


def _repeated(dataset: Any, names: Sequence[str]) -> list[str]:
    """Return the columns in which some value occurs twice; all columns if there is none, or few rows."""
    if len(dataset) < FEW_ROWS:
        return list(names)
    return [name for name in names if len(set(_values(dataset, name))) < len(dataset)] or list(names)


def _kind(feature: Any) -> str:
    """Return a feature's type in a word: `integer`, `text` and `float` for values, else the name of its class."""
    if type(feature).__name__ != "Value":
        return type(feature).__name__
    dtype = str(feature.dtype)
    if dtype.startswith(("int", "uint", "bool")):
        return "integer"
    if dtype.startswith(("float", "double", "decimal")):
        return "float"
    return "text" if dtype in ("string", "large_string", "string_view") else dtype


def has_labels(dataset: Any, column: str) -> bool:
    """Return whether any row is labelled; public test splits often hide all labels as -1."""
    if column not in dataset.features:
        return True
    return any(value not in (None, -1, "") and not _is_nan(value) for value in _values(dataset, column))


def read_labels(
    dataset: Any, column: str, where: str, *, asked: bool = False, name: Callable[[int], str] = "row {}".format
) -> tuple[Ints, tuple[str, ...]]:
    """Return (class number of each row, class names). Names of plain values are the distinct ones, in class order.

    Args:
        dataset: a `datasets.Dataset`.
        column: its label column.
        where: the split, for messages.
        asked: whether the user named the column; only then may nearly every row have a label of its own.
        name: names a row in messages.

    Raises:
        DataError: a row without label; a floating-point label that is not a whole number; labels that name rows.
    """
    values = _values(dataset, column)
    if _kind(dataset.features[column]) == "ClassLabel":
        _refuse_unlabelled(values, column, where, (None, -1), name)
        return np.asarray(values, dtype=np.int64), tuple(dataset.features[column].names)
    if any(isinstance(value, float) for value in values):
        values = _whole(values, column, where, name)
    binary = set(values) == {-1, 1}
    if binary:
        log.info("%s: the labels of %s are -1 and 1, which are taken for two classes", where, column)
    _refuse_unlabelled(values, column, where, (None, "") if binary else (None, "", -1), name)
    distinct = set(values)
    if not asked and len(values) >= FEW_ROWS and len(distinct) > len(values) / 2:
        raise DataError(
            f"{where}: the column {column} holds {len(distinct)} different values in {len(values)} rows, too many for "
            "labels; set dataset.label_column to the column of labels"
        )
    text = isinstance(next(iter(distinct)), str) if distinct else True
    ordered: list[Any] = class_order(distinct) if text else sorted(distinct)
    number = {value: i for i, value in enumerate(ordered)}
    return np.asarray([number[value] for value in values], dtype=np.int64), tuple(str(value) for value in ordered)


def _refuse_unlabelled(
    values: Sequence[Any], column: str, where: str, absent: tuple[Any, ...], name: Callable[[int], str]
) -> None:
    rows = [row for row, value in enumerate(values) if value in absent or _is_nan(value)]
    if rows:
        first = f"{name(rows[0])}: unlabelled ({column} is {values[rows[0]]})"
        more = f", and {len(rows) - 1} more: {printable([name(row) for row in rows[1:]], 19)}" if len(rows) > 1 else ""
        raise DataError(f"{where}, {first}{more}; remove such rows")


def _whole(values: Sequence[Any], column: str, where: str, name: Callable[[int], str]) -> list[Any]:
    """Return floating-point labels as integers, and log it."""
    _refuse_unlabelled(values, column, where, (None,), name)
    for row, value in enumerate(values):
        if not float(value).is_integer():
            raise DataError(
                f"{where}, {name(row)}: the label {value} is not a whole number; classes may be whole numbers or text. "
                f"If {column} is a measurement, set dataset.label_column to the column of classes"
            )
    log.info("%s: the labels of %s are floating-point numbers, all whole; they are taken for classes", where, column)
    return [int(value) for value in values]


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _values(dataset: Any, column: str) -> list[Any]:
    found: list[Any] = dataset.select_columns([column]).with_format("arrow")[:].column(column).to_pylist()
    return found
