"""Random crops of several datasets, each step as many pixels as any other; and the held-out images beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.random import generator
from latentdd_plugin.core.types import ImageData
from latentdd_plugin.experiments.codec_training.config import TrainingConfig

VALIDATED = 256  # held-out images of each dataset behind a PSNR


class Crops:
    """Training crops: each step takes them from one dataset, every pixel of all sets about as likely as any other.

    Args:
        sets: the datasets.
        config: f, seed, and the size of a step.

    Raises:
        UsageError: images smaller than f.
    """

    def __init__(self, sets: Sequence[ImageData], config: TrainingConfig) -> None:
        self.sets, self.seed = sets, config.seed
        self.colours = max(images.image_shape[0] for images in sets)
        self.shapes = [_shape(images, config) for images in sets]  # (n, h, w) of a step
        self.held_out = [_held_out(images, config.f) for images in sets]  # uint8 (n, C, H, W)
        areas = [(len(images.train), *images.image_shape[1:]) for images in sets]
        self._weights = torch.tensor([float(math.prod(area)) for area in areas])

    def batch(self, step: int) -> Tensor:
        """Crops float32 (n, C, h, w) in [0, 1], on the CPU."""
        draws = generator(self.seed, "codec/batch", step)
        which = int(torch.multinomial(self._weights, 1, generator=draws))
        images, (n, h, w) = self.sets[which], self.shapes[which]
        store = images.train.pixels
        rows = torch.randint(len(store), (n,), generator=draws)
        tops = torch.randint(store.shape[2] - h + 1, (n,), generator=draws).tolist()
        lefts = torch.randint(store.shape[3] - w + 1, (n,), generator=draws).tolist()
        flips = torch.rand(n, generator=draws) < (0.5 if images.flip else 0.0)
        chosen = zip(store[rows], tops, lefts, strict=True)
        crops = torch.stack([image[:, y : y + h, x : x + w] for image, y, x in chosen])
        return self.floats(torch.where(flips[:, None, None, None], crops.flip(3), crops))

    def floats(self, pixels: Tensor) -> Tensor:
        """Bytes (n, C, h, w) as float32 in [0, 1] with as many channels as the datasets need."""
        found = (pixels.float() / 255).expand(-1, self.colours, -1, -1)
        return found.contiguous(memory_format=torch.channels_last)

    def names(self) -> list[str]:
        """Return a dataset and its size, for the PSNR."""
        return [f"{images.name} {images.image_shape[1]}x{images.image_shape[2]}" for images in self.sets]


def _shape(images: ImageData, config: TrainingConfig) -> tuple[int, int, int]:
    """(n, h, w) of a step: sides are multiples of f, n keeps the number of pixels about the same."""
    h, w = (min(config.side, n) // config.f * config.f for n in images.image_shape[1:])
    if not h or not w:
        shape = "x".join(map(str, images.image_shape[1:]))
        raise UsageError(
            f"dataset {images.name}: its {shape} images are smaller than f={config.f}; choose a smaller --f"
        )
    return max(1, round(config.pixels / (h * w))), h, w


def _held_out(images: ImageData, f: int) -> Tensor:
    """Held-out training images, evenly spaced over all of them, cut to multiples of f."""
    pixels = images.held_out("validation").pixels
    rows = torch.linspace(0, len(pixels) - 1, min(len(pixels), VALIDATED)).long()
    h, w = (n // f * f for n in pixels.shape[2:])
    return pixels[rows][:, :, :h, :w]
