"""A teacher: a classifier of a dataset's classes, which labels or scores images.

A stored teacher is a folder of two files, `teacher.json` and `teacher.safetensors`. Nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.json_record import JsonRecord, json_field
from latentdd_plugin.core.json_schema import (
    COUNT,
    LINE,
    LINES,
    NAMES,
    NUMBER,
    OBJECT,
    SHA256,
    SIZES,
    WHOLE,
    ListOf,
    word,
)
from latentdd_plugin.core.storage import atomic_write
from latentdd_plugin.core.types import Json, Shape, canonical_json
from latentdd_plugin.nn.architectures import build_named, features_of, forward_batch

SCHEMA = "dd-bench/teacher.v1"
CARD, WEIGHTS = "teacher.json", "teacher.safetensors"


@dataclass(frozen=True, kw_only=True)
class TeacherCard(JsonRecord):
    """Everything about a teacher but its weights."""

    schema: str = json_field(word(SCHEMA), "name of this schema", default=SCHEMA)
    arch: str = json_field(LINE, "timm name of the network")
    kwargs: Mapping[str, Json] = json_field(OBJECT, "arguments that the network was built with")
    networks: int = json_field(COUNT, "number of networks, whose logits are averaged", default=1)
    classes: tuple[str, ...] = json_field(NAMES, "class names in the order of its logits")
    input_shape: Shape = json_field(SIZES, "C, H, W of its input")
    mean: tuple[float, ...] = json_field(ListOf(NUMBER), "mean by channel that its inputs are standardised with")
    std: tuple[float, ...] = json_field(ListOf(NUMBER), "deviation by channel")
    trained_on: tuple[str, ...] = json_field(LINES, "datasets that its weights have seen")
    recipe: str | None = json_field(LINE.or_missing(omit=True), "recipe it was trained by, if known", default=None)
    seed: int | None = json_field(
        WHOLE.or_missing(omit=True), "seed of its first network, if it was trained here", default=None
    )
    data: str | None = json_field(
        SHA256.or_missing(omit=True), "hash of its training images, if it was trained here", default=None
    )
    sha256: str = json_field(SHA256, "hash of its weights")


@dataclass(frozen=True)
class Teacher:
    """A classifier, frozen and in evaluation mode."""

    card: TeacherCard
    networks: tuple[nn.Module, ...]

    @classmethod
    def of(cls, networks: tuple[nn.Module, ...], **fields: Any) -> Teacher:
        """Return a teacher of these networks; the card's other fields are given by name."""
        frozen = tuple(network.eval().requires_grad_(False) for network in networks)
        card = TeacherCard(networks=len(networks), sha256=weights_sha256(frozen), **fields)
        return cls(card, frozen)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return self.card.classes

    @property
    def params(self) -> int:
        """Number of parameters of all networks."""
        return sum(p.numel() for network in self.networks for p in network.parameters())

    @property
    def bytes(self) -> int:
        """Bytes of all weights and running statistics, as stored."""
        states = (network.state_dict().values() for network in self.networks)
        return sum(tensor.numel() * tensor.element_size() for state in states for tensor in state)

    def to(self, device: str) -> Teacher:
        """Return this teacher with its networks on a device."""
        return Teacher(self.card, tuple(network.to(device) for network in self.networks))

    def standardise(self, images: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [0, 1] units as the networks take them: resized and standardised."""
        _, h, w = self.card.input_shape
        if tuple(images.shape[2:]) != (h, w):
            images = F.interpolate(images, (h, w), mode="bilinear", antialias=True, align_corners=False)
        mean, std = (torch.tensor(v, device=images.device).view(-1, 1, 1) for v in (self.card.mean, self.card.std))
        return (images - mean) / std

    def logits(self, images: Tensor) -> Tensor:
        """Return logits float32 (N, classes) of images (N, C, H, W) in [0, 1] units; differentiable in the images."""
        inputs = self.standardise(images)
        return torch.stack([network(inputs).float() for network in self.networks]).mean(0)

    def classify(self, images: Tensor) -> Tensor:
        """Return logits float32 (N, classes) of any number of images, chunk by chunk, without gradients."""
        return self._in_chunks(self.logits, images, len(self.classes))

    def features(self, images: Tensor) -> Tensor:
        """Return what the networks compute before their last layers, side by side, float32 (N, F), chunk by chunk.

        Args:
            images: (N, C, H, W) in [0, 1] units.

        Raises:
            UsageError: a network does not give its features.
        """

        def side_by_side(part: Tensor) -> Tensor:
            inputs = self.standardise(part)
            return torch.cat([features_of(network, inputs).float() for network in self.networks], 1)

        with torch.no_grad():
            width = side_by_side(images[:1]).shape[1]
        return self._in_chunks(side_by_side, images, width)

    def _in_chunks(self, function: Callable[[Tensor], Tensor], images: Tensor, width: int) -> Tensor:
        """Return the function's rows (N, width) of all images, without gradients."""
        # Written in place: small results kept between large batches would make the heap grow by each batch.
        found = torch.empty((len(images), width), device=images.device)
        size = forward_batch(self.card.input_shape)
        with torch.no_grad():
            for rows in (slice(start, start + size) for start in range(0, len(images), size)):
                found[rows] = function(images[rows])
        return found

    def check_classes(self, classes: tuple[str, ...], image_shape: Shape) -> None:
        """Raise UsageError if this is not a teacher of these classes in this order, or of such images."""
        ours = self.card.classes
        if sorted(ours) == sorted(classes) and ours != tuple(classes):
            raise UsageError(
                f"teacher: its classes are in another order: {_first(ours)}, the data has {_first(classes)}"
            )
        if ours != tuple(classes):
            raise UsageError(
                f"teacher: it knows {len(ours)} classes, {_first(ours)}; the data has {len(classes)}, {_first(classes)}"
            )
        if self.card.input_shape[0] != image_shape[0]:
            raise UsageError(f"teacher: it takes {self.card.input_shape[0]} channels, the images have {image_shape[0]}")

    def save(self, folder: Path) -> None:
        """Write `teacher.safetensors` and `teacher.json`."""
        from safetensors.torch import save

        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / WEIGHTS) as temporary:
            temporary.write_bytes(save(_tensors(self.networks)))
        with atomic_write(folder / CARD) as temporary:
            temporary.write_text(json.dumps(self.card.to_json(), indent=2) + "\n", encoding="utf-8")


def load_teacher(folder: Path | str) -> Teacher:
    """Load a stored teacher.

    Raises:
        UsageError: there is none, its card is damaged, or its weights are others than the card says or do not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    try:
        value = json.loads((folder / CARD).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
    except FileNotFoundError as error:
        raise UsageError(f"teacher.path={folder}: {Path(error.filename or CARD).name} is missing there") from None
    except (OSError, ValueError, SafetensorError, RecursionError) as error:
        raise UsageError(f"teacher.path={folder}: not a readable teacher ({error})") from None
    card = _checked_card(value, folder)
    networks = []
    for number in range(card.networks):
        own = {name.partition(".")[2]: t for name, t in tensors.items() if name.partition(".")[0] == str(number)}
        network = build_named(card.arch, dict(card.kwargs), card.input_shape, len(card.classes))
        try:
            network.load_state_dict(own)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise UsageError(f"teacher.path={folder}: its weights are not those of {card.arch} ({reason})") from None
        networks.append(network.eval().requires_grad_(False))
    teacher = Teacher(card, tuple(networks))
    if weights_sha256(teacher.networks) != card.sha256:
        raise UsageError(f"teacher.path={folder}: its weights do not match the sha256 in {CARD}")
    return teacher


def _checked_card(value: Json, folder: Path) -> TeacherCard:
    try:
        card = TeacherCard.from_json(value)
    except UsageError as error:
        raise UsageError([f"teacher.path={folder}: {fault}" for fault in error.faults]) from None
    channels = card.input_shape[0]
    if len(card.mean) != channels or len(card.std) != channels or min(card.std) <= 0:
        raise UsageError(f"teacher.path={folder}: mean and std (above 0) of {channels} channels are needed")
    if card.networks > 64 or math.prod(card.input_shape) > 2**26:
        raise UsageError(f"teacher.path={folder}: {card.networks} networks of input {card.input_shape} are too many")
    return card


def weights_sha256(networks: tuple[nn.Module, ...]) -> str:
    """Return one sha256 (hex) over every weight and running statistic, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(_tensors(networks).items()):
        digest.update(canonical_json([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def _tensors(networks: tuple[nn.Module, ...]) -> dict[str, Tensor]:
    return {
        f"{number}.{name}": tensor.detach().cpu().contiguous().clone()
        for number, network in enumerate(networks)
        for name, tensor in network.state_dict().items()
    }


def _first(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:3]) + (" …" if len(classes) > 3 else "")
