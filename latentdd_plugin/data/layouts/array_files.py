"""NumPy files: `train_images`, `train_labels`, … in one `.npz` (MedMNIST, Keras), or one `.npy` per array."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.accounting import Ledger
from latentdd_plugin.data.arrays import as_levels, channels_last, class_numbers, pictures_of
from latentdd_plugin.data.layouts.base import Layout, Reading, refuse_pointer, value_table
from latentdd_plugin.data.splits import WORDS
from latentdd_plugin.data.walk import File, Tree

if TYPE_CHECKING:
    from latentdd_plugin.core.config import DatasetConfig

IMAGES = ("images", "image", "imgs", "img", "x", "data", "samples", "arr_0")
LABELS = ("labels", "label", "y", "targets", "target", "classes", "arr_1")


class ArrayFiles(Layout):
    """Arrays of images and labels by name; never with pickled objects."""

    name = "NumPy arrays"

    def matches(self, tree: Tree, config: DatasetConfig) -> bool:
        """Return whether there are NumPy files."""
        return bool(tree.ending(".npz", ".npy"))

    def read(self, tree: Tree, config: DatasetConfig) -> Reading:
        """Pair images with labels by the names of the arrays; all splits share one depth."""
        ledger = Ledger(tree)
        files = tree.ending(".npz", ".npy")
        images: dict[str, tuple[str, NDArray[Any], File]] = {}  # split -> name, array, file
        labels: dict[str, tuple[str, NDArray[Any]]] = {}
        unknown = []
        for file in files:
            refuse_pointer(file)
            for name, values in _load(file).items():
                role, split = _role(name, file)
                if role == "images" and split not in images:
                    images[split] = (name, values, file)
                elif role == "labels" and split not in labels:
                    labels[split] = (name, values)
                else:
                    unknown.append(f"{name} {values.shape}")
        pairs = {split: images[split] for split in images if split in labels}
        if not pairs:
            raise DataError(
                f"dataset {config.name}: no arrays of images with labels; name them train_images and train_labels "
                f"(or x_train, y_train; images, labels). There are {', '.join(_names(images, labels, unknown))}"
            )
        return self._reading(
            pairs, labels, ledger, [f"arrays that are not read: {', '.join(unknown)}"] if unknown else []
        )

    def _reading(
        self,
        pairs: dict[str, tuple[str, NDArray[Any], File]],
        labels: dict[str, tuple[str, NDArray[Any]]],
        ledger: Ledger,
        notes: list[str],
    ) -> Reading:
        arrays = {}
        for name, values, _ in pairs.values():
            arrays[name], note = channels_last(values, name)
            notes.append(note)
        levels, note = as_levels(arrays)
        notes.append(note)
        splits = {}
        for split in sorted(pairs, key=("train", "validation", "test").index):
            name = pairs[split][0]
            numbers, note = class_numbers(labels[split][1], labels[split][0], len(levels[name]))
            notes.append(note)
            splits[split] = value_table(pictures_of(levels[name], name), numbers)
        for file in {pairs[split][2].name: pairs[split][2] for split in splits}.values():
            several = [split for split in splits if pairs[split][2] is file]
            ledger.use(file, "+".join(several))
        ledger.leave_rest(lambda file: "labels" if file.suffix == ".npy" else f"not an array ({file.suffix})")
        return Reading(splits, ledger.close(self.name), [note for note in notes if note])


def _load(file: File) -> dict[str, NDArray[Any]]:
    try:
        found = np.load(file.path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return {PurePosixPath(file.name).stem: found}
        with found:
            return {name: found[name] for name in found.files}
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        if "allow_pickle" in reason:
            reason = "it holds pickled objects, which are never loaded; save plain arrays of numbers or text"
        raise DataError(f"{file.name}: not readable NumPy arrays ({reason})") from error


def _role(name: str, file: File) -> tuple[str, str]:
    """Return ("images" or "labels" or "", split) from an array's name and its file's."""
    words = [word for word in re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()) if word]
    around = re.split(r"[^a-z0-9]+", PurePosixPath(file.name).with_suffix("").as_posix().lower())
    split = next((WORDS[word] for word in [*words, *around] if word in WORDS), "train")
    rest = [word for word in words if word not in WORDS]
    if name in ("arr_0", "arr_1"):
        rest = [name]
    role = (
        "images" if any(word in IMAGES for word in rest) else "labels" if any(word in LABELS for word in rest) else ""
    )
    return role, split


def _names(*groups: Any) -> list[str]:
    found = [f"{entry[0]} {entry[1].shape}" for group in groups[:2] for entry in group.values()] + groups[2]
    return found or ["no arrays"]
