"""Reconstructions of an autoencoder: how to compute, measure and show them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latentdd_plugin.core.storage import atomic_write

CELL, GAP = 96, 3  # pixels: side of an image in the sheet, and between two
SMALLEST = 1e-6  # added to the squared error, whose root has no slope at zero


def reconstruct(
    model: Any, images: Tensor, noise: torch.Generator | None = None, flipped: tuple[int, ...] = ()
) -> tuple[Tensor, Tensor]:
    """Return reconstructions of images (N, C, H, W) in [0, 1] by a diffusers autoencoder, and its KL divergence.

    The code is the posterior's mode, or with `noise` a sample of it, flipped along the axes `flipped` before it is
    decoded. The divergence is KL(posterior, N(0, 1)) per value of the code, averaged; 0 without noise.
    """
    output = model.encode(2 * images - 1)
    divergence = torch.zeros((), device=images.device)
    if noise is not None:
        posterior = output.latent_dist
        draws = torch.randn(posterior.mean.shape, generator=noise).to(images.device)
        codes = posterior.mean + posterior.std * draws
        divergence = posterior.kl().mean() / posterior.mean[0].numel()
    else:
        codes = output.latent_dist.mode() if hasattr(output, "latent_dist") else output.latents
    return (model.decode(codes.flip(flipped)).sample + 1) / 2, divergence


def reconstruction_loss(images: Tensor, back: Tensor, edge: float) -> Tensor:
    """Return RMSE of each image + edge * mean |differences between neighbours of the error|, averaged over images."""
    error = back - images
    root = (error.square().flatten(1).mean(1) + SMALLEST).sqrt().mean()
    return root + edge * (error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()) / 2


def mean_psnr(images: Tensor, back: Tensor) -> float:
    """Return the mean over images of 10 log10(1 / MSE) in dB, the reconstruction clamped to [0, 1]."""
    errors = (back.clamp(0, 1) - images).square().flatten(1).double().mean(1)
    return float((-10 * errors.clamp(min=1e-12).log10()).mean())


def write_samples(path: Path, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Write a PNG with a row of originals above their reconstructions for each pair of float (n, C, H, W), clamped.

    Raises:
        RunFailed: the file cannot be written.
    """
    from PIL import Image

    rows = [row for pair in pairs for row in pair]
    step = CELL + GAP
    sheet = Image.new("RGB", (max(map(len, rows)) * step - GAP, len(rows) * step - GAP), "white")
    for y, row in enumerate(rows):
        mode = "nearest" if max(row.shape[2:]) <= CELL else "area"
        cells = F.interpolate(row.clamp(0, 1), (CELL, CELL), mode=mode).expand(-1, 3, -1, -1)
        for x, cell in enumerate((cells * 255).round().byte().permute(0, 2, 3, 1).numpy()):
            sheet.paste(Image.fromarray(cell), (x * step, y * step))
    with atomic_write(path) as temporary:
        sheet.save(temporary, format="png")
