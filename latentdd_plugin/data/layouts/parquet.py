"""Parquet files, read by the datasets library; columns that hold picture files without saying so are recognised."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.accounting import Ledger
from latentdd_plugin.data.file_kinds import is_picture, starts_as_picture
from latentdd_plugin.data.layouts.base import Layout, Reading, refuse_pointer
from latentdd_plugin.data.layouts.saved import by_split
from latentdd_plugin.data.walk import File, Tree

if TYPE_CHECKING:
    from latentdd_plugin.core.config import DatasetConfig


class Parquet(Layout):
    """Parquet files that hold the pictures themselves."""

    name = "parquet files"

    def matches(self, tree: Tree, config: DatasetConfig) -> bool:
        """Return whether parquet files hold pictures; not if they only name those beside them."""
        files = tree.ending(".parquet")
        if not files:
            return False
        return config.subset is not None or not any(map(is_picture, tree.files)) or any(map(_holds_pictures, files))

    def read(self, tree: Tree, config: DatasetConfig) -> Reading:
        """Load the splits; the split of a file is said by the folder's README.md, else by folders, else by its name."""
        import datasets

        where, ledger = f"dataset {config.name}", Ledger(tree)
        files = tree.ending(".parquet")
        for file in files:
            refuse_pointer(file)
        listed = _listed(tree, config)
        pairs = by_split(files, where) if listed is None else listed
        groups: dict[str, list[str]] = {}
        for file, split in pairs:
            ledger.use(file, split)
            groups.setdefault(split, []).append(str(file.path))
        ledger.leave_rest(
            lambda f: "not named by README.md" if f.suffix == ".parquet" else f"not parquet ({f.suffix or 'no suffix'})"
        )
        found = datasets.load_dataset("parquet", data_files=groups)
        notes: list[str] = []
        splits = {str(split): with_pictures(part, notes) for split, part in found.items()}
        return Reading(splits, ledger.close(self.name), list(dict.fromkeys(notes)))


def _holds_pictures(file: File) -> bool:
    """Return whether a column may hold bytes."""
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(file.path)
    except Exception:
        return True  # which reading reports
    return any("binary" in str(field.type) or str(field.type).startswith("struct<bytes:") for field in schema)


def _listed(tree: Tree, config: DatasetConfig) -> list[tuple[File, str]] | None:
    """Return the files by split as the folder's README.md lists them; None if it lists none.

    Raises:
        DataError: the list names a file outside the folder, or there is no such subset.
    """
    import datasets

    card = next((file for file in tree.files if file.name == "README.md"), None)
    if config.subset is None and (card is None or b"data_files" not in card.path.read_bytes()):
        return None
    builder = datasets.load_dataset_builder(str(tree.root), name=config.subset)
    by_path = {file.path: file for file in tree.files}
    pairs = []
    for split, places in (builder.config.data_files or {}).items():
        for place in places:
            file = by_path.get(tree.root / PurePosixPath(str(place)))
            if file is None:
                raise DataError(
                    f"dataset {config.name}: its README.md names {place}, which is not a file of the folder"
                )
            pairs.append((file, str(split)))
    return pairs


def with_pictures(dataset: Any, notes: list[str]) -> Any:
    """Return the dataset with columns of picture bytes, or of `{bytes, path}`, as Image columns, with notes."""
    import datasets

    for name, feature in list(dataset.features.items()):
        kind = _picture_kind(dataset, name, feature)
        if kind:
            dataset = dataset.cast_column(name, datasets.Image())
            notes.append(f"the column {name} holds {kind} without the library's note; its pictures are read")
    return dataset


def _picture_kind(dataset: Any, name: str, feature: Any) -> str | None:
    if isinstance(feature, dict):
        return "{bytes, path}" if set(feature) == {"bytes", "path"} else None
    if str(getattr(feature, "dtype", "")) not in ("binary", "large_binary", "binary_view"):
        return None
    for start in range(0, min(len(dataset), 1000), 100):
        cells = dataset.with_format("arrow")[start : start + 100].column(name).to_pylist()
        first = next((cell for cell in cells if cell), None)
        if first is not None:
            return "bytes" if starts_as_picture(first) else None
    return None
