"""The evaluator contract: train on decoded images and labels, return one raw score a seed."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from latentdd_plugin.core.compute import Numerics
from latentdd_plugin.core.types import Images, Json, Score, Shape
from latentdd_plugin.evaluators.protocols import Protocol


class Unsuitable(Exception):
    """This evaluator cannot take the job; the text says why."""


@dataclass(frozen=True)
class Trial:
    """A distilled set to be judged, and the held-out images that judge it."""

    images: Tensor  # float32 (M, C, H, W), decoded, [0, 1] units, on the device
    labels: Tensor  # int64 (M,), or float32 (M, classes)
    label_kind: str  # hard | probabilities | logits
    lr: float | None  # the artifact's learned learning rate
    held_out: Images  # the test images
    num_classes: int
    mean: Tensor  # float32 (C, 1, 1) of the real training images: what networks' inputs are standardised by
    std: Tensor  # float32 (C, 1, 1)
    flip: bool
    protocol: Protocol
    numerics: Numerics

    @property
    def side(self) -> int:
        """Side of the images networks are trained and tested on."""
        side = int(min(self.images.shape[2:]))
        return side if self.protocol.side is None else min(side, self.protocol.side)

    @property
    def shape(self) -> Shape:
        """(C, H, W) of a network's input."""
        c, h, w = self.images.shape[1:]
        return (int(c), int(h), int(w)) if min(h, w) <= self.side else (int(c), self.side, self.side)

    @cached_property
    def inputs(self) -> Tensor:
        """Training inputs float32 (M, C, H, W), shrunk to the protocol's side and standardised."""
        images = self.images.clamp(0, 1) if self.protocol.clamp else self.images
        return (shrink(images, self.shape) - self.mean) / self.std

    @cached_property
    def test_inputs(self) -> Tensor:
        """Test inputs float32 (T, C, H, W), treated as the training inputs are."""
        parts = self.held_out.pixels.split(1024)
        device = self.numerics.device
        return torch.cat([(shrink(p.to(device).float() / 255, self.shape) - self.mean) / self.std for p in parts])

    @cached_property
    def targets(self) -> Tensor:
        """What the loss is taken against: int64 (M,), or class probabilities float32 (M, classes)."""
        labels = self.labels.to(self.numerics.device)
        if self.label_kind == "hard":
            return labels
        if self.protocol.labels == "hard":
            return labels.argmax(1)
        return labels.softmax(1) if self.label_kind == "logits" else labels


def shrink(images: Tensor, shape: Shape) -> Tensor:
    """Images resized to (H, W) of `shape`, antialiased bilinear; unchanged where they have that size."""
    if tuple(images.shape[2:]) == shape[1:]:
        return images
    return F.interpolate(images, shape[1:], mode="bilinear", antialias=True, align_corners=False)


class Evaluator(ABC):
    """A way to obtain a score. One object serves all seeds of one trial."""

    contract: ClassVar[int] = 1

    @abstractmethod
    def evaluate(self, trial: Trial, seed: int) -> Score:
        """Train under this seed, test once. Raises Unsuitable where it cannot take the job."""

    def config(self) -> dict[str, Json]:
        """The constructor's arguments as JSON: the same object comes back from them."""
        return {n: getattr(self, n) for n in inspect.signature(type(self)).parameters}
