"""A codec of tokens that needs no weights, on which methods can be tried."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from latentdd_plugin.codecs.base import Codec


class Levels(Codec):
    """Mean brightness of square blocks, each rounded to one of a few levels: the number of the level is the token.

    Args:
        size: pixels per side of a block.
        levels: size of the codebook.
    """

    codec_id = "testing/levels"
    tokens: int | None = 0

    def __init__(self, size: int = 2, levels: int = 16) -> None:
        super().__init__()
        self.size, self.levels = size, levels
        self.multiple, self.tokens = size, levels

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (N, C, H, W) in [0, 1] to tokens (N, C, H / size, W / size)."""
        return (F.avg_pool2d(images, self.size) * (self.levels - 1)).round().clamp(0, self.levels - 1)

    def decode(self, codes: Tensor) -> Tensor:
        """Decode tokens (N, C, h, w) to images (N, C, size h, size w)."""
        return F.interpolate(codes / (self.levels - 1), scale_factor=self.size)
