"""Folders that `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote, and single arrow files."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.accounting import Ledger
from latentdd_plugin.data.layouts.base import Layout, Reading, refuse_pointer
from latentdd_plugin.data.splits import split_of_file
from latentdd_plugin.data.walk import File, Tree

if TYPE_CHECKING:
    from latentdd_plugin.core.config import DatasetConfig

NOTES = ("state.json", "dataset_dict.json", "dataset_info.json")


class SavedToDisk(Layout):
    """`state.json` or `dataset_dict.json` at the top of the folder."""

    name = "save_to_disk"

    def matches(self, tree: Tree, config: DatasetConfig) -> bool:
        """Return whether the folder is one that save_to_disk writes."""
        return any(file.name in ("state.json", "dataset_dict.json") for file in tree.files)

    def read(self, tree: Tree, config: DatasetConfig) -> Reading:
        """Load the splits with the datasets library, after each arrow file was found inside the folder."""
        import datasets

        where, ledger = f"dataset {config.name}", Ledger(tree)
        files = {file.name: file for file in tree.files}
        single = "state.json" in files
        names = [""] if single else _list(files["dataset_dict.json"], "splits", where)
        for split in names:
            state = files.get(f"{split}/state.json" if split else "state.json")
            if state is None:
                raise DataError(f"{where}: its dataset_dict.json names the split {split!r}, which is not in the folder")
            for entry in _list(state, "_data_files", where):
                name = str(entry.get("filename")) if isinstance(entry, dict) else str(entry)
                path = f"{split}/{name}" if split else name
                if path not in files or ".." in PurePosixPath(path).parts:
                    raise DataError(f"{where}: {state.name} names {name!r}, which is not a file of the folder")
                refuse_pointer(files[path])
                ledger.use(files[path], split or "train")
        ledger.leave_rest(
            lambda f: "notes of the datasets library" if f.name.endswith(NOTES) else "not named by the notes"
        )
        found = datasets.load_from_disk(str(tree.root))
        splits = {"train": found} if single else {str(name): part for name, part in found.items()}
        for split, part in splits.items():
            refuse_damaged(part, f"{where}, split {split}")
        return Reading(splits, ledger.close(self.name))


def _list(file: File, key: str, where: str) -> list[Any]:
    try:
        found = json.loads(file.path.read_text())[key]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(f"{where}: {file.name} is damaged ({type(error).__name__}: {error})") from error
    if not isinstance(found, list):
        raise DataError(f"{where}: {file.name} is damaged ({key} is not a list)")
    return found


class ArrowFiles(Layout):
    """Arrow stream files by themselves, one or more per split."""

    name = "arrow files"

    def matches(self, tree: Tree, config: DatasetConfig) -> bool:
        """Return whether there are arrow files."""
        return bool(tree.ending(".arrow"))

    def read(self, tree: Tree, config: DatasetConfig) -> Reading:
        """Memory-map the files; a file belongs to the split that its name says."""
        import datasets

        ledger = Ledger(tree)
        parts: dict[str, list[Any]] = {}
        files = tree.ending(".arrow")
        for file, split in by_split(files, f"dataset {config.name}"):
            refuse_pointer(file)
            ledger.use(file, split)
            parts.setdefault(split, []).append(datasets.Dataset.from_file(str(file.path)))
            refuse_damaged(parts[split][-1], file.name)
        ledger.leave_rest(lambda file: f"not an arrow file ({file.suffix or 'no suffix'})")
        splits = {split: datasets.concatenate_datasets(group) for split, group in parts.items()}
        return Reading(splits, ledger.close(self.name))


def refuse_damaged(part: Any, where: str) -> None:
    """Raise DataError if the values of a memory-mapped table do not lie where its header says.

    Arrow itself trusts the header; reading a damaged file would end the process.
    """
    import pyarrow as pa

    try:
        part.data.table.validate(full=True)
    except pa.ArrowException as error:
        raise DataError(f"{where}: a damaged arrow file ({' '.join(str(error).split())[:200]})") from error


def by_split(files: list[File], where: str) -> list[tuple[File, str]]:
    """Return each data file with its split: by its folders, else by its name; all are training data if none says.

    Raises:
        DataError: some files name a split and others do not.
    """
    from latentdd_plugin.data.splits import split_of

    named = [
        (file, next(filter(None, map(split_of, file.folders)), None) or split_of_file(Path(file.name).stem))
        for file in files
    ]
    if all(split is None for _, split in named):
        return [(file, "train") for file in files]
    unknown = [file.name for file, split in named if split is None]
    if unknown:
        raise DataError(
            f"{where}: the split of {unknown[0]} is not clear, while other files name theirs; "
            "begin its name with train, validation or test"
        )
    return [(file, str(split)) for file, split in named]
