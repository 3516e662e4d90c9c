"""A data set's name to its splits: a `dd_bench.datasets` entry, else a local path, else a Hugging Face id."""

from __future__ import annotations

import errno
import re
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentdd_plugin.core import plugins
from latentdd_plugin.core.errors import DataError, PluginError, RunFailed

if TYPE_CHECKING:
    from latentdd_plugin.core.config import DatasetConfig

GROUP = "datasets"  # a key of plugins.GROUPS
PROBE_SECONDS = 4.0
LAYOUT = "wanted are folders train/<class>/*.png and test/<class>/*.png, <class>/*.png, parquet or arrow files"
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Source:
    """A data set as found: its splits, none of whose images is decoded yet."""

    name: str  # short: the entry, the folder's name, or the hub id
    origin: str  # entry | path | hub
    splits: Mapping[str, Any]  # split name -> datasets.Dataset
    revision: str | None = None  # hub only: the commit where known, else the revision asked for, else None
    flip: bool | None = None  # what the entry says of mirrored images


def find(config: DatasetConfig, *, progress: bool = False) -> Source:
    """The data set that `config.name` names. Decodes no image.

    Raises:
        DataError: nothing of that name can be found, reached or read.
        PluginError: the entry cannot be imported, or raises.
        RunFailed: the data sets' own cache cannot be written.
    """
    with _progress_bars(progress):
        if config.name in plugins.entries(GROUP):
            return _from_entry(config)
        path = Path(config.name).expanduser()
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
        raise PluginError(f"dataset {config.name}: its plug-in raises {_said(error)}") from error
    return Source(config.name, "entry", _as_splits(found, config.name), flip=getattr(entry, "flip", None))


def _from_path(path: Path, config: DatasetConfig) -> Source:
    import datasets

    def read() -> Any:
        if path.is_dir() and any((path / name).exists() for name in ("dataset_dict.json", "state.json")):
            return datasets.load_from_disk(str(path))
        if path.is_dir():
            return datasets.load_dataset(str(path), name=config.subset)
        if path.suffix == ".parquet":
            return datasets.load_dataset("parquet", data_files=str(path))
        if path.suffix == ".arrow":
            return datasets.Dataset.from_file(str(path))
        raise DataError(
            f"dataset {path}: give a folder (parquet, imagefolder, save_to_disk), or a .parquet or .arrow file"
        )

    return Source(path.resolve().name, "path", _as_splits(_called(read, config.name), config.name))


def _from_hub(config: DatasetConfig) -> Source:
    import datasets

    def read() -> Any:
        return datasets.load_dataset(config.name, name=config.subset, revision=config.revision)

    online = reachable(datasets.config.HF_ENDPOINT)
    try:
        with nullcontext() if online else _offline():
            splits = _as_splits(_called(read, config.name), config.name)
    except DataError as error:
        names = ", ".join(plugins.entries(GROUP))
        absent = not online and isinstance(error.__cause__, ConnectionError)
        unreached = "not in the Hugging Face cache, and the hub cannot be reached"
        fault = unreached if absent else str(error).removeprefix(f"dataset {config.name}: ")
        raise DataError(
            f"dataset {config.name}: no built-in or plug-in data set ({names}), no local path; {fault}. "
            "Connect, or download it elsewhere and name its folder: --dataset /path/to/folder"
        ) from error
    commit, asked = _commit(splits), config.revision
    if not online and re.fullmatch(r"[0-9a-f]{40}", asked or "") and commit != asked:
        raise DataError(f"dataset {config.name}: the cached copy is of revision {commit}, asked for {asked}; connect")
    return Source(config.name, "hub", splits, revision=commit or (asked if online else None))


def _called(read: Callable[[], Any], name: str) -> Any:
    """What `read` returns, with the faults of the datasets library as one message."""
    try:
        return read()
    except DataError:
        raise
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and cause.errno in DISK_FAULTS:
                raise RunFailed(f"dataset {name}: cannot write the Hugging Face cache: {cause.strerror}") from error
            cause = cause.__cause__ or cause.__context__
        if type(error).__name__ == "DataFilesNotFoundError":
            raise DataError(f"dataset {name}: no images, parquet or arrow files in it; {LAYOUT}") from error
        raise DataError(f"dataset {name}: cannot be read: {_said(error)}") from error


def _as_splits(found: Any, name: str) -> dict[str, Any]:
    import datasets

    if isinstance(found, datasets.Dataset):
        found = {"train": found}
    if not isinstance(found, Mapping) or not all(isinstance(part, datasets.Dataset) for part in found.values()):
        raise DataError(f"dataset {name}: expected a DatasetDict or Dataset, got {type(found).__name__}")
    return {str(key): part for key, part in found.items()}


def _said(error: Exception) -> str:
    """An exception in one line of at most 300 characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _commit(splits: Mapping[str, Any]) -> str | None:
    """The hub commit the data came from, as the library keeps it in the addresses of files and the cache's folder."""
    for part in splits.values():
        for place in [*(part.info.download_checksums or {}), *(file["filename"] for file in part.cache_files)]:
            if found := re.search(r"[@/]([0-9a-f]{40})/", str(place)):
                return found.group(1)
    return None


def reachable(url: str, seconds: float = PROBE_SECONDS) -> bool:
    """Whether an HTTP server answers at `url` within `seconds`, through the proxy where one is set; any answer counts.

    A thread, because a name look-up has no time limit of its own. False where `HF_HUB_OFFLINE` is set.
    """
    import datasets

    if datasets.config.HF_HUB_OFFLINE:
        return False
    answered = threading.Event()

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - the hub's own address
            urllib.request.urlopen(request, timeout=seconds).close()  # noqa: S310
        except urllib.error.HTTPError as error:
            error.close()
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ssl.SSLError):  # another certificate store may well accept it
                return
        except (OSError, ValueError):
            return
        answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answered.is_set()


@contextmanager
def _offline() -> Iterator[None]:
    """The hub libraries use their caches and ask nobody, until the block ends."""
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
    """The datasets library draws its own bars only where ours are wanted, until the block ends."""
    import datasets

    if shown or datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()
