"""STL-10's binary files (Coates et al., 2011).

https://cs.stanford.edu/~acoates/stl10/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.accounting import Ledger
from latentdd_plugin.data.arrays import pictures_of
from latentdd_plugin.data.layouts.base import Layout, Reading, picture_table, refuse_pointer
from latentdd_plugin.data.walk import Tree

if TYPE_CHECKING:
    from latentdd_plugin.core.config import DatasetConfig

SIDE = 96


class Stl10(Layout):
    """`train_X.bin`, `train_y.bin`, `test_X.bin`, `test_y.bin`; pixels column by column, labels from 1."""

    name = "STL-10 binary files"

    def matches(self, tree: Tree, config: DatasetConfig) -> bool:
        """Return whether the training files are there."""
        return {"train_X.bin", "train_y.bin"} <= set(tree.by_last)

    def read(self, tree: Tree, config: DatasetConfig) -> Reading:
        """Read both labelled splits; the unlabelled images are left out."""
        files = {name: found[0] for name, found in tree.by_last.items()}
        names = files["class_names.txt"].path.read_text().split() if "class_names.txt" in files else None
        ledger, splits = Ledger(tree), {}
        for split in ("train", "test"):
            if f"{split}_X.bin" not in files or f"{split}_y.bin" not in files:
                continue
            images, labels = files[f"{split}_X.bin"], files[f"{split}_y.bin"]
            for file in (images, labels):
                refuse_pointer(file)
            numbers = np.fromfile(labels.path, dtype=np.uint8).astype(int) - 1
            data = np.fromfile(images.path, dtype=np.uint8)
            if data.size != len(numbers) * 3 * SIDE * SIDE or (numbers < 0).any():
                raise DataError(f"{images.name}: {data.size} bytes for {len(numbers)} labels of {labels.name}")
            pixels = data.reshape(-1, 3, SIDE, SIDE).transpose(0, 3, 2, 1)
            classes = names or [str(i + 1) for i in range(int(numbers.max()) + 1)]
            ledger.use(images, split)
            ledger.leave(labels, "labels, read")
            splits[split] = picture_table(
                pictures_of(np.ascontiguousarray(pixels), images.name), numbers.tolist(), classes
            )
        ledger.leave_rest(lambda f: "images without labels" if "unlabeled" in f.name else "not images of STL-10")
        return Reading(splits, ledger.close(self.name))
