"""DC, gradient matching, and DSA, the same with Siamese augmentation.

DC: Zhao, Mopuri & Bilen, "Dataset Condensation with Gradient Matching", arXiv 2006.05929. DSA: Zhao & Bilen,
arXiv 2102.08259.

Equations 9 and 10 of DC: along the training of a network on the synthetic set,

    min_S  sum over classes, layers and outputs i of  1 - cos(grad_i L(S), grad_i L(T)),

where the gradient of each weight tensor is viewed as [outputs, rest]. DSA (equation 6) puts one augmentation with the
same parameters on S and T before each gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from latentdd_plugin.core.plugins import Preset
from latentdd_plugin.distillers.gradients import Gradients, Weights, weights_of, with_gradient
from latentdd_plugin.distillers.loop import Matching, Variables
from latentdd_plugin.distillers.siamese import class_labels
from latentdd_plugin.distillers.task import Task
from latentdd_plugin.distillers.work import TaskSize, Work

# Codes per class -> (outer, inner) loops, the authors' settings.
LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}


@dataclass
class DC(Matching):
    """Gradient matching.

    Args:
        iterations: number of networks, each trained from scratch (paper: 1000).
        lr: step size of the codes (paper: 0.1, with SGD).
        momentum: of the optimiser on the codes (paper: 0.5).
        batch_real: real samples per class and step (paper: 256).
        lr_net: step size of the network's training on the synthetic set (paper: 0.01).
        outer_loops: matching steps per network; None takes the paper's for the nearest number of codes per class.
        inner_loops: epochs of the network on the synthetic set after each matching step; None as above.
        batch_train: samples per step of that training (paper: 256).
        augment: Siamese augmentation while matching, and augmentation in the training between (DSA).
        init: `noise` or `real` (DC: noise; DSA: real).
        optimizer: `sgd` (paper) or `adam`, whose step does not depend on the number and size of the codes.
        rate: a number shows codes as they will be stored and adds it times their share of the bytes; None does not.
    """

    shares_classes: ClassVar[bool] = True
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "quick": {
            "iterations": 100,
            "batch_real": 64,
            "outer_loops": 1,
            "inner_loops": 1,
            "init": "real",
            "optimizer": "adam",
            "lr": 0.01,
        },
    }

    iterations: int = 1000
    lr: float = 0.1
    momentum: float = 0.5
    batch_real: int = 256
    lr_net: float = 0.01
    outer_loops: int | None = None
    inner_loops: int | None = None
    batch_train: int = 256
    augment: bool = False
    init: str = "noise"
    optimizer: str = "sgd"
    rate: float | None = None

    def iteration(self, task: Task, variables: Variables, step: int) -> Iterator[Tensor]:
        """Yield equation 9, summed over classes, at each matching step along one network's training."""
        weights = weights_of(task.network("dc/network", step))
        draws, picks = task.generator("dc/augment", step), task.generator("dc/real", step)
        order = task.generator("dc/train", step)
        outer, inner = self._loops(task.codes_per_class)
        for loop in range(outer):
            yield self._distance(task, variables.codes, weights, draws, picks)
            if loop < outer - 1:
                for _ in range(inner):
                    weights = self._train_epoch(task, variables, weights, order, draws)

    def work(self, size: TaskSize) -> Work:
        """Return gradients of the real samples, second derivatives of the synthetic ones, and training on these."""
        outer, inner = self._loops(size.codes_per_class)
        real = size.classes * min(self.batch_real, size.class_size)
        per_network = outer * (3 * real + 6 * size.codes) + (outer - 1) * inner * 3 * size.codes
        calls = self.iterations * outer * size.classes
        return Work(calls, self.iterations * per_network, self.iterations * outer * size.codes)

    def _distance(
        self, task: Task, codes: Tensor, weights: Weights, draws: torch.Generator, picks: torch.Generator
    ) -> Tensor:
        """Return the distance between gradients on real and synthetic samples, summed over classes.

        Each class is differentiated by itself, so that the graph of only one class is in memory at a time.
        """
        gradients = self._gradients(task)
        mine, per_class = task.own_classes, task.codes_per_class
        view = task.view(codes[mine.start * per_class : mine.stop * per_class], class_labels(mine, per_class))
        total, derivatives = torch.zeros((), device=view.device), []
        for label in range(task.num_classes):
            siamese = task.augment.draw(draws) if self.augment else None
            rows = task.real.pick(label, self.batch_real, picks)
            if label not in mine:
                continue
            samples = view[(label - mine.start) * per_class : (label - mine.start + 1) * per_class]
            real = task.augment.apply(task.real.take(rows), siamese)
            leaf = samples.detach().requires_grad_()
            synthetic = task.augment.apply(leaf, siamese)
            real_gradient = gradients.at(weights, real, _labels(label, real))
            synthetic_gradient = gradients.with_graph(weights, synthetic, _labels(label, synthetic))
            distance = gradient_distance(synthetic_gradient, real_gradient)
            derivatives.append(torch.autograd.grad(distance, leaf)[0])
            total = total + distance.detach()
        return with_gradient(total, [(view, torch.cat(derivatives))])

    def _train_epoch(
        self, task: Task, variables: Variables, weights: Weights, order: torch.Generator, draws: torch.Generator
    ) -> Weights:
        """Return the weights after one epoch of SGD on the current synthetic set."""
        with torch.no_grad():
            view = task.view(variables.codes, variables.labels)
        gradients = self._gradients(task)
        for rows in torch.randperm(len(view), generator=order).split(self.batch_train):
            x = view[rows.to(view.device)]
            if self.augment:
                x = task.augment.apply(x, task.augment.draw(draws, len(x)))
            gradient = gradients.at(weights, x, variables.labels[rows.to(view.device)])
            weights = tuple(w - self.lr_net * g for w, g in zip(weights, gradient, strict=True))
        return weights

    def _loops(self, codes_per_class: int) -> tuple[int, int]:
        nearest = LOOPS[min(LOOPS, key=lambda n: abs(n - codes_per_class))]
        outer = nearest[0] if self.outer_loops is None else self.outer_loops
        return outer, nearest[1] if self.inner_loops is None else self.inner_loops

    def _gradients(self, task: Task) -> Gradients:
        outer, _ = self._loops(task.codes_per_class)
        samples = 3 * self.batch_real * task.num_classes + 6 * task.codes_per_class * task.num_classes
        return task.gradients(task.numerics.mode(task.flops(self.iterations * outer * samples)))


def gradient_distance(synthetic: Weights, real: Weights) -> Tensor:
    """Return the sum of 1 - cosine over weight tensors and outputs; biases and norms (one dimension) do not count."""
    total = torch.zeros((), device=real[0].device)
    for s, r in zip(synthetic, real, strict=True):
        if s.ndim > 1:
            s, r = s.flatten(1), r.flatten(1)
            cosine = (s * r).sum(1) / (s.norm(dim=1) * r.norm(dim=1) + 1e-6)
            total = total + (1 - cosine).sum()
    return total


def _labels(label: int, samples: Tensor) -> Tensor:
    return torch.full((len(samples),), label, device=samples.device)


DSA = Preset(DC, {"augment": True, "init": "real"})
