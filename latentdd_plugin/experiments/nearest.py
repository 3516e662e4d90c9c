"""Count distilled samples that lie nearer to test images than they may.

A distiller sees training images only. A set whose samples lie nearer to test images than their share of all real images
explains, or that repeats some of them, was made with knowledge of the test set. Images are compared by squared distance
of pixels, at no more than 16 pixels per side, where a copy is found however it was stored.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from latentdd_plugin.core.types import SampleStore
from latentdd_plugin.results.entries import NearestImages

SIDE = 16  # pixels; larger images are reduced to it before they are compared
CHUNK = 4096  # real images compared at a time
PIECE = 128  # real images that are in float32 at full size at a time
COPY = 0.5  # of the distance to the other split: nearer than that, a sample repeats an image


def nearest_images(samples: Tensor, train: SampleStore, test: SampleStore) -> NearestImages:
    """Compare distilled samples with every real image.

    Args:
        samples: float (M, C, H, W), about [0, 1].
        train: uint8 (N, C, H, W), the training images.
        test: uint8 (T, C, H, W), the images that scored.
    """
    small = _reduced(samples)
    to_train, to_test = _distances(small, train), _distances(small, test)
    return NearestImages(
        samples=len(samples),
        nearer_to_test=int((to_test < to_train).sum()),
        expected=len(test) / (len(train) + len(test)),
        copies_of_train=int((to_train < COPY * to_test).sum()),
        copies_of_test=int((to_test < COPY * to_train).sum()),
    )


def _distances(samples: Tensor, pixels: SampleStore) -> Tensor:
    """Return the distance (M,) of each sample to the nearest of these images."""
    found = torch.full((len(samples),), torch.inf, device=samples.device)
    for part in pixels.split(CHUNK):
        real = torch.cat([_reduced(piece.to(samples.device).float() / 255) for piece in part.split(PIECE)])
        found = torch.minimum(found, torch.cdist(samples, real).amin(1))
    return found


def _reduced(images: Tensor) -> Tensor:
    """Return images (N, C, H, W) as vectors (N, D), reduced to at most 16 pixels per side by area means."""
    height, width = (min(SIDE, int(side)) for side in images.shape[2:])
    if (height, width) != tuple(images.shape[2:]):
        images = F.adaptive_avg_pool2d(images, (height, width))
    return images.flatten(1).float()
