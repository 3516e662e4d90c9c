"""Pictures in class folders: `<class>/*.png`, or `train/<class>/*.png` and `test/<class>/*.png`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.accounting import Ledger
from latentdd_plugin.data.class_folders import assign, class_path, has_class_folders
from latentdd_plugin.data.classes import class_order
from latentdd_plugin.data.file_kinds import is_picture, not_a_picture
from latentdd_plugin.data.layouts.base import Layout, Reading, picture_table
from latentdd_plugin.data.layouts.table_of_pictures import TableOfPictures
from latentdd_plugin.data.paths import Lookup, path_column
from latentdd_plugin.data.tables import TABLES, header, read_table
from latentdd_plugin.data.walk import File, Tree, printable

if TYPE_CHECKING:
    from latentdd_plugin.core.config import DatasetConfig

LISTS = ("train", "test", "val", "split")


class PictureFolder(Layout):
    """Pictures in class folders; metadata files beside them are read only if `dataset.label_column` asks for one."""

    name = "class folders"

    def matches(self, tree: Tree, config: DatasetConfig) -> bool:
        """Return whether pictures lie in class folders, and no column of a table is asked for."""
        names = [file.name for file in tree.files if is_picture(file)]
        if not names:
            return False
        column = config.label_column
        asked = column is not None and any(column in columns for _, columns in _tables(tree))
        if not has_class_folders(names) or asked:
            return False
        single = len({class_path(name) for name in names} - {()}) == 1
        return not (single and TableOfPictures().matches(tree, config))

    def read(self, tree: Tree, config: DatasetConfig) -> Reading:
        """Read splits and classes by the rule of `class_folders`; rows are sorted by path."""
        where = f"dataset {config.name}"
        tables = _tables(tree)
        if config.label_column not in (None, "label"):
            known = sorted({column for _, columns in tables for column in columns})
            raise DataError(
                f"{where}: no table in the folder has the column dataset.label_column={config.label_column}"
                + (f"; there are {', '.join(known)}" if known else "")
            )
        if config.image_column not in (None, "image"):
            raise DataError(f"{where}: class folders have no column dataset.image_column={config.image_column}")
        pictures = [file for file in tree.files if is_picture(file)]
        found = assign([file.name for file in pictures], where)
        ledger = Ledger(tree)
        rows: dict[str, list[tuple[File, str]]] = {}
        for file in pictures:
            if file.name in found.left_out:
                ledger.leave(file, found.left_out[file.name])
                continue
            split, label = found.used[file.name]
            if ledger.use(file, split, label):
                rows.setdefault(split, []).append((file, label))
        ledger.leave_rest(not_a_picture)
        classes = class_order(label for group in rows.values() for _, label in group)
        number = {name: i for i, name in enumerate(classes)}
        splits: dict[str, Any] = {
            split: picture_table(
                [file.path for file, _ in rows[split]], [number[label] for _, label in rows[split]], classes
            )
            for split in ("train", "validation", "test")
            if split in rows
        }
        notes, warnings = [*found.notes, *_split_lists(tree)], list(found.warnings)
        other = _other_labels(tables)
        (warnings if _name_pictures(tree, tables, pictures) else notes).extend(other)
        return Reading(splits, ledger.close(self.name, ("train", "validation", "test")), notes, warnings)


def _tables(tree: Tree) -> list[tuple[File, tuple[str, ...]]]:
    """Return every small table in the folder with its columns."""
    return [(file, columns) for file in tree.ending(*TABLES) if (columns := header(file))]


def _other_labels(tables: list[tuple[File, tuple[str, ...]]]) -> list[str]:
    """Return a note that names the labels which the folders' names are taken instead of."""
    columns = sorted({name for _, names in tables for name in names if not name.endswith("file_name")})
    if not columns:
        return []
    files = printable([file.name for file, _ in tables])
    note = f"the folders are the classes, {files} is not read; dataset.label_column=NAME reads a column of it: "
    return [note + printable(columns, 8)]


def _name_pictures(tree: Tree, tables: list[tuple[File, tuple[str, ...]]], pictures: list[File]) -> bool:
    """Return whether a table names pictures and has a column whose values repeat, as labels do."""
    lookup = Lookup(pictures, str(tree.root))
    for file, _ in tables:
        try:
            columns = read_table(file).columns
            named = path_column(columns, lookup, file)
        except DataError:
            continue
        rest = [values for name, values in columns.items() if named and name != named[0]]
        if any(len(set(map(str, values))) <= len(values) / 2 for values in rest):
            return True
    return False


def _split_lists(tree: Tree) -> list[str]:
    """Return a note that names text files which look like lists of a split."""
    names = [
        file.name for file in tree.ending(".txt")
        if any(word in file.name.rpartition("/")[2].lower() for word in LISTS) and len(file.folders) < 2
    ]  # fmt: skip
    return [f"lists of splits are not read: {printable(names)}"] if names else []
