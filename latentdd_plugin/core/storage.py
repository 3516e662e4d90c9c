"""Where decoded images and codes are kept between runs, and how a file is written whole or not at all."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from latentdd_plugin.core.errors import RunFailed


def cache_dir() -> Path:
    """The cache's folder: `$DD_BENCH_CACHE`, else `~/.cache/dd-bench`. It may be missing, and may always be deleted."""
    return Path(os.environ.get("DD_BENCH_CACHE") or Path.home() / ".cache" / "dd-bench")


@contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold `folder` (made if missing) for this process alone; the system frees it if the process dies.

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
        raise _storage_fault(folder, error) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunFailed(f"{folder} is in use by another process; wait for it or choose another folder") from error
        except OSError as error:
            raise _storage_fault(folder, error) from error
        yield


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends it takes `path`'s place at once, or not at all.

    Only the writing belongs in the block: what it raises as OSError or SafetensorError counts as a storage fault.

    Raises:
        RunFailed: the disk is full or the folder cannot be written. `path` keeps what it held before.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise _storage_fault(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _storage_fault(path: Path, error: Exception) -> RunFailed:
    reason = getattr(error, "strerror", None) or str(error)
    return RunFailed(
        f"cannot write {path}: {reason}. Free some space or choose another folder; what was finished is kept"
    )
