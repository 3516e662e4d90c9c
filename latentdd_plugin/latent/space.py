"""Code space: codes of the training set, and the statistics that standardise them.

Distillers see codes standardised per channel by the training set, so that `identity` gives the normalised pixels of
the original DC, DM and MTT.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from latentdd_plugin.core.processes import ALONE, Group
from latentdd_plugin.core.types import ImageData, SampleStore, Shape, as_tensor
from latentdd_plugin.data.store import PartStore, summary_of
from latentdd_plugin.latent.finite import check_images
from latentdd_plugin.latent.sized_codec import SizedCodec

log = logging.getLogger(__name__)

VALUES_PER_CHUNK = 1 << 23  # of the training set that are in float64 at once while its statistics are computed
PIXELS_PER_CHUNK = 1 << 20  # decoded pixels (all channels) whose activations are held at once


@dataclass(frozen=True)
class Real:
    """Real samples of one space, standardised per channel when they are taken."""

    store: SampleStore  # uint8 pixels (N, C, H, W), or float32 (float16 on disk) codes (N, c, h, w)
    labels: Tensor  # int64 (N,)
    by_class: tuple[Tensor, ...]  # int64 indices of each class
    mean: Tensor  # float32 (c, 1, 1), in units of the space: pixels in [0, 1], or raw codes
    std: Tensor  # float32 (c, 1, 1)

    @property
    def shape(self) -> Shape:
        """Return (c, h, w) of one sample."""
        c, h, w = self.store.shape[1:]
        return int(c), int(h), int(w)

    def take(self, indices: Tensor) -> Tensor:
        """Return standardised samples float32 (n, c, h, w) at these positions of the training set."""
        samples = self.store[indices.to(self.store.device)].to(self.mean.device)
        if samples.dtype == torch.uint8:
            return samples.float().sub_(self.mean * 255).div_(self.std * 255)
        return (samples.float() - self.mean) / self.std

    def pick(self, label: int, n: int, generator: torch.Generator) -> Tensor:
        """Draw the positions of min(n, class size) samples of one class without replacement."""
        members = self.by_class[label]
        return members[torch.randperm(len(members), generator=generator)[:n]]

    def batch(self, label: int, n: int, generator: torch.Generator) -> Tensor:
        """Draw min(n, class size) samples of one class without replacement."""
        return self.take(self.pick(label, n, generator))

    def all(self) -> tuple[Tensor, Tensor]:
        """Return every sample (N, c, h, w) and its label (N,)."""
        return self.take(torch.arange(len(self.labels))), self.labels


@dataclass(frozen=True)
class CodeSpace:
    """A fitted codec and the statistics that standardise its codes."""

    codec: SizedCodec
    mean: Tensor  # float32 (c, 1, 1) of raw codes
    std: Tensor  # float32 (c, 1, 1)

    def decode(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Decode standardised codes (M, c, h, w) to images (M, C, H, W) in [0, 1] units, not clamped.

        Labels int64 (M,) are read by a conditional codec only. Differentiable; the backward pass decodes one chunk at a
        time again, so that memory is bounded by the chunk.
        Images are checked, except on an accelerator with gradients, where looking would make each step wait.

        Raises:
            RunFailed: an image is not finite; the codec and the first such image are named. With gradients only if its
                code is finite: codes that are not are the optimisation's to report.
        """
        pixels = math.prod(self.codec.image_shape) * self.codec.upsample**2
        size = max(1, PIXELS_PER_CHUNK // pixels)
        chunks = codes.split(size)
        classes = [None] * len(chunks) if labels is None else labels.to(codes.device).split(size)
        watch = (codes.requires_grad or self.codec.learns) and torch.is_grad_enabled()
        decode = self._watched if watch else self._checked
        parts = enumerate(zip(chunks, classes, strict=True))
        return torch.cat([decode(chunk, known, number * size) for number, (chunk, known) in parts])

    def encode(self, images: Tensor) -> Tensor:
        """Return standardised codes float32 (M, c, h, w) of images (M, C, H, W) in [0, 1] units, without gradients."""
        size = max(1, PIXELS_PER_CHUNK // math.prod(images.shape[1:]))
        with torch.no_grad():
            codes = torch.cat([self.codec.encode(part.clamp(0, 1)).float() for part in images.split(size)])
        return (codes - self.mean) / self.std

    def step_weights(self) -> Tensor:
        """Return the quantiser steps of standardised channels relative to each other, float32 (c,), on the CPU."""
        std = self.std.flatten().cpu()
        return self.codec.codec.step_weights(len(std)).cpu() / std

    def _watched(self, codes: Tensor, labels: Tensor | None, start: int) -> Tensor:
        images: Tensor = checkpoint(self._decode, codes, labels, use_reentrant=False)
        if codes.device.type == "cpu" and bool(torch.isfinite(codes.detach()).all()):
            check_images(images.detach(), codes.detach(), self.codec, start)
        return images

    def _checked(self, codes: Tensor, labels: Tensor | None, start: int) -> Tensor:
        return check_images(self._decode(codes, labels), codes, self.codec, start)

    def _decode(self, codes: Tensor, labels: Tensor | None) -> Tensor:
        return self.codec.decode(codes * self.std + self.mean, labels)


def statistics(store: SampleStore, *, common: bool, ours: Group = ALONE) -> tuple[Tensor, Tensor]:
    """Return per-channel mean and standard deviation (c, 1, 1) over samples and places.

    Args:
        store: uint8 pixels (N, C, H, W), whose statistics are in units of [0, 1], or float codes (N, c, h, w).
        common: whether all channels share one deviation, that of all values.
        ours: processes that share the work; each of them must call. Their number changes no bit.
    """
    scale = 255.0 if store.dtype == torch.uint8 else 1.0
    values = math.prod(store.shape[1:])
    count = len(store) * values / store.shape[1]
    mean = _summed(store, ours, lambda part: part) / count

    def square(part: Tensor) -> Tensor:
        return (part - mean.view(-1, 1, 1).to(part.device)).square()

    variance = _summed(store, ours, square) / count
    std = (variance.mean().expand_as(variance) if common else variance).sqrt().clamp_min(1e-6 * scale)
    shape = (-1, 1, 1)
    return (mean / scale).float().view(shape).to(store.device), (std / scale).float().view(shape).to(store.device)


def _summed(store: SampleStore, ours: Group, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the sum of a function of all samples by channel, float64 (c,), added up chunk by chunk in order."""
    size = max(1, VALUES_PER_CHUNK // math.prod(store.shape[1:]))
    starts = range(0, len(store), size)
    share = ours.share(starts)
    # `split` reads ahead and gives memory back; several processes read what is theirs.
    chunks = store.split(size) if ours.size == 1 else (store[start : start + size] for start in share)
    # Written in place: small results between large chunks would keep the allocator from using their memory again.
    mine = torch.zeros((len(share), store.shape[1]), dtype=torch.float64)
    for row, chunk in zip(mine, chunks, strict=True):
        row.copy_(function(chunk.to(torch.float64)).sum((0, 2, 3)))
    every, total = ours.gather(mine), torch.zeros(store.shape[1], dtype=torch.float64)
    for number in range(len(starts)):
        total += every[number % ours.size][number // ours.size]
    return total


def members(labels: Tensor, classes: int) -> tuple[Tensor, ...]:
    """Return the positions of each class, in order."""
    return tuple((labels == label).nonzero().flatten().cpu() for label in range(classes))


def pixel_set(data: ImageData, device: str, ours: Group = ALONE) -> Real:
    """Return the training images as real samples of pixel space; `ours` share the work, as in `statistics`."""
    store: SampleStore = data.train.pixels
    if isinstance(store, PartStore):
        mean, std = (moment.to(device) for moment in summary_of(store).moments())
    else:
        store = as_tensor(store).to(device)
        mean, std = statistics(store, common=False, ours=ours)
    return Real(store, data.train.labels, members(data.train.labels, len(data.classes)), mean, std)
