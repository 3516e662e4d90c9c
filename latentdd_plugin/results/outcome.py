"""What a finished run leaves beside the artifact: the record's entries, the grid and the report."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from latentdd_plugin.artifacts.artifact import Artifact
from latentdd_plugin.artifacts.budget import Budget
from latentdd_plugin.core.errors import RunFailed
from latentdd_plugin.core.monitor import Clock, peak_mb
from latentdd_plugin.core.types import ImageData, Images, Json, SyntheticSet
from latentdd_plugin.latent.space import Real
from latentdd_plugin.results.grid import write_grid
from latentdd_plugin.results.record import Record
from latentdd_plugin.results.report import write_report

SHOWN = 8  # images a class in the grid


def dataset_entry(images: ImageData, held_out: Images) -> dict[str, Json]:
    """The record's `dataset`."""
    return {
        **images.source,
        "name": images.name,
        "fingerprint": images.fingerprint,
        "classes": list(images.classes),
        "image_shape": list(images.image_shape),
        "train_size": len(images.train),
        "test_size": len(held_out),
        "flip": images.flip,
    }


def budget_entry(budget: Budget, stored: Artifact, spent: Mapping[str, int]) -> dict[str, Json]:
    """The record's `budget`: what was allowed, and what the file really spends.

    Raises:
        RunFailed: the method returned more than the budget holds.
    """
    classes, codes = len(stored.classes), stored.packed.shape[0]
    total, allowed = spent["codes"] + spent["labels"], budget.bytes_per_class * classes
    if total > allowed:
        raise RunFailed(f"the method spends {total} bytes on codes and labels, the budget is {allowed}")
    wanted = budget.codes_per_class * classes
    return {
        "ipc": budget.ipc,
        "bytes_per_class": budget.bytes_per_class,
        "codes_per_class": budget.codes_per_class,
        "codes": codes,
        "shortfall": None if codes == wanted else f"{codes} codes instead of {wanted}: a class has no more images",
        "precision": budget.precision,
        "bytes": {**spent, "total": total, "total_with_decoder": total + spent["decoder"]},
    }


def cost_entry(clock: Clock) -> dict[str, Json]:
    """The record's `cost`: seconds a stage, and the peak memory, to the end of the distillation and in all."""
    stages = ("load_s", "fit_s", "encode_s", "distill_s", "evaluate_s", "controls_s")
    rss, device = peak_mb()
    distill_rss, distill_device = clock.peaks.get("distill_s", (None, None))
    return {
        **{stage: round(clock.seconds.get(stage, 0.0), 3) for stage in stages},
        "step_ms_median": clock.step_ms(),
        "distill_peak_rss_mb": distill_rss,
        "distill_peak_device_mb": distill_device,
        "peak_rss_mb": rss,
        "peak_device_mb": device,
    }


def write_pictures(record: Record, synthetic: SyntheticSet, images: Tensor, pixels: Real) -> None:
    """`grid.png`, decoded codes with their nearest real neighbours of the same class, and `report.html`."""
    labels = synthetic.labels.cpu() if synthetic.labels.ndim == 1 else synthetic.labels.argmax(1).cpu()
    shown = torch.cat([(labels == label).nonzero().flatten()[:SHOWN] for label in range(len(pixels.by_class))])
    pictures, marks = images[shown.to(images.device)].cpu(), labels[shown]
    neighbours = torch.stack([_nearest(p, int(m), pixels) for p, m in zip(pictures, marks, strict=True)])
    grid = record.folder / "grid.png"
    write_grid(grid, pictures, marks, neighbours, record.data["dataset"]["classes"], per_class=SHOWN)
    write_report(record.folder / "report.html", dict(record.data), synthetic.losses, grid)


def _nearest(picture: Tensor, label: int, pixels: Real) -> Tensor:
    """The real image (C, H, W) in [0, 1] of this class with the smallest squared distance in pixels."""
    members = pixels.by_class[label]
    distances = [
        (pixels.store[part].cpu().float() / 255 - picture).square().sum((1, 2, 3))
        for part in torch.split(members, 1024)
    ]
    return pixels.store[members[int(torch.cat(distances).argmin())]].cpu().float() / 255
