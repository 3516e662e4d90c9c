"""Smaller pictures: the training-free baseline of IDC, which stores more images at a lower resolution.

Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization" (https://arxiv.org/abs/2205.14959),
section 4: at equal bytes a factor f leaves room for f^2 times as many images, each enlarged before use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.core.errors import UsageError


class Downscale(Codec):
    """Area means down by f and bilinear interpolation up. Codes are small images, float32 (N, C, ceil(H/f), ceil(W/f)).

    Args:
        f: pixels per side that become one; IDC uses 2.
        image_shape: (C, H, W) of the images; needed to decode.

    Raises:
        UsageError: f is below 1.
    """

    codec_id: ClassVar[str] = "downscale"
    spatial = True

    def __init__(self, f: int = 2, image_shape: Sequence[int] | None = None) -> None:
        super().__init__()
        if f < 1:
            raise UsageError(f"downscale: codec.f={f}: must be at least 1")
        self.f = f
        self.image_shape = None if image_shape is None else (image_shape[0], image_shape[1], image_shape[2])

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (N, C, H, W) to codes (N, C, ceil(H/f), ceil(W/f))."""
        height, width = (-(-n // self.f) for n in images.shape[2:])
        return F.adaptive_avg_pool2d(images, (height, width))

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes to images (N, C, H, W)."""
        if self.image_shape is None:
            raise UsageError("downscale: image_shape=(C, H, W) is needed to decode")
        return F.interpolate(codes, self.image_shape[1:], mode="bilinear")
