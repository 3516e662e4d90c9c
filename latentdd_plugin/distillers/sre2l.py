"""SRe2L: squeeze, recover and relabel (Yin, Xing & Shen, arXiv 2306.13092), the recovering step.

Samples are optimised until a teacher recognises them and its BatchNorm layers see the statistics of the real set,

    min_x  CE(f(A(x)), y)  +  alpha_BN sum_l ( || mu_l - running mean_l ||_2  +  || var_l - running var_l ||_2 )
           +  alpha_TV R_TV(A(x))  +  alpha_l2 || A(x) ||_2,

where mu_l and var_l are those of the inputs of BatchNorm layer l, and A is a new random crop, flip and shift at each
step. Here x is what a codec decodes, and the codes are optimised. The squeezing is the training of the teacher, and the
relabelling is `--labels views` (or `soft`, `teacher`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentdd_plugin.core.compute import Mode, forward_flops
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.distillers.gradients import with_gradient
from latentdd_plugin.distillers.loop import Matching, Variables
from latentdd_plugin.distillers.task import Task
from latentdd_plugin.distillers.work import TaskSize, Work
from latentdd_plugin.nn.architectures import batch_norms, has_batch_norm
from latentdd_plugin.nn.views import apply_crops, draw_crops

NO_BATCH_NORM = "sre2l matches BatchNorm statistics, and the teacher has no BatchNorm; take convnet_bn or a ResNet"


@dataclass
class SRe2L(Matching):
    """Samples that a teacher recognises, with the BatchNorm statistics of the real set.

    Args:
        iterations: steps for each sample (paper: 4,000 on ImageNet-1K, 1,000 on CIFAR-100).
        lr: first step size of the codes; it falls to 0 as a cosine (paper: 0.25).
        momentum: first beta of Adam (paper: 0.5); the second is 0.9. Or of SGD.
        batch: samples whose statistics are taken together (paper: 100); every class has as many of them as the others.
        bn: alpha_BN (paper: 0.01).
        first_bn: weight of the first BatchNorm layer among the others (authors' code: 10).
        tv: alpha_TV (paper's final setting: 0).
        l2: alpha_l2 (paper's final setting: 0).
        area: smallest share of the image in a random crop (paper: 0.08); 1 does not crop.
        shift: largest circular shift, as a share of the side (authors' code: 32 of 224 pixels; on CIFAR-100 any).
        init: `noise` (paper) or `real`.
        optimizer: `adam` (paper) or `sgd`.
        rate: a number shows codes as they will be stored and adds it times their share of the bytes; None does not.
    """

    needs_teacher = True
    second_beta: ClassVar[float] = 0.9
    match_spaces: ClassVar[tuple[str, ...]] = ("code",)
    compares = False
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "quick": {"iterations": 200, "lr": 0.05, "area": 0.5, "init": "real"},
    }

    iterations: int = 4000
    lr: float = 0.25
    momentum: float = 0.5
    batch: int = 100
    bn: float = 0.01
    first_bn: float = 10.0
    tv: float = 0.0
    l2: float = 0.0
    area: float = 0.08
    shift: float = 1 / 7
    init: str = "noise"
    optimizer: str = "adam"
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch={self.batch}: must be at least 1")
        if not 0 < self.area <= 1:
            raise ValueError(f"area={self.area:g}: must be above 0 and at most 1")
        if not 0 <= self.shift <= 1:
            raise ValueError(f"shift={self.shift:g}: must be between 0 and 1")

    def teacher_faults(self, arch: str) -> list[str]:
        """Return the reason why a teacher without BatchNorm cannot be used."""
        return [NO_BATCH_NORM] if has_batch_norm(arch) is False else []

    def variables(self, task: Task) -> Variables:
        """Return the codes to optimise.

        Raises:
            UsageError: a network of the teacher has no BatchNorm.
        """
        if not all(batch_norms(network) for network in task.teacher.networks):
            raise UsageError(NO_BATCH_NORM)
        return super().variables(task)

    def iteration(self, task: Task, variables: Variables, step: int) -> Iterator[Tensor]:
        """Yield the loss summed over batches; one batch at a time is in memory."""
        for group in variables.optimizer.param_groups:
            group["lr"] = self.lr * (1 + math.cos(math.pi * step / self.iterations)) / 2
        draws, gradient = task.generator("sre2l/views", step), torch.zeros_like(variables.codes)
        total = torch.zeros((), device=gradient.device)
        for rows in self._batches(task, len(gradient)):
            codes = variables.codes.detach()[rows].requires_grad_()
            loss = self.loss(task, codes, variables.labels[rows], draws)
            gradient[rows] = torch.autograd.grad(loss, codes)[0]
            total += loss.detach()
        yield with_gradient(total, [(variables.codes, gradient)])

    def work(self, size: TaskSize) -> Work:
        """Return the decoding of every code, and the teacher's forward and backward pass, at each step."""
        seen = self.iterations * size.codes
        return Work(self.iterations * math.ceil(size.codes / self.batch), decoded=seen, teacher_passes=2 * seen)

    def loss(self, task: Task, codes: Tensor, labels: Tensor, draws: torch.Generator) -> Tensor:
        """Return the loss of one batch of codes (n, c, h, w) with labels int64 (n,), a scalar."""
        images = self._seen(task, inside(task.decoded(codes, labels)), draws)
        networks = task.teacher.networks
        with self._mode(task, len(codes)).autocast(), statistics(networks, self.first_bn) as distances:
            logits = task.teacher.logits(images)
        loss = F.cross_entropy(logits, labels)
        if self.bn:
            loss = loss + self.bn * torch.stack(distances).sum() / len(networks)
        if self.tv or self.l2:
            inputs = task.teacher.standardise(images)
            loss = loss + self.tv * total_variation(inputs) + self.l2 * inputs.flatten(1).norm(dim=1).mean()
        return loss

    def _batches(self, task: Task, total: int) -> tuple[Tensor, ...]:
        """Return the rows of each batch: one sample of each class after another, in batches of nearly equal size."""
        order = torch.arange(total).view(task.num_classes, -1).T.flatten()
        return order.to(task.device).tensor_split(math.ceil(total / self.batch))

    def _seen(self, task: Task, images: Tensor, draws: torch.Generator) -> Tensor:
        """Return images (n, C, H, W) cropped and flipped one by one, then shifted together."""
        n, h, w = len(images), *images.shape[2:]
        boxes, flips = draw_crops(n, (self.area, 1.0), draws), torch.rand(n, generator=draws) < 0.5
        down, across = (int(torch.randint(int(self.shift * side) + 1, (1,), generator=draws)) for side in (h, w))
        if self.area < 1:
            images = apply_crops(images, boxes, flips if task.services.flip else None)
        elif task.services.flip:
            images = torch.where(flips.to(images.device)[:, None, None, None], images.flip(3), images)
        return images.roll((down, across), (2, 3))

    def _mode(self, task: Task, samples: int) -> Mode:
        """Return the arithmetic of the teacher, by the work of all steps."""

        def decide() -> Mode:
            shape = task.space.codec.image_shape
            flops = forward_flops(task.teacher.logits, shape, task.device) * 3 * self.iterations
            return task.numerics.mode(flops * task.codes_per_class * task.num_classes)

        mode: Mode = task.once("sre2l/mode", decide)
        return mode


@contextmanager
def statistics(networks: tuple[nn.Module, ...], first: float) -> Iterator[list[Tensor]]:
    """Collect the distance of each BatchNorm layer of each network from its running statistics, when it is called.

    Args:
        networks: called by the caller, in evaluation mode.
        first: weight of the first layer of each network.

    Yields:
        A list, filled with one scalar per layer.
    """
    found: list[Tensor] = []
    hooks = []
    for network in networks:
        for number, layer in enumerate(batch_norms(network)):

            def look(layer: Any, inputs: tuple[Tensor, ...], weight: float = 1.0 if number else first) -> None:
                found.append(weight * distance(layer, inputs[0]))

            hooks.append(layer.register_forward_pre_hook(look))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def distance(layer: Any, inputs: Tensor) -> Tensor:
    """Return || mean - running mean ||_2 + || var - running var ||_2 of inputs (N, C, ...), by channel, a scalar."""
    values = inputs.float().transpose(0, 1).flatten(1)
    mean, variance = values.mean(1), values.var(1, correction=0)
    apart: Tensor = (mean - layer.running_mean).norm() + (variance - layer.running_var).norm()
    return apart


def total_variation(images: Tensor) -> Tensor:
    """Return the norms of the differences of neighbours of (n, C, H, W): across, down and on both diagonals."""
    pairs = (
        (images[:, :, :, :-1], images[:, :, :, 1:]),
        (images[:, :, :-1], images[:, :, 1:]),
        (images[:, :, :-1, :-1], images[:, :, 1:, 1:]),
        (images[:, :, :-1, 1:], images[:, :, 1:, :-1]),
    )
    return torch.stack([(a - b).norm() for a, b in pairs]).sum()


class _Inside(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        ctx.save_for_backward(images)
        return images.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (images,), (gradient,) = ctx.saved_tensors, gradients
        outward = ((images <= 0) & (gradient > 0)) | ((images >= 1) & (gradient < 0))
        return gradient.masked_fill(outward, 0)


def inside(images: Tensor) -> Tensor:
    """Return images clamped to [0, 1], without the gradients by which a descent would leave it.

    Of pixels this is what clamping them after each step does in the authors' code; it serves any decoder.
    """
    kept: Tensor = _Inside.apply(images)
    return kept
