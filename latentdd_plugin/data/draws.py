"""Seeded draws of rows: stratified splits and caps per class."""

from __future__ import annotations

import numpy as np

from latentdd_plugin.data.columns import Ints

SEED = 0


PURPOSES = {"test": 1, "validation": 2, "per_class": 3}  # each draw has its own stream


def shuffled(labels: Ints, purpose: str) -> dict[int, Ints]:
    """Return the positions of each class in an order drawn with seed 0."""
    found = {}  # RandomState's streams never change, those of numpy's Generator may
    for label in np.unique(labels).tolist():
        draw = np.random.RandomState([SEED, PURPOSES[purpose], label])
        found[label] = draw.permutation(np.flatnonzero(labels == label))
    return found


def stratified(labels: Ints, fraction: float, purpose: str) -> tuple[Ints, Ints]:
    """Return sorted positions (kept, removed); of each class a rounded fraction is removed, at least one, not all."""
    orders = shuffled(labels, purpose).values()
    removed = [order[: min(max(1, round(fraction * len(order))), len(order) - 1)] for order in orders]
    gone = np.sort(np.concatenate(removed))
    return np.setdiff1d(np.arange(len(labels)), gone), gone


def capped(labels: Ints, per_class: int) -> Ints:
    """Return ascending positions of at most `per_class` rows per class; a smaller cap keeps part of a larger one's."""
    return np.sort(np.concatenate([order[:per_class] for order in shuffled(labels, "per_class").values()]))
