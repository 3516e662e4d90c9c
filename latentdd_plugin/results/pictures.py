"""`grid.png` and `report.html` of a run."""

from __future__ import annotations

import torch
from torch import Tensor

from latentdd_plugin.core.types import SyntheticSet
from latentdd_plugin.latent.space import Real
from latentdd_plugin.results.grid import write_grid
from latentdd_plugin.results.record import Record
from latentdd_plugin.results.report import write_report

SHOWN = 8  # images per class in the grid


def write_pictures(record: Record, synthetic: SyntheticSet, images: Tensor, pixels: Real) -> None:
    """Write decoded codes beside their nearest real neighbours of the same class, and the report around them."""
    labels = synthetic.labels.cpu() if synthetic.labels.ndim == 1 else synthetic.labels.argmax(1).cpu()
    shown = torch.cat([(labels == label).nonzero().flatten()[:SHOWN] for label in range(len(pixels.by_class))])
    pictures, marks = images[shown.to(images.device)].cpu(), labels[shown]
    neighbours = torch.stack([_nearest(p, int(m), pixels) for p, m in zip(pictures, marks, strict=True)])
    grid = record.folder / "grid.png"
    write_grid(grid, pictures, marks, neighbours, record.dataset.classes, per_class=SHOWN)
    write_report(record.folder / "report.html", record, synthetic.losses, grid)


def _nearest(picture: Tensor, label: int, pixels: Real) -> Tensor:
    """Return the real image (C, H, W) in [0, 1] of this class with the smallest squared distance in pixels."""
    members = pixels.by_class[label]
    distances = [
        (pixels.store[part].cpu().float() / 255 - picture).square().sum((1, 2, 3))
        for part in torch.split(members, 1024)
    ]
    return pixels.store[members[int(torch.cat(distances).argmin())]].cpu().float() / 255
