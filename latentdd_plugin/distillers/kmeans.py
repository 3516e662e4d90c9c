"""k-means: the real sample nearest to each of k cluster centres of its class.

Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28(2), 1982, initialised as in
Arthur & Vassilvitskii, "k-means++", SODA 2007.

Samples are compared in the match space, standardised and flattened, or by a teacher's features.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdd_plugin.distillers.selection import Selection, squared_distances, squared_norms
from latentdd_plugin.distillers.work import TaskSize, Work


@dataclass
class KMeans(Selection):
    """Cluster each class into as many clusters as it gets codes, and keep one real sample per cluster.

    Args:
        features: `match` or `teacher`, as every selection has it.
        iterations: maximum number of iterations of Lloyd's algorithm.
    """

    iterations: int = 100

    def choose(self, samples: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Return the sample nearest to each centre that is not yet chosen, larger clusters first."""
        centres = self._centres(samples, n, generator)
        norms = squared_norms(samples)
        taken = torch.zeros(len(samples), dtype=torch.bool, device=samples.device)
        chosen = torch.empty(n, dtype=torch.long)
        for k, centre in enumerate(centres):
            position = int(squared_distances(samples, norms, centre).masked_fill_(taken, torch.inf).argmin())
            taken[position] = True
            chosen[k] = position
        return chosen

    def work(self, size: TaskSize) -> Work:
        """Return the distances of all samples to all centres, for every iteration that is allowed."""
        return self._products(size, (size.codes_per_class + 2) * (self.iterations + 2))

    def _centres(self, samples: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Return the cluster centres (n, D), larger clusters first."""
        from sklearn import cluster
        from sklearn.exceptions import ConvergenceWarning
        from threadpoolctl import threadpool_limits

        seed = generator.initial_seed() % 2**32
        means = cluster.KMeans(n, n_init=1, max_iter=self.iterations, random_state=seed, copy_x=False)
        # One thread: several would add up a centre in the order in which they finish.
        with threadpool_limits(1, user_api="openmp"), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct samples than centres
            assigned = means.fit_predict(samples.cpu().numpy())
        sizes = torch.bincount(torch.from_numpy(assigned).long(), minlength=n)
        centres = torch.from_numpy(means.cluster_centers_)[sizes.argsort(descending=True, stable=True)]
        return centres.to(samples)
