"""PSNR and SSIM of images in [0, 1]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

EXACT = 120.0  # dB; float32 tells no nearer, and an exact image would have infinitely many
WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03  # of the paper, section III-C


def psnr(found: Tensor, wanted: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image, dB: -10 log10 of the mean squared error, at most 120.

    Args:
        found: float32 (N, C, H, W), not clamped.
        wanted: float32 (N, C, H, W) in [0, 1].

    Returns:
        float32 (N,).
    """
    errors = (found - wanted).square().mean((1, 2, 3))
    return (-10 * errors.log10()).clamp_max(EXACT)


def window_side(height: int, width: int) -> int:
    """Side of SSIM's window: 11, or the largest odd number that fits a smaller image."""
    side = min(WINDOW, height, width)
    return side - 1 + side % 2


def ssim(found: Tensor, wanted: Tensor) -> Tensor:
    """Structural similarity of each image: mean over channels and over the places where the whole window fits.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment", IEEE Trans. Image Processing 2004, equation 13, with
    population statistics under a Gaussian window. Images in [0, 1], so that L = 1.

    Args:
        found: float32 (N, C, H, W).
        wanted: float32 (N, C, H, W).

    Returns:
        float32 (N,).
    """
    channels, side = found.shape[1], window_side(*found.shape[2:])
    places = torch.arange(side, dtype=torch.float64, device=found.device) - side // 2
    line = torch.softmax(-(places**2) / (2 * SIGMA**2), 0)
    kernel = (line[:, None] * line).expand(channels, 1, side, side)
    x, y = found.double(), wanted.double()

    def mean(values: Tensor) -> Tensor:
        return F.conv2d(values, kernel, groups=channels)

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = K1**2, K2**2
    index = (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return index.mean((1, 2, 3)).float()
