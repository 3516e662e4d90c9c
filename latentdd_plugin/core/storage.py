"""Atomic files, locked folders, and the faults of a disk as one message."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from latentdd_plugin.core.errors import RunFailed

log = logging.getLogger(__name__)

TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)\.[0-9a-f]{8}\.tmp")
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold `folder` (made if missing) for this process alone; the system releases it if the process dies.

    Temporary files that a killed process left in the folder are removed first.

    Args:
        folder: what to hold; the lock is the file `.lock` in it.
        wait: wait for another holder, or raise at once.

    Raises:
        RunFailed: the folder cannot be made or written, or another process holds it and `wait` is false.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("a")
    except OSError as error:
        raise write_fault(folder, error) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunFailed(f"{folder} is in use by another process; wait for it or choose another folder") from error
        except OSError as error:
            raise write_fault(folder, error) from error
        remove_stale(folder)
        yield


@contextmanager
def claimed(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Claim one file of a folder that several processes fill; yield False if another process is making it.

    Args:
        path: the file; its lock lies beside it.
        wait: wait for the other process instead.

    Raises:
        RunFailed: the folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f".{path.name}.lock").open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
    except OSError as error:
        raise write_fault(path, error) from error


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends it replaces `path` as a whole, or not at all.

    Only the writing belongs in the block: an OSError or SafetensorError raised there counts as a storage fault.

    Raises:
        RunFailed: the disk is full or the folder cannot be written. `path` keeps what it held before.
    """
    temporary = path.with_name(_temporary_name(path.name))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(path.parent, path.name)
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise write_fault(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_stale(folder: Path, name: str | None = None) -> None:
    """Remove the temporary files and folders of processes that have ended, of one target or of all in the folder."""
    with suppress(OSError):
        for path in folder.iterdir():
            found = TEMPORARY.fullmatch(path.name)
            if found and name in (None, found["name"]) and not _alive(int(found["pid"])):
                log.info("removing %s, which an interrupted process left", path)
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path` that takes its place when the block ends, and is gone if it fails.

    Raises:
        RunFailed: the folder cannot be made or moved. What the block raises passes.
    """
    above = next(folder for folder in path.absolute().parents if folder.exists())
    temporary = above / _temporary_name(path.name)
    try:
        remove_stale(above, path.name)
        temporary.mkdir()
    except OSError as error:
        raise write_fault(path, error) from error
    try:
        yield temporary
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.rename(path)
        except OSError as error:
            raise write_fault(path, error) from error
    finally:
        _remove(temporary)


def _temporary_name(name: str) -> str:
    return f".{name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"


def _alive(pid: int) -> bool:
    """Return whether a process of this number runs here; this very process does not write what it finds."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def require_space(folder: Path, need: int, what: str, advice: str) -> None:
    """Raise RunFailed if a folder's disk does not hold so many more bytes, before any of them is made.

    Args:
        folder: of the files; need not exist yet.
        need: bytes to be written.
        what: they are, for the message.
        advice: how to need fewer.
    """
    there = next((place for place in (folder, *folder.parents) if place.exists()), None)
    try:
        free = shutil.disk_usage(there or ".").free
    except OSError:
        return
    if need > free:
        raise RunFailed(
            f"{what} need {need / 1e9:.1f} GB, and the disk of {folder} has {free / 1e9:.1f} GB left; nothing was "
            f"written. Set DD_BENCH_CACHE to a folder on a larger disk, or {advice}"
        )


def is_disk_fault(error: BaseException | None) -> bool:
    """Return whether an exception, or one behind it, says that a disk is full or cannot be written."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in DISK_FAULTS:
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def write_fault(path: Path | str, error: Exception) -> RunFailed:
    """Return the error to raise if `path` cannot be written."""
    text = " ".join(str(error).split())
    inner = re.search(r'message: "([^"]+)"', text)  # as safetensors quotes the system
    reason = getattr(error, "strerror", None) or (inner[1] if inner else text)
    return RunFailed(
        f"cannot write {path}: {reason}. Free some space or choose another folder; what was finished is kept"
    )
