"""Image files to one uint8 tensor: decoded once by a thread pool, then kept on disk for the next process."""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from latentdd_plugin.core.errors import DataError, RunFailed
from latentdd_plugin.core.storage import atomic_write, cache_dir, locked
from latentdd_plugin.core.types import Shape, hash_json

log = logging.getLogger(__name__)

DECODER = 1  # rises when the same files would give other pixels
BLOCK = 256  # images a task of the pool
WIDE = ("I", "I;16", "I;16L", "I;16B", "I;16N")  # grey with 16 bits
GREY = ("1", "L", *WIDE)


@dataclass(frozen=True)
class ImageRows:
    """Rows of one split, as undecoded image files."""

    dataset: Any  # datasets.Dataset
    column: str  # its image column
    rows: NDArray[np.int64]  # (N,) row numbers in the split
    where: str  # for messages: "dataset cifar10, split train"

    def blocks(self) -> Iterator[tuple[int, list[bytes]]]:
        """(position of the first, files) of every `BLOCK` rows, in order."""
        for start in range(0, len(self.rows), BLOCK):
            yield start, self.files(start)

    def files(self, start: int) -> list[bytes]:
        """The image files at positions start … start + BLOCK, as they were stored."""
        rows = self.rows[start : start + BLOCK].tolist()
        cells = self.dataset.with_format("arrow")[rows].column(self.column).to_pylist()
        return [self._file(cell, row) for cell, row in zip(cells, rows, strict=True)]

    def _file(self, cell: dict[str, Any] | None, row: int) -> bytes:
        try:
            if cell is None or (cell["bytes"] is None and cell["path"] is None):
                raise DataError(f"{self.where}, row {row}: no image")
            data: bytes | None = cell["bytes"]
            return Path(cell["path"]).read_bytes() if data is None else data
        except OSError as error:
            raise DataError(f"{self.where}, row {row}: cannot read the image: {error}") from error


class _ColourFound(Exception):
    """A colour image among what began as grey ones."""


def read_pixels(
    rows: ImageRows, *, size: int | None, like: Shape | None = None, progress: bool = False
) -> tuple[Tensor, str]:
    """The decoded images, from the cache where an intact copy is there.

    Args:
        rows: N images to read.
        size: side in pixels to resize to (antialiased bicubic); None keeps the files' size.
        like: (C, H, W) the images must come out as: colour is made grey or grey colour, another size is an error.
            None: grey if all are grey, else RGB; the first image's size.
        progress: show a bar on stderr.

    Returns:
        uint8 (N, C, H, W), and the sha256 of its bytes.

    Raises:
        DataError: a file that is no image, or images of several sizes while `size` is None.
    """
    folder = cache_dir() / "images" / _identity(rows, size, like)
    path = folder / "pixels.safetensors"
    found = _kept(path, len(rows.rows))
    if found is not None:
        return found
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder))  # of two processes one decodes, the other waits for its file
        except RunFailed as error:
            log.warning("decoded images are not kept: %s", error)
            pixels = _decode_all(rows, size, like, progress)
            return pixels, _sha256(pixels)
        found = _kept(path, len(rows.rows))
        if found is None:
            pixels = _decode_all(rows, size, like, progress)
            found = pixels, _sha256(pixels)
            _keep(path, *found)
    return found


def _identity(rows: ImageRows, size: int | None, like: Shape | None) -> str:
    """sha256 over the files themselves and what is done with them: a changed file is another name."""
    digest = hashlib.sha256(hash_json([DECODER, size, like]).encode())
    for _, files in rows.blocks():
        for data in files:
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
    return digest.hexdigest()


def _sha256(pixels: Tensor) -> str:
    return hashlib.sha256(pixels.numpy().data).hexdigest()


def _keep(path: Path, pixels: Tensor, sha256: str) -> None:
    from safetensors.torch import save_file

    try:
        with atomic_write(path) as temporary:
            save_file({"pixels": pixels}, temporary, metadata={"sha256": sha256})
    except RunFailed as error:
        log.warning("decoded images are not kept: %s", error)


def _kept(path: Path, count: int) -> tuple[Tensor, str] | None:
    """What an earlier process decoded; None where there is none, or where its checksum is wrong."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            sha256 = (file.metadata() or {}).get("sha256")
            pixels: Tensor = file.get_tensor("pixels")
    except (OSError, SafetensorError):
        return None
    if pixels.dtype != torch.uint8 or pixels.shape[0] != count or _sha256(pixels) != sha256:
        log.warning("%s is damaged and will be made anew", path)
        return None
    return pixels, sha256


def _decode_all(rows: ImageRows, size: int | None, like: Shape | None, progress: bool) -> Tensor:
    if not len(rows.rows):
        raise DataError(f"{rows.where}: no images are left to read")
    first = _one(rows, 0, rows.files(0)[0], size)
    shape = like or (1 if first.mode == "L" else 3, first.height, first.width)
    try:
        return _decode_as(rows, size, shape, like is not None, progress)
    except _ColourFound:
        return _decode_as(rows, size, (3, *shape[1:]), True, progress)


def _decode_as(rows: ImageRows, size: int | None, shape: Shape, to_grey: bool, progress: bool) -> Tensor:
    """Every image as (C, H, W) = shape; a colour image among grey ones raises _ColourFound unless `to_grey`."""
    out = np.empty((len(rows.rows), *shape), dtype=np.uint8)
    mode = "L" if shape[0] == 1 else "RGB"

    def decode(start: int) -> int:
        files = rows.files(start)
        for position, data in enumerate(files, start):
            image = _one(rows, position, data, size)
            if image.mode == "RGB" and mode == "L" and not to_grey:
                raise _ColourFound
            if (image.height, image.width) != shape[1:]:
                raise DataError(
                    f"{rows.where}: images of several sizes ({shape[1]}x{shape[2]} and, at row {rows.rows[position]}, "
                    f"{image.height}x{image.width}); set dataset.image_size to the side wanted, for example {shape[1]}"
                )
            pixels = np.asarray(image if image.mode == mode else image.convert(mode))
            out[position] = pixels if mode == "L" else pixels.transpose(2, 0, 1)
        return len(files)

    with (
        ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool,
        tqdm(total=len(out), desc=f"decode {rows.where}", unit="image", disable=not progress) as bar,
    ):
        try:
            for count in pool.map(decode, range(0, len(out), BLOCK)):  # in order: the first bad row is the one named
                bar.update(count)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return torch.from_numpy(out)


def _one(rows: ImageRows, position: int, data: bytes, size: int | None) -> Image.Image:
    """One image in mode L or RGB, upright, resized to `size` where given."""
    try:
        with Image.open(io.BytesIO(data)) as file:
            upright = ImageOps.exif_transpose(file) if file.info.get("exif") else file
            image = _grey(upright) if upright.mode in GREY else _colour(upright)
            if size is not None and image.size != (size, size):
                image = image.resize((size, size), Image.Resampling.BICUBIC)
            return image
    except Exception as error:
        raise DataError(
            f"{rows.where}, row {rows.rows[position]}: corrupt image ({error}); repair or remove it"
        ) from error


def _grey(image: Image.Image) -> Image.Image:
    if image.mode in WIDE:
        eight = np.rint(np.asarray(image, dtype=np.float64).clip(0, 65535) / 257)
        return Image.fromarray(eight.astype(np.uint8))
    return image.convert("L")


def _colour(image: Image.Image) -> Image.Image:
    """RGB; what is transparent is laid on white."""
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")
