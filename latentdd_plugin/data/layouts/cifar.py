"""CIFAR-10 and CIFAR-100 as their authors publish them: Python pickles or binary files (Krizhevsky, 2009).

https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.accounting import Ledger
from latentdd_plugin.data.arrays import pictures_of
from latentdd_plugin.data.layouts.base import Layout, Reading, picture_table, refuse_pointer
from latentdd_plugin.data.walk import File, Tree

if TYPE_CHECKING:
    from latentdd_plugin.core.config import DatasetConfig

TEN = tuple(f"data_batch_{i}" for i in range(1, 6))
BYTES = 3 * 32 * 32
SAFE = {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")} | {
    (module, "_reconstruct") for module in ("numpy.core.multiarray", "numpy._core.multiarray")
}


class CifarPython(Layout):
    """`data_batch_1` … `test_batch` (CIFAR-10), or `train`, `test` and `meta` (CIFAR-100), as pickles.

    The unpickler makes arrays, text and numbers and nothing else. CIFAR-100's fine labels are the classes, unless
    `dataset.label_column=coarse_labels`.
    """

    name = "CIFAR, Python version"

    def matches(self, tree: Tree, config: DatasetConfig) -> bool:
        """Return whether the files are there, anywhere in the folder."""
        return _folder(tree, "data_batch_1") is not None or _hundred(tree) is not None

    def read(self, tree: Tree, config: DatasetConfig) -> Reading:
        """Unpickle the batches, in order."""
        where, ten = f"dataset {config.name}", _folder(tree, "data_batch_1")
        folder = ten if ten is not None else _hundred(tree)
        files = _inside(tree, str(folder))
        if ten is not None:
            groups = {"train": [name for name in TEN if name in files], "test": ["test_batch"]}
            key, meta, names_key = "labels", "batches.meta", "label_names"
        else:
            groups, meta = {"train": ["train"], "test": ["test"]}, "meta"
            key = config.label_column or "fine_labels"
            names_key = key.removesuffix("labels") + "label_names"
        ledger, splits = Ledger(tree), {}
        names = _names(_unpickled(files[meta]).get(names_key)) if meta in files else None
        for split, wanted in groups.items():
            batches = [(name, _unpickled(files[name])) for name in wanted if name in files]
            if not batches:
                continue
            pictures, labels = [], []
            for name, batch in batches:
                ledger.use(files[name], split)
                pictures += pictures_of(_planes(batch.get("data"), files[name]), files[name].name)
                if not isinstance(batch.get(key), list):
                    raise DataError(f"{files[name].name}: no labels named {key}; it holds {', '.join(sorted(batch))}")
                labels += [int(label) for label in batch[key]]
            if len(labels) != len(pictures):
                raise DataError(f"{where}: {len(labels)} {key} for {len(pictures)} images of the split {split}")
            classes = names or [str(i) for i in range(max(labels) + 1)]
            splits[split] = _called_as(picture_table(pictures, labels, classes), config)
        ledger.leave_rest(
            lambda file: "names of the classes, read" if file.name.endswith("meta") else "not a CIFAR batch"
        )
        return Reading(splits, ledger.close(self.name))


class CifarBinary(Layout):
    """`data_batch_1.bin` … `test_batch.bin` (CIFAR-10), or `train.bin` and `test.bin` (CIFAR-100)."""

    name = "CIFAR, binary version"

    def matches(self, tree: Tree, config: DatasetConfig) -> bool:
        """Return whether the files are there, anywhere in the folder."""
        return _folder(tree, "data_batch_1.bin") is not None or _folder(tree, "fine_label_names.txt") is not None

    def read(self, tree: Tree, config: DatasetConfig) -> Reading:
        """Read records of one label byte (CIFAR-100: coarse, fine) and 3072 pixels."""
        ten = _folder(tree, "data_batch_1.bin")
        coarse = config.label_column == "coarse_labels"
        files = _inside(tree, str(ten if ten is not None else _folder(tree, "fine_label_names.txt")))
        groups = {"train": [f"{name}.bin" for name in TEN], "test": ["test_batch.bin"]}
        meta, heads = "batches.meta.txt", 1
        if ten is None:
            groups, heads = {"train": ["train.bin"], "test": ["test.bin"]}, 2
            meta = "coarse_label_names.txt" if coarse else "fine_label_names.txt"
        ledger, splits = Ledger(tree), {}
        names = files[meta].path.read_text().split() if meta in files else None
        for split, wanted in groups.items():
            pictures, labels = [], []
            for name in (name for name in wanted if name in files):
                refuse_pointer(files[name])
                data = np.fromfile(files[name].path, dtype=np.uint8)
                if data.size % (heads + BYTES):
                    raise DataError(f"{files[name].name}: {data.size} bytes are not whole records of {heads + BYTES}")
                records = data.reshape(-1, heads + BYTES)
                ledger.use(files[name], split)
                pictures += pictures_of(_planes(records[:, heads:], files[name]), files[name].name)
                labels += records[:, 0 if coarse else heads - 1].astype(int).tolist()
            if pictures:
                classes = names or [str(i) for i in range(max(labels) + 1)]
                splits[split] = _called_as(picture_table(pictures, labels, classes), config)
        ledger.leave_rest(lambda file: "names of the classes" if file.suffix == ".txt" else "not a CIFAR batch")
        return Reading(splits, ledger.close(self.name))


def _called_as(table: Any, config: DatasetConfig) -> Any:
    """Return a table whose label column has the name that was asked for."""
    return table.rename_column("label", config.label_column) if config.label_column else table


def _folder(tree: Tree, name: str) -> str | None:
    """Return the folder of the first file with this last name, or None."""
    found = tree.by_last.get(name)
    return "/".join(found[0].folders) if found else None


def _hundred(tree: Tree) -> str | None:
    """Return the folder that holds CIFAR-100's `train`, `test` and `meta`, or None."""
    folders = [_folder(tree, "meta")]
    return next((f for f in folders if f is not None and {"train", "test"} <= set(_inside(tree, f))), None)


def _inside(tree: Tree, folder: str) -> dict[str, File]:
    return {file.last: file for file in tree.files if "/".join(file.folders) == folder}


def _planes(data: Any, file: File) -> NDArray[np.uint8]:
    """Return rows of 3072 bytes, colour by colour, as (N, 32, 32, 3)."""
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != BYTES:
        raise DataError(f"{file.name}: its data is not an array of bytes, 3072 per image")
    return np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _names(value: Any) -> list[str] | None:
    return [str(name) for name in value] if isinstance(value, list) and value else None


class _Unpickler(pickle.Unpickler):
    """An unpickler that makes arrays, text, numbers and containers, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the few names that a plain array needs; raise UnpicklingError for any other."""
        if (module, name) not in SAFE:
            raise pickle.UnpicklingError(f"asks for {module}.{name}, which is not needed for arrays; it is not loaded")
        return super().find_class(module, name)


def _unpickled(file: File) -> dict[str, Any]:
    refuse_pointer(file)
    try:
        found = _Unpickler(io.BytesIO(file.path.read_bytes()), encoding="latin1").load()
    except Exception as error:
        raise DataError(f"{file.name}: not a CIFAR batch ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(found, dict):
        raise DataError(f"{file.name}: not a CIFAR batch (a {type(found).__name__})")
    return {key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in found.items()}
