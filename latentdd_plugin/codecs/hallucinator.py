"""A shared decoder that is trained with the set: small images, enlarged and sharpened by one network.

After HaBa, Liu et al., "Dataset Distillation via Factorization" (https://arxiv.org/abs/2210.16774), which factorises a
set into bases and hallucinators. HaBa combines every base with each of several hallucinators; here there is one, so a
code is one image, and the bytes that it saves buy more codes. As in HMN, Zheng et al. (https://arxiv.org/abs/2310.07506),
its parameters are inside the budget, and samples of a class may share a memory.
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
from latentdd_plugin.core.plugins import config_of
from latentdd_plugin.core.types import Json


class Hallucinator(Codec):
    """x = u(z) + g(u(z)): u enlarges the code bilinearly, g is a small convolutional network that begins as zero.

    With `classes=K`, a code z of class y is decoded as z + m_y. The memory m, float32 (K, C, ceil(H/f), ceil(W/f)), is
    shared by all codes of a class; it begins as zero and is trained with g.

    Codes are area means of f x f pixels, float32 (N, C, ceil(H/f), ceil(W/f)). g is `depth` 3 x 3 convolutions with
    `width` channels between them. Without `codec.joint=true` it stays zero, and the codec is `downscale`: that is the
    baseline `random-codes`, real images at the same bytes.

    Args:
        f: pixels per side that become one.
        width: channels of g.
        depth: convolutions of g, at least 2.
        classes: classes that have a memory, those of the data; None: no class has one.
        image_shape: (C, H, W) of the images; needed before use.

    Raises:
        UsageError: an option is out of its range.
    """

    codec_id: ClassVar[str] = "hallucinator"
    spatial = True
    trained_on = ("nothing",)
    trained_whole = True

    def __init__(
        self,
        f: int = 2,
        width: int = 16,
        depth: int = 3,
        classes: int | None = None,
        image_shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if faults := _faults(f, width, depth, classes):
            raise UsageError(faults)
        self.f, self.width, self.depth, self.classes = f, width, depth, classes
        self.conditional = classes is not None
        self.image_shape = None if image_shape is None else (image_shape[0], image_shape[1], image_shape[2])
        if self.image_shape is not None:
            channels = [self.image_shape[0], *[width] * (depth - 1), self.image_shape[0]]
            if classes is not None:
                side = (-(-n // f) for n in self.image_shape[1:])
                self.memory = nn.Parameter(torch.zeros(classes, self.image_shape[0], *side))
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

    def decode(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Decode codes to images (N, C, H, W); with `classes`, those of labels int64 (N,)."""
        if self.image_shape is None:
            raise UsageError("hallucinator: image_shape=(C, H, W) is needed to decode")
        if self.classes is not None:
            codes = codes + self._remembered(labels)
        enlarged = F.interpolate(codes, self.image_shape[1:], mode="bilinear")
        hidden, layers = enlarged, self._layers()
        for layer in layers[:-1]:
            hidden = F.leaky_relu(layer(hidden), 0.1)
        sharpened: Tensor = enlarged + layers[-1](hidden)
        return sharpened

    def config(self) -> dict[str, Json]:
        """Return the constructor's arguments as JSON; `classes` only if it is set."""
        return config_of(self, ("classes",) if self.classes is None else ())

    def trainable_parameters(self) -> dict[str, Tensor]:
        """Return the memory and every weight and bias of g, from the first layer to the last."""
        return dict(self.named_parameters())

    def _remembered(self, labels: Tensor | None) -> Tensor:
        """Return the memories (N, C, h, w) of labels int64 (N,)."""
        if labels is None:
            raise UsageError("hallucinator: codec.classes is set, so that decode needs the labels of the codes")
        if len(labels) and int(labels.max()) >= len(self.memory):
            raise UsageError(f"hallucinator: codec.classes={self.classes}: the data have a class {int(labels.max())}")
        return self.memory[labels]

    def _layers(self) -> list[nn.Conv2d]:
        return [layer for layer in self.decoder if isinstance(layer, nn.Conv2d)]


def _faults(f: int, width: int, depth: int, classes: int | None) -> list[str]:
    least = {"f": (f, 1), "width": (width, 1), "depth": (depth, 2), "classes": (classes or 1, 1)}
    return [
        f"hallucinator: codec.{name}={value}: must be at least {low}"
        for name, (value, low) in least.items()
        if value < low
    ]
