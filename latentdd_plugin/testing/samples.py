"""Test data for plug-ins: scikit-learn's handwritten digits, and small tasks and trials made from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latentdd_plugin.core import checkpoint
from latentdd_plugin.core.compute import Numerics, resolve_numerics
from latentdd_plugin.core.config import ComputeConfig, DatasetConfig
from latentdd_plugin.core.random import seeded
from latentdd_plugin.core.types import ImageData, Images, Json, Shape, as_tensor
from latentdd_plugin.data.load import load_dataset
from latentdd_plugin.distillers.services import Checkpoint, Services
from latentdd_plugin.distillers.task import Task
from latentdd_plugin.evaluators.base import Trial
from latentdd_plugin.evaluators.protocols import Protocol
from latentdd_plugin.latent.encode import code_set
from latentdd_plugin.latent.sized_codec import SizedCodec, build_codec
from latentdd_plugin.latent.space import CodeSpace, Real, pixel_set
from latentdd_plugin.nn.architectures import build
from latentdd_plugin.nn.augment import Augment, operations_for
from latentdd_plugin.nn.teacher import Teacher

PICTURES = 80  # images to fit a codec on

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
    """Return the real digits, loaded once per process."""
    return load_dataset(DatasetConfig(name="digits"))


@cache
def held_out() -> Images:
    """Return the test images of the digits."""
    return digits().held_out("test")


def plain() -> Numerics:
    """Return the settings for eager float32 on the CPU."""
    return resolve_numerics(ComputeConfig(device="cpu", amp="off", compile="off"))


def pictures(shape: Shape, n: int = PICTURES) -> Tensor:
    """Return uint8 images (n, C, H, W) of any size: resized centres of real digits, one digit per channel.

    The margin is cut off first, so that the border pixels of the images carry ink too.
    """
    c, h, w = shape
    middle = digits().train.pixels[: n * c, :, 1:7, 1:7].float() / 255
    images = F.interpolate(middle.view(n, c, 6, 6), (h, w), mode="bicubic", antialias=True).clamp(0, 1)
    return (images * 255).round().to(torch.uint8)


@cache
def spaces(codec: str, **options: Json) -> tuple[SizedCodec, CodeSpace, Real, Real]:
    """Return (sized codec, code space, codes, pixels) of the digits for a codec's name, fitted if the codec learns."""
    sized = build_codec({"name": codec, **options}, digits().image_shape)
    space, codes = code_set(digits(), sized, plain())
    return sized, space, codes, pixel_set(digits(), "cpu")


@cache
def teacher() -> Teacher:
    """Return a teacher of the digits: a ConvNet with BatchNorm as it is initialised, enough for the contracts."""
    data, pixels = digits(), pixel_set(digits(), "cpu")
    with seeded(0, "testing/teacher"):
        network, arch, kwargs = build("convnet_bn", data.image_shape, len(data.classes))
    return Teacher.of(
        (network,),
        arch=arch,
        kwargs=kwargs,
        classes=data.classes,
        input_shape=data.image_shape,
        mean=tuple(pixels.mean.flatten().tolist()),
        std=tuple(pixels.std.flatten().tolist()),
        trained_on=(),
    )


def task(
    codec: str = "dct",
    match: str = "code",
    *,
    codes_per_class: int = 2,
    seed: int = 0,
    options: Mapping[str, Json] = MappingProxyType({}),
    **more: Any,
) -> Task:
    """Return a distillation task on the digits, with its own copy of the real samples.

    Args:
        codec: name of the codec.
        match: `code` or `pixel`.
        codes_per_class: number of codes per class.
        seed: seed of every draw.
        options: options of the codec.
        more: fields of `Task` and of `Services` to replace.
    """
    sized, space, *both = spaces(codec, **options)
    codes, pixels = (replace(real, store=as_tensor(real.store).clone()) for real in both)
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
        "pixels": pixels,
    }
    services: dict[str, Any] = {"numerics": plain(), "augment": Augment(operations), "teacher": teacher()}
    services |= {field.name: more.pop(field.name) for field in fields(Services) if field.name in more}
    return Task(**{**given, "services": Services(**services), **more})


def trial(
    images: Tensor | None = None,
    labels: Tensor | None = None,
    *,
    kind: str = "hard",
    protocol: Protocol = PROTOCOL,
    **more: Any,
) -> Trial:
    """Return a trial on 20 real digits and all test digits; `more` replaces fields of `Trial`."""
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
    """Checkpoint in memory that is due at every step and keeps every payload, serialised as a file would be.

    Args:
        first: payload that `load` returns.
    """

    def __init__(self, first: dict[str, Any] | None = None) -> None:
        self.first = first
        self.saved: list[dict[str, Any]] = []

    def load(self) -> dict[str, Any] | None:
        """Return the payload that the checkpoint was made with."""
        return self.first

    def save(self, payload: dict[str, Any]) -> None:
        """Keep a copy of the payload, as it comes back from a file."""
        self.saved.append(checkpoint.round_trip(payload))

    def due(self) -> bool:
        """Return True: every step is saved."""
        return True


def difference(a: Tensor, b: Tensor) -> str:
    """Describe how two tensors differ; return an empty string if they are equal to the bit."""
    if a.shape != b.shape:
        return f"shapes {tuple(a.shape)} and {tuple(b.shape)}"
    if a.dtype != b.dtype:
        return f"{a.dtype} and {b.dtype}"
    if torch.equal(a, b):
        return ""
    return f"differ by up to {float((a.double() - b.double()).abs().max()):.3g}, of {float(b.abs().max()):.3g}"


def near(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Return whether all values agree within the tolerance, relative to the largest value or to 1."""
    return a.shape == b.shape and bool(((a - b).abs() <= tolerance * max(1.0, float(b.abs().max()))).all())
