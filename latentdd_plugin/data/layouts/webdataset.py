"""WebDataset tars: the files of a sample share their name up to the first dot; nothing is unpacked."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.accounting import Ledger
from latentdd_plugin.data.file_kinds import PICTURES
from latentdd_plugin.data.layouts.base import Layout, Reading, refuse_pointer
from latentdd_plugin.data.layouts.saved import by_split
from latentdd_plugin.data.members import Member
from latentdd_plugin.data.tables import typed
from latentdd_plugin.data.walk import File, Tree, printable

if TYPE_CHECKING:
    from latentdd_plugin.core.config import DatasetConfig

LABELS = (".cls", ".cls.txt", ".label", ".label.txt", ".class", ".cls.json", ".txt")
LARGEST = 1 << 28  # bytes of one member


class WebDataset(Layout):
    """One or more tars per split; the label is a `.cls` file, or an entry of a `.json` file."""

    name = "WebDataset tars"

    def matches(self, tree: Tree, config: DatasetConfig) -> bool:
        """Return whether there are tars."""
        return bool(tree.ending(".tar"))

    def read(self, tree: Tree, config: DatasetConfig) -> Reading:
        """Read pictures and labels of every sample, in the order of the tars."""
        where, ledger = f"dataset {config.name}", Ledger(tree)
        rows: dict[str, list[dict[str, Any]]] = {}
        skipped: list[str] = []
        for file, split in by_split(tree.ending(".tar"), where):
            refuse_pointer(file)
            ledger.use(file, split)
            rows.setdefault(split, []).extend(_samples(file, skipped))
        ledger.leave_rest(lambda file: f"not a tar ({file.suffix or 'no suffix'})")
        if not any(rows.values()):
            raise DataError(
                f"{where}: no samples of a picture and a label in its tars; a packed folder of pictures has to be "
                "unpacked first: tar -xf FILE -C FOLDER"
            )
        warnings = [f"{len(skipped)} files or samples in tars are not read: {printable(skipped, 5)}"] if skipped else []
        splits = {split: _table(group) for split, group in rows.items() if group}
        return Reading(splits, ledger.close(self.name, ("train", "validation", "test")), (), warnings)


def _samples(file: File, skipped: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the columns of each sample with a picture and at least one label."""
    samples: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(file.path, "r:") as archive:
            for member in archive:
                folder, _, last = member.name.rpartition("/")
                stem, dot, ending = last.partition(".")
                if member.isdir():
                    continue
                whole = member.isfile() and not member.issparse() and member.size <= LARGEST
                if not whole or not stem or not dot:
                    skipped.append(f"{file.name}/{member.name}")
                    continue
                sample = samples.setdefault(f"{folder}/{stem}".lstrip("/"), {})
                if not _add(sample, f".{ending.lower()}", archive, member, file):
                    skipped.append(f"{file.name}/{member.name}")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{file.name}: a damaged tar ({error})") from error
    for key, sample in samples.items():
        if "image" in sample and len(sample) > 1:
            yield sample
        else:
            skipped.append(f"{file.name}/{key}")


def _add(sample: dict[str, Any], ending: str, archive: tarfile.TarFile, member: tarfile.TarInfo, file: File) -> bool:
    """Add a file to its sample; return False if it is of no use."""
    name = f"{file.name}/{member.name}"
    if PurePosixPath("x" + ending).suffix in PICTURES:
        if "image" in sample:
            raise DataError(f"{name}: a second picture in one sample")
        sample["image"] = {
            "bytes": None,
            "path": str(Member(str(file.path), member.offset_data, member.size, member.name)),
        }
        return True
    opened = archive.extractfile(member)
    data = opened.read() if opened else b""
    try:
        if ending in LABELS:
            sample["label" if ending != ".txt" else "txt"] = data.decode().strip()
            return True
        if ending == ".json":
            found = json.loads(data)
            plain = (
                {k: v for k, v in found.items() if isinstance(v, str | int | float)} if isinstance(found, dict) else {}
            )
            sample.update({key: value for key, value in plain.items() if key not in ("image", *sample)})
            return bool(plain)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: cannot be read ({error})") from error
    return False


def _table(rows: list[dict[str, Any]]) -> Any:
    import datasets

    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    for name in names:
        if name != "image":
            columns[name] = typed(["" if value is None else str(value) for value in columns[name]])
    return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
