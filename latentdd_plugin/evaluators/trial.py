"""A distilled set under evaluation: the one source of the training batches and the test inputs of every evaluator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from latentdd_plugin.core.compute import Numerics, forward_flops, try_compiled
from latentdd_plugin.core.random import generator
from latentdd_plugin.core.types import Images, SampleStore, Shape, as_tensor
from latentdd_plugin.evaluators.protocols import Protocol
from latentdd_plugin.nn.augment import Augment, operations_for
from latentdd_plugin.nn.teacher import Teacher
from latentdd_plugin.nn.views import Views, apply_crops, draw_crops, draw_mix_boxes, paste, see


@dataclass(frozen=True)
class Trial:
    """A distilled set to train on, and the held-out images to test on.

    An evaluator reads `batches` (or `inputs` and `targets`) and `test_inputs`; all of them follow the protocol.
    """

    images: SampleStore  # decoded float32 (M, C, H, W), [0, 1] units, on the device; or real ones, uint8, in any store
    labels: Tensor  # int64 (M,), or float32 (M, classes), or of views (M, V, classes)
    label_kind: str  # hard | probabilities | logits
    lr: float | None  # the artifact's learned learning rate
    held_out: Images  # the test images
    num_classes: int
    mean: Tensor  # float32 (C, 1, 1) of the real training images; standardises the inputs of networks
    std: Tensor  # float32 (C, 1, 1)
    flip: bool  # labels stay the same under a horizontal flip
    protocol: Protocol
    numerics: Numerics
    teacher: Teacher | None = None  # labels every batch as it is trained on; stored labels are then not used
    softness: float = 1.0  # the teacher's logits are divided by it
    truth: float = 0.0  # weight of the class itself beside the teacher's distribution
    views: Views | None = None  # stored views (M, V); `labels` are then (M, V, classes)

    @property
    def side(self) -> int:
        """Side in pixels of the images that networks are trained and tested on."""
        side = int(min(self.images.shape[2:]))
        return side if self.protocol.side is None else min(side, self.protocol.side)

    @property
    def shape(self) -> Shape:
        """(C, H, W) of a network's input."""
        c, h, w = self.images.shape[1:]
        return (int(c), int(h), int(w)) if min(h, w) <= self.side else (int(c), self.side, self.side)

    @cached_property
    def inputs(self) -> Tensor:
        """Training inputs float32 (M, C, H, W), resized to the protocol's side and standardised, not augmented."""
        return self._prepared(as_tensor(self.images))

    def inputs_at(self, rows: Tensor) -> Tensor:
        """Return the training inputs at these positions; those of real images are made at each call."""
        return self._prepared(self.images[rows]) if self.images.dtype == torch.uint8 else self.inputs[rows]

    def _prepared(self, images: Tensor) -> Tensor:
        """Return images (n, C, H, W), float32 in [0, 1] units or uint8, as inputs of networks."""
        images = images.to(self.numerics.device)
        if images.dtype == torch.uint8:
            images = images.float() / 255
        elif self.protocol.clamp:
            images = images.clamp(0, 1)
        return (shrink(images, self.shape) - self.mean) / self.std

    @cached_property
    def test_inputs(self) -> Tensor:
        """Test inputs float32 (T, C, H, W), resized and standardised like the training inputs."""
        return torch.cat([self._prepared(part) for part in self.held_out.pixels.split(1024)])

    def test_batches(self, size: int) -> Iterator[Tensor]:
        """Yield the test inputs, `size` at a time; those of images that are not in memory are made on the way."""
        if isinstance(self.held_out.pixels, Tensor):
            yield from self.test_inputs.split(size)
            return
        for part in self.held_out.pixels.split(size):
            yield self._prepared(part)

    @cached_property
    def targets(self) -> Tensor:
        """Training targets: int64 (M,), or class probabilities float32 (M, classes)."""
        labels = self.labels.to(self.numerics.device)
        if self.views is not None:
            raise ValueError("views have a target each: read `batches`")
        if self.label_kind == "hard":
            return labels
        if self.protocol.labels == "hard":
            return labels.argmax(1)
        return self._soft(labels) if self.label_kind == "logits" else labels

    @cached_property
    def augment(self) -> Augment:
        """The protocol's augmentations, without those that would change a label or need colour channels."""
        usable = operations_for(colour=self.shape[0] == 3, spatial=True, flip=self.flip)
        return Augment(tuple(op for op in self.protocol.augment if op in usable))

    @cached_property
    def batch_sizes(self) -> tuple[int, ...]:
        """Number of samples of each training step; the first batch is among the largest."""
        samples, protocol = len(self.images), self.protocol
        steps = protocol.steps_for(self.side)
        if steps is not None:
            return (protocol.batch,) * steps
        batch = protocol.batch_for(samples, self.num_classes)
        epoch = [min(batch, samples - start) for start in range(0, samples, batch)]
        usable = [size for size in epoch if size > 1 or samples == 1]  # BatchNorm refuses a batch of one
        return tuple(usable * protocol.epochs)

    def batches(self, seed: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the training data of one network, a batch per step.

        The protocol decides order, augmentation and targets here, so that every evaluator trains on the same data.

        Args:
            seed: of the network; it decides every draw.
            start: number of the first step; no image of an earlier one is read.

        Yields:
            Inputs float32 (n, C, H, W), augmented, and targets int64 (n,) or float32 (n, classes).
        """
        order, draws = generator(seed, "evaluate/order"), generator(seed, "evaluate/augment")
        crops, mixes = generator(seed, "evaluate/crop"), generator(seed, "evaluate/mix")
        orders = sample_order(len(self.images), self.batch_sizes, order, by_epoch=not self.protocol.steps)
        for step, rows in enumerate(orders):
            if self.views is not None:
                numbers = torch.randint(self.labels.shape[1], (len(rows),), generator=crops)
                if step >= start:
                    yield self._viewed(rows, numbers, self.views)
                continue
            boxes = None if self.protocol.crop is None else draw_crops(len(rows), self.protocol.crop, crops)
            augmented, mixed = self.augment.draw(draws, len(rows)), self._draw_mix(len(rows), mixes)
            if step >= start:
                inputs = self.inputs_at(rows) if boxes is None else apply_crops(self.inputs_at(rows), boxes)
                yield self._labelled(rows, self.augment.apply(inputs, augmented), mixed)

    def _draw_mix(self, samples: int, draws: torch.Generator) -> tuple[Tensor, Tensor] | None:
        """Draw the partner of each sample and the box that is mixed; None if the protocol mixes nothing."""
        if self.protocol.mix == "none":
            return None
        return torch.randperm(samples, generator=draws), draw_mix_boxes(1, draws)

    def _labelled(self, rows: Tensor, inputs: Tensor, mixed: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """Return the batch, mixed if the protocol says so, with its targets."""
        targets = self.targets[rows]
        if self.teacher is None and mixed is None:
            return inputs, targets
        if targets.dtype == torch.int64:
            targets = F.one_hot(targets, self.num_classes).float()
        if mixed is not None:
            partner, box = mixed
            inputs, share = paste(inputs, inputs[partner.to(inputs.device)], box)
            targets = targets + share[:, None] * (targets[partner.to(targets.device)] - targets)
        if self.teacher is not None:
            targets = self.truth * targets + (1 - self.truth) * self._taught(inputs)
        return inputs, targets

    def _viewed(self, rows: Tensor, numbers: Tensor, views: Views) -> tuple[Tensor, Tensor]:
        """Return the stored view of each sample that has this number, and its stored target."""
        inputs = see(self.inputs, rows, numbers, views)
        return inputs, self._soft(self.labels[rows, numbers].to(self.numerics.device))

    def _taught(self, inputs: Tensor) -> Tensor:
        """Return the teacher's distribution float32 (n, classes) on inputs as they are trained on."""
        assert self.teacher is not None  # noqa: S101 - the caller's branch
        with torch.no_grad():
            logits = self.teacher_logits(inputs * self.std + self.mean)
        return self._soft(logits / self.softness)

    @cached_property
    def teacher_logits(self) -> Callable[[Tensor], Tensor]:
        """The teacher's logits of images in [0, 1] units, compiled if the work of all steps is large."""
        assert self.teacher is not None  # noqa: S101 - only then is it read
        card, networks = self.teacher.card, self.teacher.networks
        flops = sum(forward_flops(network, card.input_shape, self.numerics.device) for network in networks)
        mode = self.numerics.mode(flops * sum(self.batch_sizes))
        teacher = self.teacher

        def logits(images: Tensor) -> Tensor:
            with mode.autocast():
                return teacher.logits(images.contiguous(memory_format=torch.channels_last))

        example = torch.zeros((self.batch_sizes[0], *self.shape), device=self.numerics.device)
        compiled: Callable[[Tensor], Tensor] = try_compiled(mode, logits, example)[0]
        return compiled

    def _soft(self, logits: Tensor) -> Tensor:
        """Return probabilities at the temperature of the protocol's loss."""
        return (logits / self.protocol.temperature).softmax(1)


def sample_order(samples: int, sizes: Sequence[int], generator: torch.Generator, *, by_epoch: bool) -> Iterator[Tensor]:
    """Yield the positions int64 (size,) of each batch, from one random order of all samples after another.

    Args:
        samples: number of samples, M.
        sizes: number of positions per batch.
        generator: draws the orders.
        by_epoch: drop the rest of an order that is too short for a batch; otherwise the next order continues it.
    """
    left = torch.empty(0, dtype=torch.long)
    for size in sizes:
        while len(left) < size:
            fresh = torch.randperm(samples, generator=generator)
            left = fresh if by_epoch else torch.cat([left, fresh])
        yield left[:size]
        left = left[size:]


def shrink(images: Tensor, shape: Shape) -> Tensor:
    """Resize images (N, C, H, W) to the (H, W) of `shape`, antialiased bilinear; return them as they are if equal."""
    if tuple(images.shape[2:]) == shape[1:]:
        return images
    return F.interpolate(images, shape[1:], mode="bilinear", antialias=True, align_corners=False)
