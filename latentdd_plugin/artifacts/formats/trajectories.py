"""MTT and its descendants (DATM, GLaD): `images_*.pt` and `labels_*.pt`, with DATM also `lr_*.pt`."""

from __future__ import annotations

from pathlib import Path

import torch

from latentdd_plugin.artifacts.formats import values
from latentdd_plugin.artifacts.formats.base import ExternalSet, Format, ImportOptions, sorted_by_class
from latentdd_plugin.artifacts.formats.tensor_checks import images_of, labels_of, number
from latentdd_plugin.artifacts.formats.unpickle import load_pt
from latentdd_plugin.core.errors import UsageError


class Trajectories(Format):
    """Bare tensors: images float32, normalised or ZCA-whitened; labels int64, or DATM's float logits (N, classes).

    `images_zca_*.pt` is named after what was undone: it holds pixels of [0, 1]. The learned rate is DATM's `lr_*.pt`;
    MTT does not save it. A folder stands for its `best` files, or for the only ones it has.
    """

    name = "mtt"

    def read(self, path: Path, options: ImportOptions) -> ExternalSet:
        """Return the images, the labels of the same iteration, and the learned rate if it was saved."""
        file = _file(path)
        undone = file.name.startswith("images_zca_")
        which = file.stem.removeprefix("images_zca_" if undone else "images_")
        images = images_of(load_pt(file), f"{file}: images")
        beside = file.with_name(f"labels_{which}.pt")
        labels = labels_of(load_pt(beside), f"{beside}: labels", soft=True)
        rate = file.with_name(f"lr_{which}.pt")
        lr = number(load_pt(rate), f"{rate}: learning rate") if rate.exists() else None
        kind = "logits" if labels.ndim == 2 else "hard"
        return ExternalSet(images, labels, kind, lr, values=values.PLAIN if undone else None)

    def write(self, external: ExternalSet, folder: Path) -> None:
        """Write the iteration `best`."""
        held = sorted_by_class(external, self.name)
        torch.save(held.images, folder / "images_best.pt")
        torch.save(as_logits(held), folder / "labels_best.pt")
        if held.lr is not None:
            torch.save(torch.tensor(held.lr), folder / "lr_best.pt")


def as_logits(external: ExternalSet) -> torch.Tensor:
    """Return hard labels as they are, and soft ones as logits: the logarithm of a probability, at least -80."""
    if external.label_kind != "probabilities":
        return external.labels
    return external.labels.log().clamp_min(-80.0)


def _file(path: Path) -> Path:
    if not path.is_dir():
        if not path.name.startswith("images_"):
            raise UsageError(f"{path}: name a file images_*.pt, or its folder")
        return path
    best = path / "images_best.pt"
    there = [best] if best.exists() else sorted(path.glob("images_*.pt"))
    if len(there) != 1:
        named = ", ".join(file.name for file in there) or "none"
        raise UsageError(f"{path}: images_best.pt or one file images_*.pt is needed, there are: {named}; name the file")
    return there[0]
