"""Image files to one uint8 tensor: decoded once by a thread pool, then kept on disk for the next process."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from latentdd_plugin.core import checkpoint
from latentdd_plugin.core.cache import cache_dir
from latentdd_plugin.core.errors import DataError, RunFailed
from latentdd_plugin.core.storage import locked
from latentdd_plugin.core.types import Shape, hash_json
from latentdd_plugin.data.depth import GREY, Depth, Span, depth_of, eight_bits, is_deep, span_of
from latentdd_plugin.data.file_kinds import fault_of
from latentdd_plugin.data.rows import BLOCK, MAX_PIXELS, MOST_FAULTS, ImageRows, listed
from latentdd_plugin.data.walk import printable

log = logging.getLogger(__name__)

DECODER = 2  # rises if the same files would give other pixels


class DeepImages(Exception):
    """Images with more than 8 bits per value were found, and no depth was given."""


class _ColourFound(Exception):
    """A colour image was found after grey ones."""


def file_hashes(rows: ImageRows) -> list[bytes]:
    """Return the sha256 of each image file, in order."""
    return [hashlib.sha256(data).digest() for _, files in rows.blocks() for data in files]


def measure_depth(parts: Sequence[ImageRows], progress: bool = False) -> tuple[Depth, Span]:
    """Return the common depth of the deep images among some rows, and the range of their values.

    Raises:
        DataError: an image cannot be decoded, or its values fit no depth.
    """
    spans = []
    for rows in parts:
        for start, files in tqdm(rows.blocks(), desc=f"measure {rows.where}", disable=not progress):
            for position, data in enumerate(files, start):
                with _limited(rows.max_pixels):
                    try:
                        with Image.open(io.BytesIO(data)) as image:
                            deep = np.asarray(image) if is_deep(image) else None
                    except Exception:  # noqa: S112 - decoding reports it, with all others
                        continue
                if deep is not None:
                    spans.append(span_of(deep, f"{rows.where}, {rows.name(position)}"))
    return depth_of(spans)


def read_pixels(
    rows: ImageRows,
    *,
    size: int | None,
    like: Shape | None = None,
    depth: Depth | None = None,
    hashes: Sequence[bytes] | None = None,
    progress: bool = False,
) -> tuple[Tensor, str]:
    """Return the decoded images, from the cache if an intact copy is there.

    Args:
        rows: N images to read.
        size: side in pixels to resize to (antialiased bicubic); None keeps the files' size.
        like: (C, H, W) the images must come out as: colour is made grey or grey colour, another size is an error.
            None: grey if all are grey, else RGB; the first image's size.
        depth: the depth of images with more than 8 bits per value.
        hashes: `file_hashes(rows)`, if it is known.
        progress: show a bar on stderr.

    Returns:
        uint8 (N, C, H, W), and the sha256 of its bytes.

    Raises:
        DataError: files that are not images, or images of several sizes while `size` is None.
        DeepImages: an image needs a depth.
    """
    path = _cache_path(file_hashes(rows) if hashes is None else hashes, size, like, depth)
    found = _cached(path, len(rows.rows))
    if found is not None:
        return found
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(path.parent))  # of two processes one decodes, the other waits for its file
        except RunFailed as error:
            log.warning("decoded images are not kept: %s", error)
            pixels = _decode_all(rows, size, like, depth, progress)
            return pixels, checkpoint.sha256_of(pixels)
        found = _cached(path, len(rows.rows))
        if found is None:
            pixels = _decode_all(rows, size, like, depth, progress)
            found = pixels, checkpoint.sha256_of(pixels)
            _write_cache(path, pixels)
    return found


def _cache_path(hashes: Sequence[bytes], size: int | None, like: Shape | None, depth: Depth | None) -> Path:
    """Return the place of decoded images; changed files, or another way to decode them, have another place."""
    key = hash_json([DECODER, size, like, depth.white if depth else None]).encode()
    return cache_dir() / "images" / hashlib.sha256(key + b"".join(hashes)).hexdigest() / "pixels.safetensors"


def _write_cache(path: Path, pixels: Tensor) -> None:
    try:
        checkpoint.write_tensors(path, {"pixels": pixels}, _owner(path))
    except RunFailed as error:
        log.warning("decoded images are not kept: %s", error)


def _cached(path: Path, count: int) -> tuple[Tensor, str] | None:
    """Return the pixels that an earlier process decoded and their sha256; None if there are none, or damaged ones."""
    stored = checkpoint.read(path, _owner(path))
    if stored is None or len(stored.content["pixels"]) != count:
        return None
    return stored.content["pixels"], stored.sha256["pixels"]


def _owner(path: Path) -> dict[str, str]:
    return {"images": path.parent.name}  # a hash over the files and how they are decoded


def _decode_all(rows: ImageRows, size: int | None, like: Shape | None, depth: Depth | None, progress: bool) -> Tensor:
    if not len(rows.rows):
        raise DataError(f"{rows.where}: no images are left to read")
    decoder = _Decoder(rows, size, depth)
    with _limited(rows.max_pixels):
        shape = like or decoder.first_shape()
        try:
            return _decode_as(decoder, shape, like is not None, progress)
        except _ColourFound:
            return _decode_as(decoder, (3, *shape[1:]), True, progress)


def first_shape(rows: ImageRows, size: int | None) -> Shape:
    """Return (C, H, W) of the first image that can be decoded."""
    try:
        with _limited(rows.max_pixels):
            return _Decoder(rows, size, None).first_shape()
    except DeepImages:
        return 1, 1, 1  # only memory can hold them


def shape_of(rows: ImageRows, size: int | None) -> Shape:
    """Return (C, H, W) that the images come out as, by their headers: grey only if every image is grey.

    Raises:
        DataError: there are no images, or some have more than 8 bits per value, which only memory can hold.
    """
    if not len(rows.rows):
        raise DataError(f"{rows.where}: no images are left to read")
    with _limited(rows.max_pixels):
        try:
            shape = _Decoder(rows, size, None).first_shape()
            grey = shape[0] == 1 and not any(_is_colour(data) for _, files in rows.blocks() for data in files)
        except DeepImages:
            raise DataError(f"{rows.where}: images of more than 8 bits per value; set dataset.store=memory") from None
    return (1 if grey else 3, *shape[1:])


def _is_colour(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.mode not in GREY and not is_deep(image)
    except Exception:
        return False  # decoding reports it


def decode_rows(rows: ImageRows, size: int | None, shape: Shape) -> Tensor:
    """Return the decoded images uint8 (N, C, H, W) of this shape; colour is made grey or grey colour.

    Raises:
        DataError: files that are not images of this size, or that have more than 8 bits per value.
    """
    try:
        return _decode_as(_Decoder(rows, size, None), shape, True, False)
    except DeepImages:
        raise DataError(f"{rows.where}: images of more than 8 bits per value; set dataset.store=memory") from None


@dataclass(frozen=True)
class _Decoder:
    """Decodes single images of some rows."""

    rows: ImageRows
    size: int | None
    depth: Depth | None
    several: list[str] = field(default_factory=list)  # images with more than one frame

    def first_shape(self) -> Shape:
        """Return (C, H, W) of the first image that can be decoded; the others are reported with the rest."""
        for start, files in self.rows.blocks():
            for position, data in enumerate(files, start):
                image = self.decode(position, data)
                if not isinstance(image, str):
                    return 1 if image.mode == "L" else 3, image.height, image.width
        return 3, 1, 1  # nothing can be decoded, which decoding reports

    def decode(self, position: int, data: bytes) -> Image.Image | str:
        """Return an image in mode L or RGB, upright, resized if a size is given; or why it cannot be decoded."""
        try:
            image, frames = _one(self.rows, position, data, self.size, self.depth)
            if frames > 1:
                self.several.append(self.rows.name(position))
            return image
        except DeepImages:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            return f"{self.rows.name(position)}: {too_large(error, self.rows.max_pixels)}"
        except DataError as error:
            return str(error)
        except Exception as error:
            return f"{self.rows.name(position)}: {fault_of(data, error)}"


def too_large(error: Exception, limit: int) -> str:
    """Return the message for an image of more pixels than allowed."""
    found = re.search(r"\d{4,}", str(error))
    count = f"{int(found[0]):,}" if found else "more"
    return (
        f"too large ({count} pixels, the limit is {limit:,}); scale it down, or raise the limit with "
        f"dataset.max_pixels={found[0] if found else 'N'} if you trust the file"
    )


def _decode_as(decoder: _Decoder, shape: Shape, to_grey: bool, progress: bool) -> Tensor:
    """Return every image as (C, H, W) = shape; raise _ColourFound at colour among grey images unless `to_grey`."""
    rows = decoder.rows
    out = np.empty((len(rows.rows), *shape), dtype=np.uint8)
    mode = "L" if shape[0] == 1 else "RGB"

    def decode(start: int) -> tuple[int, list[str]]:
        files, faults = rows.files(start), []
        for position, data in enumerate(files, start):
            image = decoder.decode(position, data)
            if isinstance(image, str):
                faults.append(image)
                continue
            if image.mode == "RGB" and mode == "L" and not to_grey:
                raise _ColourFound
            if (image.height, image.width) != shape[1:]:
                raise DataError(
                    f"{rows.where}: images of several sizes ({shape[1]}x{shape[2]} and, at {rows.name(position)}, "
                    f"{image.height}x{image.width}); set dataset.image_size to the side wanted, for example {shape[1]}"
                )
            pixels = np.asarray(image if image.mode == mode else image.convert(mode))
            out[position] = pixels if mode == "L" else pixels.transpose(2, 0, 1)
        return len(files), faults

    faults: list[str] = []
    with (
        ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool,
        tqdm(total=len(out), desc=f"decode {rows.where}", unit="image", disable=not progress) as bar,
    ):
        try:
            for count, some in pool.map(decode, range(0, len(out), BLOCK)):  # in order: the first faults are reported
                bar.update(count)
                faults += some
                if len(faults) >= MOST_FAULTS:
                    break
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    if faults:
        raise DataError(listed(rows.where, faults))
    if decoder.several:
        shown = printable(sorted(set(decoder.several)))
        log.warning("%s: images of several frames, the first of each is used: %s", rows.where, shown)
    return torch.from_numpy(out)


def _one(rows: ImageRows, position: int, data: bytes, size: int | None, depth: Depth | None) -> tuple[Image.Image, int]:
    """Return the first frame of an image in mode L or RGB, and the number of its frames."""
    with Image.open(io.BytesIO(data)) as file:
        if file.width * file.height > rows.max_pixels:
            raise Image.DecompressionBombError(f"{file.width * file.height} pixels")
        if is_deep(file) and depth is None:
            raise DeepImages
        upright = ImageOps.exif_transpose(file) if file.info.get("exif") else file
        image = eight_bits(upright, depth, rows.name(position) if is_deep(file) else "")
        if size is not None and image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.BICUBIC)
        return image, getattr(file, "n_frames", 1)


@contextmanager
def _limited(max_pixels: int) -> Iterator[None]:
    """Set Pillow's own limit of pixels per image until the block ends."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # which is an error here, raised by `_one`
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def decode_files(files: Sequence[Path], *, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Yield picture files in mode L or RGB, in order, with one depth for all that have more than 8 bits per value.

    Args:
        files: pictures of one set, for example of an imported folder.
        max_pixels: of one picture; larger ones are refused.

    Raises:
        DataError: files that are not pictures, of which up to 20 are named, or values that fit no depth.
    """
    spans, faults = [], []
    with _limited(max_pixels):
        for file in files:
            try:
                with Image.open(file) as image:
                    if image.width * image.height > max_pixels:
                        raise Image.DecompressionBombError(f"{image.width * image.height} pixels")
                    image.load()
                    spans += [span_of(np.asarray(image), str(file))] if is_deep(image) else []
            except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
                faults.append(f"{file}: {too_large(error, max_pixels)}")
            except DataError as error:
                faults.append(str(error))
            except Exception as error:
                faults.append(f"{file}: {fault_of(file.read_bytes() if file.is_file() else b'', error)}")
            if len(faults) == MOST_FAULTS:
                break
    if faults:
        raise DataError(listed("pictures", faults))
    depth = depth_of(spans)[0] if spans else None
    for file in files:
        with _limited(max_pixels), Image.open(file) as image:
            yield eight_bits(ImageOps.exif_transpose(image), depth, str(file))
