"""Untrusted files of `torch.save`: tensors, plain containers, and NumPy's numbers and arrays; nothing is executed."""

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

from latentdd_plugin.artifacts.formats.files import check_start, not_an_archive, one_line
from latentdd_plugin.core.errors import UsageError

UNPACKED = 64  # an archive may hold at most so many times its own bytes
NUMBERS = {"f8": "<d", "f4": "<f", "f2": "<e", "i8": "<q", "i4": "<i"}
ARRAYS = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "b1")
DEEPEST = 64  # containers within containers


def load_pt(path: Path) -> Any:
    """Return what `torch.save` wrote; NumPy's numbers become Python's, and its arrays become tensors.

    The file is mapped, not read; a tensor may not claim more values than the file has bytes for.

    Raises:
        UsageError: not such a file, one that needs more than tensors, numbers and arrays, or one whose sizes are wrong.
    """
    size = checked_archive(path, stored=True)
    try:
        with _numbers_allowed(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = _without_stand_ins(torch.load(path, map_location="cpu", mmap=True, weights_only=True))
    except Exception as error:
        text = str(error).rpartition("WeightsUnpickler error:")[2]  # before it torch advises to trust the file
        asked = re.search(r"GLOBAL ([\w.]+)", text)
        if asked:
            reason = (
                f"asks for {asked[1]}, which is neither a tensor nor a number; it is not loaded. If you trust the "
                "file, load it in its own project and save the tensors alone: torch.save([images, labels], 'new.pt')"
            )
        else:
            reason = f"not a readable file of torch.save ({one_line(error, text)})"
        raise UsageError(f"{path}: {reason}") from None
    _check_tensors(found, size, path)
    return found


def checked_archive(path: Path, *, stored: bool) -> int:
    """Return the file's size in bytes; raise UsageError unless its archive's directory agrees with it."""
    start = check_start(path)
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
        raise UsageError(f"{path}: {not_an_archive(path, start, error)}") from None
    if stored and any(e.compress_type != zipfile.ZIP_STORED for e in entries):
        raise UsageError(f"{path}: its archive is compressed, which torch.save never does")
    if len({e.filename for e in entries}) != len(entries):
        raise UsageError(f"{path}: its archive names a part twice")
    if sum(e.file_size for e in entries) > (size if stored else UNPACKED * size):
        raise UsageError(f"{path}: its archive claims more bytes than a file of {size} bytes can hold")
    return size


# --- NumPy's numbers and arrays ---------------------------------------------------------------------------------------


class _DType:
    """Stand-in for `numpy.dtype` in an untrusted pickle: keeps the name alone."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "|", "="):
            raise ValueError("a number's byte order is not little-endian")


class _Array:
    """Stand-in for `numpy.ndarray` in an untrusted pickle: holds the tensor that its state describes."""

    tensor: Tensor | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("an array's state is not (version, shape, type, order, bytes)")
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _DType) or dtype.name not in ARRAYS or not isinstance(raw, bytes):
            raise ValueError("a NumPy array that does not hold plain numbers")
        sides = shape if isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape) else None
        plain = np.dtype(dtype.name).newbyteorder("<")
        if sides is None or math.prod(sides) * plain.itemsize != len(raw):
            raise ValueError(f"an array of shape {shape} in {len(raw)} bytes")
        values = np.frombuffer(raw, plain).reshape(sides, order="F" if fortran else "C")
        self.tensor = torch.from_numpy(np.array(values, order="C"))


def _reconstruct(module: str) -> Callable[..., _Array]:
    """Return a stand-in for NumPy's `_reconstruct`, as one of its versions names it."""

    def reconstruct(kind: Any, *_: Any) -> _Array:
        if kind is not _Array:
            raise ValueError("a NumPy object that is not a plain array")
        return _Array()

    reconstruct.__module__ = module
    reconstruct.__name__ = reconstruct.__qualname__ = "_reconstruct"  # older versions of torch go by the first
    return reconstruct


def _scalar(module: str) -> Callable[[Any, Any], float]:
    """Return a stand-in for NumPy's `scalar`, as one of its versions names it; it makes one number of Python."""

    def scalar(dtype: Any, raw: Any) -> float:
        if not isinstance(dtype, _DType) or dtype.name not in NUMBERS or not isinstance(raw, bytes):
            raise ValueError("a NumPy scalar that is not a plain number")
        value: float = struct.unpack(NUMBERS[dtype.name], raw)[0]
        return value

    scalar.__module__, scalar.__qualname__ = module, "scalar"
    return scalar


def encode(text: Any, encoding: Any = None) -> bytes:
    """Return the bytes that pickle's protocol 2 writes as text: those of NumPy's numbers and arrays."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("bytes that pickle did not write")
    return text.encode("latin1")


# torch's unpickler finds what it may call by these names; older versions do not know `_codecs.encode` by themselves
_DType.__module__, _DType.__name__, _DType.__qualname__ = "numpy", "dtype", "dtype"
_Array.__module__, _Array.__name__, _Array.__qualname__ = "numpy", "ndarray", "ndarray"
encode.__module__ = "_codecs"
MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
ALLOWED = [_DType, _Array, *map(_scalar, MODULES), *map(_reconstruct, MODULES), encode]


@contextmanager
def _numbers_allowed() -> Iterator[None]:
    """Let torch's unpickler take NumPy's numbers and arrays, and nothing else, until the block ends."""
    serialization: Any = torch.serialization
    before = serialization.get_safe_globals()
    serialization.clear_safe_globals()
    serialization.add_safe_globals(ALLOWED)
    try:
        yield
    finally:
        serialization.clear_safe_globals()
        serialization.add_safe_globals(before)


def _without_stand_ins(value: Any, made: dict[int, Any] | None = None, depth: int = 0) -> Any:
    """Return the value with arrays as tensors, in new plain containers; `made` holds those that are finished."""
    made = {} if made is None else made
    if depth > DEEPEST:
        raise ValueError("containers nested too deeply")
    if isinstance(value, _Array):
        if value.tensor is None:
            raise ValueError("a NumPy array without values")
        return value.tensor
    if not isinstance(value, (dict, list, tuple)):
        return value
    if id(value) not in made:
        if isinstance(value, dict):
            made[id(value)] = {key: _without_stand_ins(one, made, depth + 1) for key, one in value.items()}
        else:
            kind = list if isinstance(value, list) else tuple
            made[id(value)] = kind([_without_stand_ins(one, made, depth + 1) for one in value])
    return made[id(value)]


def _check_tensors(found: Any, size: int, path: Path) -> None:
    """Raise UsageError if a tensor is not an ordinary one, or has more values than the file has bytes."""
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
