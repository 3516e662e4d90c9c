"""Pictures of any depth to 8 bits: one rule for datasets and for imported folders of pictures.

Grey pictures of 16 or 32 bits and floating-point pictures say nothing of which value is white. It is decided once for a
whole set, from the values of all its pictures:

- whole numbers: the smallest of 255, 1023, 4095, 16383 and 65535 (8, 10, 12, 14, 16 bits) that no value exceeds;
- other floating-point numbers: 1 if all lie in [0, 1], 255 if all lie in [0, 255];
- negative, larger and non-finite values are refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentdd_plugin.core.errors import DataError

DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")  # grey modes with more than 8 bits
GREY = ("1", "L", *DEEP)
BITS = {255: 8, 1023: 10, 4095: 12, 16383: 14, 65535: 16}  # white -> bits
CLEAR = ("RGBA", "LA", "PA", "RGBa", "La")  # modes with transparency


@dataclass(frozen=True)
class Span:
    """The range of values in one or more deep pictures."""

    low: float
    high: float
    whole: bool  # whether all values are whole numbers
    real: bool  # whether a picture is stored as floating point
    lowest: str  # the picture with the lowest value
    highest: str  # the picture with the highest value

    def join(self, other: Span) -> Span:
        """Return the range of both."""
        low, high = (self if self.low <= other.low else other), (self if self.high >= other.high else other)
        whole, real = self.whole and other.whole, self.real or other.real
        return Span(low.low, high.high, whole, real, low.lowest, high.highest)


@dataclass(frozen=True)
class Depth:
    """The value of deep pictures that becomes 255; 0 becomes 0."""

    white: float

    def describe(self, span: Span) -> str:
        """Return how values are read, in a few words for the log."""
        held = f"values from {span.low:g} to {span.high:g}"
        if self.white == 1 and span.high <= 1:
            return f"floating-point pictures with {held} are read as [0, 1]"
        return f"pictures with {held} are read as {BITS[int(self.white)]} bits ({self.white:g} is white)"


def is_deep(image: Image.Image) -> bool:
    """Return whether a picture is grey with more than 8 bits per value."""
    return image.mode in DEEP


def span_of(values: NDArray[Any], name: str) -> Span:
    """Return the range of a picture's or an array's values.

    Raises:
        DataError: a value is not finite, or there are none.
    """
    if not values.size:
        raise DataError(f"{name}: holds no values")
    real = values.dtype.kind == "f"
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError(f"{name}: holds values that are not finite (NaN or infinity)")
    whole = not real or bool((values == np.rint(values)).all())
    return Span(low, high, whole, real, name, name)


def depth_of(spans: Iterable[Span]) -> tuple[Depth, Span]:
    """Return the depth of a whole set, and the range it was decided from.

    Raises:
        DataError: values are negative, or too large for the rule of this module.
    """
    span = reduce(Span.join, spans)
    if span.low < 0:
        raise DataError(f"{span.lowest}: holds the value {span.low:g}; scale the pictures to 0 … 255 or 0 … 1 first")
    if span.real and span.high <= 1:
        return Depth(1.0), span
    if span.whole and span.high <= 65535:
        return Depth(float(next(white for white in BITS if span.high <= white))), span
    if span.high <= 255:
        return Depth(255.0), span
    raise DataError(
        f"{span.highest}: holds the value {span.high:g}; values may lie in 0 … 1 or 0 … 255, or be whole "
        "numbers up to 65535. Scale the pictures first"
    )


def scaled(values: NDArray[Any], depth: Depth, name: str) -> NDArray[np.uint8]:
    """Return values as 8 bits.

    Raises:
        DataError: a value is negative or exceeds the depth.
    """
    span = span_of(values, name)
    if span.low < 0 or span.high > depth.white:
        raise DataError(
            f"{name}: holds values from {span.low:g} to {span.high:g}, the other pictures lie in 0 … {depth.white:g}"
        )
    found: NDArray[np.uint8] = np.rint(values.astype(np.float64) / (depth.white / 255)).astype(np.uint8)
    return found


def eight_bits(image: Image.Image, depth: Depth | None, name: str) -> Image.Image:
    """Return a picture in mode L or RGB; what is transparent is laid on white.

    Args:
        image: a picture of any mode.
        depth: the depth of the set; needed only if the picture is deep.
        name: the file, for messages.

    Raises:
        DataError: the picture is deep and no depth is given, or its values exceed the depth.
    """
    if is_deep(image):
        if depth is None:
            raise DataError(f"{name}: a picture of mode {image.mode}, for which a depth is needed")
        return Image.fromarray(scaled(np.asarray(image), depth, name))
    if image.mode in GREY:
        return image.convert("L")
    if image.mode in CLEAR or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")
