"""Layouts of data sets on disk, in the order in which they are tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.kinds import ARCHIVES, OTHER_PICTURES, is_picture
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
from latentdd_plugin.data.walk import Tree, printable

if TYPE_CHECKING:
    from latentdd_plugin.core.config import DatasetConfig

LAYOUTS: tuple[Layout, ...] = (
    SavedToDisk(),
    CifarPython(),
    CifarBinary(),
    Mnist(),
    Stl10(),
    Svhn(),
    TinyImageNet(),
    Parquet(),
    PictureFolder(),
    TableOfPictures(),
    ArrowFiles(),
    WebDataset(),
    ArrayFiles(),
)
SUPPORTED = (
    "supported are folders train/<class>/*.png and test/<class>/*.png, <class>/*.png, a table of labels beside "
    "pictures, parquet, arrow, .npz, WebDataset tars, or a folder of torchvision's data sets (docs/your-own-data.md)"
)


def read_tree(tree: Tree, config: DatasetConfig) -> Reading:
    """Read a data set by the first layout that matches.

    Raises:
        DataError: none does; the message names what is in the folder.
    """
    for layout in LAYOUTS:
        if layout.matches(tree, config):
            return layout.read(tree, config)
    raise DataError(f"dataset {config.name}: {_why_none(tree)}; {SUPPORTED}")


def _why_none(tree: Tree) -> str:
    """Return why no layout matches, in a few words."""
    archives = tree.ending(*ARCHIVES)
    if archives:
        name = archives[0].name
        return f"{name} is an archive, which has to be unpacked first: {ARCHIVES[archives[0].suffix].format(name=name)}"
    pictures = [file.name for file in tree.files if is_picture(file)]
    if pictures:
        return f"{len(pictures)} pictures ({printable(pictures)}), but no class folders and no table that names them"
    unread = sorted({file.suffix for file in tree.ending(*OTHER_PICTURES)})
    if unread:
        return f"no pictures that can be read, but {', '.join(unread)} files; convert them to PNG"
    if tree.left_out:
        reasons: dict[str, list[str]] = {}
        for name, reason in tree.left_out:
            reasons.setdefault(reason, []).append(name)
        said = "; ".join(f"{len(names)} {why} ({printable(names)})" for why, names in reasons.items())
        return f"nothing that may be read in the folder: {said}"
    if not tree.files:
        return "no files in the folder"
    return f"no pictures among its {len(tree.files)} files ({printable([file.name for file in tree.files])})"
