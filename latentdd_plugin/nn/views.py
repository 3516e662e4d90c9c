"""Augmented views of images: random resized crops, flips and CutMix, drawn, stored in a few bytes, and applied.

A random resized crop takes a box whose share of the area and whose aspect ratio are drawn, and resizes it to the
image's size. CutMix (Yun et al., arXiv 1905.04899) pastes a box of one image into another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

VIEW_BYTES = 11  # crop box 4, box of the mix 4, flip 1 bit and partner 23 bits
LARGEST_PARTNER = 2**23
RATIO = (3 / 4, 4 / 3)  # aspect ratios of a random resized crop


@dataclass(frozen=True)
class Views:
    """Views of samples. Boxes are (top, left, height, width) as fractions of the side."""

    crop: Tensor  # float32 (..., 4)
    mix: Tensor  # float32 (..., 4); height 0: nothing is pasted
    flip: Tensor  # bool (...)
    partner: Tensor  # int64 (...): the sample that the mix pastes from, in its own view of the same number

    def take(self, rows: Tensor, numbers: Tensor) -> Views:
        """Return the view of this number of each row, from views of shape (M, V)."""
        return Views(*(part[rows, numbers] for part in (self.crop, self.mix, self.flip, self.partner)))

    def to_bytes(self) -> Tensor:
        """Return uint8 (..., VIEW_BYTES); boxes are rounded to 1/255 of the side."""
        tail = self.partner + (self.flip.long() << 23)
        parts = [(tail >> shift & 255)[..., None] for shift in (16, 8, 0)]
        boxes = torch.cat([self.crop, self.mix], -1).mul(255).round().clamp(0, 255)
        return torch.cat([boxes, *parts], -1).to(torch.uint8)

    @classmethod
    def from_bytes(cls, data: Tensor) -> Views:
        """Return the views that `to_bytes` wrote."""
        boxes = data[..., :8].float() / 255
        high, middle, low = (data[..., 8 + i].long() for i in range(3))
        tail = (high << 16) + (middle << 8) + low
        return cls(boxes[..., :4], boxes[..., 4:], (tail >> 23).bool(), tail & (LARGEST_PARTNER - 1))


def draw_views(
    samples: int, views: int, generator: torch.Generator, *, area: tuple[float, float], mix: bool, flip: bool
) -> Views:
    """Draw `views` views of each sample, as they will be stored.

    Args:
        samples: number of samples.
        views: number of views per sample.
        generator: draws them.
        area: smallest and largest share of the image that a crop takes.
        mix: paste a box of another sample into each.
        flip: flip every second one.
    """
    total = samples * views
    crop = draw_crops(total, area, generator).view(samples, views, 4)
    boxes = draw_mix_boxes(total, generator).view(samples, views, 4)
    flips = torch.rand((samples, views), generator=generator) < 0.5
    partner = torch.randint(samples, (samples, views), generator=generator)
    boxes, flips = boxes * float(mix), flips & flip
    return Views.from_bytes(Views(crop, boxes, flips, partner).to_bytes())


def draw_crops(
    n: int, area: tuple[float, float], generator: torch.Generator, *, ratio: tuple[float, float] = RATIO
) -> Tensor:
    """Draw boxes float32 (n, 4) of random resized crops; `ratio` bounds their aspect ratio."""
    share = area[0] + (area[1] - area[0]) * torch.rand(n, generator=generator)
    low, high = (math.log(value) for value in ratio)
    aspect = torch.exp(low + (high - low) * torch.rand(n, generator=generator))
    height, width = (share / aspect).sqrt().clamp(max=1), (share * aspect).sqrt().clamp(max=1)
    place = torch.rand((n, 2), generator=generator)
    return torch.stack([place[:, 0] * (1 - height), place[:, 1] * (1 - width), height, width], 1)


def draw_mix_boxes(n: int, generator: torch.Generator) -> Tensor:
    """Draw boxes float32 (n, 4) of CutMix: share of the area and centre are uniform; borders cut a box off."""
    side = (1 - torch.rand((n, 1), generator=generator)).sqrt()
    centre = torch.rand((n, 2), generator=generator)
    low, high = (centre - side / 2).clamp(min=0), (centre + side / 2).clamp(max=1)
    return torch.cat([low, high - low], 1)


def apply_crops(images: Tensor, boxes: Tensor, flip: Tensor | None = None) -> Tensor:
    """Return each image's box (n, 4), resized to the image's size bilinearly, and flipped where `flip` (n,) says so."""
    top, left, height, width = boxes.to(images.device).unbind(1)
    sign = 1 if flip is None else 1 - 2 * flip.to(images.device).float()
    zero = torch.zeros_like(top)
    across = torch.stack([width * sign, zero, 2 * left + width - 1], 1)
    down = torch.stack([zero, height, 2 * top + height - 1], 1)
    grid = F.affine_grid(torch.stack([across, down], 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def see(images: Tensor, rows: Tensor, numbers: Tensor, views: Views) -> Tensor:
    """Return the view of this number (n,) of each row (n,) of images (M, C, H, W): cropped, flipped and mixed."""
    own = views.take(rows, numbers)
    others = views.take(own.partner, numbers)
    seen = apply_crops(images[rows.to(images.device)], own.crop, own.flip)
    partners = apply_crops(images[own.partner.to(images.device)], others.crop, others.flip)
    return paste(seen, partners, own.mix)[0]


def paste(images: Tensor, others: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return images with a box of `others` pasted in, and the share (n,) of the area that it takes.

    Args:
        images: (n, C, H, W).
        others: (n, C, H, W).
        boxes: (n, 4), or (1, 4) for all.
    """
    h, w = images.shape[2:]
    top, left, height, width = boxes.to(images.device).unbind(1)
    rows, columns = torch.arange(h, device=images.device), torch.arange(w, device=images.device)
    y = (rows >= (top * h).round()[:, None]) & (rows < ((top + height) * h).round()[:, None])
    x = (columns >= (left * w).round()[:, None]) & (columns < ((left + width) * w).round()[:, None])
    mask = (y[:, None, :, None] & x[:, None, None, :]).to(images.dtype)
    share = mask.mean((1, 2, 3)).expand(len(images))
    return images + mask * (others - images), share
