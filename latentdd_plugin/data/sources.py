"""From a dataset's name to its splits: a `dd_bench.datasets` entry, else a local path, else a Hugging Face id."""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentdd_plugin.core import plugins
from latentdd_plugin.core.errors import DataError, PluginError, RunFailed
from latentdd_plugin.core.hub import reachable
from latentdd_plugin.data.accounting import FileAccount
from latentdd_plugin.data.layouts import SUPPORTED, read_tree
from latentdd_plugin.data.layouts.base import Reading
from latentdd_plugin.data.layouts.table_of_pictures import TableOfPictures
from latentdd_plugin.data.listing import keep, read_kept
from latentdd_plugin.data.tables import TABLES
from latentdd_plugin.data.walk import Tree, list_folder, single_file, stamp_of

if TYPE_CHECKING:
    from latentdd_plugin.core.config import DatasetConfig

log = logging.getLogger(__name__)

GROUP = "datasets"  # a key of plugins.GROUPS
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Source:
    """A dataset as found: its splits, with no image decoded yet."""

    name: str  # short: the entry, the folder's name, or the hub id
    origin: str  # entry | path | hub
    splits: Mapping[str, Any]  # split name -> datasets.Dataset
    revision: str | None = None  # hub only: the commit where known, else the revision asked for, else None
    flip: bool | None = None  # what the entry says of mirrored images
    account: FileAccount | None = None  # of a local folder's files
    notes: tuple[str, ...] = ()  # how it was read, for the log
    warnings: tuple[str, ...] = ()  # what may be a mistake
    roots: tuple[Path, ...] | None = None  # folders inside which a cell's path is read; None: anywhere (entries)
    stamp: str = ""  # identity of the files without a look into them; "" if they must be read to be known


def find(config: DatasetConfig, *, progress: bool = False) -> Source:
    """Find the dataset that `config.name` names. Decodes no image.

    Raises:
        DataError: nothing of that name can be found, reached or read.
        PluginError: the entry cannot be imported, or raises.
        RunFailed: the datasets' own cache cannot be written.
    """
    with _progress_bars(progress):
        path = Path(config.name).expanduser()
        if config.name in plugins.entries(GROUP):
            if path.exists():
                log.warning("%s is a dataset of that name and a %s; the dataset is used. Write ./%s for the other",
                            config.name, "folder" if path.is_dir() else "file", config.name)  # fmt: skip
            return _from_entry(config)
        if path.exists():
            return _from_path(path, config)
        if path.is_absolute() or config.name.startswith((".", "~")) or config.name.count("/") > 1:
            raise DataError(f"dataset {config.name}: no such file or folder")
        return _from_hub(config)


def _from_entry(config: DatasetConfig) -> Source:
    entry = plugins.load(GROUP, config.name)
    try:
        found = entry()
    except Exception as error:
        raise PluginError(f"dataset {config.name}: its plug-in raises {_one_line(error)}") from error
    return Source(config.name, "entry", _as_splits(found, config.name), flip=getattr(entry, "flip", None))


def _from_path(path: Path, config: DatasetConfig) -> Source:
    table = path.suffix.lower() in (".csv", ".tsv", ".jsonl", ".ndjson", ".json") and not path.is_dir()
    if not path.is_dir() and not path.is_file():
        raise DataError(f"dataset {config.name}: neither a file nor a folder")
    folder = path.parent if table else path
    stamp = stamp_of(folder)  # before the files are listed: what changes in between is seen at the next start
    found = read_kept(path, stamp, config)
    if found is None:
        found = _called(lambda: _read(path, config, table=table), config.name)
        keep(found, path, stamp, config)
    splits = _as_splits(found.splits, config.name)
    root = folder.resolve() if folder.is_dir() else path.resolve().parent
    return Source(
        name=path.resolve().name,
        origin="path",
        splits=splits,
        account=found.account,
        notes=tuple(found.notes),
        warnings=tuple(found.warnings),
        roots=(root,),
        stamp=stamp,
    )


def _read(path: Path, config: DatasetConfig, *, table: bool) -> Reading:
    if table:
        return TableOfPictures().read(_only_table(list_folder(path.parent), path), config)
    return read_tree(list_folder(path) if path.is_dir() else single_file(path), config)


def _only_table(tree: Tree, table: Path) -> Tree:
    """Return a tree in which `table` is the only table."""
    real = table.resolve()
    kept = tuple(file for file in tree.files if file.path == real or file.suffix not in TABLES)
    rest = [(file.name, "another table") for file in tree.files if file not in kept]
    return Tree(tree.root, kept, (*tree.left_out, *rest), tree.empty)


def _from_hub(config: DatasetConfig) -> Source:
    import datasets

    def read() -> Any:
        return datasets.load_dataset(config.name, name=config.subset, revision=config.revision)

    online = not datasets.config.HF_HUB_OFFLINE and reachable(datasets.config.HF_ENDPOINT)
    try:
        with nullcontext() if online else _offline():
            splits = _as_splits(_called(read, config.name), config.name)
    except DataError as error:
        names = ", ".join(plugins.entries(GROUP))
        absent = not online and isinstance(error.__cause__, ConnectionError)
        unreached = "not in the Hugging Face cache, and the hub cannot be reached"
        fault = unreached if absent else str(error).removeprefix(f"dataset {config.name}: ")
        raise DataError(
            f"dataset {config.name}: no built-in or plug-in dataset ({names}), no local path; {fault}. "
            "Connect, or download it elsewhere and name its folder instead, /path/to/folder"
        ) from error
    commit, asked = _commit(splits), config.revision
    if not online and re.fullmatch(r"[0-9a-f]{40}", asked or "") and commit != asked:
        raise DataError(f"dataset {config.name}: the cached copy is of revision {commit}, asked for {asked}; connect")
    revision = commit or (asked if online else None)
    stamp = f"{config.name}@{revision}" if revision else ""
    return Source(config.name, "hub", splits, revision=revision, roots=_hub_folders(), stamp=stamp)


def _hub_folders() -> tuple[Path, ...]:
    """Return the folders into which the hub's libraries download."""
    import datasets
    from huggingface_hub import constants

    places = (datasets.config.HF_DATASETS_CACHE, datasets.config.DOWNLOADED_DATASETS_PATH, constants.HF_HUB_CACHE)
    return tuple(Path(place).resolve() for place in places)


def _called(read: Callable[[], Any], name: str) -> Any:
    """Return what `read` returns; turn exceptions of the datasets library into one message with its cause."""
    try:
        return read()
    except DataError as error:
        if str(error).startswith("dataset "):
            raise
        raise DataError(f"dataset {name}: {error}") from error
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and cause.errno in DISK_FAULTS:
                raise RunFailed(f"dataset {name}: cannot write the Hugging Face cache: {cause.strerror}") from error
            cause = cause.__cause__ or cause.__context__
        if type(error).__name__ == "DataFilesNotFoundError":
            raise DataError(f"dataset {name}: no images, parquet or arrow files in it; {SUPPORTED}") from error
        raise DataError(f"dataset {name}: cannot be read: {_with_causes(error)}") from error


def _as_splits(found: Any, name: str) -> dict[str, Any]:
    import datasets

    if isinstance(found, datasets.Dataset):
        found = {"train": found}
    if not isinstance(found, Mapping) or not all(isinstance(part, datasets.Dataset) for part in found.values()):
        raise DataError(f"dataset {name}: expected a DatasetDict or Dataset, got {type(found).__name__}")
    return {str(key): part for key, part in found.items()}


def _one_line(error: BaseException) -> str:
    """Return an exception as one line of at most 300 characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _with_causes(error: BaseException) -> str:
    """Return an exception with the exceptions that caused it, the first cause first."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    return "; ".join(dict.fromkeys(_one_line(one) for one in reversed(chain[:4])))


def _commit(splits: Mapping[str, Any]) -> str | None:
    """Return the hub commit of the data, as it stands in the addresses of files or the cache folder's name."""
    for part in splits.values():
        for place in [*(part.info.download_checksums or {}), *(file["filename"] for file in part.cache_files)]:
            if found := re.search(r"[@/]([0-9a-f]{40})/", str(place)):
                return found.group(1)
    return None


@contextmanager
def _offline() -> Iterator[None]:
    """Make the hub libraries use their caches alone until the block ends."""
    import datasets
    from huggingface_hub import constants

    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


@contextmanager
def _progress_bars(shown: bool) -> Iterator[None]:
    """Disable the datasets library's own progress bars until the block ends, unless bars are shown."""
    import datasets

    if shown or datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()
