"""Warnings for pixels that carry little: one flat colour, or a sliver of the range."""

from __future__ import annotations

import logging

from torch import Tensor

log = logging.getLogger(__name__)

SLIVER = 32  # of 256 levels
MANY_FLAT = 0.1  # share of images of one colour


def warn_of_flat_pixels(pixels: Tensor, where: str) -> None:
    """Log a warning if many images are of one colour, or all images together use a sliver of the levels.

    Args:
        pixels: uint8 (N, C, H, W).
        where: the split, for the message.
    """
    if not pixels.numel():
        return
    planes = pixels.flatten(2)
    low, high = planes.amin(2), planes.amax(2)
    lowest, highest = int(low.min()), int(high.max())
    flat = int((low == high).all(1).sum()) if planes.shape[2] > 1 else 0
    if lowest == highest:
        log.warning("%s: every pixel is %d; the images are empty, or their values are not 0 … 255", where, lowest)
    elif highest - lowest < SLIVER:
        log.warning(
            "%s: all pixels lie between %d and %d of 0 … 255; if the images look black, scale their values first",
            where, lowest, highest,
        )  # fmt: skip
    elif flat > MANY_FLAT * len(pixels):
        log.warning("%s: %d of %d images are of one flat colour", where, flat, len(pixels))
