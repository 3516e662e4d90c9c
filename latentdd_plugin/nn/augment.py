"""Differentiable Siamese augmentation (Zhao & Bilen 2021, DSA, arXiv 2102.08259, section 3.2 and table of operations).

One operation is drawn at a time; *Siamese* means that real and synthetic samples get the same draw. All operations
are differentiable in the samples and act on standardised values (N, C, H, W), as in the original.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

OPERATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")
SPATIAL = ("crop", "cutout", "flip", "scale", "rotate")

BRIGHTNESS, SATURATION, CONTRAST = 1.0, 2.0, 0.5
CROP_PAD, CUTOUT, SCALE, ROTATE = 0.125, 0.5, 1.2, 15.0


@dataclass(frozen=True)
class Draw:
    """One operation and its random numbers, uniform in [0, 1): one row for all samples, or one row per sample."""

    operation: str
    numbers: Tensor  # float32 (1 or N, 3)


@dataclass(frozen=True)
class Augment:
    """A choice of operations; an empty one changes nothing."""

    operations: tuple[str, ...] = OPERATIONS

    def draw(self, generator: torch.Generator, samples: int = 1) -> Draw | None:
        """Choose one operation; `samples=1` gives all samples the same parameters (Siamese)."""
        if not self.operations:
            return None
        index = int(torch.randint(len(self.operations), (1,), generator=generator))
        return Draw(self.operations[index], torch.rand((samples, 3), generator=generator))

    def apply(self, x: Tensor, draw: Draw | None) -> Tensor:
        """Apply a draw to samples (N, C, H, W); the shape stays."""
        return x if draw is None else _APPLY[draw.operation](x, draw.numbers.to(x.device))


def operations_for(*, colour: bool, spatial: bool, flip: bool) -> tuple[str, ...]:
    """Return the operations that are meaningful: colour for RGB, spatial for maps, flips if they keep labels."""
    return tuple(
        op for op in OPERATIONS if (op == "color" and colour) or (op in SPATIAL and spatial and (op != "flip" or flip))
    )


def _color(x: Tensor, numbers: Tensor) -> Tensor:
    brightness, saturation, contrast = (numbers[:, i].view(-1, 1, 1, 1) for i in range(3))
    x = x + (brightness - 0.5) * BRIGHTNESS
    mean = x.mean(1, keepdim=True)
    x = (x - mean) * (saturation * SATURATION) + mean
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * (contrast + CONTRAST) + mean


def _integers(numbers: Tensor, low: int, high: int) -> Tensor:
    """Map uniform numbers in [0, 1) to uniform integers in [low, high]."""
    return low + (numbers * (high - low + 1)).long().clamp_(max=high - low)


def _crop(x: Tensor, numbers: Tensor) -> Tensor:
    """Shift by up to 12.5% of the side, filling with zeros."""
    n, _, h, w = x.shape
    pad_h, pad_w = int(h * CROP_PAD + 0.5), int(w * CROP_PAD + 0.5)
    top, left = _integers(numbers[:, 0], 0, 2 * pad_h), _integers(numbers[:, 1], 0, 2 * pad_w)
    padded = F.pad(x, (pad_w, pad_w, pad_h, pad_h))
    if len(numbers) == 1:
        t, s = int(top), int(left)
        return padded[:, :, t : t + h, s : s + w]
    rows = (top[:, None] + torch.arange(h, device=x.device)).view(n, 1, h, 1)
    columns = (left[:, None] + torch.arange(w, device=x.device)).view(n, 1, 1, w)
    sample = torch.arange(n, device=x.device).view(n, 1, 1, 1)
    channel = torch.arange(x.shape[1], device=x.device).view(1, -1, 1, 1)
    return padded[sample, channel, rows, columns]


def _cutout(x: Tensor, numbers: Tensor) -> Tensor:
    """Zero a rectangle of half the sides, centred anywhere."""
    inside = []
    for axis, side in ((0, x.shape[2]), (1, x.shape[3])):
        size = int(side * CUTOUT + 0.5)
        start = _integers(numbers[:, axis], 0, side - size % 2).view(-1, 1) - size // 2
        at = torch.arange(side, device=x.device)
        inside.append((at >= start) & (at < start + size))
    hole = inside[0][:, :, None] & inside[1][:, None, :]
    return x * (~hole).to(x.dtype).unsqueeze(1)


def _flip(x: Tensor, numbers: Tensor) -> Tensor:
    if len(numbers) == 1:
        return x.flip(3) if numbers[0, 0] < 0.5 else x
    return torch.where(numbers[:, 0].view(-1, 1, 1, 1) < 0.5, x.flip(3), x)


def _affine(x: Tensor, rows: list[list[Tensor]]) -> Tensor:
    zero = torch.zeros_like(rows[0][0])
    theta = torch.stack([torch.stack([*row, zero], 1) for row in rows], 1)
    grid = F.affine_grid(theta.expand(len(x), -1, -1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid.to(x.dtype), align_corners=False)


def _scale(x: Tensor, numbers: Tensor) -> Tensor:
    factor = numbers * (SCALE - 1 / SCALE) + 1 / SCALE
    zero = torch.zeros_like(factor[:, 0])
    return _affine(x, [[factor[:, 0], zero], [zero, factor[:, 1]]])


def _rotate(x: Tensor, numbers: Tensor) -> Tensor:
    angle = (numbers[:, 0] - 0.5) * 2 * ROTATE / 180 * math.pi
    cos, sin = torch.cos(angle), torch.sin(angle)
    return _affine(x, [[cos, -sin], [sin, cos]])


_APPLY = {"color": _color, "crop": _crop, "cutout": _cutout, "flip": _flip, "scale": _scale, "rotate": _rotate}
