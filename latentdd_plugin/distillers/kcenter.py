"""k-center: a few real samples such that every sample of the class is near one of them.

Sener & Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", arXiv 1708.00489,
algorithm 1:

    u = argmax_i min_{j chosen} d(x_i, x_j), repeated: at most twice the smallest possible radius.

In the paper d compares features of a trained network: `features=teacher`. By default it compares samples of the match
space, standardised and flattened.
"""

from __future__ import annotations

import torch
from torch import Tensor

from latentdd_plugin.distillers.selection import Selection, squared_distances, squared_norms
from latentdd_plugin.distillers.work import TaskSize, Work


class KCenter(Selection):
    """Greedy farthest-first traversal from the sample nearest to the class mean. Not random."""

    def work(self, size: TaskSize) -> Work:
        """Return one product of all samples with each chosen one, and the norms."""
        return self._products(size, size.codes_per_class + 2)

    def choose(self, samples: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Return the sample nearest to the mean, then repeatedly the one farthest from all chosen so far."""
        norms = squared_norms(samples)
        position = int(norms.argmin())
        nearest = torch.full_like(norms, torch.inf)  # squared distance of each sample to the chosen ones
        chosen = torch.empty(n, dtype=torch.long)
        for k in range(n):
            chosen[k] = position
            nearest = torch.minimum(nearest, squared_distances(samples, norms, samples[position]))
            nearest[chosen[: k + 1]] = -1.0
            position = int(nearest.argmax())
        return chosen
