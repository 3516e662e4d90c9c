"""DC-BENCH's tree `distilled_results/<METHOD>/<dataset>/IPC<n>/`: the files of several projects, and KIP's `.npz`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from latentdd_plugin.artifacts.formats import values
from latentdd_plugin.artifacts.formats.arrays import load_npz
from latentdd_plugin.artifacts.formats.base import ExternalSet, Format, ImportOptions
from latentdd_plugin.artifacts.formats.condensation import Condensation
from latentdd_plugin.artifacts.formats.tensor_checks import images_of, labels_of
from latentdd_plugin.artifacts.formats.trajectories import Trajectories
from latentdd_plugin.artifacts.formats.unpickle import load_pt
from latentdd_plugin.core.errors import UsageError


class DCBench(Format):
    """One folder `IPC<n>` of the tree, of any method. Of several DC experiments the last is taken, as DC-BENCH does.

    Reads `res_*.pt` (DC, DSA, DM), `images_best.pt` (TM; also in the five parts of its largest set), pairs
    `*_images.pt` and `*_labels.pt` (random, k-means), and KIP's `.npz`: images (N, H, W, C), labels as one number
    per class, of which the largest counts.
    """

    name = "dc-bench"
    writable = False
    takes = frozenset({"experiment"})

    def read(self, path: Path, options: ImportOptions) -> ExternalSet:
        """Return the set in an `IPC<n>` folder."""
        stated = re.fullmatch(r"IPC(\d+)", path.name)
        if not path.is_dir() or not stated:
            raise UsageError(f"{path}: name a folder IPC<n> of the tree, as in distilled_results/DM/CIFAR10/IPC10")
        found = [(files, read) for pattern, read in _KINDS.items() if (files := sorted(path.glob(pattern)))]
        if len(found) != 1 or (len(found[0][0]) > 1 and found[0][1] is not _parts):
            named = ", ".join(file.name for files, _ in found for file in files) or "none"
            raise UsageError(f"{path}: one distilled set is needed, its files are: {named}")
        files, read = found[0]
        return replace(read(files, options), ipc=int(stated[1]))


def _condensation(files: list[Path], options: ImportOptions) -> ExternalSet:
    pairs = load_pt(files[0])
    last = len(pairs["data"]) - 1 if isinstance(pairs, dict) and isinstance(pairs.get("data"), list) else 0
    return Condensation().read(
        files[0], options if options.experiment is not None else replace(options, experiment=last)
    )


def _trajectories(files: list[Path], options: ImportOptions) -> ExternalSet:
    return Trajectories().read(files[0], options)


def _parts(files: list[Path], options: ImportOptions) -> ExternalSet:
    sets = [Trajectories().read(file, options) for file in files]
    if len({tuple(s.images.shape[1:]) for s in sets}) > 1 or len({s.labels.shape[1:] for s in sets}) > 1:
        raise UsageError(f"{files[0].parent}: its parts are of several shapes")
    return replace(sets[0], images=torch.cat([s.images for s in sets]), labels=torch.cat([s.labels for s in sets]))


def _pair(files: list[Path], _: ImportOptions) -> ExternalSet:
    beside = files[0].with_name(files[0].name.replace("_images.pt", "_labels.pt"))
    return ExternalSet(
        images_of(load_pt(files[0]), f"{files[0]}: images"), labels_of(load_pt(beside), f"{beside}: labels")
    )


def _kip(files: list[Path], _: ImportOptions) -> ExternalSet:
    arrays, file = load_npz(files[0]), files[0]
    if not {"images", "labels"} <= set(arrays):
        raise UsageError(f"{file}: arrays {sorted(arrays)}; images and labels are needed")
    images = images_of(arrays["images"], f"{file}: images (N, H, W, C)").permute(0, 3, 1, 2).contiguous()
    labels = labels_of(arrays["labels"], f"{file}: labels", soft=True)
    whitened = "_zca_" in file.name
    hard = labels.argmax(1) if labels.ndim == 2 else labels
    return ExternalSet(images, hard, values=values.KIP if whitened else None)


_KINDS: dict[str, Callable[[list[Path], ImportOptions], ExternalSet]] = {
    "res_*.pt": _condensation,
    "images_best.pt": _trajectories,
    "images_best_[0-9].pt": _parts,
    "*_images.pt": _pair,
    "*.npz": _kip,
}
