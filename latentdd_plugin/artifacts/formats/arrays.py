"""NumPy's files, `.npz` and `.npy`, read without trusting their headers."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from latentdd_plugin.artifacts.formats.files import check_start, one_line
from latentdd_plugin.artifacts.formats.unpickle import checked_archive
from latentdd_plugin.core.errors import UsageError


def load_npz(path: Path) -> dict[str, Tensor]:
    """Return the numeric arrays of a `.npz` file; raise UsageError if it is damaged, or its headers claim too much."""
    checked_archive(path, stored=False)
    try:
        with zipfile.ZipFile(path) as archive:
            found = {}
            for info in archive.infolist():
                with archive.open(info) as part:
                    found[info.filename.removesuffix(".npy")] = _array(part, info.filename, info.file_size)
            return found
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except Exception as error:
        raise UsageError(f"{path}: not a readable .npz file ({one_line(error)})") from None


def load_npy(path: Path) -> Tensor:
    """Return the numeric array of a `.npy` file; raise UsageError if it is damaged, or its header claims too much."""
    check_start(path)
    try:
        with path.open("rb") as file:
            return _array(file, path.name, path.stat().st_size)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except Exception as error:
        raise UsageError(f"{path}: not a readable .npy file ({one_line(error)})") from None


def _array(part: IO[bytes], name: str, size: int) -> Tensor:
    """Return one array; its header is checked against the size of its part before anything is read."""
    version = np.lib.format.read_magic(part)
    if version not in ((1, 0), (2, 0)):
        raise UsageError(f"{name}: .npy version {version}; 1.0 and 2.0 are read")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(part)
    if dtype.kind == "O":
        raise UsageError(f"{name}: an array of Python objects, which only unpickling could read; save numbers")
    if dtype.kind not in "fiub" or fortran or any(side < 0 for side in shape):
        raise UsageError(f"{name}: {dtype} of shape {shape}; numbers in C order are needed")
    expected = math.prod(shape) * dtype.itemsize
    if expected != size - part.tell():
        raise UsageError(f"{name}: its header claims {expected} bytes, it has {size - part.tell()}")
    values = np.frombuffer(part.read(), dtype=dtype).reshape(shape)
    return torch.from_numpy(values.astype(np.int64 if dtype.kind in "iub" else np.float32))
