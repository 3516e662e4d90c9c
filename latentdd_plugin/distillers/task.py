"""The task a distiller is given: real samples, the budget, and services such as networks and generators."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from latentdd_plugin.core.compute import Mode, Numerics, forward_flops
from latentdd_plugin.core.errors import RunFailed
from latentdd_plugin.core.random import generator, seeded
from latentdd_plugin.core.types import Shape, SyntheticSet
from latentdd_plugin.distillers.embedding import Embedding
from latentdd_plugin.distillers.gradients import Gradients
from latentdd_plugin.latent.space import CodeSpace, Real
from latentdd_plugin.nn.augment import Augment
from latentdd_plugin.nn.convnet import MatchingNetwork, matching_network


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
    real_id: str = ""  # names the real samples of the match space, for what is kept on disk
    _kept: dict[Any, Any] = field(default_factory=dict)

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
        if kind != "real":
            raise ValueError(f"init={kind}: there are real and noise")
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
        if self.match == "code" or self.space.codec.pixels:
            return codes
        return (self.space.decode(codes) - self.real.mean) / self.real.std

    def network(self, purpose: str, step: int) -> MatchingNetwork:
        """A fresh random network for the match space. One object, drawn anew from (seed, purpose, step)."""
        self._network.reset(self.generator(purpose, step))
        return self._network

    @cached_property
    def _network(self) -> MatchingNetwork:
        with seeded(self.seed, "task/network"):  # torch's own first draw, which `reset` replaces
            network = matching_network(self.match_shape, self.num_classes)
        return network.to(self.device).requires_grad_(False)

    def embedding(self, mode: Mode) -> Embedding:
        """Feature extraction with the network that `network` draws anew, in this arithmetic."""
        embedding: Embedding = self.once(("embedding", mode), lambda: Embedding(self._network, mode, self.match_shape))
        return embedding

    def gradients(self, mode: Mode) -> Gradients:
        """Gradients of the matching network's cross-entropy at any weights, in this arithmetic."""
        build = functools.partial(Gradients, self._network, mode, self.match_shape, self.num_classes)
        gradients: Gradients = self.once(("gradients", mode), build)
        return gradients

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What `make` gives, made at the first call with this key and kept: things to compute with, never results."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def flops(self, samples: float) -> float:
        """Floating-point operations of one forward pass of the matching network over so many samples."""
        return samples * forward_flops(self._network, self.match_shape, self.device)


def checked(found: SyntheticSet, task: Task) -> SyntheticSet:
    """What a method returned, as float32 codes and int64 or float32 labels.

    Raises:
        RunFailed: it is no synthetic set of this task: another shape, too many codes, labels that do not fit, a value
            that is not finite.
    """
    if not isinstance(found, SyntheticSet):
        raise RunFailed(f"the method returned a {type(found).__name__}, a SyntheticSet is wanted")
    hard, m, most = found.label_kind == "hard", len(found.codes), task.codes_per_class * task.num_classes
    codes, labels = found.codes.detach().float(), found.labels.detach()
    labels = labels.long() if hard else labels.float()
    if tuple(codes.shape[1:]) != task.code_shape or not 1 <= m <= most:
        raise RunFailed(f"the method returned codes {tuple(codes.shape)}, wanted (1 … {most}, *{task.code_shape})")
    if tuple(labels.shape) != ((m,) if hard else (m, task.num_classes)):
        raise RunFailed(f"the method returned {found.label_kind} labels {tuple(labels.shape)} for {m} codes")
    if hard and not bool(((labels >= 0) & (labels < task.num_classes)).all()):
        raise RunFailed(f"the method returned labels outside 0 … {task.num_classes - 1}")
    if not bool(torch.isfinite(codes).all() and torch.isfinite(labels).all()):
        raise RunFailed("the method returned codes or labels that are not finite")
    return replace(found, codes=codes, labels=labels)
