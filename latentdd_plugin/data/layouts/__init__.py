"""Layouts of datasets on disk, in the order in which they are tried."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.class_folders import has_class_folders
from latentdd_plugin.data.file_kinds import ARCHIVES, OTHER_PICTURES, is_picture
from latentdd_plugin.data.layouts.array_files import ArrayFiles
from latentdd_plugin.data.layouts.base import Layout, Reading
from latentdd_plugin.data.layouts.cifar import CifarBinary, CifarPython
from latentdd_plugin.data.layouts.mnist import Mnist
from latentdd_plugin.data.layouts.parquet import Parquet
from latentdd_plugin.data.layouts.picture_folder import PictureFolder
from latentdd_plugin.data.layouts.saved import ArrowFiles, SavedToDisk
from latentdd_plugin.data.layouts.stl10 import Stl10
from latentdd_plugin.data.layouts.svhn import Svhn
from latentdd_plugin.data.layouts.table_of_pictures import TableOfPictures
from latentdd_plugin.data.layouts.tiny_imagenet import TinyImageNet
from latentdd_plugin.data.layouts.webdataset import WebDataset
from latentdd_plugin.data.tables import header
from latentdd_plugin.data.walk import Tree, printable

if TYPE_CHECKING:
    from latentdd_plugin.core.config import DatasetConfig

WELL_KNOWN: tuple[Layout, ...] = (CifarPython(), CifarBinary(), Mnist(), Stl10(), Svhn(), TinyImageNet())
PICTURES_APART: tuple[Layout, ...] = (PictureFolder(), TableOfPictures())
LAYOUTS: tuple[Layout, ...] = (
    SavedToDisk(),
    *WELL_KNOWN,
    Parquet(),
    *PICTURES_APART,
    ArrowFiles(),
    WebDataset(),
    ArrayFiles(),
)
SUPPORTED = (
    "supported are folders train/<class>/*.png and test/<class>/*.png, <class>/*.png, a table of labels beside "
    "pictures, parquet, arrow, .npz, WebDataset tars, or a folder of torchvision's datasets "
    "(docs/guides/your-own-data.md)"
)


def read_tree(tree: Tree, config: DatasetConfig) -> Reading:
    """Read a dataset by the first layout that matches.

    Raises:
        DataError: none does, and the message names what is in the folder; or several well-known datasets lie in it.
    """
    known = [layout.name for layout in WELL_KNOWN if layout.matches(tree, config)]
    if len(known) > 1:
        raise DataError(
            f"dataset {config.name}: the folder holds several datasets, {', '.join(known)}; name one's folder"
        )
    layout = next((layout for layout in LAYOUTS if layout.matches(tree, config)), None)
    if layout is None:
        raise DataError(f"dataset {config.name}: {_why_none(tree)}; {SUPPORTED}")
    reading = layout.read(tree, config)
    beside = [] if layout in PICTURES_APART or isinstance(layout, TinyImageNet) else _in_class_folders(tree)
    if beside:
        text = f"read as {layout.name}; {len(beside)} picture(s) in folders beside are not read: {printable(beside)}"
        reading = replace(reading, warnings=(*reading.warnings, text))
    return reading


def _in_class_folders(tree: Tree) -> list[str]:
    """Return the pictures that lie in folders which may be classes."""
    return [file.name for file in tree.files if is_picture(file) and has_class_folders([file.name])]


def _why_none(tree: Tree) -> str:
    """Return why no layout matches, in a few words."""
    names = [file.name for file in tree.files]
    pictures = [file.name for file in tree.files if is_picture(file)]
    archives, unread = tree.ending(*ARCHIVES), tree.ending(*OTHER_PICTURES)
    wide = [file.name for file in tree.ending(".csv", ".tsv") if len(header(file)) > 60]
    if archives:
        name, command = archives[0].name, ARCHIVES[archives[0].suffix]
        why = f"{name} is an archive, which has to be unpacked first: {command.format(name=name)}"
    elif pictures:
        near = printable([file.name for file in tree.ending(".xlsx", ".xls", ".ods", ".txt")])
        hint = f" ({near} would be one as CSV with a header: file_name,label)" if near else ""
        found = f"{len(pictures)} pictures ({printable(pictures)})"
        why = f"{found}, but no class folders and no table that names them{hint}"
    elif unread:
        suffixes = ", ".join(sorted({file.suffix for file in unread}))
        why = f"no pictures that can be read, but {suffixes} files; convert them to PNG"
    elif wide:
        why = f"{wide[0]} seems to hold pixels; save them as .npz with train_images, train_labels"
    elif names:
        why = f"no pictures among its {len(names)} file(s) ({printable(names)})"
    else:
        why = _never_read(tree)
    return why


def _never_read(tree: Tree) -> str:
    """Return what is in a folder without a single file that may be read."""
    reasons: dict[str, list[str]] = {}
    for name, reason in tree.left_out:
        reasons.setdefault(reason, []).append(name)
    listed = "; ".join(f"{len(names)} {why} ({printable(names)})" for why, names in reasons.items())
    return f"nothing in the folder may be read: {listed}" if listed else "no files in the folder"
