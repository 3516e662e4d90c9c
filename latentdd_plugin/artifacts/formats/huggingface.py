"""Hugging Face datasets: a folder of `save_to_disk`, or a parquet file, read with pyarrow alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentdd_plugin.artifacts.formats import values
from latentdd_plugin.artifacts.formats.base import ExternalSet, Format, ImportOptions
from latentdd_plugin.artifacts.formats.files import SMALL_TEXT, check_start, one_line
from latentdd_plugin.artifacts.formats.pictures import decode_bytes
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.untrusted import read_text

SOFT = ("logits", "probabilities")


class HuggingFace(Format):
    """Columns `image` and one of `label`, `logits`, `probabilities`; `lr` in every row if there is a learned rate.

    Written: `image` is an array of float32 (C, H, W), so that no value is rounded or clamped; beside it lies the same
    table as one parquet file. Read: such arrays, and the pictures of an Image column.
    """

    name = "huggingface"
    out = values.PLAIN

    def read(self, path: Path, options: ImportOptions) -> ExternalSet:
        """Return all rows of the table."""
        table = _table(path)
        columns, features = table.column_names, _features(table)
        kinds = [kind for kind in ("label", *SOFT) if kind in columns]
        if "image" not in columns or len(kinds) != 1:
            raise UsageError(
                f"{path}: columns {', '.join(columns[:20])}; image is needed, and one of label, logits, probabilities"
            )
        try:
            labels = _rows(table.column(kinds[0])) if kinds[0] in SOFT else _whole(table.column("label"))
            images = _images(table.column("image"), features.get("image", {}))
            lr = _rate(table.column("lr")) if "lr" in columns else None
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
        except Exception as error:
            raise UsageError(f"{path}: cannot be read ({one_line(error)})") from None
        names = features.get(kinds[0], {}).get("names")
        classes = tuple(map(str, names)) if isinstance(names, list) else None
        kind = kinds[0] if kinds[0] in SOFT else "hard"
        return ExternalSet(images, labels, kind, lr, classes, values=values.PLAIN)

    def write(self, external: ExternalSet, folder: Path) -> None:
        """Write `dataset/`, for `load_from_disk`, and `train.parquet`."""
        import datasets

        names, shape = list(external.classes or ()), tuple(external.images.shape[1:])
        features: dict[str, Any] = {"image": datasets.Array3D(shape, "float32")}
        columns: dict[str, Any] = {"image": list(external.images.numpy())}
        if external.label_kind == "hard":
            features["label"] = datasets.ClassLabel(names=names)
            columns["label"] = external.labels.tolist()
        else:
            features[external.label_kind] = datasets.Sequence(datasets.Value("float32"), length=len(names))
            columns[external.label_kind] = external.labels.numpy()
        if external.lr is not None:
            features["lr"] = datasets.Value("float64")
            columns["lr"] = [external.lr] * len(external.images)
        made = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
        shown = datasets.are_progress_bars_disabled()
        datasets.disable_progress_bars()
        try:
            made.save_to_disk(str(folder / "dataset"))
            made.to_parquet(str(folder / "train.parquet"))
        finally:
            if not shown:
                datasets.enable_progress_bars()


def _table(path: Path) -> Any:
    """Return the rows of a parquet file or of a folder of `save_to_disk`, checked down to the last buffer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.is_dir():
            files = _parts(path)
            for file in files:
                check_start(file)
            parts = [pa.ipc.open_stream(pa.memory_map(str(file))).read_all() for file in files]
            table = pa.concat_tables(parts)
        else:
            check_start(path)
            table = pq.ParquetFile(path, memory_map=True).read(use_threads=False)
        table.validate(full=True)
        return table
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{path}: not a readable dataset ({one_line(error)})") from None


def _parts(path: Path) -> list[Path]:
    """Return the arrow files that `state.json` lists; none of them may lie outside the folder."""
    inside = path / "dataset" if (path / "dataset" / "state.json").exists() else path
    try:
        listed = [part["filename"] for part in json.loads(read_text(inside / "state.json", SMALL_TEXT))["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{path}: not a folder of save_to_disk (state.json: {type(error).__name__})") from None
    odd = [name for name in listed if not isinstance(name, str) or Path(name).name != name or name in ("", "..")]
    if odd or not listed:
        raise UsageError(f"{path}: state.json names the files {listed}; names without folders are needed")
    return [inside / name for name in listed]


def _features(table: Any) -> dict[str, dict[str, Any]]:
    """Return the datasets library's description of the columns; {} if the table has none."""
    try:
        kept = json.loads((table.schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {str(k): v for k, v in kept.items() if isinstance(v, dict)}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _whole(column: Any) -> Tensor:
    numbers = column.to_numpy()
    if numbers.dtype.kind not in "iu":
        raise UsageError(f"column label is of {column.type}; whole numbers are needed, none missing")
    return torch.from_numpy(numbers.astype(np.int64))


def _rate(column: Any) -> float:
    found = set(column.to_pylist())
    rate = found.pop() if len(found) == 1 else None
    if not isinstance(rate, float) or not 0 < rate < float("inf"):
        raise UsageError("column lr: one positive number, the same in every row, is needed")
    return rate


def _rows(column: Any) -> Tensor:
    """Return equally long lists of numbers, nested to any depth, as float32 (N, …); raise UsageError if unequal."""
    import pyarrow as pa

    flat = column.combine_chunks()
    flat = flat.storage if isinstance(flat, pa.ExtensionArray) else flat
    sides = [len(flat)]
    while pa.types.is_list(flat.type) or pa.types.is_large_list(flat.type) or pa.types.is_fixed_size_list(flat.type):
        inner = flat.flatten()
        lengths = set(flat.value_lengths().to_pylist()) if len(flat) else set()
        if flat.null_count or len(lengths) != 1:
            raise UsageError("lists of several lengths, or missing ones, in a column of arrays")
        sides.append(lengths.pop())
        flat = inner
    if not pa.types.is_floating(flat.type) or flat.null_count:
        raise UsageError(f"a column of {flat.type}; floating-point numbers are needed, none missing")
    return torch.from_numpy(flat.to_numpy(zero_copy_only=False).astype(np.float32)).view(sides)


def _images(column: Any, feature: dict[str, Any]) -> Tensor:
    if feature.get("_type") == "Image" or "struct" in str(column.type):
        return _pictures([picture["bytes"] for picture in column.to_pylist()])
    images = _rows(column)
    if images.ndim != 4:
        raise UsageError(f"column image holds arrays of {images.ndim - 1} sides; 3 are needed: (C, H, W)")
    return images


def _pictures(files: list[bytes | None]) -> Tensor:
    """Return the pictures inside the table, float32 (N, C, H, W) in [0, 1]; a path to elsewhere is not followed."""
    missing = [row for row, data in enumerate(files) if data is None]
    if missing:
        raise UsageError(f"row {missing[0]}: the picture is not in the table; paths are not followed")
    return decode_bytes([data for data in files if data is not None])
