"""SVHN's cropped digits, `train_32x32.mat` and `test_32x32.mat` (Netzer et al., 2011).

http://ufldl.stanford.edu/housenumbers/
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.accounting import Ledger
from latentdd_plugin.data.arrays import as_levels, pictures_of
from latentdd_plugin.data.layouts.base import Layout, Reading, refuse_pointer, value_table
from latentdd_plugin.data.splits import split_of_file
from latentdd_plugin.data.walk import File, Tree

if TYPE_CHECKING:
    from latentdd_plugin.core.config import DatasetConfig


class Svhn(Layout):
    """MATLAB files with `X` (32, 32, 3, N) and `y` (N, 1); the label 10 stands for the digit 0."""

    name = "SVHN MATLAB files"

    def matches(self, tree: Tree, config: DatasetConfig) -> bool:
        """Return whether a file is named as SVHN's are."""
        return "train_32x32.mat" in tree.by_last or "test_32x32.mat" in tree.by_last

    def read(self, tree: Tree, config: DatasetConfig) -> Reading:
        """Read training and test split; `extra_32x32.mat` is left out."""
        ledger = Ledger(tree)
        splits: dict[str, Any] = {}
        for split in ("train", "test"):
            for file in tree.ending(".mat"):
                if split_of_file(PurePosixPath(file.name).stem) != split:
                    continue
                found = _loaded(file)
                levels, _ = as_levels({file.name: np.ascontiguousarray(found["X"].transpose(3, 0, 1, 2))})
                labels = [int(label) % 10 for label in found["y"].ravel()]
                ledger.use(file, split)
                splits[split] = value_table(pictures_of(levels[file.name], file.name), labels)
        ledger.leave_rest(lambda file: "SVHN's further images" if "extra" in file.name else "not images of SVHN")
        return Reading(splits, ledger.close(self.name))


def _loaded(file: File) -> dict[str, Any]:
    from scipy.io import loadmat

    refuse_pointer(file)
    try:
        found: dict[str, Any] = loadmat(file.path, variable_names=["X", "y"])
    except Exception as error:
        raise DataError(f"{file.name}: not a readable MATLAB file ({' '.join(str(error).split())[:200]})") from error
    if "X" not in found or "y" not in found or found["X"].ndim != 4 or found["X"].shape[3] != found["y"].size:
        raise DataError(f"{file.name}: it must hold X (32, 32, 3, N) and y (N, 1)")
    return found
