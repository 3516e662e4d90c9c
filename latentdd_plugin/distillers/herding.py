"""Herding: a few real samples whose mean is near the class mean.

Welling, "Herding dynamical weights to learn", ICML 2009. In the greedy form of iCaRL (Rebuffi et al.,
arXiv 1611.07725, algorithm 4), the k-th sample is

    p_k = argmin_x || mu - (phi(x) + sum_{j<k} phi(p_j)) / k ||.

In the paper phi is a trained network: `features=teacher`. By default phi(x) is the sample of the match space,
standardised and flattened.
"""

from __future__ import annotations

import torch
from torch import Tensor

from latentdd_plugin.distillers.selection import Selection, squared_norms
from latentdd_plugin.distillers.work import TaskSize, Work


class Herding(Selection):
    """Greedy approximation of the class mean; its first k samples are its choice of k. Not random."""

    def work(self, size: TaskSize) -> Work:
        """Return one product of all samples with each chosen one, and the norms."""
        return self._products(size, size.codes_per_class + 2)

    def choose(self, samples: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Return p_1 … p_n: with mu = 0, p_k is the argmin of ||x||^2 + 2 <x, s>, and s is the sum of p_1 … p_{k-1}."""
        scores = squared_norms(samples)
        chosen = torch.empty(n, dtype=torch.long)
        for k in range(n):
            position = int(scores.argmin())
            chosen[k] = position
            scores += 2 * (samples @ samples[position])
            scores[position] = torch.inf
        return chosen
