"""Estimates at the beginning of a run, whose dataset is loaded, and before it, from a look at the dataset."""

from __future__ import annotations

import platform
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict

import torch
from torch import Tensor

from latentdd_plugin.core import checkpoint
from latentdd_plugin.core.cache import cache_dir
from latentdd_plugin.core.compute import Numerics, resolve_numerics
from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.errors import RunFailed, UsageError
from latentdd_plugin.core.random import generator
from latentdd_plugin.core.types import ImageData, Images, hash_json
from latentdd_plugin.data.store import MappedStore
from latentdd_plugin.data.survey import Survey, survey
from latentdd_plugin.experiments.build import Parts, rereads_pixels, resolve_run, weight_faults
from latentdd_plugin.experiments.cost.estimate import Estimate
from latentdd_plugin.experiments.cost.model import DataSize, Model
from latentdd_plugin.experiments.cost.speed import Speed
from latentdd_plugin.experiments.run_folder import checkpoint_owner
from latentdd_plugin.latent.sized_codec import SizedCodec, build_codec

NOISE = 256  # images that a codec which learns is fitted to


def estimate_loaded(
    config: RunConfig,
    parts: Parts,
    data: ImageData,
    codec: SizedCodec,
    numerics: Numerics,
    kept: Collection[str] = (),
) -> Estimate:
    """Return what is left of a run whose dataset is loaded and whose codec is fitted; measured at its first start.

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
    inputs = {"size": asdict(size), "kept": sorted(kept), "codec": codec.identity, "protocol": parts.protocol.sha256}
    owner = checkpoint_owner(config, numerics.to_json(), machine=platform.node(), **inputs)
    path = cache_dir() / "estimates" / f"{hash_json(owner)[:32]}.json"
    if (stored := checkpoint.read_json(path, owner)) is not None:
        return Estimate.from_fields(stored.content)
    found = Model(config, parts, size, codec, numerics, Speed(numerics.device), kept).estimate()
    with suppress(RunFailed):  # a full disk, which whatever needs the disk reports
        checkpoint.write_json(path, found.to_fields(), owner)
    return found


def estimate_before(config: RunConfig, described: DataSize | None = None, *, speed: float | None = None) -> Estimate:
    """Return what a run would cost.

    Args:
        config: of the run.
        described: sizes of a dataset that is not here; None looks at the configuration's own.
        speed: floating-point operations per second to reckon with; None measures this machine.

    Raises:
        UsageError: the dataset or the codec's weights are missing, or nothing can be said of the codec's codes.
    """
    config, parts = resolve_run(config)
    if faults := weight_faults(config.codec):
        raise UsageError(faults)
    numerics = resolve_numerics(config.compute)
    data = described or _surveyed(survey(config.dataset, split=config.split, again=rereads_pixels(config)))
    codec = build_codec(config.codec, data.shape)
    _fit_to_noise(codec, data, numerics.device)
    return Model(config, parts, data, codec, numerics, Speed(numerics.device, speed)).estimate()


def _surveyed(found: Survey) -> DataSize:
    return DataSize(found.train, found.test, found.classes, found.shape, found.store, found.decode_s)


def _fit_to_noise(codec: SizedCodec, data: DataSize, device: str) -> None:
    """Give a codec that learns from images some noise, so that the shape of its codes is known."""
    labels = torch.arange(NOISE) % data.classes
    pixels = torch.randint(256, (NOISE, *data.shape), generator=generator(0, "cost/noise"), dtype=torch.uint8)
    try:
        codec.fit(Images(pixels, labels), device)
        _ = codec.code_shape
    except Exception as error:
        raise UsageError(f"codec {codec.name}: the shape of its codes is known after a run has fitted it") from error
