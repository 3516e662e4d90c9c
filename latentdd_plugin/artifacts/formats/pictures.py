"""Picture files of one set to float images, by the depth rule of datasets."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from latentdd_plugin.artifacts.header import LARGEST_TENSOR
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.data.depth import GREY, depth_of, eight_bits, is_deep, span_of
from latentdd_plugin.data.file_kinds import fault_of
from latentdd_plugin.data.images import decode_files


def decode_paths(files: Sequence[Path], where: Path) -> Tensor:
    """Return picture files as float32 (N, C, H, W) in [0, 1], grey only if every one is grey.

    Args:
        files: pictures of one size.
        where: their folder, for messages.

    Raises:
        UsageError: files that are not pictures (up to 20 are named), several sizes, or more pixels than can be held.
    """
    shapes = [header for file in files if (header := _header(file)) is not None]
    if shapes:
        width, height = (max(shape[side] for shape in shapes) for side in (0, 1))
        _check_size(len(files), width, height, str(where))
    grey = len(shapes) == len(files) and all(shape[2] for shape in shapes)
    return _stacked(zip(map(str, files), decode_files(files), strict=True), len(files), grey, str(where))


def decode_bytes(files: Sequence[bytes]) -> Tensor:
    """Return encoded pictures as float32 (N, C, H, W) in [0, 1], grey only if every one is grey.

    Raises:
        UsageError: a row that is not a picture, several sizes, or more pixels than can be held.
    """
    opened, spans = [], []
    for row, data in enumerate(files):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                image = Image.open(io.BytesIO(data))
            _check_size(len(files), *image.size, f"row {row}")
            image.load()
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(f"row {row}: {fault_of(data, error)}") from None
        spans += [span_of(np.asarray(image), f"row {row}")] if is_deep(image) else []
        opened.append(image)
    depth = depth_of(spans)[0] if spans else None
    rows = ((f"row {row}", eight_bits(image, depth, f"row {row}")) for row, image in enumerate(opened))
    return _stacked(rows, len(opened), all(image.mode in GREY for image in opened), "column image")


def _header(file: Path) -> tuple[int, int, bool] | None:
    """Return width, height and whether a picture is grey, from its header; None if it cannot be read."""
    try:
        with warnings.catch_warnings(), Image.open(file) as image:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return *image.size, image.mode in GREY
    except Exception:  # decoding reports it, with all others
        return None


def _check_size(count: int, width: int, height: int, where: str) -> None:
    if math.prod((count, width, height, 3)) > LARGEST_TENSOR:
        raise UsageError(f"{where}: {count} pictures of {width}x{height} are too many")


def _stacked(images: Iterator[tuple[str, Image.Image]], count: int, grey: bool, where: str) -> Tensor:
    levels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None = None
    first = (0, 0)
    for row, (name, image) in enumerate(images):
        if levels is None:
            first = image.size
            levels = np.empty((count, first[1], first[0], 1 if grey else 3), dtype=np.uint8)
        if image.size != first:
            raise UsageError(f"{where}: pictures of several sizes ({first} and, at {name}, {image.size})")
        pixels = np.asarray(image.convert("L" if grey else "RGB"))
        levels[row] = pixels[..., None] if grey else pixels
    if levels is None:
        raise UsageError(f"{where}: no pictures")
    return torch.from_numpy(levels).permute(0, 3, 1, 2).float() / 255
