"""A shared decoder that is trained with the set: small images, enlarged and sharpened by one network.

After HaBa, Liu et al., "Dataset Distillation via Factorization" (https://arxiv.org/abs/2210.16774), which factorises a
set into bases and hallucinators. HaBa combines every base with each of several hallucinators; here there is one, so a
code is one image, and the bytes that it saves buy more codes. As in HMN, Zheng et al. (https://arxiv.org/abs/2310.07506),
its parameters are inside the budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.core.errors import UsageError


class Hallucinator(Codec):
    """x = u(z) + g(u(z)): u enlarges the code bilinearly, g is a small convolutional network that begins as zero.

    Codes are area means of f x f pixels, float32 (N, C, ceil(H/f), ceil(W/f)). g is `depth` 3 x 3 convolutions with
    `width` channels between them. Without `codec.joint=true` it stays zero, and the codec is `downscale`: that is the
    baseline `random-codes`, real images at the same bytes.

    Args:
        f: pixels per side that become one.
        width: channels of g.
        depth: convolutions of g, at least 2.
        image_shape: (C, H, W) of the images; needed before use.

    Raises:
        UsageError: an option is out of its range.
    """

    codec_id: ClassVar[str] = "hallucinator"
    spatial = True
    trained_whole = True

    def __init__(self, f: int = 2, width: int = 16, depth: int = 3, image_shape: Sequence[int] | None = None) -> None:
        super().__init__()
        if faults := _faults(f, width, depth):
            raise UsageError(faults)
        self.f, self.width, self.depth = f, width, depth
        self.image_shape = None if image_shape is None else (image_shape[0], image_shape[1], image_shape[2])
        if self.image_shape is not None:
            channels = [self.image_shape[0], *[width] * (depth - 1), self.image_shape[0]]
            self.decoder = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(channels))
            self._reset()

    def _reset(self) -> None:
        """Draw the weights from a fixed seed, the last layer's zero; whole steps of 2^-24, the same everywhere."""
        draw = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for layer in self._layers():
                fan = layer.weight[0].numel()
                uniform = torch.rand(layer.weight.shape, generator=draw) * 2 - 1
                layer.weight.copy_(uniform * math.sqrt(6 / fan))  # He's variance, 2 / fan
                nn.init.zeros_(cast("Tensor", layer.bias))
            self._layers()[-1].weight.zero_()

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (N, C, H, W) to codes (N, C, ceil(H/f), ceil(W/f)): means over areas."""
        height, width = (-(-n // self.f) for n in images.shape[2:])
        return F.adaptive_avg_pool2d(images, (height, width))

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes to images (N, C, H, W)."""
        if self.image_shape is None:
            raise UsageError("hallucinator: image_shape=(C, H, W) is needed to decode")
        enlarged = F.interpolate(codes, self.image_shape[1:], mode="bilinear")
        hidden, layers = enlarged, self._layers()
        for layer in layers[:-1]:
            hidden = F.leaky_relu(layer(hidden), 0.1)
        sharpened: Tensor = enlarged + layers[-1](hidden)
        return sharpened

    def trainable_parameters(self) -> dict[str, Tensor]:
        """Return every weight and bias of g, from the first layer to the last."""
        return dict(self.named_parameters())

    def _layers(self) -> list[nn.Conv2d]:
        return [layer for layer in self.decoder if isinstance(layer, nn.Conv2d)]


def _faults(f: int, width: int, depth: int) -> list[str]:
    least = {"f": (f, 1), "width": (width, 1), "depth": (depth, 2)}
    return [
        f"hallucinator: codec.{name}={value}: must be at least {low}"
        for name, (value, low) in least.items()
        if value < low
    ]
