"""DM: distribution matching (Zhao & Bilen, "Dataset Condensation with Distribution Matching", arXiv 2110.04181).

Equation 4: over random networks psi and Siamese augmentations A,

    min_S  E || 1/|T| sum A(psi(x in T))  -  1/|S| sum A(psi(s in S)) ||^2,

taken for each class, with a new random network at each step and nothing trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from latentdd_plugin.distillers.embedding import Embedding
from latentdd_plugin.distillers.loop import Matching, Variables
from latentdd_plugin.distillers.siamese import class_means, siamese
from latentdd_plugin.distillers.task import Task
from latentdd_plugin.distillers.work import TaskSize, Work


@dataclass
class DM(Matching):
    """Distribution matching.

    Args:
        iterations: steps, each with one new network (paper: 20,000).
        lr: step size of the codes (paper: 1, with SGD); None is 0.1 / sqrt(codes per class), for Adam.
        momentum: of the optimiser on the codes (paper: 0.5).
        batch_real: real samples per class and step (paper: 256).
        init: `real` or `noise` (paper: real).
        optimizer: `sgd` (paper) or `adam`, whose step does not depend on the number and size of the codes.
        rate: a number shows codes as they will be stored and adds it times their share of the bytes; None does not.
    """

    shares_classes: ClassVar[bool] = True
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "quick": {"iterations": 200, "batch_real": 64, "optimizer": "adam", "lr": None},
    }

    iterations: int = 20_000
    lr: float | None = 1.0
    momentum: float = 0.5
    batch_real: int = 256
    init: str = "real"
    optimizer: str = "sgd"
    rate: float | None = None

    def iteration(self, task: Task, variables: Variables, step: int) -> Iterator[Tensor]:
        """Yield equation 4 for one random network, summed over classes."""
        psi = self._random_network(task, step, len(variables.codes))
        real, synthetic = siamese(task, variables.codes, self.batch_real, "dm", step)
        with torch.no_grad():
            real_means = class_means(psi(torch.cat(real)), real)
        synthetic_means = class_means(psi(torch.cat(synthetic)), synthetic)
        yield (real_means - synthetic_means).square().sum()

    def work(self, size: TaskSize) -> Work:
        """Return a forward pass of the real samples, and one in both directions of the synthetic ones, per step."""
        real = size.classes * min(self.batch_real, size.class_size)
        return Work(self.iterations, self.iterations * (real + 3 * size.codes), self.iterations * size.codes)

    def _random_network(self, task: Task, step: int, codes: int) -> Embedding:
        """Return the features of a new random network, in the arithmetic that suits the work of all steps."""
        task.network("dm/network", step)
        work = task.flops(self.iterations * (task.num_classes * self.batch_real + 3 * codes))
        return task.embedding(task.numerics.mode(work))
