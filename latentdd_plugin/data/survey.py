"""The sizes of a dataset, from a look at it: nothing but a few images is decoded."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

from latentdd_plugin.core.config import DatasetConfig
from latentdd_plugin.core.types import Shape
from latentdd_plugin.data.images import decode_rows, first_shape
from latentdd_plugin.data.load import IN_MEMORY, choose_rows, tell_files
from latentdd_plugin.data.sources import find
from latentdd_plugin.data.store import choose

TIMED = 32  # images that are decoded to measure how long one takes


@dataclass(frozen=True)
class Survey:
    """The sizes of a dataset, and where its images would be held."""

    name: str
    train: int
    test: int  # images of the split that scores
    classes: int
    shape: Shape  # of the first image; grey sets with a colour image later on are larger
    store: str  # memory | disk | stream
    decode_s: float  # seconds to read and decode one image


def survey(config: DatasetConfig, *, split: str = "test", again: bool = False) -> Survey:
    """Find a dataset, choose its rows and log how it is read as `load_dataset` does; time a few training images.

    Args:
        config: which dataset, and which part of it.
        split: `test` or `validation`.
        again: training pixels would be read again and again.

    Raises:
        DataError: as `load_dataset`, of the images only for faults of those that are timed.
    """
    source = find(config)
    chosen = choose_rows(source, config)
    tell_files(source, chosen, config)
    images = chosen.train.images
    shape = first_shape(images, config.image_size)
    need = IN_MEMORY * len(images.rows) * math.prod(shape) if config.store == "auto" else 0
    store = choose(config.store, need, images.where, again=again)
    begun, timed = time.perf_counter(), replace(images, rows=images.rows[:TIMED])
    decode_rows(timed, config.image_size, shape)
    seconds = (time.perf_counter() - begun) / len(timed.rows)
    part = chosen.validation if split == "validation" else chosen.test
    tested = 0 if part is None else len(part.labels)
    return Survey(source.name, len(images.rows), tested, len(chosen.classes), shape, store, seconds)
