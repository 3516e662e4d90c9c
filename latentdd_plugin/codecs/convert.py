"""Turn a pickled checkpoint into a .safetensors file without executing anything that it holds."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from latentdd_plugin.codecs.weight_files import PICKLED, WEIGHTS
from latentdd_plugin.core.errors import RunFailed, UsageError
from latentdd_plugin.core.storage import atomic_write

NESTED = ("state_dict", "model", "module", "params", "params_ema")  # where checkpoints keep their tensors


def convert_weights(source: Path | str, out: Path | str) -> Path:
    """Write the tensors of a pickled checkpoint as `diffusion_pytorch_model.safetensors`, with its config.json.

    The checkpoint is read with torch's `weights_only` unpickler, which knows tensors and plain containers alone. Other
    objects beside the tensors are left out.

    Args:
        source: a .bin, .pt, .pth or .ckpt file, or a folder with exactly one.
        out: a folder, made if need be; nothing in it is overwritten.

    Returns:
        The file that was written.

    Raises:
        UsageError: there is no such file, or it holds something other than tensors.
        RunFailed: the folder cannot be written.
    """
    file, folder = _pickled_file(Path(source).expanduser()), Path(out).expanduser()
    target = folder / WEIGHTS
    if target.exists():
        raise UsageError(f"{target} is there already; choose another --out")
    tensors = _tensors(_loaded(file), file)
    beside = file.parent / "config.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as temporary:
            save_file(tensors, temporary, metadata={"format": "pt"})
        if beside.is_file() and not (folder / "config.json").exists():
            shutil.copyfile(beside, folder / "config.json")
    except OSError as error:
        raise RunFailed(f"cannot write {target}: {error}") from error
    return target


def _pickled_file(path: Path) -> Path:
    if path.is_file():
        return path
    there = sorted(p for p in path.iterdir() if p.suffix in PICKLED) if path.is_dir() else []
    if len(there) != 1:
        named = ", ".join(p.name for p in there) or "none"
        raise UsageError(f"{path}: name one pickled file ({', '.join(PICKLED)}); found: {named}")
    return there[0]


def _loaded(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        cause = str(error).rpartition("WeightsUnpickler error:")[2].strip() or str(error)
        first = next(iter(cause.splitlines()), type(error).__name__)
        raise UsageError(
            f"{file}: holds more than tensors, or is damaged, and is not loaded ({first[:200]}). Ask its author for "
            "safetensors"
        ) from None


def _tensors(found: Any, file: Path) -> dict[str, Tensor]:
    """Return the named tensors of a checkpoint, each with memory of its own."""
    for key in NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    named = found.items() if isinstance(found, Mapping) else ()
    tensors = {str(name): tensor.detach() for name, tensor in named if isinstance(tensor, Tensor)}
    if not tensors:
        raise UsageError(f"{file}: holds no named tensors")
    return {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
