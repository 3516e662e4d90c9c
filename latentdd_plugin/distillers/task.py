"""The task that a distiller solves: real samples and a budget, with the services that surround them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from latentdd_plugin.core.compute import Mode, Numerics
from latentdd_plugin.core.errors import RunFailed, UsageError
from latentdd_plugin.core.processes import group
from latentdd_plugin.core.random import generator
from latentdd_plugin.core.types import Shape, SyntheticSet
from latentdd_plugin.distillers.embedding import Embedding
from latentdd_plugin.distillers.gradients import Gradients
from latentdd_plugin.distillers.services import Checkpoint, Networks, Progress, Rounding, Services
from latentdd_plugin.latent.finite import are_tokens
from latentdd_plugin.latent.space import CodeSpace, Real
from latentdd_plugin.nn.augment import Augment
from latentdd_plugin.nn.convnet import MatchingNetwork
from latentdd_plugin.nn.teacher import Teacher


@dataclass(frozen=True)
class Task:
    """Real samples, the budget and the seed of a distillation; everything else is reached through `services`.

    Samples are standardised. The *match space* is where a method compares samples: the codes or the pixels.
    """

    real: Real  # real samples in the match space
    codes: Real  # the same training samples as codes, at the same positions
    space: CodeSpace
    match: str  # code | pixel
    codes_per_class: int
    num_classes: int
    seed: int
    services: Services
    rounding: Rounding | None = None  # applied to codes in `view`, for methods that see them as stored
    real_id: str = ""  # identifies the real samples of the match space, as a key for files on disk
    pixels: Real | None = None  # the same training samples as images, at the same positions
    _built: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    # --- samples and budget ---

    @property
    def code_shape(self) -> Shape:
        """(c, h, w) of one code."""
        return self.codes.shape

    @property
    def match_shape(self) -> Shape:
        """(c, h, w) of one sample in the match space."""
        return self.real.shape

    @property
    def own_classes(self) -> range:
        """Classes that this process works on, of a method that shares them: all, unless there are several processes."""
        return group().block(self.num_classes)

    def init(self, kind: str = "real") -> tuple[Tensor, Tensor]:
        """Return initial codes float32 (M, c, h, w) and labels int64 (M,), class by class.

        `real` draws real codes without replacement (a class that is too small is drawn again); `noise` is Gaussian.
        """
        labels = torch.arange(self.num_classes).repeat_interleave(self.codes_per_class)
        if kind == "noise":
            codes = torch.randn((len(labels), *self.code_shape), generator=self.generator("init"))
            return codes.to(self.device), labels.to(self.device)
        if kind != "real":
            raise ValueError(f"init={kind}: choose one of real, noise")
        drawn = [self.draw(label, repeat=True) for label in range(self.num_classes)]
        return self.codes.take(torch.cat(drawn)).clone(), labels.to(self.device)

    def draw(self, label: int, *, repeat: bool = False) -> Tensor:
        """Return positions of random real codes of a class; `init("real")` and the `random` distiller use this draw.

        Without `repeat`, a class smaller than the budget gives all it has.
        """
        members = self.codes.by_class[label]
        rounds = math.ceil(self.codes_per_class / len(members)) if repeat else 1
        g = self.generator("init", label)
        order = torch.cat([torch.randperm(len(members), generator=g) for _ in range(rounds)])
        return members[order[: self.codes_per_class]]

    def view(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return codes (M, c, h, w) in the match space, differentiable: as they are, or decoded and standardised.

        Args:
            codes: what to show.
            labels: their classes int64 (M,), or soft labels float32 (M, classes), for codecs that decode by class.
        """
        if self.match == "code" or self.space.codec.pixels:
            return self._as_stored(codes)
        return (self.decoded(codes, labels) - self.real.mean) / self.real.std

    def decoded(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (M, C, H, W) in [0, 1] units of codes (M, c, h, w), not clamped, differentiable.

        Labels are those of `view`.
        """
        classes = labels.argmax(1) if labels is not None and labels.is_floating_point() else labels
        return self.space.decode(self._as_stored(codes), classes)

    def _as_stored(self, codes: Tensor) -> Tensor:
        return codes if self.rounding is None else self.rounding.view(codes)

    def generator(self, purpose: str, step: int = 0) -> torch.Generator:
        """Return a CPU generator derived from the run's seed, for one purpose at one step."""
        return generator(self.seed, purpose, step)

    def images(self, indices: Tensor) -> Tensor:
        """Return real images float32 (n, C, H, W) in [0, 1] units at these positions of the training set."""
        if self.pixels is None:
            raise ValueError("this task was made without its images")
        return self.pixels.take(indices) * self.pixels.std + self.pixels.mean

    def encode(self, images: Tensor) -> Tensor:
        """Return standardised codes (n, c, h, w) of images (n, C, H, W) in [0, 1] units, without gradients."""
        return self.space.encode(images)

    # --- services ---

    def codec_parameters(self) -> dict[str, Tensor]:
        """Return the decoder's parameters that are trained with the codes, by name; none unless the run asks for it.

        They are this task's own and change in place; `view` decodes with them.
        """
        every = self.space.codec.codec.trainable_parameters()
        return {name: parameter for name, parameter in every.items() if parameter.requires_grad}

    @property
    def numerics(self) -> Numerics:
        """Device, threads, mixed precision and compilation."""
        return self.services.numerics

    @property
    def device(self) -> str:
        """Device of all tensors."""
        return self.numerics.device

    @property
    def augment(self) -> Augment:
        """Augmentations that suit the match space."""
        return self.services.augment

    @property
    def checkpoint(self) -> Checkpoint:
        """Storage for the progress of the distillation."""
        return self.services.checkpoint

    @property
    def progress(self) -> Progress:
        """Callback for the progress bar: steps done, steps in all, loss."""
        return self.services.progress

    @property
    def teacher(self) -> Teacher:
        """The run's teacher: it classifies images (N, C, H, W) in [0, 1] units, such as `space.decode` returns.

        Raises:
            UsageError: the run names none.
        """
        if self.services.teacher is None:
            raise UsageError("this method needs a teacher: name one, for example --teacher convnet")
        return self.services.teacher

    @cached_property
    def networks(self) -> Networks:
        """The matching network and the functions compiled for it."""
        return Networks(self.match_shape, self.num_classes, self.seed, self.device)

    def network(self, purpose: str, step: int) -> MatchingNetwork:
        """Return the matching network, initialised anew from (seed, purpose, step); always the same object."""
        return self.networks.draw(purpose, step)

    def embedding(self, mode: Mode) -> Embedding:
        """Return feature extraction with the network that `network` draws, in this arithmetic."""
        return self.networks.embedding(mode)

    def gradients(self, mode: Mode) -> Gradients:
        """Return the gradients of the matching network's cross-entropy at any weights, in this arithmetic."""
        return self.networks.gradients(mode)

    def flops(self, samples: float) -> float:
        """Return the floating-point operations of one forward pass of the matching network over so many samples."""
        return self.networks.flops(samples)

    def once(self, key: Any, build: Callable[[], Any]) -> Any:
        """Return the object built at the first call with this key: something to compute with, never a result."""
        if key not in self._built:
            self._built[key] = build()
        return self._built[key]


def validate_result(result: SyntheticSet, task: Task) -> SyntheticSet:
    """Return a method's result with float32 codes, and int64 or float32 labels.

    Raises:
        RunFailed: the result is not a synthetic set for this task: another shape, too many codes, labels that do not
            match, or a value that is not finite.
    """
    if not isinstance(result, SyntheticSet):
        raise RunFailed(f"the method returned a {type(result).__name__} instead of a SyntheticSet")
    hard, m, most = result.label_kind == "hard", len(result.codes), task.codes_per_class * task.num_classes
    codes, labels = result.codes.detach().float(), result.labels.detach()
    labels = labels.long() if hard else labels.float()
    if tuple(codes.shape[1:]) != task.code_shape or not 1 <= m <= most:
        raise RunFailed(f"the method returned codes {tuple(codes.shape)}; allowed are (1 … {most}, *{task.code_shape})")
    if tuple(labels.shape) != ((m,) if hard else (m, task.num_classes)):
        raise RunFailed(f"the method returned {result.label_kind} labels {tuple(labels.shape)} for {m} codes")
    if hard and not bool(((labels >= 0) & (labels < task.num_classes)).all()):
        raise RunFailed(f"the method returned labels outside 0 … {task.num_classes - 1}")
    if not bool(torch.isfinite(codes).all() and torch.isfinite(labels).all()):
        raise RunFailed("the method returned codes or labels that are not finite")
    size = task.space.codec.tokens
    if size is not None and not bool(are_tokens(codes, size).all()):
        raise RunFailed(
            f"the method returned codes that are not numbers of the codebook's entries, 0 to {size - 1}: it changes "
            "codes, and its class must not say changes_codes = False"
        )
    return replace(result, codes=codes, labels=labels)
