"""The reading of a large folder of pictures, kept for the next start: its splits, and the account of its files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentdd_plugin.core import checkpoint
from latentdd_plugin.core.cache import cache_dir
from latentdd_plugin.core.errors import RunFailed
from latentdd_plugin.core.types import Json, hash_json
from latentdd_plugin.core.version import __version__
from latentdd_plugin.data.accounting import FileAccount
from latentdd_plugin.data.layouts.base import Reading

if TYPE_CHECKING:
    from torch import Tensor

    from latentdd_plugin.core.config import DatasetConfig

log = logging.getLogger(__name__)

MANY = 10_000  # pictures from which a reading is kept


def read_kept(path: Path, stamp: str, config: DatasetConfig) -> Reading | None:
    """Return the reading that an earlier start kept; None if there is none, or the files or options have changed.

    Args:
        path: of the dataset.
        stamp: `stamp_of` its folder.
        config: how it is to be read.
    """
    file, owner = _place(path, stamp, config)
    stored = checkpoint.load(file)
    if stored is None:
        return None
    if stored.owner != owner:
        if stored.owner.get("files") != stamp:
            log.info("dataset %s: files have changed since the last start; they are read and encoded anew", config.name)
        return None
    found = stored.content
    splits = {name: _dataset(held, f"{stamp[:32]}-{name}") for name, held in found["splits"].items()}
    left_out = {reason: tuple(names) for reason, names in found["left_out"].items()}
    account = FileAccount(found["layout"], found["used"], left_out, tuple(found["empty"]))
    return Reading(splits, account, found["notes"], found["warnings"])


def keep(reading: Reading, path: Path, stamp: str, config: DatasetConfig) -> None:
    """Keep a reading of many picture files; one of tables and archives, which hold their pictures, is not kept."""
    tables = {name: dataset.data.table for name, dataset in reading.splits.items()}
    if sum(table.num_rows for table in tables.values()) < MANY or not all(map(_is_paths, reading.splits.values())):
        return
    account = reading.account
    content = {
        "splits": {name: _to_bytes(table) for name, table in tables.items()},
        "layout": account.layout,
        "used": dict(account.used),
        "left_out": {reason: list(names) for reason, names in account.left_out.items()},
        "empty": list(account.empty),
        "notes": list(reading.notes),
        "warnings": list(reading.warnings),
    }
    file, owner = _place(path, stamp, config)
    try:
        checkpoint.write(file, content, owner)
    except RunFailed as error:
        log.warning("the listing of %s is not kept: %s", path, error)


def _place(path: Path, stamp: str, config: DatasetConfig) -> tuple[Path, dict[str, Json]]:
    read = [config.subset, config.label_column, config.image_column]
    key = hash_json([str(path.resolve()), *read])
    owner = {"listing": key, "files": stamp, "version": __version__}
    return cache_dir() / "listings" / f"{key[:32]}.safetensors", owner


def _is_paths(dataset: Any) -> bool:
    """Return whether every picture of a split is a file of its own."""
    if "image" not in dataset.features or dataset._indices is not None:
        return False
    return all(chunk.field("bytes").null_count == len(chunk) for chunk in dataset.data.table.column("image").chunks)


def _to_bytes(table: Any) -> Tensor:
    import pyarrow as pa
    import torch

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return torch.frombuffer(bytearray(sink.getvalue()), dtype=torch.uint8)


def _dataset(held: Tensor, fingerprint: str) -> Any:
    import datasets
    import pyarrow as pa

    return datasets.Dataset(pa.ipc.open_stream(held.numpy()).read_all(), fingerprint=fingerprint)
