"""Tiny ImageNet as it is unpacked: the validation labels stand in `val/val_annotations.txt`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.accounting import Ledger
from latentdd_plugin.data.classes import class_order
from latentdd_plugin.data.file_kinds import is_picture, not_a_picture
from latentdd_plugin.data.layouts.base import Layout, Reading, picture_table
from latentdd_plugin.data.walk import File, Tree

if TYPE_CHECKING:
    from latentdd_plugin.core.config import DatasetConfig


class TinyImageNet(Layout):
    """`train/<wnid>/images/*.JPEG`, `val/images/*.JPEG` with `val/val_annotations.txt`; `test/` has no labels."""

    name = "Tiny ImageNet"

    def matches(self, tree: Tree, config: DatasetConfig) -> bool:
        """Return whether the validation labels are there, beside their pictures."""
        notes = tree.by_last.get("val_annotations.txt", [])
        return bool(notes) and any(file.name.startswith(_start(notes[0]) + "images/") for file in tree.files)

    def read(self, tree: Tree, config: DatasetConfig) -> Reading:
        """Read the training pictures by folder and the validation pictures by the list."""
        notes = tree.by_last["val_annotations.txt"][0]
        val = _start(notes)
        top = val.removesuffix("val/")
        listed = _listed(notes)
        ledger = Ledger(tree)
        rows: dict[str, list[tuple[File, str]]] = {"train": [], "validation": []}
        for file in filter(is_picture, tree.files):
            below = file.name.removeprefix(top).split("/")
            if file.name.startswith(f"{top}train/") and len(below) > 2:
                split, label = "train", below[1]
            elif file.name.startswith(f"{val}images/") and below[-1] in listed:
                split, label = "validation", listed[below[-1]]
            elif file.name.startswith(val):
                split, label = "validation", below[1] if len(below) > 3 else ""
            else:
                ledger.leave(file, "a picture without a label")
                continue
            if not label:
                ledger.leave(file, "a picture that val_annotations.txt does not name")
            elif ledger.use(file, split, label):
                rows[split].append((file, label))
        ledger.leave_rest(lambda f: "labels of the validation pictures, read" if f is notes else not_a_picture(f))
        if not rows["train"]:
            raise DataError(f"dataset {config.name}: Tiny ImageNet without its training pictures (train/<wnid>/images)")
        classes = class_order(label for group in rows.values() for _, label in group)
        number = {name: i for i, name in enumerate(classes)}
        splits: dict[str, Any] = {
            split: picture_table([file.path for file, _ in group], [number[label] for _, label in group], classes)
            for split, group in rows.items()
            if group
        }
        return Reading(splits, ledger.close(self.name, ("train", "validation")))


def _start(notes: File) -> str:
    return "".join(f"{part}/" for part in notes.folders)


def _listed(notes: File) -> dict[str, str]:
    """Return the label of each validation picture by its name."""
    try:
        lines = [line.split("\t") for line in notes.path.read_text().splitlines() if line.strip()]
        return {line[0]: line[1] for line in lines}
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{notes.name}: not Tiny ImageNet's list of validation labels ({error})") from error
