"""Fit a value that was typed or read from JSON to the annotation of the argument that takes it."""

from __future__ import annotations

import collections.abc
import types
import typing
from collections.abc import Mapping
from typing import Any

KINDS: dict[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a list",
    list: "a list",
    dict: "a mapping",
    types.NoneType: "null",
}
ALIASES: dict[Any, Any] = {
    collections.abc.Sequence: tuple,
    collections.abc.Iterable: tuple,
    collections.abc.Mapping: dict,
}


def annotations_of(cls: type) -> dict[str, Any]:
    """Return the annotations of a constructor's parameters by name; those that cannot be resolved are left out."""
    maker = getattr(cls, "__init__", None)
    try:
        hints = typing.get_type_hints(maker) if maker is not None else {}
    except Exception:  # a plug-in may annotate with names that exist for its type checker only
        return {}
    return {name: hint for name, hint in hints.items() if name != "return"}


def kinds_of(hint: Any) -> tuple[Any, ...]:
    """Return the plain types that an annotation allows; empty if it allows anything that cannot be told here."""
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        parts = [kinds_of(part) for part in typing.get_args(hint)]
        return tuple(dict.fromkeys(kind for part in parts for kind in part)) if all(parts) else ()
    if origin is typing.Literal:
        return tuple(dict.fromkeys(type(value) for value in typing.get_args(hint)))
    kind = types.NoneType if hint is None else origin or hint
    kind = ALIASES.get(kind, kind)
    return (kind,) if kind in KINDS else ()


def takes_text(hint: Any) -> bool:
    """Return whether an annotation allows a text and no number or truth value: then digits are a text too."""
    kinds = kinds_of(hint)
    return str in kinds and not {int, float, bool} & set(kinds)


def takes_list(hint: Any) -> bool:
    """Return whether an annotation allows a list."""
    return bool({tuple, list} & set(kinds_of(hint)))


def fitted(value: Any, hint: Any) -> Any:
    """Return the value as the annotation has it: a whole number as a float, digits as a text, a list as a tuple.

    Raises:
        ValueError: the annotation does not allow the value.
    """
    kinds = kinds_of(hint)
    if not kinds or type(value) in kinds:
        return value
    if {tuple, list} & set(kinds) and isinstance(value, (list, tuple)):
        return tuple(value)
    if dict in kinds and isinstance(value, Mapping):
        return value
    if float in kinds and type(value) is int:
        return float(value)
    if int in kinds and type(value) is float and value.is_integer():  # 1e3
        return int(value)
    if str in kinds and type(value) in (int, float):
        return str(value)
    raise ValueError


def describe(hint: Any) -> str:
    """Return what an annotation allows, in words."""
    return " or ".join(dict.fromkeys(KINDS[kind] for kind in kinds_of(hint)))


def fit_all(hints: Mapping[str, Any], values: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, Any], list[str]]:
    """Return the values that fit their annotations, and one fault for each other value.

    Args:
        hints: annotations by name; a value without one is passed on as it is.
        values: what was given.
        prefix: stands before each name in a fault, for example `dataset.`.
    """
    found: dict[str, Any] = {}
    faults: list[str] = []
    for key, value in values.items():
        try:
            found[key] = fitted(value, hints[key]) if key in hints else value
        except ValueError:
            faults.append(f"{prefix}{key}={value!r}: must be {describe(hints[key])}")
    return found, faults
