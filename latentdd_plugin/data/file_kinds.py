"""Kinds of files by name and first bytes: pictures, archives, git-lfs pointers."""

from __future__ import annotations

from latentdd_plugin.data.walk import File

PICTURES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".j2k", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".pcx", ".ico", ".avif",
)  # fmt: skip
OTHER_PICTURES = (
    ".heic", ".heif", ".svg", ".dcm", ".dicom", ".nii", ".nrrd", ".raw", ".cr2", ".nef", ".arw", ".dng", ".exr", ".hdr",
    ".jxl", ".psd", ".xcf", ".eps", ".pdf", ".mha", ".svs",
)  # fmt: skip
ARCHIVES = {
    ".zip": "unzip {name} -d FOLDER",
    ".tgz": "tar -xzf {name} -C FOLDER",
    ".gz": "tar -xzf {name} -C FOLDER",
    ".bz2": "tar -xjf {name} -C FOLDER",
    ".xz": "tar -xJf {name} -C FOLDER",
    ".7z": "7z x {name}",
    ".rar": "unrar x {name}",
}
MAGIC = (
    b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM", b"II*\x00", b"MM\x00*",
    b"\x00\x00\x00\x0cjP  ", b"P4\n", b"P5\n", b"P6\n", b"P5 ", b"P6 ",
)  # fmt: skip
LFS = b"version https://git-lfs.github.com/spec/"


def is_picture(file: File) -> bool:
    """Return whether a file is a picture by its suffix or, without a known suffix, by its first bytes."""
    if file.suffix in PICTURES:
        return True
    known = file.suffix and file.suffix[1:].isalpha()
    return not known and starts_as_picture(first_bytes(file))


def starts_as_picture(data: bytes) -> bool:
    """Return whether bytes begin as a picture file does."""
    return data.startswith(MAGIC) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")


def first_bytes(file: File, count: int = 64) -> bytes:
    """Return the first bytes of a file; none if it cannot be opened."""
    try:
        with file.path.open("rb") as opened:
            return opened.read(count)
    except OSError:
        return b""


def not_a_picture(file: File) -> str:
    """Return the reason for leaving out a file that is not a picture."""
    if file.suffix in OTHER_PICTURES:
        return f"in a picture format that is not read ({file.suffix}); convert to PNG or JPEG"
    return f"not a picture ({file.suffix or 'no suffix'})"


def fault_of(data: bytes, error: Exception) -> str:
    """Return why the bytes of a picture file cannot be decoded."""
    if not data:
        return "an empty file (0 bytes)"
    if data.startswith(LFS):
        return "a git-lfs pointer, not the file itself; run `git lfs pull` in the dataset's repository"
    if data[:200].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "an HTML page, not a picture: its download failed"
    if type(error).__name__ == "UnidentifiedImageError":
        return "corrupt image, or in a format that is not read"
    return f"corrupt image ({error})"
