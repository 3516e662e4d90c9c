"""Baselines: random codes and random pixels at the same bytes and the same precision."""

from __future__ import annotations

from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.core import plugins
from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.errors import PluginError
from latentdd_plugin.core.types import CODED, PRECISIONS, TOKENS, Shape
from latentdd_plugin.distillers.base import Distiller
from latentdd_plugin.latent.joint import frozen

RANDOM = {"name": "random"}
PIXELS = {"name": "identity"}


def baseline_configs(config: RunConfig, bytes_per_class: int, image_shape: Shape) -> dict[str, RunConfig | str]:
    """Return a configuration for each baseline of a run with so many bytes per class, or the reason why there is none.

    `random-codes` is the draw that the method started from, not optimised. `random-pixels` are real images at the same
    bytes and precision; `random-pixels-fp32` are real images at the same bytes in fp32.
    """
    teacher = config.teacher if config.labels.taught else None
    codec = frozen(config.codec)  # nothing trains a decoder: all bytes are for codes
    plain = config.replace(codec=codec, algo=RANDOM, controls=False, match="code", teacher=teacher)
    drawn, in_pixels = is_baseline_distiller(config.algo.name), has_pixel_codes(config.codec.name)
    configs: dict[str, RunConfig | str] = {}
    if not drawn:
        configs["random-codes"] = plain
    wanted = {"random-pixels": config.precision, "random-pixels-fp32": "fp32"}
    if config.precision == "fp32":
        wanted.pop("random-pixels-fp32")
    if config.precision == TOKENS:  # pixels have no codebook
        wanted.pop("random-pixels")
    for name, precision in wanted.items():
        if name == "random-pixels" and drawn and in_pixels:
            continue  # the run itself
        pixels = plain.replace(codec=PIXELS, precision=precision)
        if config.precision == CODED:  # bytes are given: as many images as codes, or as many as fit in fp32
            pixels = pixels.replace(lpc=config.lpc if precision == CODED else None)
        elif config.lpc is not None:
            pixels = pixels.replace(lpc=_images_at(bytes_per_class, precision, image_shape))
        configs[name] = pixels if pixels.lpc != 0 else _too_small(bytes_per_class, precision)
    return configs


def is_baseline(config: RunConfig) -> bool:
    """Return True if a run of this configuration is a baseline of others, which then need not make it again."""
    return not config.controls and config.match == "code" and dict(config.algo) == RANDOM


def is_baseline_distiller(name: str) -> bool:
    """Return whether this package's distiller of that name is what others are compared with.

    The name may come from a file that others wrote: entries of this package alone are looked at.
    """
    cls = _our_class("algos", name, Distiller)
    return cls is not None and issubclass(cls, Distiller) and cls.is_baseline


def has_pixel_codes(name: str) -> bool:
    """Return whether the codes of this package's codec of that name are the pixels themselves."""
    cls = _our_class("codecs", name, Codec)
    return cls is not None and issubclass(cls, Codec) and cls.pixels


def _our_class(group: str, name: str, base: type) -> type | None:
    try:
        return plugins.resolve(group, name, base=base, installed_only=True, distributions=(plugins.OURS,)).cls
    except PluginError:
        return None


def _images_at(bytes_per_class: int, precision: str, image_shape: Shape) -> int:
    c, h, w = image_shape
    return 8 * bytes_per_class // (PRECISIONS[precision] * c * h * w)


def _too_small(bytes_per_class: int, precision: str) -> str:
    return f"{bytes_per_class} bytes per class do not hold one {precision} image"
