"""Tensors of any project: images and labels in one file, in two, or in shards."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentdd_plugin.artifacts.formats import values
from latentdd_plugin.artifacts.formats.arrays import load_npy, load_npz
from latentdd_plugin.artifacts.formats.base import ExternalSet, Format, ImportOptions
from latentdd_plugin.artifacts.formats.files import check_start, one_line
from latentdd_plugin.artifacts.formats.tensor_checks import is_state, labels_of, pixels_of
from latentdd_plugin.artifacts.formats.unpickle import load_pt
from latentdd_plugin.core.errors import UsageError

SUFFIXES = (".pt", ".pth", ".npz", ".npy", ".safetensors", ".pkl", ".pickle")
IMAGES = ("images", "image", "imgs", "img", "x", "data", "inputs", "samples", "pixels")
LABELS = ("labels", "label", "targets", "target", "y", "classes")
RATES = ("lr", "learning_rate", "syn_lr")
NOISE = {"syn", "synthetic", "synset", "distilled", "condensed", "train", "best", "final", "all", "set", "tensor"}
SHARD = re.compile(r"^(.*?)[_\-.]?(?:part|shard|rank|chunk)?[_\-.]?(\d+)(?:[_\-]?of[_\-]?(\d+))?$")


@dataclass(frozen=True)
class _Part:
    """One file's share of a set."""

    images: Any = None
    labels: Any = None
    lr: Any = None


class Tensors(Format):
    """Images (N, C, H, W) or (N, H, W, C), floating point or bytes; labels (N,) or, as logits, (N, classes).

    A file holds a pair (images, labels), a mapping with names such as `images`, `data`, `x` and `labels`, `targets`,
    `y`, or images alone, in which case the labels lie in a file of the same name with `labels` for `images`. A folder
    holds such files, or numbered shards of them. Bytes are read as pixels of 0 … 255.
    """

    name = "tensors"
    writable = False

    def read(self, path: Path, options: ImportOptions) -> ExternalSet:
        """Return the set in a file or a folder."""
        parts = [_whole_part(group) for group in _groups(path)]
        images, were_bytes = zip(*(pixels_of(part.images, f"{path}: images") for part in parts), strict=True)
        labels = [labels_of(part.labels, f"{path}: labels", soft=True) for part in parts]
        if len({i.shape[1:] for i in images}) > 1 or len({x.shape[1:] for x in labels}) > 1 or len(set(were_bytes)) > 1:
            raise UsageError(f"{path}: its parts are of several shapes or types")
        rates = {float(part.lr) for part in parts if isinstance(part.lr, (int, float))} | {
            float(part.lr) for part in parts if isinstance(part.lr, Tensor) and part.lr.numel() == 1
        }
        joined = torch.cat(labels)
        kind = "hard" if joined.ndim == 1 else "probabilities" if _are_probabilities(joined) else "logits"
        if kind == "probabilities" and _are_one_hot(joined):
            joined, kind = joined.argmax(1), "hard"
        return ExternalSet(
            torch.cat(images), joined, kind, rates.pop() if len(rates) == 1 else None,
            values=values.PLAIN if were_bytes[0] else None,
        )  # fmt: skip


def _are_probabilities(labels: Tensor) -> bool:
    ones = torch.ones(len(labels))
    return bool((labels >= 0).all()) and torch.allclose(labels.sum(1), ones, atol=1e-3)


def _are_one_hot(labels: Tensor) -> bool:
    return bool(((labels == 0) | (labels == 1)).all())


def _groups(path: Path) -> list[list[Path]]:
    """Return the files of a set: one group per shard, each of one file or of images and labels."""
    if not path.is_dir():
        return [_with_labels(path)]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        raise UsageError(f"{path}: no files {', '.join(SUFFIXES)}")
    shards: dict[tuple[str, int | None], list[Path]] = {}
    totals = set()
    for file in files:
        match = SHARD.match(file.stem)
        shards.setdefault((_role_free(match[1] if match else file.stem), int(match[2]) if match else None), []).append(
            file
        )
        totals |= {int(match[3])} if match and match[3] else set()
    names = {name for name, _ in shards}
    if len(names) > 1:
        raise UsageError(f"{path}: several sets ({', '.join(file.name for file in files[:8])} …); name one file")
    numbers = sorted(number for _, number in shards if number is not None)
    _check_shards(numbers, len(shards), totals, path)
    return [shards[key] for key in sorted(shards, key=lambda key: key[1] or 0)]


def _check_shards(numbers: list[int], groups: int, totals: set[int], path: Path) -> None:
    """Raise UsageError if a shard is missing."""
    if not numbers:
        return
    if len(numbers) != groups:
        raise UsageError(f"{path}: a whole set and shards {numbers} side by side; name one file")
    if len(numbers) == 1 and not totals:
        return  # the number of an iteration
    start = min(numbers[0], 1)
    expected = set(range(start, max([*numbers, *(total - 1 + start for total in totals)]) + 1))
    missing = sorted(expected - set(numbers))
    if missing:
        raise UsageError(f"{path}: shards {missing} are missing beside {numbers}")


def _role_free(stem: str) -> str:
    """Return a file's name without the words that tell images from labels."""
    words = [word for word in re.split(r"[_\-.]+", stem.lower()) if word]
    return "_".join(word for word in words if word not in (*IMAGES, *LABELS, *RATES))


def _with_labels(file: Path) -> list[Path]:
    """Return a file, and the file of its labels if there is one beside it."""
    for word in IMAGES:
        for label in LABELS:
            beside = file.with_name(re.sub(rf"(?<![A-Za-z]){word}(?![A-Za-z])", label, file.name, count=1))
            if beside != file and beside.exists():
                return [file, beside]
    return [file]


def _whole_part(files: list[Path]) -> _Part:
    found = [_read(file) for file in files]
    images = [(file, part.images) for file, part in zip(files, found, strict=True) if part.images is not None]
    labels = [(file, part.labels) for file, part in zip(files, found, strict=True) if part.labels is not None]
    rates = [part.lr for part in found if part.lr is not None]
    if len(images) != 1 or len(labels) != 1:
        named = ", ".join(file.name for file in files)
        raise UsageError(
            f"{files[0].parent}: images and labels are needed once each, found {len(images)} and {len(labels)} in "
            f"{named}; call the files images.pt and labels.pt, or save torch.save([images, labels], 'set.pt')"
        )
    return _Part(images[0][1], labels[0][1], rates[0] if rates else None)


def _read(file: Path) -> _Part:
    """Return the content of one file, by its names."""
    suffix = file.suffix.lower()
    if suffix == ".npy":
        found: Any = load_npy(file)
    elif suffix == ".npz":
        found = load_npz(file)
    elif suffix == ".safetensors":
        found = _load_safetensors(file)
    else:
        found = load_pt(file)
    if isinstance(found, Mapping):
        return _by_names(found, file)
    if isinstance(found, (list, tuple)) and len(found) in (2, 3):
        return _Part(*found)
    role = _role(file.stem)
    if role == "lr":
        return _Part(lr=found)
    return _Part(labels=found) if role == "labels" else _Part(images=found)


def _role(name: str) -> str | None:
    """Return whether a name is one of images, labels or a rate."""
    words = [word for word in re.split(r"[_\-.\s]+|\d+", name.lower()) if word and word not in NOISE]
    if any(word in LABELS for word in words):
        return "labels"
    if any(word in IMAGES for word in words):
        return "images"
    return "lr" if "lr" in words or "_".join(words) in RATES else None


def _by_names(found: Mapping[Any, Any], file: Path) -> _Part:
    if is_state(dict(found)):
        raise UsageError(f"{file}: a state of a network or optimiser, not a distilled set")
    roles: dict[str, list[str]] = {}
    for key in found:
        if isinstance(key, str) and (role := _role(key)):
            roles.setdefault(role, []).append(key)
    double = next((keys for keys in roles.values() if len(keys) > 1), None)
    if double or ("images" not in roles and "labels" not in roles):
        named = ", ".join(map(str, list(found)[:8])) or "nothing"
        raise UsageError(
            f"{file}: holds {named}; one entry for images ({', '.join(IMAGES[:4])}, …) and one for labels "
            f"({', '.join(LABELS[:4])}, …) are needed"
        )
    return _Part(**{role: found[keys[0]] for role, keys in roles.items()})


def _load_safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    check_start(file)
    try:
        loaded: dict[str, Tensor] = load_file(file)
    except Exception as error:
        raise UsageError(f"{file}: not a readable safetensors file ({one_line(error)})") from None
    return loaded
