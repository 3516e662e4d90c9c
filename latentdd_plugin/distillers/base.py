"""The distiller contract: `distill(task) -> SyntheticSet`. A distiller never knows which codec it runs on."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from latentdd_plugin.augment import Augment
from latentdd_plugin.networks import MatchingNetwork, matching_network
from latentdd_plugin.numerics import Mode, Numerics, forward_flops, try_compiled
from latentdd_plugin.randomness import generator
from latentdd_plugin.space import CodeSpace, Real
from latentdd_plugin.types import Json, Shape, SyntheticSet

CHUNK = 256  # samples a compiled call: one fixed shape, and small enough for the caches of a CPU


class Checkpoint:
    """Where a distillation keeps its progress. This one keeps nothing; `run` passes one that writes to disk."""

    def load(self) -> dict[str, Any] | None:
        """The last saved progress, or None."""
        return None

    def save(self, payload: dict[str, Any]) -> None:
        """Keep this progress in place of what was kept before."""

    def due(self) -> bool:
        """Whether enough time has passed since the last save for another one."""
        return False


Progress = Callable[[int, int, float], None]  # (steps done, steps in all, loss)


def silent(done: int, total: int, loss: float) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class Task:
    """What a distiller is given. Samples are standardised; `match space` is where networks look, code or pixel."""

    real: Real  # real samples in the match space
    codes: Real  # the same training samples as codes, at the same positions
    space: CodeSpace
    match: str  # code | pixel
    codes_per_class: int
    num_classes: int
    seed: int
    numerics: Numerics
    augment: Augment
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    progress: Progress = silent
    _embeddings: dict[Mode, Embedding] = field(default_factory=dict)

    @property
    def code_shape(self) -> Shape:
        """(c, h, w) of one code."""
        return self.codes.shape

    @property
    def match_shape(self) -> Shape:
        """(c, h, w) of one sample in the match space."""
        return self.real.shape

    @property
    def device(self) -> str:
        """Where tensors live."""
        return self.numerics.device

    def generator(self, purpose: str, step: int = 0) -> torch.Generator:
        """A CPU generator derived from the run's seed, for one purpose at one step."""
        return generator(self.seed, purpose, step)

    def init(self, kind: str = "real") -> tuple[Tensor, Tensor]:
        """First codes float32 (M, c, h, w) and labels int64 (M,), class by class.

        `real` draws real codes without replacement (a class that is too small is drawn again); `noise` is Gaussian.
        """
        labels = torch.arange(self.num_classes).repeat_interleave(self.codes_per_class)
        if kind == "noise":
            codes = torch.randn((len(labels), *self.code_shape), generator=self.generator("init"))
            return codes.to(self.device), labels.to(self.device)
        drawn = [self.draw(label, repeat=True) for label in range(self.num_classes)]
        return self.codes.take(torch.cat(drawn)).clone(), labels.to(self.device)

    def draw(self, label: int, *, repeat: bool = False) -> Tensor:
        """Positions of the random real codes of a class: the draw that `init("real")` starts from and `random` keeps.

        Without `repeat` a class smaller than the budget gives all it has.
        """
        members = self.codes.by_class[label]
        rounds = math.ceil(self.codes_per_class / len(members)) if repeat else 1
        g = self.generator("init", label)
        order = torch.cat([torch.randperm(len(members), generator=g) for _ in range(rounds)])
        return members[order[: self.codes_per_class]]

    def view(self, codes: Tensor) -> Tensor:
        """Codes (M, c, h, w) in the match space, differentiable: themselves, or decoded and standardised as pixels."""
        if self.match == "code" or self.space.codec.codec.pixels:
            return codes
        return (self.space.decode(codes) - self.real.mean) / self.real.std

    def network(self, purpose: str, step: int) -> MatchingNetwork:
        """A fresh random network for the match space. One object, drawn anew from (seed, purpose, step)."""
        self._network.reset(self.generator(purpose, step))
        return self._network

    @cached_property
    def _network(self) -> MatchingNetwork:
        return matching_network(self.match_shape, self.num_classes).to(self.device).requires_grad_(False)

    def embedding(self, mode: Mode) -> Embedding:
        """Feature extraction with the network that `network` draws anew, in this arithmetic."""
        if mode not in self._embeddings:
            self._embeddings[mode] = Embedding(self._network, mode, self.match_shape)
        return self._embeddings[mode]

    def flops(self, samples: float) -> float:
        """Floating-point operations of one forward pass of the matching network over so many samples."""
        return samples * forward_flops(self._network, self.match_shape, self.device)


class Embedding:
    """Features of many samples, in chunks of one shape, in a mode's arithmetic. Keeps the compiled function."""

    def __init__(self, network: MatchingNetwork, mode: Mode, shape: Shape) -> None:
        if mode.compile:
            network.to(memory_format=torch.channels_last)

        def features(x: Tensor) -> Tensor:
            with mode.autocast():
                return network.features(x)

        with torch.no_grad():
            example = torch.zeros((CHUNK, *shape), device=mode.device)
            self._features, self.mode = try_compiled(mode, features, example)

    def __call__(self, x: Tensor) -> Tensor:
        """Samples (N, c, h, w) to features float32 (N, F)."""
        if self.mode.compile:
            x = x.contiguous(memory_format=torch.channels_last)
        parts = []
        for part in x.split(CHUNK):
            n = len(part)
            if n < CHUNK < len(x):  # a ragged end would be another shape to compile
                part = torch.cat([part, part.new_zeros((CHUNK - n, *part.shape[1:]))])
            parts.append(self._features(part)[:n].float())
        return torch.cat(parts)


class Distiller(ABC):
    """A method: its hyper-parameters are the constructor's arguments, kept as attributes of the same names.

    Attributes:
        presets: named sets of arguments; `paper` is the published one, `quick` fits two CPU cores.
        match_spaces: where it can look; a method that never calls `task.view` supports `code` only.
    """

    contract: ClassVar[int] = 1
    presets: ClassVar[dict[str, dict[str, Json]]] = {"paper": {}, "quick": {}}
    match_spaces: ClassVar[tuple[str, ...]] = ("code",)

    @abstractmethod
    def distill(self, task: Task) -> SyntheticSet:
        """The synthetic set for this task."""

    def config(self) -> dict[str, Json]:
        """The constructor's arguments as JSON: the same object comes back from them."""
        return {n: getattr(self, n) for n in inspect.signature(type(self)).parameters}
