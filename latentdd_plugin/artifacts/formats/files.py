"""Untrusted files before they are read: what is wrong with one, in a line."""

from __future__ import annotations

from pathlib import Path

from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.data.file_kinds import LFS

SMALL_TEXT = 1 << 20  # bytes of a description beside a set
ZIP, HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"
PICKLE = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
TORCH_LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch's magic number, as its pickles before 1.6 begin
FROM_TORCH = "python -c \"import torch; torch.save(torch.load('{old}', weights_only=True), '{new}')\""
FROM_PICKLE = "python -c \"import pickle, torch; torch.save(pickle.load(open('{old}', 'rb')), '{new}')\""


def one_line(error: Exception, text: str | None = None) -> str:
    """Return an exception, or `text` in its place, as one short line."""
    return f"{type(error).__name__}: {' '.join((text or str(error)).split())}"[:200]


def check_start(path: Path) -> bytes:
    """Return the first bytes of a file.

    Raises:
        UsageError: it is missing, empty, a folder, a git-lfs pointer or an HTML page.
    """
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UsageError(f"{path}: a folder; a file is needed") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be opened ({error.strerror})") from None
    if not start:
        raise UsageError(f"{path}: an empty file (0 bytes); download or copy it again")
    if start.startswith(LFS):
        raise UsageError(
            f"{path}: a git-lfs pointer, not the file itself; run `git lfs pull` in the repository it comes from"
        )
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise UsageError(f"{path}: an HTML page, not the file itself: its download failed")
    return start


def not_an_archive(path: Path, start: bytes, error: Exception) -> str:
    """Return why a file that should be a zip archive is not one, and how to convert it."""
    new = path.with_name(f"{path.stem}_new.pt")
    if start.startswith(ZIP):
        return f"truncated: the archive's end is missing ({error}); download or copy it again"
    if TORCH_LEGACY in start[:32]:
        command = FROM_TORCH.format(old=path, new=new)
        return f"a file of torch before 1.6, not a zip archive; it has to be saved again: {command}"
    if start.startswith(PICKLE):
        command = FROM_PICKLE.format(old=path, new=new)
        return (
            "a plain pickle, not a file of torch.save. Loading it runs code of whoever made it, so it is not read; if "
            f"you trust it, convert it: {command}"
        )
    if start.startswith(HDF5):
        return "an HDF5 file; save its arrays with numpy.savez or torch.save"
    return f"not a zip archive ({error})"
