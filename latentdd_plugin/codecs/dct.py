"""Training-free low-pass codes: the discrete cosine transform, taken back at a smaller size.

The DCT-II is Ahmed, Natarajan and Rao, "Discrete Cosine Transform", IEEE Trans. Computers 1974. Distilling into a part
of the frequency domain is FreD's idea (https://arxiv.org/abs/2311.08819); here the part is the same for every image,
so nothing has to be learned, and going back to a small picture turns codes into small images that a ConvNet can match.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.codecs.colour import CHROMA_STEP, colour_planes
from latentdd_plugin.core.errors import UsageError

COLOURS = ("rgb", "ycc", "split")
LARGEST_DEFAULT = 32  # code side; beyond it, more codes are worth more than sharper ones


def dct_matrix(n: int) -> Tensor:
    """Return the orthonormal DCT-II, float64 (n, n): D[u, x] = c(u) cos(pi (2x + 1) u / 2n).

    c(0) = sqrt(1/n), else c(u) = sqrt(2/n).
    """
    x = torch.arange(n, dtype=torch.float64)
    matrix = torch.cos(math.pi / (2 * n) * x[:, None] * (2 * x[None, :] + 1)) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


def band_filters(n: int, m: int, bands: int) -> Tensor:
    """Return F_i = sqrt(m/n) D_m^T D_n[i m:(i+1) m], float64 (bands, m, n): frequencies i m and up as m samples.

    F_0 is a low-pass resize that keeps a constant's value. The inverse of F_i is (n/m) F_i^T.
    """
    small, large = dct_matrix(m), dct_matrix(n)
    return math.sqrt(m / n) * torch.stack([small.T @ large[i * m : (i + 1) * m] for i in range(bands)])


class DCT(Codec):
    """Low frequencies of an image as a smaller image: Z = F X F^T, X' = (n/m)^2 F^T Z F, per channel.

    A constant image has a constant code of the same value; at full size the image comes back exactly. Codes are float32
    (N, C, k, k) with `colour` rgb or ycc; (N, 6, k/2, k/2) with split: Y, Cb, Cr low-passed to k/2, and the three upper
    bands of Y up to k, each a small image of its own (luma at k, chroma at k/2). A longer side keeps the proportion.
    Images of one channel have no chroma: (N, 1, k, k) always.

    With `block=b` the transform is JPEG's: blocks of b pixels, k x k low coefficients each, as channels
    (N, C k k, H/b, W/b), divided by b so that the first channel is the block's mean; split keeps k/2 x k/2 of chroma.

    Attributes:
        spatial: a flipped code decodes to the flipped image. True for whole-image codes (with split only if the
            band k/2 is even: a flip changes the sign of odd frequencies); with blocks only for k = 1.

    Args:
        size: k, the code's side for the shorter image side; in blocks, coefficients per side. None: half of the side,
            at most 32; in blocks half of the block.
        colour: `rgb` (channels as they are), `ycc` (luma and two chroma channels) or `split` (chroma at half the size).
        block: block side in pixels; None transforms the whole image.
        image_shape: (C, H, W) of the images; needed before use.

    Raises:
        UsageError: the size is larger than the image allows, or the colour is unknown.
    """

    codec_id: ClassVar[str] = "dct"
    matrices: tuple[str, ...] = ("mix", "unmix", "rows", "cols")
    mix: Tensor  # (C, C) colour transform, and its inverse
    unmix: Tensor
    rows: Tensor  # (bands, m, H): image rows to code rows; in blocks (1, k, b)
    cols: Tensor  # (bands, l, W)

    def __init__(
        self,
        size: int | None = None,
        colour: str = "ycc",
        block: int | None = None,
        image_shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.size, self.colour, self.block = size, colour, block
        self.image_shape = None if image_shape is None else (image_shape[0], image_shape[1], image_shape[2])
        self._check()
        self.spatial = True
        if self.image_shape is not None:
            self._prepare(*self.image_shape)

    def _check(self) -> None:
        faults = []
        if self.colour not in COLOURS:
            faults.append(f"dct: codec.colour={self.colour}: choose one of {', '.join(COLOURS)}")
        least = 2 if self.colour == "split" else 1
        if self.size is not None and self.size < least:
            faults.append(f"dct: codec.size={self.size}: must be at least {least} with colour={self.colour}")
        if self.block is not None and self.block < 2:
            faults.append(f"dct: codec.block={self.block}: must be at least 2 pixels")
        if faults:
            raise UsageError(faults)

    def _prepare(self, channels: int, height: int, width: int) -> None:
        """Build the matrices. They follow from the arguments, so they are not part of the state."""
        side = min(height, width) if self.block is None else self.block
        size = self.size
        if size is None:
            size = math.ceil(side / 2) if self.block else min(math.ceil(side / 2), LARGEST_DEFAULT)
        self.split = self.colour == "split" and channels == 3
        if self.split and self.size is None:
            size = max(2, size - size % 2)
        if size > side:
            what = "block" if self.block else f"shorter side of the {height}x{width} image"
            raise UsageError(f"dct: codec.size={size} is larger than the {what}: choose 1 to {side}")
        if self.split and size % 2:
            raise UsageError(f"dct: codec.size={size} is odd: colour=split halves it, choose {size - 1} or {size + 1}")
        if self.block is not None:
            self.kept = size
            self.multiple, self.spatial = self.block, size == 1
            rows = cols = dct_matrix(self.block)[None, :size] / math.sqrt(self.block)
        else:
            bands = 2 if self.split else 1
            m, k = (round(size * n / side) // bands for n in (height, width))
            self.spatial = not self.split or (m % 2 == 0 and k % 2 == 0)
            rows, cols = band_filters(height, m, bands), band_filters(width, k, bands)
        mix = colour_planes(channels, self.colour)
        for name, matrix in zip(self.matrices, (mix, torch.linalg.inv(mix), rows, cols), strict=True):
            self.register_buffer(name, matrix.float(), persistent=False)

    def step_weights(self, channels: int) -> Tensor:
        """Store chroma at twice the step of luma, as image formats do; the eye and networks need less of it."""
        if self.mix.shape[0] == 1 or self.colour == "rgb":
            return torch.ones(channels)
        if self.block is not None:
            kept = [k * k for k in self._block_sides(self.mix.shape[0])]
            return torch.cat([torch.ones(kept[0]), torch.full((sum(kept[1:]),), CHROMA_STEP)])
        weights = torch.ones(channels)
        weights[1:3] = CHROMA_STEP
        return weights

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (N, C, H, W) of `image_shape` to codes; see the class for their shape."""
        if self.image_shape is None or tuple(images.shape[1:]) != self.image_shape:
            raise UsageError(f"dct: built for images of shape {self.image_shape}, given {tuple(images.shape[1:])}")
        planes = torch.einsum("dc,nchw->ndhw", self.mix, images)
        return self._encode_whole(planes) if self.block is None else self._encode_blocks(planes)

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes to images (N, C, H, W); the frequencies that were dropped are zero."""
        if self.image_shape is None:
            raise UsageError("dct: image_shape=(C, H, W) is needed to decode")
        planes = self._decode_whole(codes) if self.block is None else self._decode_blocks(codes)
        return torch.einsum("dc,nchw->ndhw", self.unmix, planes)

    def _encode_whole(self, planes: Tensor) -> Tensor:
        low = self.rows[0] @ planes @ self.cols[0].T
        if not self.split:
            return low
        bands = torch.einsum("imh,nhw,jlw->nijml", self.rows, planes[:, 0], self.cols)
        return torch.cat([low, bands.flatten(1, 2)[:, 1:]], dim=1)

    def _decode_whole(self, codes: Tensor) -> Tensor:
        gain = self.rows.shape[2] / self.rows.shape[1] * self.cols.shape[2] / self.cols.shape[1]
        if not self.split:
            return gain * (self.rows[0].T @ codes @ self.cols[0])
        luma = torch.cat([codes[:, :1], codes[:, 3:]], dim=1).reshape(-1, 2, 2, *codes.shape[2:])
        luma = torch.einsum("imh,nijml,jlw->nhw", self.rows, luma, self.cols)
        chroma = self.rows[0].T @ codes[:, 1:3] @ self.cols[0]
        return gain * torch.cat([luma[:, None], chroma], dim=1)

    def _block_sides(self, channels: int) -> list[int]:
        """Return the coefficients per side that each channel keeps in a block."""
        return [self.kept] + [self.kept // 2 if self.split else self.kept] * (channels - 1)

    def _encode_blocks(self, planes: Tensor) -> Tensor:
        n, channels, height, width = planes.shape
        b = self.multiple
        if height % b or width % b:
            raise UsageError(f"dct: codec.block={b} does not divide the {height}x{width} image")
        cut = planes.view(n, channels, height // b, b, width // b, b)
        spectrum = torch.einsum("uy,nchywx,vx->ncuvhw", self.rows[0], cut, self.cols[0])
        kept = [spectrum[:, c, :k, :k].flatten(1, 2) for c, k in enumerate(self._block_sides(channels))]
        return torch.cat(kept, dim=1)

    def _decode_blocks(self, codes: Tensor) -> Tensor:
        channels = self.mix.shape[0]
        kept, b, planes = self._block_sides(channels), self.multiple, []
        for part, k in zip(torch.split(codes, [k * k for k in kept], dim=1), kept, strict=True):
            spectrum = part.reshape(-1, k, k, *codes.shape[2:])
            plane = torch.einsum("uy,nuvhw,vx->nhywx", self.rows[0, :k], spectrum, self.cols[0, :k])
            planes.append(b * b * plane.flatten(3, 4).flatten(1, 2))
        return torch.stack(planes, dim=1)
