"""Checks of tensors from untrusted files."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from latentdd_plugin.core.errors import UsageError


def images_of(value: Any, what: str) -> Tensor:
    """Return images as float32 (N, C, H, W), contiguous; raise UsageError if they are not floating-point images."""
    images = tensor_of(value, what, (4,))
    if not images.is_floating_point():
        raise UsageError(f"{what}: {images.dtype}; floating-point values are needed")
    return images.float().contiguous()


def labels_of(value: Any, what: str, *, soft: bool = False) -> Tensor:
    """Return labels as int64 (N,) or, if `soft` allows it, float32 (N, classes); raise UsageError for other values."""
    labels = tensor_of(value, what, (1, 2) if soft else (1,))
    if labels.ndim == 2 and labels.is_floating_point():
        return labels.float().contiguous()
    whole = labels.long() if not labels.is_complex() else labels
    if labels.ndim == 2 or whole.is_complex() or not bool((whole == labels).all()):
        raise UsageError(f"{what}: {labels.dtype} {tuple(labels.shape)}; whole numbers are needed")
    return whole.contiguous()


def number(value: Any, what: str) -> float:
    """Return a finite positive number from a tensor with one value, or from a Python number."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.detach().item()
    if not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise UsageError(f"{what}: one positive number is needed")
    return float(value)


def tensor_of(value: Any, what: str, sides: tuple[int, ...]) -> Tensor:
    """Return a tensor with one of these numbers of sides; raise UsageError if it is anything else."""
    if isinstance(value, dict) and is_state(value):
        keys = ", ".join(list(value)[:3])
        raise UsageError(f"{what}: a state of a network or optimiser ({keys}, …), not a distilled set")
    if not isinstance(value, Tensor):
        raise UsageError(f"{what}: a tensor is needed, this is a {type(value).__name__}")
    if value.ndim not in sides or not value.numel():
        needed = " or ".join(str(n) for n in sides)
        raise UsageError(f"{what}: shape {tuple(value.shape)}; {needed} sides are needed, none of them empty")
    return value.detach()


def is_state(value: dict[Any, Any]) -> bool:
    """Return whether a dictionary looks like the state of a network or an optimiser."""
    if {"state_dict", "model_state_dict", "optimizer", "param_groups"} & set(value):
        return True
    names = [key for key, one in value.items() if isinstance(key, str) and isinstance(one, Tensor)]
    endings = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return bool(names) and sum(name.rpartition(".")[2] in endings for name in names) * 2 > len(names)


def pixels_of(value: Any, what: str) -> tuple[Tensor, bool]:
    """Return images as float32 (N, C, H, W), and whether they were bytes, which become [0, 1].

    Channels may come first or last, or be missing from grey images.

    Raises:
        UsageError: they are neither bytes nor floating-point values, or it cannot be told which side is the channels.
    """
    images = tensor_of(value, what, (3, 4))
    images = images.unsqueeze(1) if images.ndim == 3 else images
    first, last = images.shape[1] in (1, 3), images.shape[3] in (1, 3)
    if first == last:
        raise UsageError(
            f"{what}: shape {tuple(images.shape)}; (N, C, H, W) or (N, H, W, C) with 1 or 3 channels is needed"
        )
    images = images if first else images.permute(0, 3, 1, 2)
    if images.is_floating_point():
        return images.float().contiguous(), False
    if images.is_complex() or images.dtype == torch.bool or int(images.min()) < 0 or int(images.max()) > 255:
        raise UsageError(f"{what}: {images.dtype}; floating-point values, or whole numbers of 0 … 255, are needed")
    return (images.float() / 255).contiguous(), True
