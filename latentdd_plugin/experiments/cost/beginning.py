"""Estimates at the beginning of a run, whose dataset is loaded, and before it, from a look at the dataset."""

from __future__ import annotations

from collections.abc import Container

from torch import Tensor

from latentdd_plugin.core.compute import Numerics
from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.types import ImageData
from latentdd_plugin.data.store import MappedStore
from latentdd_plugin.experiments.build import Parts
from latentdd_plugin.experiments.cost.estimate import Estimate
from latentdd_plugin.experiments.cost.model import DataSize, Model
from latentdd_plugin.experiments.cost.speed import Speed
from latentdd_plugin.latent.sized_codec import SizedCodec


def estimate_loaded(
    config: RunConfig,
    parts: Parts,
    data: ImageData,
    codec: SizedCodec,
    numerics: Numerics,
    kept: Container[str] = (),
) -> Estimate:
    """Return what is left of a run whose dataset is loaded and whose codec is fitted.

    Args:
        config: of the run.
        parts: its method and evaluators.
        data: its dataset.
        codec: its codec.
        numerics: device and arithmetic.
        kept: names of the baselines that need not be made again.
    """
    pixels = data.train.pixels
    store = "memory" if isinstance(pixels, Tensor) else "disk" if isinstance(pixels, MappedStore) else "stream"
    held_out = "validation_size" if config.split == "validation" else "test_size"
    tested = int(data.source.get(held_out, 0))
    size = DataSize(len(data.train), tested, len(data.classes), data.image_shape, store)
    return Model(config, parts, size, codec, numerics, Speed(numerics.device), kept).estimate()
