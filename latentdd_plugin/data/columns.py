"""Which columns of a split hold the image and the label, and what the labels are. Reads no image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latentdd_plugin.core.errors import DataError

if TYPE_CHECKING:
    from latentdd_plugin.core.config import DatasetConfig

Ints = NDArray[np.int64]


def find_columns(dataset: Any, config: DatasetConfig, where: str) -> tuple[str, str]:
    """Names of the image and the label column of a `datasets.Dataset`.

    The label is the only ClassLabel column, else the only one of integers or text; one named `label` wins.

    Raises:
        DataError: a column asked for is not there or holds something else; none or several might be meant.
    """
    kinds = {name: _kind(feature) for name, feature in dataset.features.items()}
    image = _find(kinds, "image_column", config.image_column, [["Image"]], where)
    label = _find(kinds, "label_column", config.label_column, [["ClassLabel"], ["integer", "text"]], where)
    return image, label


def _find(kinds: dict[str, str], option: str, asked: str | None, ranks: Sequence[Sequence[str]], where: str) -> str:
    there = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
    wanted = " or ".join(kind for rank in ranks for kind in rank)
    if asked is not None:
        if asked not in kinds:
            raise DataError(f"{where}: no column {asked!r} for dataset.{option}; the columns are {there}")
        if not any(kinds[asked] in rank for rank in ranks):
            raise DataError(f"{where}: dataset.{option}={asked} holds {kinds[asked]}, wanted {wanted}")
        return asked
    for rank in ranks:
        found = [name for name, kind in kinds.items() if kind in rank]
        if len(found) > 1 and "label" not in found:
            raise DataError(f"{where}: several columns may be meant: {', '.join(found)}; set dataset.{option} to one")
        if found:
            return "label" if len(found) > 1 else found[0]
    pictures = option == "label_column" and list(kinds.values()) == ["Image"]
    hint = "; pictures of a folder need a sub-folder a class" if pictures else ""
    raise DataError(f"{where}: no column of {wanted} for dataset.{option}; the columns are {there}{hint}")


def _kind(feature: Any) -> str:
    """A feature's type in a word; `integer` and `text` for what can be a label without being a ClassLabel."""
    if type(feature).__name__ != "Value":
        return type(feature).__name__
    dtype = str(feature.dtype)
    if dtype.startswith(("int", "uint", "bool")):
        return "integer"
    return "text" if dtype in ("string", "large_string") else dtype


def has_labels(dataset: Any, column: str) -> bool:
    """Whether any row is labelled; public test splits often hide all labels as -1."""
    return column not in dataset.features or any(value not in (None, -1) for value in _values(dataset, column))


def read_labels(dataset: Any, column: str, where: str) -> tuple[Ints, tuple[str, ...]]:
    """(class number of each row, class names). Names of plain values are the distinct ones, sorted.

    Raises:
        DataError: a row without label.
    """
    values = _values(dataset, column)
    for row, value in enumerate(values):
        if value is None or value == -1:
            raise DataError(f"{where}, row {row}: unlabelled ({column} is {value}); remove such rows")
    if _kind(dataset.features[column]) == "ClassLabel":
        return np.asarray(values, dtype=np.int64), tuple(dataset.features[column].names)
    distinct = sorted(set(values))
    number = {value: i for i, value in enumerate(distinct)}
    return np.asarray([number[value] for value in values], dtype=np.int64), tuple(str(value) for value in distinct)


def _values(dataset: Any, column: str) -> list[Any]:
    found: list[Any] = dataset.select_columns([column]).with_format("arrow")[:].column(column).to_pylist()
    return found
