"""Tensor files of strangers: what a `.pt` or `.npz` holds. Nothing is executed, and no size is trusted."""

from __future__ import annotations

import math
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentdd_plugin.core.errors import UsageError

UNPACKED = 64  # an archive may hold at most so many times its own bytes
NUMBERS = {"f8": "<d", "f4": "<f", "f2": "<e", "i8": "<q", "i4": "<i"}


def load_pt(path: Path) -> Any:
    """What `torch.save` wrote: tensors, plain containers, and numbers of NumPy as Python's.

    The file is mapped, not read; a tensor may not claim more values than the file has bytes for.

    Raises:
        UsageError: not such a file, one that needs more than tensors and numbers, or one whose sizes are a lie.
    """
    size = _checked_archive(path, stored=True)
    try:
        with _numbers_allowed(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:
        text = str(error).rpartition("WeightsUnpickler error:")[2]  # before it torch advises to trust the file
        asked = re.search(r"GLOBAL ([\w.]+)", text)
        if asked:
            told = f"asks for {asked[1]}, which is neither a tensor nor a number; it is not loaded"
        else:
            told = f"not a readable file of torch.save ({said(error, text)})"
        raise UsageError(f"{path}: {told}") from None
    _check_tensors(found, size, path)
    return found


def load_npz(path: Path) -> dict[str, Tensor]:
    """The numeric arrays of a `.npz` file; UsageError where it is damaged, or its headers claim what is not there."""
    _checked_archive(path, stored=False)
    try:
        with zipfile.ZipFile(path) as archive:
            return {info.filename.removesuffix(".npy"): _array(archive, info) for info in archive.infolist()}
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except Exception as error:
        raise UsageError(f"{path}: not a readable .npz file ({said(error)})") from None


def said(error: Exception, text: str | None = None) -> str:
    """An exception, or `text` in its place, in one short line."""
    return f"{type(error).__name__}: {' '.join((text or str(error)).split())}"[:200]


def small_text(path: Path) -> str:
    """The text of a file of at most a megabyte; ValueError where it is larger, or no text."""
    if path.stat().st_size > 1 << 20:
        raise ValueError("a text of more than a megabyte")
    return path.read_text()


def images_of(value: Any, what: str) -> Tensor:
    """Images float32 (N, C, H, W), contiguous; UsageError says what was there instead."""
    images = _tensor(value, what, (4,))
    if not images.is_floating_point():
        raise UsageError(f"{what}: {images.dtype}; floating-point values are needed")
    return images.float().contiguous()


def labels_of(value: Any, what: str, *, soft: bool = False) -> Tensor:
    """Labels int64 (N,) or, where `soft` allows it, float32 (N, classes); UsageError says what was there instead."""
    labels = _tensor(value, what, (1, 2) if soft else (1,))
    if labels.ndim == 2 and labels.is_floating_point():
        return labels.float().contiguous()
    whole = labels.long() if not labels.is_complex() else labels
    if labels.ndim == 2 or whole.is_complex() or not bool((whole == labels).all()):
        raise UsageError(f"{what}: {labels.dtype} {tuple(labels.shape)}; whole numbers are needed")
    return whole.contiguous()


def _tensor(value: Any, what: str, sides: tuple[int, ...]) -> Tensor:
    if not isinstance(value, Tensor):
        raise UsageError(f"{what}: a tensor is needed, this is a {type(value).__name__}")
    if value.ndim not in sides or not value.numel():
        wanted = " or ".join(str(n) for n in sides)
        raise UsageError(f"{what}: shape {tuple(value.shape)}; {wanted} sides are needed, none of them empty")
    return value.detach()


def number(value: Any, what: str) -> float:
    """A finite positive number out of a tensor with one value, or a Python number."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.detach().item()
    if not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise UsageError(f"{what}: one positive number is needed")
    return float(value)


def _checked_archive(path: Path, *, stored: bool) -> int:
    """The file's size in bytes, once its archive's directory agrees with it."""
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
        old = "; a file of torch before 1.6 has to be saved again by a newer one" if stored else ""
        raise UsageError(f"{path}: not a zip archive ({error}){old}") from None
    if stored and any(e.compress_type != zipfile.ZIP_STORED for e in entries):
        raise UsageError(f"{path}: its archive is compressed, which torch.save never does")
    if len({e.filename for e in entries}) != len(entries):
        raise UsageError(f"{path}: its archive names a part twice")
    if sum(e.file_size for e in entries) > (size if stored else UNPACKED * size):
        raise UsageError(f"{path}: its archive claims more bytes than a file of {size} bytes can hold")
    return size


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Tensor:
    """One array, its header checked against the size of its part before anything is read."""
    with archive.open(info) as part:
        version = np.lib.format.read_magic(part)
        if version not in ((1, 0), (2, 0)):
            raise UsageError(f"{info.filename}: .npy version {version}; 1.0 and 2.0 are read")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(part)
        if dtype.kind not in "fiub" or fortran or any(side < 0 for side in shape):
            raise UsageError(f"{info.filename}: {dtype} of shape {shape}; numbers in C order are needed")
        expected = math.prod(shape) * dtype.itemsize
        if expected != info.file_size - part.tell():
            raise UsageError(f"{info.filename}: its header claims {expected} bytes, it has {info.file_size}")
        values = np.frombuffer(part.read(), dtype=dtype).reshape(shape)
    return torch.from_numpy(values.astype(np.int64 if dtype.kind in "iub" else np.float32))


# --- numbers of NumPy -------------------------------------------------------------------------------------------------


class _DType:
    """Stands for `numpy.dtype` in somebody's pickle: keeps the name alone."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "|", "="):
            raise ValueError("a number's byte order is not little-endian")


def _scalar(module: str) -> Callable[[Any, Any], float]:
    """Stands for NumPy's `scalar`, as one of its versions names it: makes one number of Python."""

    def scalar(dtype: Any, raw: Any) -> float:
        if not isinstance(dtype, _DType) or dtype.name not in NUMBERS or not isinstance(raw, bytes):
            raise ValueError("a NumPy scalar that is not a plain number")
        value: float = struct.unpack(NUMBERS[dtype.name], raw)[0]
        return value

    scalar.__module__, scalar.__qualname__ = module, "scalar"
    return scalar


def encode(text: Any, encoding: Any = None) -> bytes:
    """Return the bytes that pickle's protocol 2 writes as text: those of a NumPy scalar."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("bytes that pickle did not write")
    return text.encode("latin1")


# torch's unpickler finds what it may call by these names; older versions do not know `_codecs.encode` by themselves
_DType.__module__, _DType.__name__, _DType.__qualname__ = "numpy", "dtype", "dtype"
encode.__module__ = "_codecs"
ALLOWED = [_DType, _scalar("numpy.core.multiarray"), _scalar("numpy._core.multiarray"), encode]


@contextmanager
def _numbers_allowed() -> Iterator[None]:
    """Within the block torch's unpickler takes NumPy's scalars, which DatasetCondensation writes, and nothing else."""
    serialization: Any = torch.serialization
    before = serialization.get_safe_globals()
    serialization.clear_safe_globals()
    serialization.add_safe_globals(ALLOWED)
    try:
        yield
    finally:
        serialization.clear_safe_globals()
        serialization.add_safe_globals(before)


def _check_tensors(found: Any, size: int, path: Path) -> None:
    """UsageError where a tensor is not an ordinary one, or has more values than the file has bytes."""
    waiting, seen = [found], set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            plain = value.layout is torch.strided and value.device.type == "cpu" and not value.is_quantized
            if not plain or value.numel() * value.element_size() > size:
                raise UsageError(f"{path}: a tensor of shape {tuple(value.shape)} that its {size} bytes cannot hold")
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value
