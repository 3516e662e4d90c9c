"""Selected frequencies: the whole image's cosine transform, of which a mask keeps the frequencies with most energy.

The parameterisation of FreD, Shin et al., "Frequency Domain-based Dataset Distillation"
(https://arxiv.org/abs/2311.08819), section 3. The paper ranks frequencies by explained variance; here they are ranked
by energy, E[z^2] over the training set, which gives the smallest squared error when the others become zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import scipy.fft
import torch
from torch import Tensor

from latentdd_plugin.codecs.base import Batches, Codec
from latentdd_plugin.codecs.colour import CHROMA_STEP, colour_planes
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.plugins import config_of
from latentdd_plugin.core.types import Json

COLOURS = ("rgb", "ycc")

DEFAULT_SHARE = 12  # one value in 12 is kept: as many as an autoencoder with f=4 and 4 channels keeps of an RGB image


class FreD(Codec):
    """z = (D_h X D_w^T)[mask] per channel, x' = D_h^T Z D_w with zeros elsewhere; D is the orthonormal DCT-II.

    Codes are float32 (N, keep, 1, 1), ordered by channel and frequency. There is one mask for the whole set, because
    masks per class would need the label for decoding.

    Each frequency is a channel of its own, so that entropy-coded ones have steps of their own: twice as coarse for the
    chroma of `colour=ycc`.

    Args:
        keep: coefficients kept, of all channels together; None keeps one in twelve.
        colour: `rgb` (channels as they are) or `ycc` (luma and two chroma channels, of which fewer frequencies count).
        image_shape: (C, H, W) of the images; needed before use.

    Raises:
        UsageError: `keep` is not between 1 and the values of an image, or the colour is unknown.
    """

    codec_id: ClassVar[str] = "fred"

    mask: Tensor  # int32 (keep,): positions in the flattened spectrum (C, H, W), ascending
    rows: Tensor  # (H, H) and (W, W): the transform; it follows from the shape, so it is not part of the state
    columns: Tensor
    mix: Tensor  # (C, C): image channels to colour planes, and its inverse
    unmix: Tensor

    def __init__(self, keep: int | None = None, colour: str = "rgb", image_shape: Sequence[int] | None = None) -> None:
        super().__init__()
        if colour not in COLOURS:
            raise UsageError(f"fred: codec.colour={colour}: choose one of {', '.join(COLOURS)}")
        self.keep, self.colour = keep, colour
        self.image_shape = None if image_shape is None else (image_shape[0], image_shape[1], image_shape[2])
        if self.image_shape is not None:
            values = math.prod(self.image_shape)
            self.keep = max(1, values // DEFAULT_SHARE) if keep is None else keep
            if not 1 <= self.keep <= values:
                raise UsageError(f"fred: codec.keep={keep}: choose 1 to {values}, the values of an image")
            self.register_buffer("mask", torch.full((self.keep,), -1, dtype=torch.int32))
            mix = colour_planes(self.image_shape[0], colour)
            self.register_buffer("mix", mix.float(), persistent=False)
            self.register_buffer("unmix", torch.linalg.inv(mix).float(), persistent=False)
            self.register_buffer("rows", cosines(self.image_shape[1]).float(), persistent=False)
            self.register_buffer("columns", cosines(self.image_shape[2]).float(), persistent=False)

    def fit(self, batches: Batches) -> None:
        """Find the mask: the `keep` frequencies with the largest sum of squares; of equal ones the lower position."""
        energy = torch.zeros(math.prod(self._shape()), dtype=torch.float64)
        for images in batches():
            energy += self._spectrum(images).double().square().sum(0).cpu()
        order = energy.sort(descending=True, stable=True).indices[: self.keep]
        self.mask.copy_(order.sort().values)

    def config(self) -> dict[str, Json]:
        """Return the constructor's arguments as JSON; `colour` only if it is not that of the image."""
        return config_of(self, ("colour",) if self.colour == "rgb" else ())

    def step_weights(self, channels: int) -> Tensor:
        """Store chroma at twice the step of luma, as `dct` does."""
        plane = self._positions().cpu() // math.prod(self._shape()[1:])
        turned = self.colour == "ycc" and self._shape()[0] == 3
        return torch.where(turned & (plane > 0), CHROMA_STEP, 1.0)

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (N, C, H, W) of `image_shape` to codes (N, keep, 1, 1)."""
        if tuple(images.shape[1:]) != self._shape():
            raise UsageError(f"fred: built for images of shape {self.image_shape}, given {tuple(images.shape[1:])}")
        return self._spectrum(images)[:, self._positions(), None, None]

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes (N, keep, 1, 1) to images (N, C, H, W)."""
        shape = self._shape()
        flat = codes.new_zeros(len(codes), math.prod(shape))
        spectrum = flat.index_copy(1, self._positions(), codes.flatten(1)).view(-1, *shape)
        return self._mixed(self.unmix, self.rows.T @ spectrum @ self.columns)

    def _spectrum(self, images: Tensor) -> Tensor:
        return (self.rows @ self._mixed(self.mix, images) @ self.columns.T).flatten(1)

    def _mixed(self, matrix: Tensor, images: Tensor) -> Tensor:
        """Return images (N, C, H, W) with their channels mixed; untouched, to the bit, if the colours stay."""
        return images if self.colour == "rgb" else torch.einsum("dc,nchw->ndhw", matrix, images)

    def _positions(self) -> Tensor:
        if int(self.mask[0]) < 0:
            raise UsageError("fred: not fitted yet: call fit(batches) or load a fitted state first")
        return self.mask.long()

    def _shape(self) -> tuple[int, int, int]:
        if self.image_shape is None:
            raise UsageError("fred: image_shape=(C, H, W) is needed before use")
        return self.image_shape


def cosines(n: int) -> Tensor:
    """Return the orthonormal DCT-II as a matrix, float64 (n, n), one frequency per row."""
    return torch.from_numpy(scipy.fft.dct(np.eye(n), norm="ortho", axis=0))
