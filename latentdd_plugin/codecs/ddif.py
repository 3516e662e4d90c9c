"""Neural fields: the code of an image is the weights of a small network that maps coordinates to colours.

The parameterisation of DDiF, Shin et al., "Distilling Dataset into Neural Field" (https://arxiv.org/abs/2503.04835),
section 3, with fields of sines as in SIREN, Sitzmann et al. (https://arxiv.org/abs/2006.09661). Nothing is shared
between samples, so there is no decoder to pay for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.core.errors import UsageError

DEFAULT_SHARE = 24  # values of an image for one weight of its field, if `width` is not given
LEAST_WIDTH = 4
BATCH = 8  # images fitted together: always so many, so that no image changes the rounding of another


class DDiF(Codec):
    """A field of sines: 2 x(p) - 1 = W_L h_L(p) + b_L, h_(l+1)(p) = sin(W_l h_l(p) + b_l), h_0(p) = p.

    p is the coordinate of a pixel, in [-1, 1] by rows and columns. A code is all W and b of one image, float32
    (N, P, 1, 1). SIREN's factor omega_0 is inside the weights, so that all of them are of about the same size. `encode`
    fits every image by Adam on the mean squared error, from one field that is the same for all. There is no encoder, so
    methods compare decoded images (`match=pixel`).

    Args:
        width: sines per layer. None: as many as P = C H W / 24 allows, at least 4.
        depth: layers of sines, at least 1.
        omega: SIREN's omega_0: the first layer's weights begin in ± omega / 2, radians per unit of the coordinates.
        steps: steps of the fit.
        lr: its first step size, which falls to zero as a cosine.
        image_shape: (C, H, W) of the images; needed before use.

    Raises:
        UsageError: an option is out of its range.
    """

    codec_id: ClassVar[str] = "ddif"
    comparable = False
    fits_codes = True

    coordinates: Tensor  # float32 (H W, 2): rows and columns; it follows from the shape, so it is not part of the state

    def __init__(
        self,
        width: int | None = None,
        depth: int = 2,
        omega: float = 10.0,
        steps: int = 300,
        lr: float = 0.1,
        image_shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        least = {"width": (width or 1, 1), "depth": (depth, 1), "steps": (steps, 0)}
        faults = [f"ddif: codec.{n}={v}: must be at least {low}" for n, (v, low) in least.items() if v < low]
        faults += [f"ddif: codec.{n}={v:g}: must be positive" for n, v in (("omega", omega), ("lr", lr)) if not v > 0]
        if faults:
            raise UsageError(faults)
        self.width, self.depth, self.omega, self.steps, self.lr = width, depth, omega, steps, lr
        self.image_shape = None if image_shape is None else (image_shape[0], image_shape[1], image_shape[2])
        if self.image_shape is not None:
            self.width = width or self._default_width()
            sides = self.image_shape[1:]
            places = [torch.linspace(-1, 1, side) if side > 1 else torch.zeros(1) for side in sides]
            grid = torch.stack(torch.meshgrid(*places, indexing="ij"), dim=-1)
            self.register_buffer("coordinates", grid.view(-1, 2), persistent=False)

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (N, C, H, W) of `image_shape` to codes (N, P, 1, 1): the weights of fitted fields."""
        if tuple(images.shape[1:]) != self._shape():
            raise UsageError(f"ddif: built for images of shape {self.image_shape}, given {tuple(images.shape[1:])}")
        start = self._start().to(images.device)
        fields = [self._fit(part, start) for part in images.detach().float().split(BATCH)]
        return torch.cat(fields).to(images.dtype)[:, :, None, None]

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes (N, P, 1, 1) to images (N, C, H, W)."""
        channels, height, width = self._shape()
        values = self._values(codes.flatten(1))
        return 0.5 + values.transpose(1, 2).reshape(-1, channels, height, width) / 2

    def _values(self, fields: Tensor) -> Tensor:
        """Return the values (N, H W, C) of fields (N, P) at every coordinate; images are between -1 and 1."""
        hidden = self.coordinates.to(fields.dtype).expand(len(fields), -1, -1)
        layers = list(self._layers(fields))
        for weight, bias in layers[:-1]:
            hidden = torch.baddbmm(bias, hidden, weight).sin()
        weight, bias = layers[-1]
        return torch.baddbmm(bias, hidden, weight)

    def _layers(self, fields: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield W (N, in, out) and b (N, 1, out) of each layer of fields (N, P)."""
        place = 0
        for a, b in pairwise(self._sizes()):
            both = fields[:, place : place + (a + 1) * b].view(-1, a + 1, b)
            yield both[:, :a], both[:, a:]
            place += (a + 1) * b

    def _start(self) -> Tensor:
        """Return the field (P,) that every fit begins with, drawn from a fixed seed in whole steps of 2^-24.

        The first layer is uniform in ± omega / 2 and the others in ± sqrt(6 / in), as SIREN's are; phases cover a turn.
        """
        draw, parts = torch.Generator().manual_seed(0), []
        for layer, (a, b) in enumerate(pairwise(self._sizes())):
            spread = self.omega / 2 if layer == 0 else math.sqrt(6 / a)
            turn = math.pi if layer < self.depth else 0.0
            limits = torch.tensor([spread] * a * b + [turn] * b)
            parts.append((torch.rand((a + 1) * b, generator=draw) * 2 - 1) * limits)
        return torch.cat(parts)

    @torch.enable_grad()
    def _fit(self, images: Tensor, start: Tensor) -> Tensor:
        """Return the fields (n, P) of images (n, C, H, W), n at most BATCH."""
        missing = BATCH - len(images)
        padded = torch.cat([images, images[-1:].expand(missing, -1, -1, -1)])
        wanted = 2 * padded.flatten(2).transpose(1, 2) - 1
        fields = start.repeat(BATCH, 1).requires_grad_()
        optimizer = torch.optim.Adam([fields], lr=self.lr)
        for step in range(self.steps):
            optimizer.param_groups[0]["lr"] = self.lr * (1 + math.cos(math.pi * step / self.steps)) / 2
            loss = (self._values(fields) - wanted).square().mean((1, 2)).sum()
            fields.grad = torch.autograd.grad(loss, fields)[0]
            optimizer.step()
        return fields.detach()[: len(images)]

    def _sizes(self, width: int | None = None) -> list[int]:
        """Return the values that go into each layer, and those that come out of the last."""
        return [2, *[width or self.width or LEAST_WIDTH] * self.depth, self._shape()[0]]

    def _default_width(self) -> int:
        """Return the largest width whose fields have at most one weight for 24 values of the image."""
        width, most = LEAST_WIDTH, math.prod(self._shape()) // DEFAULT_SHARE
        while sum((a + 1) * b for a, b in pairwise(self._sizes(width + 1))) <= most:
            width += 1
        return width

    def _shape(self) -> tuple[int, int, int]:
        if self.image_shape is None:
            raise UsageError("ddif: image_shape=(C, H, W) is needed before use")
        return self.image_shape
