"""Kinds of JSON values: what an untrusted file may hold, how it is read, and its JSON Schema.

A kind reports every fault with its path instead of stopping at the first one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

Json = Any  # as in `core.types`, which uses this module
LARGEST = 2**53  # the integers that every JSON reader keeps exact end here
TIMESTAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)"
MISSING: Any = object()

Definitions = dict[str, Json]  # the `$defs` of a JSON Schema document


@dataclass(frozen=True)
class Kind:
    """A kind of JSON value.

    Attributes:
        wanted: the requirement in words, for messages: "it must be …".
        optional: the key may be missing.
        null: the value may be null.
        omit: a value of None is not written, as long as the file that was read did not have it.
    """

    wanted: str
    optional: bool = field(default=False, kw_only=True)
    null: bool = field(default=False, kw_only=True)
    omit: bool = field(default=False, kw_only=True)

    def or_null(self) -> Kind:
        """Return this kind, with null allowed."""
        return replace(self, wanted=f"{self.wanted}, or null", null=True)

    def or_missing(self, *, omit: bool = False) -> Kind:
        """Return this kind, with null and a missing key allowed; `omit` leaves None out when writing."""
        return replace(self, null=True, optional=True, omit=omit)

    def read(self, value: Json, path: str, faults: list[str]) -> Any:
        """Return the Python value of a JSON value, or None after appending what is wrong with it to `faults`."""
        if value is MISSING:
            if not self.optional:
                faults.append(f"{path}: missing; it must be {self.wanted}")
        elif not (value is None and self.null):
            return self.parse(value, path, faults)
        return None

    def parse(self, value: Json, path: str, faults: list[str]) -> Any:
        """Read a value that is there and may not be null."""
        raise NotImplementedError

    def dump(self, value: Any) -> Json:
        """Return the JSON of a Python value that is not None."""
        return value

    def schema(self, definitions: Definitions) -> Json:
        """Return the JSON Schema; schemas of record types are added to `definitions`."""
        found = self.fragment(definitions)
        return {"anyOf": [found, {"type": "null"}]} if self.null else found

    def fragment(self, definitions: Definitions) -> Json:
        """Return the JSON Schema without null."""
        raise NotImplementedError

    def _refuse(self, value: Json, path: str, faults: list[str]) -> None:
        faults.append(f"{path}: {short(value)}, but it must be {self.wanted}")


@dataclass(frozen=True)
class Leaf(Kind):
    """A value that is checked as a whole; lists become tuples."""

    holds: Callable[[Json], bool]
    json_schema: Mapping[str, Json]

    def parse(self, value: Json, path: str, faults: list[str]) -> Any:
        """Return the value, or None and a fault."""
        if value is None or not self.holds(value):
            return self._refuse(value, path, faults)
        return tuple(value) if isinstance(value, list) else value

    def dump(self, value: Any) -> Json:
        """Return the value, a tuple as a list."""
        return list(value) if isinstance(value, tuple) else value

    def fragment(self, definitions: Definitions) -> Json:
        """Return the JSON Schema given with the kind."""
        return dict(self.json_schema)


@dataclass(frozen=True)
class ListOf(Kind):
    """A list whose members are of one kind; a tuple in Python."""

    wanted: str = field(default="a list", kw_only=True)
    member: Kind

    def parse(self, value: Json, path: str, faults: list[str]) -> Any:
        """Return a tuple of the members."""
        if not isinstance(value, list):
            return self._refuse(value, path, faults)
        return tuple(self.member.read(member, f"{path}.{i}", faults) for i, member in enumerate(value))

    def dump(self, value: Sequence[Any]) -> Json:
        """Return a list."""
        return [dumped(self.member, member) for member in value]

    def fragment(self, definitions: Definitions) -> Json:
        """Return an array's schema."""
        return {"type": "array", "items": self.member.schema(definitions)}


@dataclass(frozen=True)
class MapOf(Kind):
    """An object whose values are of one kind, whatever their names."""

    wanted: str = field(default="an object", kw_only=True)
    member: Kind

    def parse(self, value: Json, path: str, faults: list[str]) -> Any:
        """Return a dict of the members."""
        if not isinstance(value, Mapping):
            return self._refuse(value, path, faults)
        return {key: self.member.read(member, f"{path}.{short(key)}", faults) for key, member in value.items()}

    def dump(self, value: Mapping[str, Any]) -> Json:
        """Return a dict."""
        return {key: dumped(self.member, member) for key, member in value.items()}

    def fragment(self, definitions: Definitions) -> Json:
        """Return an object's schema."""
        return {"type": "object", "additionalProperties": self.member.schema(definitions)}


def dumped(kind: Kind, value: Any) -> Json:
    """Return the JSON of a value that may be None."""
    return None if value is None else kind.dump(value)


def short(value: Json) -> str:
    """Return a value as a message shows it, at most 60 characters."""
    text = repr(value) if not isinstance(value, str) or not value.isidentifier() else value
    return text if len(text) <= 60 else f"{text[:59]}…"


# --- leaves -----------------------------------------------------------------------------------------------------------


def is_number(value: Json) -> bool:
    """Return True for a finite number of ordinary size."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def is_line(value: Json, longest: int = 300) -> bool:
    """Return True for a printable text of one line that is not blank."""
    return isinstance(value, str) and value.isprintable() and 0 < len(value.strip()) <= longest


def is_url(value: Json) -> bool:
    """Return True for an address that a page may link to: http or https."""
    if not is_line(value, 500) or re.search(r"\s", value):
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _text(longest: int) -> Leaf:
    return Leaf(
        f"text of at most {longest:,} characters",
        lambda v: isinstance(v, str) and len(v) <= longest,
        {"type": "string", "maxLength": longest},
    )


def _within(wanted: str, low: float, high: float) -> Leaf:
    schema = {"type": "number", "minimum": low, "maximum": high}
    return Leaf(wanted, lambda v: is_number(v) and low <= v <= high, schema)


def word(*allowed: str) -> Leaf:
    """Return the kind of a text that is one of a few words."""
    return Leaf(
        f"one of {', '.join(allowed)}", lambda v: isinstance(v, str) and v in allowed, {"enum": sorted(set(allowed))}
    )


_LINE = {"type": "string", "minLength": 1, "maxLength": 300}
_POSITIVE = {"type": "integer", "minimum": 1}

LINE = Leaf("a line of at most 300 characters", is_line, _LINE)
NOTE, TEXT = _text(4000), _text(20_000)
URL = Leaf("an address with http:// or https://", is_url, {"type": "string", "pattern": "^https?://", "maxLength": 500})
SHA256 = Leaf(
    "64 hexadecimal digits",
    lambda v: isinstance(v, str) and bool(re.fullmatch(r"[0-9a-f]{64}", v)),
    {"type": "string", "pattern": "^[0-9a-f]{64}$"},
)
TIME = Leaf(
    "a time like 2026-01-31T12:00:00+00:00",
    lambda v: isinstance(v, str) and bool(re.fullmatch(TIMESTAMP, v, re.ASCII)),
    {"type": "string", "pattern": f"^{TIMESTAMP}$"},
)
WHOLE = Leaf("a whole number from 0", lambda v: type(v) is int and 0 <= v < LARGEST, {"type": "integer", "minimum": 0})
COUNT = Leaf("a whole number from 1", lambda v: type(v) is int and 0 < v < LARGEST, _POSITIVE)
NUMBER = Leaf("a number", is_number, {"type": "number"})
POSITIVE = Leaf("a number above 0", lambda v: is_number(v) and v > 0, {"type": "number", "exclusiveMinimum": 0})
AMOUNT = Leaf("a number from 0", lambda v: is_number(v) and v >= 0, {"type": "number", "minimum": 0})
FRACTION = _within("a fraction in [0, 1]", 0, 1)
DIFFERENCE = _within("a difference of fractions, in [-1, 1]", -1, 1)
FLAG = Leaf("true or false", lambda v: isinstance(v, bool), {"type": "boolean"})
OBJECT = Leaf("an object", lambda v: isinstance(v, Mapping), {"type": "object"})
ANYTHING = Leaf("any JSON value", lambda v: True, {}, null=True)
LINES = Leaf(
    "a list of lines", lambda v: isinstance(v, list) and all(map(is_line, v)), {"type": "array", "items": _LINE}
)
NAMES = Leaf(
    "a list of at least one line",
    lambda v: LINES.holds(v) and len(v) > 0,
    {"type": "array", "items": _LINE, "minItems": 1},
)
PAIR = Leaf(
    "two numbers",
    lambda v: isinstance(v, list) and len(v) == 2 and all(map(is_number, v)),
    {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
)
MISTAKE = Leaf(
    "three whole numbers: a class, the class given instead, images",
    lambda v: isinstance(v, list) and len(v) == 3 and all(map(WHOLE.holds, v)),
    {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 3, "maxItems": 3},
)
SIZES = Leaf(
    "three whole numbers from 1",
    lambda v: isinstance(v, list) and len(v) == 3 and all(map(COUNT.holds, v)),
    {"type": "array", "items": _POSITIVE, "minItems": 3, "maxItems": 3},
)
