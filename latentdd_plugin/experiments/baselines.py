"""What any method has to beat at the same bytes and the same precision: random codes, and random pixels."""

from __future__ import annotations

from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.types import PRECISIONS, Json, Shape

KEPT = ("config", "codec", "budget", "scores", "summary", "artifact")  # of a control's record, in the method's


def control_configs(config: RunConfig, bytes_per_class: int, image_shape: Shape) -> dict[str, RunConfig | str]:
    """A configuration for each control of a run with so many bytes a class, or the reason why there is none.

    `random-codes` is the draw that the method started from, not optimised. `random-pixels` are real images at the same
    bytes and precision, with their fp32 row beside them.
    """
    plain = config.replace(algo={"name": "random"}, controls=False, match="code")
    is_random, is_identity = config.algo["name"] == "random", config.codec["name"] == "identity"
    configs: dict[str, RunConfig | str] = {}
    if not is_random:
        configs["random-codes"] = plain
    wanted = {"random-pixels": config.precision, "random-pixels-fp32": "fp32"}
    if config.precision == "fp32":
        wanted.pop("random-pixels-fp32")
    for name, precision in wanted.items():
        if name == "random-pixels" and is_random and is_identity:
            continue  # the run itself
        pixels = plain.replace(codec={"name": "identity"}, precision=precision)
        if config.lpc is not None:
            pixels = pixels.replace(lpc=_images_at(bytes_per_class, precision, image_shape))
        configs[name] = pixels if pixels.lpc != 0 else _too_small(bytes_per_class, precision)
    return configs


def is_control(config: RunConfig) -> bool:
    """Whether a run of this configuration is what methods are compared with, so that they need not make it again."""
    return not config.controls and config.match == "code" and dict(config.algo) == {"name": "random"}


def _images_at(bytes_per_class: int, precision: str, image_shape: Shape) -> int:
    c, h, w = image_shape
    return 8 * bytes_per_class // (PRECISIONS[precision] * c * h * w)


def _too_small(bytes_per_class: int, precision: str) -> str:
    return f"{bytes_per_class} bytes a class hold not one {precision} image"


def entry(data: dict[str, Json], gain: dict[str, Json]) -> dict[str, Json]:
    """A control's place in the method's record."""
    return {**{key: data[key] for key in KEPT}, "gain": gain}
