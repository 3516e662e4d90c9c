"""Images and labels in memory, as NumPy arrays or torch tensors, to a dataset ready for a run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.core.types import ImageData, Images, canonical_json

CHANNELS = (1, 3)


def image_data(
    images: Any, labels: Any, *, classes: Sequence[str] | None = None, flip: bool = True, name: str = "arrays"
) -> ImageData:
    """Check images and labels and return them as a dataset without held-out images.

    Args:
        images: uint8, or float in [0, 1], of shape (N, H, W, C), (N, C, H, W) or, grey, (N, H, W); C is 1 or 3. If both
            ends could be channels, arrays are read as (N, H, W, C) and tensors as (N, C, H, W).
        labels: class numbers 0, 1, … or class names, one per image.
        classes: class names by number; None takes the numbers, or the sorted names that occur.
        flip: True if a mirrored image keeps its label.
        name: of the dataset, for the artifact.

    Raises:
        DataError: with every fault found.
    """
    found, faults = _pixels(images)
    numbers, names, more = _numbers(labels, None if classes is None else tuple(map(str, classes)))
    faults += more
    if found is not None and numbers is not None and len(found) != len(numbers):
        faults.append(f"labels: {len(numbers)} for {len(found)} images; give one per image")
    if faults or found is None or numbers is None:
        raise DataError(faults)
    digest = hashlib.sha256(f"arrays\n{tuple(found.shape)}\n{canonical_json(names)}\n".encode())
    digest.update(found.numpy().tobytes())
    digest.update(numbers.numpy().astype("<i8").tobytes())
    return ImageData(
        name=name,
        classes=names,
        train=Images(found, numbers),
        held_out=_no_held_out,
        fingerprint=digest.hexdigest(),
        flip=flip,
        source={"origin": "arrays"},
    )


def _no_held_out(split: str) -> Images:
    raise DataError(f"images in memory have no {split} split; evaluate the artifact on a dataset")


def _pixels(images: Any) -> tuple[Tensor | None, list[str]]:
    """Return pixels uint8 (N, C, H, W) on the CPU, and what is wrong with the images."""
    is_tensor = isinstance(images, Tensor)
    try:
        found = images.detach().cpu() if is_tensor else torch.from_numpy(np.ascontiguousarray(images))
    except (TypeError, ValueError) as error:
        return None, [f"images: must be one array or tensor, or images of one size ({str(error).splitlines()[0]})"]
    if found.ndim == 3:
        found = found[:, None]
    elif found.ndim == 4:
        if (fault := _channel_fault(found)) is not None:
            return None, [fault]
        first, last = found.shape[1] in CHANNELS, found.shape[3] in CHANNELS
        if last and not (first and is_tensor):
            found = found.permute(0, 3, 1, 2)
    else:
        return None, [f"images: shape {tuple(found.shape)}; must be (N, H, W, C), (N, C, H, W) or (N, H, W)"]
    if found.numel() == 0:
        return None, [f"images: shape {tuple(found.shape)} holds no image"]
    faults = _value_faults(found)
    if faults:
        return None, faults
    pixels = found if found.dtype == torch.uint8 else (found.float() * 255).round().to(torch.uint8)
    return pixels.contiguous(), []


def _channel_fault(images: Tensor) -> str | None:
    shape = tuple(images.shape)
    if shape[1] in CHANNELS or shape[3] in CHANNELS:
        return None
    alpha = "; drop the alpha channel, images[..., :3]" if 4 in (shape[1], shape[3]) else ""
    return f"images: shape {shape} has neither 1 nor 3 channels at its second or last place{alpha}"


def _value_faults(images: Tensor) -> list[str]:
    if images.dtype == torch.uint8:
        return []
    if not images.is_floating_point():
        return [f"images: {images.dtype} values; must be uint8, or float in [0, 1]: convert 0…255 to uint8 first"]
    if not bool(torch.isfinite(images).all()):
        return ["images: some values are not finite"]
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        hint = "divide by 255, or convert to uint8" if low >= 0 and high <= 255 else "undo the normalisation first"
        return [f"images: float values from {low:.4g} to {high:.4g}; must be in [0, 1]: {hint}"]
    return []


def _numbers(labels: Any, classes: tuple[str, ...] | None) -> tuple[Tensor | None, tuple[str, ...], list[str]]:
    """Return class numbers int64 (N,), class names, and what is wrong with the labels."""
    found = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if found.ndim != 1:
        hint = "; of one-hot labels take labels.argmax(1)" if found.ndim == 2 else ""
        return None, (), [f"labels: shape {found.shape}; must be (N,){hint}"]
    if found.dtype.kind in "US" or (found.dtype.kind == "O" and all(isinstance(one, str) for one in found)):
        return _named(found, classes)
    if found.dtype.kind == "f" and bool(np.isfinite(found).all()) and bool((found == np.rint(found)).all()):
        found = found.astype(np.int64)
    if found.dtype.kind not in "iu":
        return None, (), [f"labels: {found.dtype} values; must be class numbers 0, 1, … or class names"]
    return _counted(found.astype(np.int64), classes)


def _named(labels: Any, classes: tuple[str, ...] | None) -> tuple[Tensor | None, tuple[str, ...], list[str]]:
    texts = [str(one) for one in labels]
    names = tuple(sorted(set(texts))) if classes is None else classes
    unknown = sorted(set(texts) - set(names))
    if unknown:
        return None, (), [f"labels: {', '.join(unknown[:5])}: not among the classes {', '.join(names[:10])}"]
    place = {name: number for number, name in enumerate(names)}
    return _counted(np.array([place[one] for one in texts], dtype=np.int64), names)


def _counted(numbers: Any, classes: tuple[str, ...] | None) -> tuple[Tensor | None, tuple[str, ...], list[str]]:
    if numbers.size and numbers.min() < 0:
        return None, (), [f"labels: {numbers.min()} is negative; number the classes 0, 1, …"]
    count = int(numbers.max()) + 1 if numbers.size else 0
    names = tuple(map(str, range(count))) if classes is None else classes
    if count > len(names):
        return None, (), [f"labels: up to {count - 1}, but {len(names)} class names are given"]
    if len(set(names)) < len(names):
        return None, (), ["classes: a name occurs twice"]
    empty = sorted(set(range(len(names))) - set(numbers.tolist()))
    if empty:
        shown = ", ".join(names[number] for number in empty[:5])
        return (
            None,
            (),
            [f"labels: no image of {len(empty)} class(es): {shown}; number the classes 0, 1, … without gaps"],
        )
    return torch.from_numpy(numbers), names, []
