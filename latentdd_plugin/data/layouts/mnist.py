"""MNIST's idx files, packed or not: MNIST, Fashion-MNIST, KMNIST and one part of EMNIST (LeCun et al., 1998)."""

from __future__ import annotations

import gzip
import re
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.accounting import Ledger
from latentdd_plugin.data.arrays import pictures_of
from latentdd_plugin.data.layouts.base import Layout, Reading, refuse_pointer, value_table
from latentdd_plugin.data.walk import File, Tree

if TYPE_CHECKING:
    from latentdd_plugin.core.config import DatasetConfig

NAME = re.compile(r"(?P<part>.*?)(?P<split>train|t10k|test)-(?P<kind>images|labels)[-.]idx[13]-ubyte(?P<packed>\.gz)?")
LARGEST = 1 << 31  # bytes of one unpacked file


class Mnist(Layout):
    """`train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-…`, anywhere in the folder."""

    name = "MNIST idx files"

    def matches(self, tree: Tree, config: DatasetConfig) -> bool:
        """Return whether an idx file is there."""
        return any(map(NAME.fullmatch, tree.by_last))

    def read(self, tree: Tree, config: DatasetConfig) -> Reading:
        """Read images and labels; of a packed and an unpacked file the unpacked one is read."""
        found: dict[tuple[str, str, str], File] = {}
        for file in tree.files:
            parsed = _parsed(file)
            if parsed:
                split = "train" if parsed["split"] == "train" else "test"
                found.setdefault((parsed["part"], split, parsed["kind"]), file)  # sorted: the unpacked one first
        parts = sorted({part for part, _, _ in found})
        part = self._part(parts, config)
        ledger, splits = Ledger(tree), {}
        for split in ("train", "test"):
            images, labels = found.get((part, split, "images")), found.get((part, split, "labels"))
            if images is None or labels is None:
                continue
            pixels, numbers = _idx(images, 3), _idx(labels, 1)
            if len(pixels) != len(numbers):
                raise DataError(f"{labels.name}: {len(numbers)} labels for {len(pixels)} images")
            ledger.use(images, split)
            splits[split] = value_table(pictures_of(pixels, images.name), numbers.astype(int).tolist())
            ledger.leave(labels, "labels, read")
        ledger.leave_rest(lambda file: "a packed copy, or another part" if _parsed(file) else "not an idx file")
        if not splits:
            raise DataError(f"dataset {config.name}: idx files of images without their labels, or the other way round")
        return Reading(splits, ledger.close(self.name))

    def _part(self, parts: list[str], config: DatasetConfig) -> str:
        names = [part.strip("-") for part in parts]
        wanted = [part for part, name in zip(parts, names, strict=True) if config.subset in (name, name.split("-")[-1])]
        if len(parts) == 1 or len(wanted) == 1:
            return (wanted or parts)[0]
        raise DataError(f"dataset {config.name}: several parts, {', '.join(names)}; set dataset.subset to one")


def _parsed(file: File) -> re.Match[str] | None:
    return NAME.fullmatch(file.last)


def _idx(file: File, sides: int) -> NDArray[Any]:
    """Return the bytes of an idx file as an array with `sides` dimensions."""
    refuse_pointer(file)
    try:
        with gzip.open(file.path) if file.suffix == ".gz" else file.path.open("rb") as opened:
            data = opened.read(LARGEST)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file.name}: cannot be unpacked ({error})") from error
    head = 4 + 4 * sides
    if data[:4] != bytes([0, 0, 8, sides]) or len(data) < head:
        raise DataError(f"{file.name}: not an idx file of bytes with {sides} dimension(s)")
    shape = np.frombuffer(data[4:head], dtype=">u4").astype(int).tolist()
    if len(data) - head != int(np.prod(shape, dtype=object)):
        raise DataError(f"{file.name}: its first bytes claim the shape {shape}, it holds {len(data) - head} values")
    return np.frombuffer(data[head:], dtype=np.uint8).reshape(shape)
