"""`grid.png` and `report.html` of a run."""

from __future__ import annotations

import torch
from torch import Tensor

from latentdd_plugin.core.types import SyntheticSet
from latentdd_plugin.latent.space import Real
from latentdd_plugin.results.grid import ROWS, write_grid
from latentdd_plugin.results.record import Record
from latentdd_plugin.results.report import write_report

SHOWN = 6  # images per class in the grid


def shown_rows(synthetic: SyntheticSet, classes: int) -> Tensor:
    """Return the positions of the codes that the grid shows, class by class."""
    labels = _labels(synthetic)
    return torch.cat([(labels == label).nonzero().flatten()[:SHOWN] for label in range(min(ROWS, classes))])


def write_pictures(
    record: Record, synthetic: SyntheticSet, images: Tensor, pixels: Real, start: Tensor | None = None
) -> None:
    """Write decoded codes beside what they started from and the nearest real images, and the report around them.

    Args:
        record: the run.
        synthetic: its codes and labels.
        images: (M, C, H, W), the decoded codes.
        pixels: the real images.
        start: the decoded initial codes at `shown_rows`, if the method began with some.
    """
    shown = shown_rows(synthetic, len(pixels.by_class))
    pictures, marks = images[shown.to(images.device)].cpu(), _labels(synthetic)[shown]
    neighbours = torch.cat([_nearest(pictures[marks == label], int(label), pixels) for label in marks.unique()])
    grid = record.folder / "grid.png"
    write_grid(grid, pictures, marks, neighbours, record.dataset.classes, per_class=SHOWN, start=start)
    write_report(record.folder / "report.html", record, synthetic.losses, grid)


def _labels(synthetic: SyntheticSet) -> Tensor:
    labels = synthetic.labels.cpu()
    return labels if labels.ndim == 1 else labels.argmax(1)


def _nearest(pictures: Tensor, label: int, pixels: Real) -> Tensor:
    """Return for each picture the real image of this class with the smallest squared distance, (n, C, H, W)."""
    members, distances = pixels.by_class[label], []
    for part in torch.split(members, 128):
        real = pixels.store[part].cpu().float() / 255
        distances.append(torch.stack([(real - picture).square().sum((1, 2, 3)) for picture in pictures]))
    return pixels.store[members[torch.cat(distances, 1).argmin(1)]].cpu().float() / 255
