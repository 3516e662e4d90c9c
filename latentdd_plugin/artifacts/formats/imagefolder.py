"""Image folders (SRe2L, RDED, D4M and many more): a folder a class, 8-bit pictures in it."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from latentdd_plugin.artifacts.formats import values
from latentdd_plugin.artifacts.formats.base import Foreign, Format
from latentdd_plugin.artifacts.formats.unpickle import said
from latentdd_plugin.artifacts.header import LARGEST_TENSOR
from latentdd_plugin.core.errors import UsageError

READ = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
GREY = ("1", "L")


class ImageFolder(Format):
    """`<class>/<picture>.png`. Pictures hold 256 levels, so writing clamps to [0, 1] and rounds to 1/255.

    Classes are the folders in sorted order. Reading takes PNG, JPEG, WebP and BMP of one size; the set is grey only if
    every picture is. Soft labels and a learned rate have no place in a folder.
    """

    name = "imagefolder"
    out = values.PLAIN

    def read(self, path: Path, experiment: int | None = None) -> Foreign:
        """All pictures, as pixels of [0, 1]."""
        classes = sorted(p for p in path.iterdir() if p.is_dir()) if path.is_dir() else []
        files = [[f for f in sorted(folder.iterdir()) if f.suffix.lower() in READ] for folder in classes]
        if not any(files):
            raise UsageError(f"{path}: no folders of classes with pictures in them ({', '.join(READ)})")
        labels = torch.cat([torch.full((len(group),), label) for label, group in enumerate(files)])
        images = decoded([file for group in files for file in group])
        return Foreign(images, labels, classes=tuple(folder.name for folder in classes), values=values.PLAIN)

    def write(self, foreign: Foreign, folder: Path) -> None:
        """A PNG a picture, in folders named by the classes."""
        if foreign.label_kind != "hard" or foreign.lr is not None:
            raise UsageError(
                "a folder of pictures holds neither soft labels nor a learned rate; export huggingface does"
            )
        names = foreign.classes or ()
        unfit = [name for name in names if not _fit_for_a_folder(name)]
        if unfit:
            raise UsageError(f"class {unfit[0]!r} cannot be the name of a folder")
        levels = (foreign.images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        for name in names:
            (folder / name).mkdir()
        for number, (pixels, label) in enumerate(zip(levels, foreign.labels.tolist(), strict=True)):
            shown = pixels[..., 0] if pixels.shape[2] == 1 else pixels
            Image.fromarray(shown).save(folder / names[label] / f"{number:05d}.png")


def _fit_for_a_folder(name: str) -> bool:
    return name.isprintable() and "/" not in name and name not in ("", ".", "..") and len(name.encode()) < 256


def decoded(files: list[Path]) -> Tensor:
    """Pictures of one size as float32 (N, C, H, W) of [0, 1]; their sizes are read before any of their pixels.

    Raises:
        UsageError: a file that is no picture, several sizes, or more pixels than can be held.
    """
    opened = [_opened(file) for file in files]
    sizes = {size for size, _ in opened}
    if len(sizes) != 1:
        first, other = opened[0][0], next(size for size, _ in opened if size != opened[0][0])
        raise UsageError(f"{files[0].parent.parent}: pictures of several sizes ({first} and {other})")
    grey = all(mode in GREY for _, mode in opened)
    width, height = opened[0][0]
    shape = (len(files), height, width) if grey else (len(files), height, width, 3)
    if math.prod(shape) > LARGEST_TENSOR:
        raise UsageError(f"{files[0].parent.parent}: {len(files)} pictures of {width}x{height} are too many")
    levels = np.empty(shape, dtype=np.uint8)
    for row, file in enumerate(files):
        levels[row] = _pixels(file, "L" if grey else "RGB", (width, height))
    pixels = torch.from_numpy(levels)
    return (pixels.unsqueeze(1) if grey else pixels.permute(0, 3, 1, 2)).float() / 255


def _opened(file: Path) -> tuple[tuple[int, int], str]:
    """A picture's size and mode, out of its header."""
    try:
        with warnings.catch_warnings(), Image.open(file) as image:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return image.size, image.mode
    except Exception as error:
        raise UsageError(f"{file}: not a readable picture ({said(error)})") from None


def _pixels(file: Path, mode: str, size: tuple[int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    try:
        with Image.open(file) as image:
            found = np.asarray(image.convert(mode))
    except Exception as error:
        raise UsageError(f"{file}: not a readable picture ({said(error)})") from None
    if found.shape[:2] != size[::-1]:
        raise UsageError(f"{file}: not of the size its header says")
    return found
