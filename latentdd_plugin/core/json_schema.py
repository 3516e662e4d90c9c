"""What a JSON value must look like before anything is made of it: every path, and what stands there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from latentdd_plugin.core.types import Json

Form = Mapping[str, "Kind"]  # path, with * for every member -> what stands there
MISSING: Any = object()
LARGEST = 2**53
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True)
class Kind:
    """What a value has to be."""

    wanted: str  # in words
    holds: Callable[[Json], bool]
    optional: bool = False  # may be missing
    null: bool = False  # may be null

    def or_null(self) -> Kind:
        """The same, or null."""
        return Kind(f"{self.wanted}, or null", self.holds, null=True)

    def or_missing(self) -> Kind:
        """The same, or null, or not there."""
        return Kind(self.wanted, self.holds, optional=True, null=True)


def number(value: Json) -> bool:
    """Whether it is a finite number of ordinary size."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def _line(value: Json, longest: int = 300) -> bool:
    return isinstance(value, str) and value.isprintable() and 0 < len(value.strip()) <= longest


def is_url(value: Json) -> bool:
    """Whether a text is an address that a page may link to: http or https."""
    if not _line(value, 500) or re.search(r"\s", value):
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


TEXT = Kind("a line of at most 300 characters", _line)
LONG = Kind("text of at most 4,000 characters", lambda v: isinstance(v, str) and len(v) <= 4000)
ANY = Kind("text of at most 20,000 characters", lambda v: isinstance(v, str) and len(v) <= 20_000)
URL = Kind("an address with http:// or https://", is_url)
SHA = Kind("64 hexadecimal digits", lambda v: isinstance(v, str) and bool(re.fullmatch(r"[0-9a-f]{64}", v)))
WHOLE = Kind("a whole number from 0", lambda v: type(v) is int and 0 <= v < LARGEST)
SOME = Kind("a whole number from 1", lambda v: type(v) is int and 0 < v < LARGEST)
NUMBER = Kind("a number", number)
POSITIVE = Kind("a number above 0", lambda v: number(v) and v > 0)
FRACTION = Kind("a fraction in [0, 1]", lambda v: number(v) and 0 <= v <= 1)
DIFFERENCE = Kind("a difference of fractions, in [-1, 1]", lambda v: number(v) and -1 <= v <= 1)
FLAG = Kind("true or false", lambda v: isinstance(v, bool))
OBJECT = Kind("an object", lambda v: isinstance(v, Mapping))
LIST = Kind("a list", lambda v: isinstance(v, list))
TEXTS = Kind("a list of lines", lambda v: isinstance(v, list) and all(map(_line, v)))
NAMES = Kind("a list of at least one line", lambda v: TEXTS.holds(v) and len(v) > 0)
PAIR = Kind("two numbers", lambda v: isinstance(v, list) and len(v) == 2 and all(map(number, v)))
SIZES = Kind("three whole numbers from 1", lambda v: isinstance(v, list) and len(v) == 3 and all(map(SOME.holds, v)))
TIME = Kind(
    "a time like 2026-01-31T12:00:00+00:00",
    lambda v: (
        isinstance(v, str) and bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)", v, re.ASCII))
    ),
)


def word(*allowed: str) -> Kind:
    """One of a few words."""
    return Kind(f"one of {', '.join(allowed)}", lambda v: isinstance(v, str) and v in allowed)


def under(prefix: str, form: Form) -> dict[str, Kind]:
    """A form that stands under a path."""
    return {f"{prefix}.{path}": kind for path, kind in form.items()}


def faults(value: Json, form: Form) -> list[str]:
    """Every place where a JSON value is not what the form asks for, in words."""
    found: dict[str, None] = {}
    for path, kind in form.items():
        for where, there in _at(value, path.split("."), ""):
            if there is MISSING:
                if not kind.optional:
                    found[f"{where}: missing; it must be {kind.wanted}"] = None
            elif not (there is None and kind.null) and not (there is not None and kind.holds(there)):
                found[f"{where}: {short(there)}, but it must be {kind.wanted}"] = None
    return list(found)


def _at(value: Json, path: list[str], where: str) -> Iterator[tuple[str, Json]]:
    """(place, value) of everything a path leads to; MISSING where it ends early."""
    if not path:
        yield where, value
    elif path[0] == "*":
        members = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
        for key, member in members:
            yield from _at(member, path[1:], f"{where}.{short(key) if isinstance(key, str) else key}")
    else:
        there = value.get(path[0], MISSING) if isinstance(value, Mapping) else MISSING
        if there is MISSING:
            yield f"{where}.{'.'.join(path)}".lstrip("."), MISSING
        else:
            yield from _at(there, path[1:], f"{where}.{path[0]}".lstrip("."))


def short(value: Json) -> str:
    """A value in a message."""
    text = repr(value) if not isinstance(value, str) or not value.isidentifier() else value
    return text if len(text) <= 60 else f"{text[:59]}…"
