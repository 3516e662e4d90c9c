"""Read the value of `key=value` by the type of its key, so that a text arrives as it was typed.

Hydra's grammar gives meaning to commas, brackets, equal signs and digits. For a key whose type is text everything after
the first equal sign is the text; for a list of texts every element is. Numbers, truth values and mappings are Hydra's.
A value that stands in quotes of its own (`key="'a, b'"` in a shell) is taken without them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException

from latentdd_plugin.core.annotations import kinds_of, takes_list, takes_text

PLAIN = re.compile(r"(?!(?:null|true|false|nan|inf)$)[A-Za-z][A-Za-z0-9_-]*", re.IGNORECASE | re.ASCII)
SWEEP = re.compile(r"(?:choice|range|interval|glob|shuffle|sort|tag|extend_list)\(.*\)", re.DOTALL)
OPENING, CLOSING = "([{", ")]}"


class Kind(Enum):
    """A way to read the value of a key."""

    TEXT = "text"
    TEXT_OR_NULL = "text or null"
    TEXTS = "list of texts"
    OTHER = "as Hydra reads it"
    UNKNOWN = "as Hydra reads it, or as text if it cannot"


def kind_of(hint: Any) -> Kind:
    """Return how a value for a parameter with this annotation is read."""
    if takes_text(hint):
        return Kind.TEXT_OR_NULL if type(None) in kinds_of(hint) else Kind.TEXT
    if takes_list(hint) and "str" in str(hint):
        return Kind.TEXTS
    return Kind.OTHER if kinds_of(hint) else Kind.UNKNOWN


def parsed(word: str) -> Override | None:
    """Return a `key=value` word as Hydra's parser reads it, or None if it cannot."""
    try:
        (override,) = OverridesParser.create().parse_overrides([word])
    except HydraException:
        return None
    return override


def quoted(value: str) -> str:
    """Return a text as one Hydra value that means exactly this text, whatever it holds."""
    text = re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + r"\${", value)  # no OmegaConf interpolation
    text = re.sub(r"(\\*)'", lambda m: m[1] * 2 + r"\'", text)
    text = re.sub(r"(\\+)$", lambda m: m[1] * 2, text)
    return f"'{text}'"


def literal(value: str) -> str:
    """Return a plain word as it is, which reads well in a sweep's table; any other text quoted."""
    return value if PLAIN.fullmatch(value) else quoted(value)


def hydra_value(kind: Kind, raw: str, *, sweep: bool) -> str:
    """Return the value for Hydra's parser that means what was typed.

    Args:
        kind: how the key's value is read.
        raw: everything after the first equal sign.
        sweep: commas outside brackets and quotes separate jobs, and Hydra's sweep functions keep their meaning.
    """
    if kind is Kind.OTHER or is_quoted(raw) or (sweep and SWEEP.fullmatch(raw)):
        return raw
    if kind is Kind.UNKNOWN:
        return raw if _keeps(raw) else literal(raw)
    if sweep and "," in raw:
        return ",".join(_one(kind, part) for part in split(raw))
    return _one(kind, raw)


def _one(kind: Kind, raw: str) -> str:
    if is_quoted(raw) or (raw == "null" and kind is not Kind.TEXT):
        return raw
    if kind is Kind.TEXTS and raw.startswith("[") and raw.endswith("]"):
        return f"[{','.join(part if is_quoted(part) else literal(part) for part in split(raw[1:-1]))}]"
    return literal(raw)


def is_quoted(raw: str) -> bool:
    """Return whether a value stands in quotes of its own, as Hydra's grammar has them."""
    if len(raw) < 2 or raw[0] not in "'\"" or raw[-1] != raw[0]:
        return False
    override = parsed(f"key={raw}")
    return override is not None and isinstance(override._value, QuotedString)


def _keeps(raw: str) -> bool:
    """Return whether Hydra reads a value of unknown type without changing a text."""
    override = parsed(f"key={raw}")
    if override is None or "${" in raw:
        return False
    value = override.value()
    return not isinstance(value, str) or value == raw or override.is_sweep_override()


def split(text: str) -> list[str]:
    """Return the parts between commas that stand outside brackets and quotes, without spaces around them."""
    return [part for part in (part.strip() for part in _parts(text)) if part]


def _parts(text: str) -> Iterator[str]:
    depth, quote, start = 0, "", 0
    for place, mark in enumerate(text):
        if quote:
            quote = "" if mark == quote and text[place - 1] != "\\" else quote
        elif mark in "'\"" and not text[start:place].strip():  # it opens the part: an apostrophe inside is a letter
            quote = mark
        elif mark in OPENING:
            depth += 1
        elif mark in CLOSING:
            depth = max(0, depth - 1)
        elif mark == "," and depth == 0:
            yield text[start:place]
            start = place + 1
    yield text[start:]
