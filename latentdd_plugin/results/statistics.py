"""Means, deviations, Student intervals and paired gains, and how they are printed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from latentdd_plugin.core.types import Json, Score


def summarise(accuracies: Sequence[float]) -> dict[str, Json]:
    """Mean, sample standard deviation, count and Student's t 95% interval; null where there are too few seeds."""
    n = len(accuracies)
    mean = math.fsum(accuracies) / n
    if n < 2:
        return {"mean": mean, "std": None, "n": n, "ci95": None}
    std = math.sqrt(math.fsum((a - mean) ** 2 for a in accuracies) / (n - 1))
    if n < 3:
        return {"mean": mean, "std": std, "n": n, "ci95": None}
    from scipy.stats import t

    half = float(t.ppf(0.975, n - 1)) * std / math.sqrt(n)
    return {"mean": mean, "std": std, "n": n, "ci95": [mean - half, mean + half]}


def by_evaluator(scores: Sequence[Score]) -> dict[str, dict[int, float]]:
    """Accuracies by evaluator and seed."""
    rows: dict[str, dict[int, float]] = {}
    for score in scores:
        rows.setdefault(score.evaluator, {})[score.seed] = score.accuracy
    return rows


def summary(scores: Sequence[Score]) -> dict[str, Json]:
    """`summarise` for each evaluator."""
    return {name: summarise(list(seeds.values())) for name, seeds in by_evaluator(scores).items()}


def gain(method: Sequence[Score], control: Sequence[Score]) -> dict[str, Json]:
    """`summarise` of the differences method - control, paired by seed, for each evaluator both have."""
    ours, theirs = by_evaluator(method), by_evaluator(control)
    pairs = {
        name: [seeds[s] - theirs[name][s] for s in seeds if s in theirs[name]]
        for name, seeds in ours.items()
        if name in theirs
    }
    return {name: summarise(differences) for name, differences in pairs.items() if differences}


def percent(value: float | None) -> str:
    """A fraction for a person: `44.2%`."""
    return "-" if value is None else f"{100 * value:.1f}%"


def mean_std(stats: Mapping[str, Json] | None) -> str:
    """A summary for a person: `44.2% ± 0.8`."""
    if stats is None:
        return "-"
    return percent(stats["mean"]) + (f" ± {100 * stats['std']:.1f}" if stats["std"] is not None else "")


def points(stats: Mapping[str, Json] | None) -> str:
    """A summary of differences for a person, in percentage points: `+2.1 [+0.4, +3.8]`."""
    if stats is None:
        return "-"
    text = f"{100 * stats['mean']:+.1f}"
    return text if stats["ci95"] is None else f"{text} [{100 * stats['ci95'][0]:+.1f}, {100 * stats['ci95'][1]:+.1f}]"
