"""The field's ConvNet, as timm models and as matching networks for any match space.

Gidaris & Komodakis 2018 (arXiv 1804.09458) in the form every distillation paper uses: blocks of 3x3 convolution,
InstanceNorm, ReLU and 2x2 average pooling, then one linear layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentdd_plugin.core.types import Shape

MAX_DEPTH = 6


def convnet_depth(height: int, width: int) -> int:
    """Return the number of blocks for an input size: 3 at 32 px, 4 at 64, 5 at 128, 6 at 256; at least one."""
    log = int(math.log2(max(1, min(height, width))))
    return max(1, min(log, max(3, log - 2), MAX_DEPTH))


class MatchingNetwork(nn.Module):
    """A network whose features and logits a distiller compares; `reset` re-initialises it in place."""

    head: nn.Linear
    num_features: int

    def features(self, x: Tensor) -> Tensor:
        """Map inputs (N, c, h, w) to features (N, F) before the head."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs (N, c, h, w) to logits (N, classes)."""
        logits: Tensor = self.head(self.features(x))
        return logits

    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights like torch's default initialisation: uniform in +-1/sqrt(fan in)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                bound = 1 / math.sqrt(module.weight[0].numel())
                for parameter in module.parameters(recurse=False):
                    draw = torch.rand(parameter.shape, generator=generator)
                    parameter.data.copy_(draw.mul_(2 * bound).sub_(bound))
            elif isinstance(module, nn.GroupNorm):
                module.reset_parameters()


class ConvNet(MatchingNetwork):
    """ConvNet with `depth` blocks of `width` channels. Inputs of 28 px are padded to 32, as in the original.

    Args:
        shape: (c, h, w) of an input.
        num_classes: number of logits.
        depth: number of blocks; None fits the input's size.
        width: channels of each block.
        norm: `instance`, or `batch` as teachers of SRe2L and RDED have it.
    """

    def __init__(
        self, shape: Shape, num_classes: int, depth: int | None = None, width: int = 128, norm: str = "instance"
    ) -> None:
        super().__init__()
        channels, h, w = shape
        depth = convnet_depth(h, w) if depth is None else depth
        if min(h, w) < 2**depth:
            raise ValueError(f"convnet_d{depth} halves its input {depth} times and cannot take {h}x{w}")
        first_padding = 3 if (h, w) == (28, 28) else 1
        h, w = h + 2 * (first_padding - 1), w + 2 * (first_padding - 1)
        blocks: list[nn.Module] = []
        for block in range(depth):
            blocks += [
                nn.Conv2d(channels, width, 3, padding=first_padding if block == 0 else 1),
                nn.BatchNorm2d(width) if norm == "batch" else nn.GroupNorm(width, width),
                nn.ReLU(),
                nn.AvgPool2d(2),
            ]
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.num_features = width * (h >> depth) * (w >> depth)
        self.head = nn.Linear(self.num_features, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Map inputs (N, C, H, W) to features (N, F)."""
        return torch.flatten(self.blocks(x), 1)


class MLP(MatchingNetwork):
    """MLP with two hidden layers of 128 units, for codes (N, d, 1, 1) without a spatial layout."""

    def __init__(self, shape: Shape, num_classes: int, width: int = 128) -> None:
        super().__init__()
        self.hidden = nn.ModuleList([nn.Linear(math.prod(shape), width), nn.Linear(width, width)])
        self.num_features = width
        self.head = nn.Linear(width, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Map codes (N, d, 1, 1) to features (N, 128)."""
        x = torch.flatten(x, 1)
        for layer in self.hidden:
            x = F.relu(layer(x))
        return x


def matching_network(shape: Shape, num_classes: int) -> MatchingNetwork:
    """Return the matching network for samples of this shape: a ConvNet, or an MLP if there is no spatial layout."""
    _, h, w = shape
    return MLP(shape, num_classes) if min(h, w) < 2 else ConvNet(shape, num_classes)


def _timm_convnet(name: str, depth: int, norm: str) -> Callable[..., ConvNet]:
    """Return a function that builds a ConvNet for `timm.create_model`."""

    def build(
        pretrained: bool = False,
        num_classes: int = 10,
        in_chans: int = 3,
        img_size: int | tuple[int, int] = 32,
        **_: Any,
    ) -> ConvNet:
        h, w = (img_size, img_size) if isinstance(img_size, int) else img_size
        return ConvNet((in_chans, h, w), num_classes, depth, norm=norm)

    build.__name__, build.__module__ = name, __name__
    return build


def register_with_timm() -> None:
    """Register `convnet_d1` … `convnet_d6` and, with BatchNorm, `convnet_bn_d1` …, unless they are registered.

    `convnet_d3` has 320,010 parameters at 32 px, 3 channels and 10 classes.
    """
    from timm.models import is_model, register_model

    for prefix, norm in (("convnet_d", "instance"), ("convnet_bn_d", "batch")):
        for depth in range(1, MAX_DEPTH + 1):
            if not is_model(f"{prefix}{depth}"):
                register_model(_timm_convnet(f"{prefix}{depth}", depth, norm))
