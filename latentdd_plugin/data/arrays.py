"""Arrays of images as picture files in memory, so that every layout is decoded in one place."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.depth import depth_of, scaled, span_of

Levels = NDArray[np.uint8]


def pictures_of(images: Levels, name: str) -> list[tuple[str, bytes]]:
    """Return images as (name, bytes of a PGM, PPM or PNG file).

    Args:
        images: uint8 (N, H, W), or (N, H, W, C) with C = 1, 3 or 4.
        name: the array, for messages; picture i is named `name[i]`.
    """
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    height, width = images.shape[1:3]
    if images.ndim == 4 and images.shape[3] == 4:
        return [(f"{name}[{i}]", _png(pixels)) for i, pixels in enumerate(images)]
    head = f"{'P5' if images.ndim == 3 else 'P6'}\n{width} {height}\n255\n".encode()
    return [(f"{name}[{i}]", head + pixels.tobytes()) for i, pixels in enumerate(images)]


def _png(pixels: Levels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="png")
    return file.getvalue()


def as_levels(arrays: Mapping[str, NDArray[Any]]) -> tuple[dict[str, Levels], str]:
    """Return arrays of one dataset as 8 bits, all by one depth, and a note of how they were read.

    Raises:
        DataError: values that fit no depth; arrays of text or objects.
    """
    for name, values in arrays.items():
        if values.dtype.kind not in "biuf":
            raise DataError(f"{name}: an array of {values.dtype}; numbers are needed")
    plain = {
        name: values.astype(np.uint8) * np.uint8(255) if values.dtype.kind == "b" else values
        for name, values in arrays.items()
    }
    deep = {name: values for name, values in plain.items() if values.dtype != np.uint8}
    if not deep:
        return {name: np.ascontiguousarray(values) for name, values in plain.items()}, ""
    depth, span = depth_of(span_of(values, name) for name, values in deep.items())
    return {n: scaled(v, depth, n) if n in deep else np.ascontiguousarray(v) for n, v in plain.items()}, depth.describe(
        span
    )


def channels_last(images: NDArray[Any], name: str) -> tuple[NDArray[Any], str]:
    """Return images as (N, H, W) or (N, H, W, C), and a note if their axes were rearranged.

    Raises:
        DataError: the shape is not that of images.
    """
    shape = images.shape
    if images.ndim == 2 and math.isqrt(shape[1]) ** 2 == shape[1] > 1:
        side = math.isqrt(shape[1])
        return images.reshape(-1, side, side), f"{name} {shape}: rows are read as grey images of {side}x{side}"
    if images.ndim == 3 or (images.ndim == 4 and shape[3] in (1, 3, 4)):
        return images, ""
    if images.ndim == 4 and shape[1] in (1, 3, 4):
        return images.transpose(0, 2, 3, 1), f"{name} {shape}: read as (N, C, H, W)"
    raise DataError(f"{name}: an array of shape {shape}; images are (N, H, W), (N, H, W, C) or (N, C, H, W)")


def class_numbers(labels: NDArray[Any], name: str, count: int) -> tuple[list[int] | list[str], str]:
    """Return one label per image, and a note if they were one-hot.

    Raises:
        DataError: another number of labels than images; several labels per image.
    """
    note = ""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        hot = labels.astype(np.float64) if labels.dtype.kind in "biuf" else np.zeros((0, 0))
        if not hot.size or not (np.isin(hot, (0, 1)).all() and (hot.sum(1) == 1).all()):
            raise DataError(f"{name}: labels of shape {labels.shape}, several per image; one class per image is needed")
        labels, note = hot.argmax(1), f"{name}: one-hot labels"
    if labels.shape != (count,):
        raise DataError(f"{name}: labels of shape {labels.shape} for {count} images")
    if labels.dtype.kind == "f" and (labels == np.rint(labels)).all():
        labels, note = labels.astype(np.int64), f"{name}: labels are floating-point numbers, all whole"
    if labels.dtype.kind not in "biuU":
        row = int(np.argmax(labels != np.rint(labels))) if labels.dtype.kind == "f" else 0
        raise DataError(f"{name}: label {labels[row]!r} at row {row}; classes are whole numbers or text")
    found: list[Any] = labels.astype(np.int64).tolist() if labels.dtype.kind != "U" else labels.tolist()
    return found, note
