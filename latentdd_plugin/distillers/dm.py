"""DM: distribution matching (Zhao & Bilen, "Dataset Condensation with Distribution Matching", arXiv 2110.04181).

Equation 4: over random networks psi and Siamese augmentations A,

    min_S  E || 1/|T| sum A(psi(x in T))  -  1/|S| sum A(psi(s in S)) ||^2,

taken for each class, with a fresh random network each step and nothing trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from latentdd_plugin.distillers.embedding import Embedding
from latentdd_plugin.distillers.loop import Matching, Variables
from latentdd_plugin.distillers.task import Task


class DM(Matching):
    """Distribution matching.

    Args:
        iterations: steps, each with one fresh network (paper: 20,000).
        lr: step size of the codes (paper: 1, with SGD); None is 0.1 / sqrt(codes a class), for Adam.
        momentum: of the optimiser on the codes (paper: 0.5).
        batch_real: real samples a class and step (paper: 256).
        init: `real` or `noise` (paper: real).
        optimizer: `sgd` (paper) or `adam`, whose step does not depend on the number and size of the codes.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "quick": {"iterations": 200, "batch_real": 64, "optimizer": "adam", "lr": None},
    }

    def __init__(
        self,
        iterations: int = 20_000,
        lr: float | None = 1.0,
        momentum: float = 0.5,
        batch_real: int = 256,
        init: str = "real",
        optimizer: str = "sgd",
    ) -> None:
        self.iterations = iterations
        self.lr = lr
        self.momentum = momentum
        self.batch_real = batch_real
        self.init = init
        self.optimizer = optimizer

    def iteration(self, task: Task, variables: Variables, step: int) -> Iterator[Tensor]:
        """Yield the squared distance between class means of real and synthetic features, summed over classes."""
        task.network("dm/network", step)
        embed = self._embedding(task, len(variables.codes))
        draw, pick = task.generator("dm/augment", step), task.generator("dm/real", step)
        per_class = len(variables.codes) // task.num_classes
        real, synthetic, sizes = [], [], []
        for label, samples in enumerate(task.view(variables.codes).split(per_class)):
            siamese = task.augment.draw(draw)
            batch = task.real.batch(label, self.batch_real, pick)
            real.append(task.augment.apply(batch, siamese))
            synthetic.append(task.augment.apply(samples, siamese))
            sizes.append(len(batch))
        with torch.no_grad():
            target = class_means(embed(torch.cat(real)), sizes)
        yield (target - class_means(embed(torch.cat(synthetic)), [per_class] * task.num_classes)).square().sum()

    def _embedding(self, task: Task, codes: int) -> Embedding:
        work = task.flops(self.iterations * (task.num_classes * self.batch_real + 3 * codes))
        return task.embedding(task.numerics.mode(work))


def class_means(features: Tensor, sizes: list[int]) -> Tensor:
    """Features (N, F), class by class, to class means (classes, F)."""
    return torch.stack([part.mean(0) for part in features.split(sizes)])
