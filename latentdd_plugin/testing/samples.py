"""What plug-ins are tried on: scikit-learn's real digits, and the smallest tasks and trials made of them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latentdd_plugin.core.compute import Numerics, resolve_numerics
from latentdd_plugin.core.config import ComputeConfig, DatasetConfig
from latentdd_plugin.core.types import ImageData, Images, Json, Shape
from latentdd_plugin.data.load import load_dataset
from latentdd_plugin.distillers.task import Checkpoint, Task
from latentdd_plugin.evaluators.base import Trial
from latentdd_plugin.evaluators.protocols import Protocol
from latentdd_plugin.latent.encode import code_set
from latentdd_plugin.latent.sized_codec import SizedCodec, build_codec
from latentdd_plugin.latent.space import CodeSpace, Real, pixel_set
from latentdd_plugin.nn.augment import Augment, operations_for

PICTURES = 80  # images that a codec which learns is fitted on

PROTOCOL = Protocol(
    name="tiny.test",
    side=32,
    steps=((32, 3),),
    epochs=0,
    batch=16,
    optimizer="adamw",
    lr=1e-3,
    lr_from="fixed",
    schedule="cosine",
    momentum=0.0,
    weight_decay=0.05,
    augment=("crop", "scale", "rotate"),
    clamp=False,
    labels="stored",
    seeds=2,
)


@cache
def digits() -> ImageData:
    """The real digits, read once."""
    return load_dataset(DatasetConfig(name="digits"))


@cache
def held_out() -> Images:
    """The digits' test images."""
    return digits().held_out("test")


def plain() -> Numerics:
    """Eager float32 on the processor."""
    return resolve_numerics(ComputeConfig(device="cpu", amp="off", compile="off"))


def pictures(shape: Shape, n: int = PICTURES) -> Tensor:
    """uint8 (n, C, H, W): the middle of real digits at any size, where the margin holds ink too; a digit a channel."""
    c, h, w = shape
    middle = digits().train.pixels[: n * c, :, 1:7, 1:7].float() / 255
    images = F.interpolate(middle.view(n, c, 6, 6), (h, w), mode="bicubic", antialias=True).clamp(0, 1)
    return (images * 255).round().to(torch.uint8)


@cache
def spaces(codec: str, **options: Json) -> tuple[SizedCodec, CodeSpace, Real, Real]:
    """(sized codec, code space, codes, pixels) of the digits under a codec's name; fitted where it learns."""
    sized = build_codec({"name": codec, **options}, digits().image_shape)
    space, codes = code_set(digits(), sized, plain())
    return sized, space, codes, pixel_set(digits(), "cpu")


def task(
    codec: str = "dct",
    match: str = "code",
    *,
    codes_per_class: int = 2,
    seed: int = 0,
    options: Mapping[str, Json] = MappingProxyType({}),
    **more: Any,
) -> Task:
    """A distiller's task on the digits, with real samples of its own to spoil; `more` replaces its fields.

    Args:
        codec: its name.
        match: `code` or `pixel`.
        codes_per_class: how many codes a class.
        seed: of every draw.
        options: the codec's own.
        more: fields of `Task`.
    """
    sized, space, *both = spaces(codec, **options)
    codes, pixels = (replace(real, store=real.store.clone()) for real in both)
    in_pixels = match == "pixel" or sized.pixels
    operations = operations_for(colour=False, spatial=in_pixels or sized.spatial, flip=digits().flip)
    given = {
        "real": pixels if in_pixels else codes,
        "codes": codes,
        "space": space,
        "match": match,
        "codes_per_class": codes_per_class,
        "num_classes": 10,
        "seed": seed,
        "numerics": plain(),
        "augment": Augment(operations),
    }
    return Task(**{**given, **more})


def trial(
    images: Tensor | None = None,
    labels: Tensor | None = None,
    *,
    kind: str = "hard",
    protocol: Protocol = PROTOCOL,
    **more: Any,
) -> Trial:
    """Twenty real digits to train on, and all held-out digits to test on; `more` replaces its fields."""
    found = digits()
    rows = torch.cat([part[:2] for part in spaces("identity")[2].by_class])
    pixels = spaces("identity")[3]
    given = {
        "images": found.train.pixels[rows].float() / 255 if images is None else images,
        "labels": found.train.labels[rows] if labels is None else labels,
        "label_kind": kind,
        "lr": None,
        "held_out": held_out(),
        "num_classes": 10,
        "mean": pixels.mean,
        "std": pixels.std,
        "flip": False,
        "protocol": protocol,
        "numerics": plain(),
    }
    return Trial(**{**given, **more})


class Kept(Checkpoint):
    """A checkpoint in memory, due at every step; keeps every payload it was given, as a file would.

    Args:
        first: what `load` gives.
    """

    def __init__(self, first: dict[str, Any] | None = None) -> None:
        self.first = first
        self.saved: list[dict[str, Any]] = []

    def load(self) -> dict[str, Any] | None:
        """What it was made with."""
        return self.first

    def save(self, payload: dict[str, Any]) -> None:
        """Keep a copy, written and read as a file is."""
        file = io.BytesIO()
        torch.save(payload, file)
        file.seek(0)
        self.saved.append(torch.load(file, weights_only=True))

    def due(self) -> bool:
        """Always."""
        return True


def difference(a: Tensor, b: Tensor) -> str:
    """How two tensors differ, in words; empty where they are equal to the bit."""
    if a.shape != b.shape:
        return f"shapes {tuple(a.shape)} and {tuple(b.shape)}"
    if a.dtype != b.dtype:
        return f"{a.dtype} and {b.dtype}"
    if torch.equal(a, b):
        return ""
    return f"they differ by up to {float((a.double() - b.double()).abs().max()):.3g}, of {float(b.abs().max()):.3g}"


def near(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Whether no value differs by more than the tolerance, taken of the largest value or of 1."""
    return a.shape == b.shape and bool(((a - b).abs() <= tolerance * max(1.0, float(b.abs().max()))).all())
