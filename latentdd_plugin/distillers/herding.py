"""Herding: few real samples whose mean is the class's (Welling, "Herding dynamical weights to learn", ICML 2009).

In the greedy form of iCaRL (Rebuffi et al., arXiv 1611.07725, algorithm 4), the k-th sample is

    p_k = argmin_x || mu - (phi(x) + sum_{j<k} phi(p_j)) / k ||.

There phi is a trained network; here it is the match space itself, the flattened standardised samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from latentdd_plugin.distillers.selection import Selection, squared_norms


class Herding(Selection):
    """Greedy approximation of the class mean; the first samples are the best few. No randomness."""

    def choose(self, samples: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """With the class mean at zero, p_k is the argmin of ||x||^2 + 2 <x, s>, s the sum of those chosen before."""
        scores = squared_norms(samples)
        chosen = torch.empty(n, dtype=torch.long)
        for k in range(n):
            position = int(scores.argmin())
            chosen[k] = position
            scores += 2 * (samples @ samples[position])
            scores[position] = torch.inf
        return chosen
