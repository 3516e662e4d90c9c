"""DatasetCondensation (DC, DSA, DM): `res_<method>_<dataset>_<model>_<ipc>ipc.pt`, normalised pixels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from latentdd_plugin.artifacts.formats.base import ExternalSet, Format, ImportOptions, sorted_by_class
from latentdd_plugin.artifacts.formats.tensor_checks import images_of, is_state, labels_of
from latentdd_plugin.artifacts.formats.unpickle import load_pt
from latentdd_plugin.core.errors import UsageError


class Condensation(Format):
    """`{'data': [[images, labels], …one pair per experiment], 'accs_all_exps': {model: [accuracy, …]}}`.

    Images are float32, normalised with the project's constants, class by class; labels are int64. Only the file's name
    states the number of images per class. The accuracies are the source's own and are not taken over.
    """

    name = "dc"
    takes = frozenset({"experiment"})

    def read(self, path: Path, options: ImportOptions) -> ExternalSet:
        """Return the images and labels of one experiment."""
        file = _file(path)
        found = load_pt(file)
        pairs = found.get("data") if isinstance(found, dict) else None
        if isinstance(found, dict) and is_state(found):
            raise UsageError(f"{file}: a state of a network or optimiser, not a distilled set")
        if not isinstance(pairs, list) or not pairs:
            raise UsageError(f"{file}: a mapping with a list 'data' of [images, labels] is needed; import tensors?")
        images, labels = _pair(pairs, options.experiment, file)
        stated = re.search(r"_(\d+)ipc\.pt$", file.name)
        return ExternalSet(
            images_of(images, f"{file}: images"),
            labels_of(labels, f"{file}: labels"),
            ipc=int(stated[1]) if stated else None,
        )

    def write(self, external: ExternalSet, folder: Path) -> None:
        """Write one experiment, without accuracies, to a file named as the project names it."""
        if external.label_kind != "hard":
            raise UsageError("dc holds hard labels; this set has soft ones")
        held = sorted_by_class(external, self.name)
        file = folder / f"res_dd-bench_unknown_ConvNet_{held.ipc}ipc.pt"
        torch.save({"data": [[held.images, held.labels]], "accs_all_exps": {}}, file)


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    there = sorted(path.glob("res_*.pt"))
    if len(there) != 1:
        named = ", ".join(file.name for file in there) or "none"
        raise UsageError(f"{path}: one file res_*.pt is needed, there are: {named}; name the file")
    return there[0]


def _pair(pairs: list[Any], experiment: int | None, file: Path) -> Any:
    if experiment is None and len(pairs) > 1:
        raise UsageError(f"{file} holds {len(pairs)} experiments: say which, --experiment 0 … {len(pairs) - 1}")
    number = experiment or 0
    if not 0 <= number < len(pairs):
        raise UsageError(f"{file}: --experiment {number}, but it holds {len(pairs)}, counted from 0")
    pair = pairs[number]
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        raise UsageError(f"{file}: experiment {number} is not a pair [images, labels]")
    return pair
