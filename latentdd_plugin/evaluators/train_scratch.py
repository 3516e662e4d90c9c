"""Train a network from scratch on the distilled images, test it once: the field's evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentdd_plugin.core.compute import Mode, forward_flops, try_compiled
from latentdd_plugin.core.random import generator, seeded
from latentdd_plugin.core.types import Json, Score
from latentdd_plugin.evaluators.architectures import build
from latentdd_plugin.evaluators.base import Evaluator, Trial
from latentdd_plugin.evaluators.protocols import Protocol
from latentdd_plugin.nn.augment import Augment, operations_for

TEST_BATCH = 500


class TrainScratch(Evaluator):
    """Train `arch` from scratch under the protocol.

    Args:
        arch: any timm name, or `convnet` for the field's ConvNet with the depth that fits the image size.
    """

    def __init__(self, arch: str = "convnet") -> None:
        self.arch = arch
        self._compiled: dict[str, tuple[nn.Module, Any, Any, Mode]] = {}

    def evaluate(self, trial: Trial, seed: int) -> Score:
        """Accuracy (fraction) of one network on the held-out images."""
        with seeded(seed, f"evaluate/{self.arch}"):
            network, name, kwargs = self.network(trial)
        network = network.to(trial.numerics.device)
        params = sum(p.numel() for p in network.parameters())
        network, loss_of, logits_of, mode = self._prepare(network, trial)
        with seeded(seed, f"train/{self.arch}"):  # dropout and stochastic depth draw globally
            train(network, loss_of, trial, mode, seed)
        accuracy = test(network, logits_of, trial, mode)
        return Score(self.arch, name, kwargs, params, seed, accuracy)

    def network(self, trial: Trial) -> tuple[nn.Module, str, dict[str, Json]]:
        """A fresh network for the trial's inputs, its timm name and what it was built with."""
        return build(self.arch, trial.shape, trial.num_classes)

    def _prepare(self, network: nn.Module, trial: Trial) -> tuple[nn.Module, Any, Any, Mode]:
        """The module to train with its loss and logits, compiled once; a later seed's weights are copied into it."""
        if self.arch in self._compiled:
            kept = self._compiled[self.arch]
            kept[0].load_state_dict(network.state_dict())
            return kept
        trained = sum(_lengths(trial))
        forward = forward_flops(network.eval(), trial.shape, trial.numerics.device)
        mode = trial.numerics.mode(forward * (3 * trained + len(trial.held_out)))
        if mode.compile:
            network = network.to(memory_format=torch.channels_last)

        def loss_of(x: Tensor, y: Tensor) -> Tensor:
            with mode.autocast():
                return F.cross_entropy(network(x), y)

        def logits_of(x: Tensor) -> Tensor:
            with mode.autocast():
                logits: Tensor = network(x)
                return logits

        start = {k: t.clone() for k, t in network.state_dict().items()}
        rows = torch.arange(max(_lengths(trial))) % len(trial.inputs)
        network.train()
        compiled, mode = try_compiled(mode, loss_of, _laid_out(trial.inputs[rows], mode), trial.targets[rows])
        network.load_state_dict(start)
        tested = mode.compiled(logits_of)
        self._compiled[self.arch] = (network, compiled, tested, mode)
        return self._compiled[self.arch]


def _laid_out(x: Tensor, mode: Mode) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if mode.compile else x


def _lengths(trial: Trial) -> Iterator[int]:
    """Batch lengths, a step each. Counted in steps, every batch is full; in epochs, each image is met once an epoch."""
    samples, protocol = len(trial.images), trial.protocol
    steps = protocol.steps_for(trial.side)
    if steps is not None:
        yield from (protocol.batch for _ in range(steps))
        return
    for _ in range(protocol.epochs):
        for start in range(0, samples, protocol.batch):
            length = min(protocol.batch, samples - start)
            if length > 1 or samples == 1:  # BatchNorm refuses a batch of one
                yield length


def batches(trial: Trial, g: torch.Generator) -> Iterator[Tensor]:
    """Positions of each step's samples: one random order after another; an epoch protocol starts each epoch anew."""
    samples = len(trial.images)
    by_epoch = not trial.protocol.steps
    left = torch.empty(0, dtype=torch.long)
    for length in _lengths(trial):
        while len(left) < length:
            fresh = torch.randperm(samples, generator=g)
            left = fresh if by_epoch else torch.cat([left, fresh])
        yield left[:length]
        left = left[length:]


def optimizer_of(network: nn.Module, protocol: Protocol, lr: float) -> torch.optim.Optimizer:
    """The protocol's optimiser over all parameters."""
    if protocol.optimizer == "adamw":
        return torch.optim.AdamW(network.parameters(), lr, weight_decay=protocol.weight_decay, fused=True)
    return torch.optim.SGD(network.parameters(), lr, protocol.momentum, weight_decay=protocol.weight_decay, fused=True)


def rate_at(protocol: Protocol, step: int, steps: int, lr: float) -> float:
    """Learning rate of a step: half a cosine after a tenth of warm-up, or one drop to a tenth after half the way."""
    if protocol.schedule == "cosine":
        warm = max(1, steps // 10)
        return lr * min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / steps)))
    return lr * (0.1 if step > steps // 2 else 1.0)


def train(network: nn.Module, loss_of: Any, trial: Trial, mode: Mode, seed: int) -> None:
    """Train in place by the trial's protocol."""
    protocol = trial.protocol
    steps = len(list(_lengths(trial)))
    lr = trial.lr if protocol.lr_from == "artifact" and trial.lr is not None else protocol.lr
    optimizer = optimizer_of(network, protocol, lr)
    colour = trial.shape[0] == 3
    usable = operations_for(colour=colour, spatial=True, flip=trial.flip)
    augment = Augment(tuple(op for op in protocol.augment if op in usable))
    order, draws = generator(seed, "evaluate/order"), generator(seed, "evaluate/augment")
    network.train()
    for step, rows in enumerate(batches(trial, order)):
        x = augment.apply(trial.inputs[rows], augment.draw(draws, len(rows)))
        for group in optimizer.param_groups:
            group["lr"] = rate_at(protocol, step, steps, lr)
        loss = loss_of(_laid_out(x, mode), trial.targets[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def test(network: nn.Module, logits_of: Any, trial: Trial, mode: Mode) -> float:
    """Fraction of held-out images whose largest logit is their label."""
    network.eval()
    right = 0
    labels = trial.held_out.labels.to(trial.numerics.device)
    with torch.no_grad():
        for start in range(0, len(labels), TEST_BATCH):
            part = trial.test_inputs[start : start + TEST_BATCH]
            n = len(part)
            if n < TEST_BATCH:  # one shape for the compiler
                part = torch.cat([part, part[-1:].expand(TEST_BATCH - n, -1, -1, -1)])
            logits = logits_of(_laid_out(part, mode))[:n]
            right += int((logits.argmax(1) == labels[start : start + n]).sum())
    return right / len(labels)
