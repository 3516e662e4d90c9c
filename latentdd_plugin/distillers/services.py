"""Services that a task offers a distiller: arithmetic, augmentation, networks, checkpoints and progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from latentdd_plugin.core.compute import Mode, Numerics, forward_flops
from latentdd_plugin.core.random import generator, seeded
from latentdd_plugin.core.types import Shape
from latentdd_plugin.distillers.embedding import Embedding
from latentdd_plugin.distillers.gradients import Gradients
from latentdd_plugin.nn.augment import Augment
from latentdd_plugin.nn.convnet import MatchingNetwork, matching_network
from latentdd_plugin.nn.teacher import Teacher


class Checkpoint:
    """Storage for the progress of a distillation. This one keeps nothing; `run` passes one that writes to disk."""

    def load(self) -> dict[str, Any] | None:
        """Return the last saved progress, or None."""
        return None

    def save(self, payload: dict[str, Any]) -> None:
        """Replace the saved progress by this one."""

    def due(self) -> bool:
        """Return whether enough time has passed since the last save for another one."""
        return False


class Rounding(Protocol):
    """Codes as they will be stored, and what they cost."""

    def view(self, codes: Tensor) -> Tensor:
        """Return codes (M, c, h, w) as stored, differentiable as if they had not been rounded."""

    def rate(self, codes: Tensor) -> Tensor:
        """Return the estimated bytes of codes (M, c, h, w) as a share of those allowed, differentiable, ()."""


class Storage(Protocol):
    """The storage that a distilled set is made for."""

    def fitted(self, codes: Tensor) -> Rounding | None:
        """Return the rounding that these codes (M, c, h, w) get; None if they are stored as they are."""


Progress = Callable[[int, int, float], None]  # (steps done, steps in all, loss)


def silent(done: int, total: int, loss: float) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class Services:
    """The surroundings of a distillation, which do not depend on the method."""

    numerics: Numerics  # device, threads, mixed precision, compilation
    augment: Augment = field(default_factory=Augment)  # operations that suit the match space
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    progress: Progress = silent
    teacher: Teacher | None = None  # a classifier of the classes, on the device; None if the run names none
    storage: Storage | None = None  # how the set will be stored; None is not known
    flip: bool = False  # a mirrored image keeps its class


class Networks:
    """The matching network of one match space, and the functions compiled for it.

    There is one network object; `draw` initialises it anew. Compiled functions take it, or its weights, as they are at
    the call, so that one compilation serves every draw.

    Args:
        shape: (c, h, w) of a sample in the match space.
        num_classes: number of logits.
        seed: of the run; every draw depends on (seed, purpose, step) only.
        device: device of the network.
    """

    def __init__(self, shape: Shape, num_classes: int, seed: int, device: str) -> None:
        self.shape, self.num_classes, self.seed, self.device = shape, num_classes, seed, device
        with seeded(seed, "task/network"):  # torch's own initialisation, which every draw replaces
            network = matching_network(shape, num_classes)
        self.network = network.to(device).requires_grad_(False)
        self._embeddings: dict[Mode, Embedding] = {}
        self._gradients: dict[Mode, Gradients] = {}

    def draw(self, purpose: str, step: int) -> MatchingNetwork:
        """Initialise the network at random and return it."""
        self.network.reset(generator(self.seed, purpose, step))
        return self.network

    def embedding(self, mode: Mode) -> Embedding:
        """Return feature extraction with the network in this arithmetic, built at the first call."""
        if mode not in self._embeddings:
            self._embeddings[mode] = Embedding(self.network, mode, self.shape)
        return self._embeddings[mode]

    def gradients(self, mode: Mode) -> Gradients:
        """Return the gradients of the network's cross-entropy in this arithmetic, built at the first call."""
        if mode not in self._gradients:
            self._gradients[mode] = Gradients(self.network, mode, self.shape, self.num_classes)
        return self._gradients[mode]

    def flops(self, samples: float) -> float:
        """Return the floating-point operations of one forward pass over this many samples."""
        return samples * forward_flops(self.network, self.shape, self.device)
