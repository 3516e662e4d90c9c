"""`grid.png` and `report.html` of a run."""

from __future__ import annotations

import torch
from torch import Tensor

from latentdd_plugin.core.types import SyntheticSet
from latentdd_plugin.latent.space import Real
from latentdd_plugin.results.grid import ROWS, write_grid
from latentdd_plugin.results.record import Record
from latentdd_plugin.results.report import write_report

SHOWN = 8  # images per class in the grid


def write_pictures(record: Record, synthetic: SyntheticSet, images: Tensor, pixels: Real) -> None:
    """Write decoded codes beside their nearest real neighbours of the same class, and the report around them."""
    labels = synthetic.labels.cpu() if synthetic.labels.ndim == 1 else synthetic.labels.argmax(1).cpu()
    shown = torch.cat(
        [(labels == label).nonzero().flatten()[:SHOWN] for label in range(min(ROWS, len(pixels.by_class)))]
    )
    pictures, marks = images[shown.to(images.device)].cpu(), labels[shown]
    neighbours = torch.cat([_nearest(pictures[marks == label], int(label), pixels) for label in marks.unique()])
    grid = record.folder / "grid.png"
    write_grid(grid, pictures, marks, neighbours, record.dataset.classes, per_class=SHOWN)
    write_report(record.folder / "report.html", record, synthetic.losses, grid)


def _nearest(pictures: Tensor, label: int, pixels: Real) -> Tensor:
    """Return for each picture the real image of this class with the smallest squared distance, (n, C, H, W)."""
    members, distances = pixels.by_class[label], []
    for part in torch.split(members, 1024):
        real = pixels.store[part].cpu().float() / 255
        distances.append(torch.stack([(real - picture).square().sum((1, 2, 3)) for picture in pictures]))
    return pixels.store[members[torch.cat(distances, 1).argmin(1)]].cpu().float() / 255
