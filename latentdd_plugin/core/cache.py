"""The cache's folder, and a fallback if it cannot be written: a cache is a convenience, never a condition."""

from __future__ import annotations

import getpass
import logging
import os
import stat
import sys
import tempfile
from functools import cache
from pathlib import Path

from latentdd_plugin.core.errors import RunFailed

log = logging.getLogger(__name__)


def cache_dir() -> Path:
    """Return the cache's folder: `$DD_BENCH_CACHE`, else `~/.cache/dd-bench`, else one in the temporary folder.

    It may be missing, and may always be deleted.

    Raises:
        RunFailed: neither can be written.
    """
    return _cache_dir(os.environ.get("DD_BENCH_CACHE", ""), _home())


@cache
def _cache_dir(chosen: str, home: Path | None) -> Path:
    wanted = Path(chosen) if chosen else home and home / ".cache" / "dd-bench"
    if wanted is not None and writable(wanted):
        return wanted
    fallback = _private()
    log.warning(
        "the cache %s cannot be written, %s is used instead; set DD_BENCH_CACHE (and HF_HOME, for the Hugging Face "
        "libraries) to a folder that can be",
        wanted or "in the home folder (there is none)",
        fallback,
    )
    return fallback


def prepare_caches() -> None:
    """Find out before any work which caches can be written, and send the libraries' own elsewhere if theirs cannot.

    Call it before `datasets`, `huggingface_hub` or `torch` look for their folders: they read the environment once.

    Raises:
        RunFailed: no folder for a cache can be written.
    """
    ours = cache_dir()
    _redirect_hugging_face(ours / "huggingface")
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ and not _has_name():
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(ours / "torchinductor")
    if "MPLCONFIGDIR" not in os.environ and not ((home := _home()) and writable(home / ".config" / "matplotlib")):
        os.environ["MPLCONFIGDIR"] = str(ours / "matplotlib")


def writable(folder: Path) -> bool:
    """Return whether the folder can be written, or made: tried with a nameless file in what exists of it."""
    try:
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
        with tempfile.TemporaryFile(dir=there):
            return True
    except OSError:
        return False


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # no HOME, and the user is not known to the system
        return None


def _has_name() -> bool:
    try:
        return bool(getpass.getuser())
    except (KeyError, OSError, ImportError):
        return False


def _redirect_hugging_face(folder: Path) -> None:
    """Send the Hugging Face libraries' caches to `folder`; one that may be read stays where models are looked for."""
    theirs = _hugging_face_home()
    chosen = {"HF_HOME": folder}
    if theirs.is_dir():
        chosen = {"HF_DATASETS_CACHE": folder / "datasets", "HF_MODULES_CACHE": folder / "modules"}
    places = {"HF_HOME": theirs, "HF_DATASETS_CACHE": theirs / "datasets", "HF_MODULES_CACHE": theirs / "modules"}
    wrong = [key for key in chosen if not writable(Path(os.environ.get(key) or places[key]))]
    if not wrong:
        return
    os.environ.update({key: str(chosen[key]) for key in wrong})
    log.warning(
        "the Hugging Face cache %s cannot be written, %s is used instead; set HF_HOME to a folder that can be",
        theirs,
        folder,
    )
    config = getattr(sys.modules.get("datasets"), "config", None)
    if config is not None:  # it has read the environment already
        config.HF_DATASETS_CACHE = folder / "datasets"


def _hugging_face_home() -> Path:
    home = _home()
    if given := os.environ.get("HF_HOME"):
        return Path(given).expanduser() if home else Path(given)
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "huggingface"
    return home / ".cache" / "huggingface" if home else Path(os.devnull) / "huggingface"


def _private() -> Path:
    """Return a folder for this user alone in the temporary folder; a new one if another user made it."""
    try:
        folder = Path(tempfile.gettempdir()) / f"dd-bench-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
            return folder
        return Path(tempfile.mkdtemp(prefix="dd-bench-"))
    except OSError as error:
        raise RunFailed(
            f"no folder can be written to cache anything in ({error.strerror or error}); set DD_BENCH_CACHE, and "
            "HF_HOME for the Hugging Face libraries, to one that can be"
        ) from error
