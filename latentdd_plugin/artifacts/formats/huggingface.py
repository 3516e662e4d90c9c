"""Hugging Face datasets: a folder of `save_to_disk`, or a parquet file, read with pyarrow alone."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from latentdd_plugin.artifacts.formats import values
from latentdd_plugin.artifacts.formats.base import Foreign, Format
from latentdd_plugin.artifacts.formats.unpickle import said, small_text
from latentdd_plugin.artifacts.header import LARGEST_TENSOR
from latentdd_plugin.core.errors import UsageError

SOFT = ("logits", "probabilities")


class HuggingFace(Format):
    """Columns `image` and one of `label`, `logits`, `probabilities`; `lr` in every row where there is a learned rate.

    Written: `image` is an array of float32 (C, H, W), so that no value is rounded or clamped; beside it lies the same
    table as one parquet file. Read: such arrays, and the pictures of an Image column (8 bits).
    """

    name = "huggingface"
    out = values.PLAIN

    def read(self, path: Path, experiment: int | None = None) -> Foreign:
        """All rows of the table."""
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
            raise UsageError(f"{path}: cannot be read ({said(error)})") from None
        names = features.get(kinds[0], {}).get("names")
        classes = tuple(map(str, names)) if isinstance(names, list) else None
        kind = kinds[0] if kinds[0] in SOFT else "hard"
        return Foreign(images, labels, kind, lr, classes, values=values.PLAIN)

    def write(self, foreign: Foreign, folder: Path) -> None:
        """`dataset/`, for `load_from_disk`, and `train.parquet`."""
        import datasets

        names, shape = list(foreign.classes or ()), tuple(foreign.images.shape[1:])
        features: dict[str, Any] = {"image": datasets.Array3D(shape, "float32")}
        columns: dict[str, Any] = {"image": list(foreign.images.numpy())}
        if foreign.label_kind == "hard":
            features["label"] = datasets.ClassLabel(names=names)
            columns["label"] = foreign.labels.tolist()
        else:
            features[foreign.label_kind] = datasets.Sequence(datasets.Value("float32"), length=len(names))
            columns[foreign.label_kind] = foreign.labels.numpy()
        if foreign.lr is not None:
            features["lr"] = datasets.Value("float64")
            columns["lr"] = [foreign.lr] * len(foreign.images)
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
    """The rows of a parquet file, or of a folder of `save_to_disk`, checked down to the last buffer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.is_dir():
            parts = [pa.ipc.open_stream(pa.memory_map(str(file))).read_all() for file in _parts(path)]
            table = pa.concat_tables(parts)
        else:
            table = pq.ParquetFile(path, memory_map=True).read(use_threads=False)
        table.validate(full=True)
        return table
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{path}: not a readable data set ({said(error)})") from None


def _parts(path: Path) -> list[Path]:
    """The arrow files that `state.json` lists; none of them may lie outside the folder."""
    inside = path / "dataset" if (path / "dataset" / "state.json").exists() else path
    try:
        listed = [entry["filename"] for entry in json.loads(small_text(inside / "state.json"))["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{path}: no folder of save_to_disk (state.json: {type(error).__name__})") from None
    odd = [name for name in listed if not isinstance(name, str) or Path(name).name != name or name in ("", "..")]
    if odd or not listed:
        raise UsageError(f"{path}: state.json names the files {listed}; names without folders are needed")
    return [inside / name for name in listed]


def _features(table: Any) -> dict[str, dict[str, Any]]:
    """What the table says of its columns, as the datasets library keeps it; {} where it says nothing."""
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
    """Equally long lists of numbers, nested to any depth, as float32 (N, …); UsageError where they are not equal."""
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
        return _pictures([cell["bytes"] for cell in column.to_pylist()])
    images = _rows(column)
    if images.ndim != 4:
        raise UsageError(f"column image holds arrays of {images.ndim - 1} sides; 3 are needed: (C, H, W)")
    return images


def _pictures(files: list[bytes | None]) -> Tensor:
    """Pictures inside the table as float32 (N, C, H, W) of [0, 1]; a path to elsewhere is not followed."""
    opened = []
    for row, data in enumerate(files):
        if data is None:
            raise UsageError(f"row {row}: the picture is not in the table; paths are not followed")
        opened.append(Image.open(io.BytesIO(data)))
    if len({image.size for image in opened}) != 1:
        raise UsageError("pictures of several sizes")
    width, height = opened[0].size
    if len(opened) * width * height * 3 > LARGEST_TENSOR:
        raise UsageError(f"{len(opened)} pictures of {width}x{height} are too many")
    mode = "L" if all(image.mode in ("1", "L") for image in opened) else "RGB"
    levels = torch.from_numpy(np.stack([np.asarray(image.convert(mode)) for image in opened]))
    return (levels.unsqueeze(1) if mode == "L" else levels.permute(0, 3, 1, 2)).float() / 255
