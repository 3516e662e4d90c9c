"""Build timm architectures for small inputs: try input sizes, strides and patches until one fits."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from latentdd_plugin.core.errors import Unsuitable, UsageError
from latentdd_plugin.core.types import Json, Shape
from latentdd_plugin.nn.convnet import MatchingNetwork, convnet_depth, register_with_timm
from latentdd_plugin.nn.timm_names import CONVNETS, timm_names

SIZED = ("convnet", "convnet_bn")  # the depth follows the size of the images
TRANSFORMERS = ("vit", "deit", "beit", "eva", "cait", "xcit")
KWARGS = frozenset({"img_size", "patch_size", "window_size", "output_stride"})  # what `candidates` sets
FORWARD_PIXELS = 500 * 32 * 32  # of the images that pass a network at once without gradients
WINDOWED = ("swin", "maxvit", "coatnet")


def timm_name(arch: str, shape: Shape) -> str:
    """Return timm's name of an architecture; `convnet` and `convnet_bn` get the depth that fits the size."""
    return f"{arch}_d{convnet_depth(*shape[1:])}" if arch in SIZED else arch


def forward_batch(shape: Shape) -> int:
    """Return how many images (C, H, W) pass a network at once without gradients: 500 of 32 px, 125 of 64, at least 64.

    More at once take memory, and time too: on one core 256 images of 128 px pass a ConvNet three times as fast by 64.
    """
    return max(64, min(500, FORWARD_PIXELS // (shape[1] * shape[2])))


def known_names() -> frozenset[str]:
    """Return the names of all architectures, timm's and this package's, without importing timm."""
    return timm_names() | set(CONVNETS)


def is_known(arch: str) -> bool:
    """Return whether timm or this package has an architecture of this name; a pretrained tag may follow a dot."""
    return arch in SIZED or arch.partition(".")[0] in known_names()


def has_batch_norm(arch: str) -> bool | None:
    """Return whether an architecture normalises by BatchNorm; None if that can only be seen in a built network."""
    import timm

    register_with_timm()
    if arch in SIZED or arch in CONVNETS:
        return arch.startswith("convnet_bn")
    try:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            return bool(batch_norms(timm.create_model(arch.partition(".")[0])))
    except Exception:
        return None


def batch_norms(network: nn.Module) -> list[nn.Module]:
    """Return the layers of a network that keep a running mean and variance, in its own order."""
    return [m for m in network.modules() if getattr(m, "running_mean", None) is not None]


def features_of(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return what a network computes before its last layer, (N, F).

    Raises:
        UsageError: it is neither one of timm's with `forward_head`, nor a matching network.
    """
    if isinstance(network, MatchingNetwork):
        return network.features(inputs)
    timm_network: Any = network
    if not hasattr(timm_network, "forward_head"):
        raise UsageError(f"teacher: {type(network).__name__} gives no features before its last layer; take another one")
    pooled: Tensor = timm_network.forward_head(timm_network.forward_features(inputs), pre_logits=True)
    return pooled.flatten(1)


def _divisor(side: int, at_most: int) -> int:
    return next(d for d in range(max(1, at_most), 0, -1) if side % d == 0)


def candidates(name: str, shape: Shape) -> list[dict[str, Json]]:
    """Return keyword sets to try, the most suitable first.

    timm's defaults are made for 224 px, where a network shrinks its input 32 times; at 32 px the last map would be a
    single pixel. Small inputs therefore get a smaller stride or patch, so that the last map keeps about 4x4 or 8x8.
    """
    side = min(shape[1:])
    if name.startswith(("convnet_d", "convnet_bn_d")):
        return [{"img_size": list(shape[1:])}]
    if name.startswith(TRANSFORMERS):
        return [{"img_size": list(shape[1:]), "patch_size": _divisor(side, min(16, side // 8))}]
    if name.startswith(WINDOWED):
        patch = _divisor(side, min(4, side // 32))
        return [{"img_size": list(shape[1:]), "patch_size": patch, "window_size": 7 if side >= 224 else 4}]
    if name.startswith("convnext"):
        return [{"patch_size": _divisor(side, min(4, max(1, side // 32)))}, {}]
    if side < 16:  # every stride would end in a single pixel
        return [{}, {"output_stride": 8}, {"img_size": list(shape[1:])}]
    stride = 8 if side <= 64 else 16 if side <= 128 else 32
    return [{"output_stride": stride}, {}, {"img_size": list(shape[1:])}]


def build(arch: str, shape: Shape, num_classes: int) -> tuple[nn.Module, str, dict[str, Json]]:
    """Return a network, its timm name and the options it was built with. Draws from torch's global generator.

    Raises:
        Unsuitable: the architecture cannot be trained on inputs of this shape under any of the candidates.
    """
    import timm

    register_with_timm()
    name, reasons = timm_name(arch, shape), []
    for kwargs in candidates(name, shape):
        state = torch.random.get_rng_state()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # from timm, about settings that it maps itself
                network = timm.create_model(name, num_classes=num_classes, in_chans=shape[0], **_typed(kwargs))
                _probe(network, shape, num_classes)
        except Exception as error:
            reasons.append(
                f"{kwargs or 'defaults'}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            )
            torch.random.set_rng_state(state)
            continue
        return network, name, kwargs
    raise Unsuitable(f"{name} cannot take {shape[1]}x{shape[2]} px ({'; '.join(reasons)})")


def build_named(name: str, kwargs: Mapping[str, Json], shape: Shape, num_classes: int) -> nn.Module:
    """Return the network of a stored teacher: a timm name and the options that `build` found.

    Raises:
        UsageError: an unknown name, options that `build` does not give, or a network that does not take such inputs.
    """
    import timm

    register_with_timm()
    unknown = sorted(set(kwargs) - KWARGS)
    if unknown:
        raise UsageError(
            f"{name}: options {', '.join(unknown)} are not allowed; allowed are {', '.join(sorted(KWARGS))}"
        )
    if not is_known(name) or name in SIZED:
        raise UsageError(f"unknown architecture {name!r}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network: nn.Module = timm.create_model(
                name, num_classes=num_classes, in_chans=shape[0], **_typed(dict(kwargs))
            )
            _probe(network, shape, num_classes)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{name} with {dict(kwargs)} does not take {shape} ({reason})") from None
    return network


def _typed(kwargs: dict[str, Json]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in kwargs.items()}


def _probe(network: nn.Module, shape: Shape, num_classes: int) -> None:
    """Try one forward pass in training and in evaluation mode; running statistics are restored."""
    before = {k: t.clone() for k, t in network.state_dict().items()}
    with torch.no_grad(), torch.random.fork_rng():
        for training in (True, False):
            out = network.train(training)(torch.zeros((2, *shape)))
            if tuple(out.shape) != (2, num_classes):
                raise ValueError(f"its output has shape {tuple(out.shape)}")
    network.load_state_dict(before)
