"""The pixel baseline: the code is the image."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from latentdd_plugin.codecs.base import Codec


class Identity(Codec):
    """The pixels as codes; standardised, they are the normalised pixels of DC, DM and MTT."""

    codec_id: ClassVar[str] = "identity"
    spatial = True
    pixels = True

    def encode(self, images: Tensor) -> Tensor:
        """Return images (N, C, H, W) unchanged."""
        return images

    def decode(self, codes: Tensor) -> Tensor:
        """Return codes (N, C, H, W) unchanged."""
        return codes
