"""Differences between what a claim states and what was found.

On the same platform every accuracy must be equal to the bit. Elsewhere means and gains must lie within `TOLERANCE` or
three standard errors, and never further apart than `CAP`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, variance

from latentdd_plugin.core.types import Score
from latentdd_plugin.leaderboard.records import CheckedRow
from latentdd_plugin.results.evaluation import Evaluation
from latentdd_plugin.results.record import Baseline, Record
from latentdd_plugin.results.statistics import gains

TOLERANCE, ERRORS = 0.01, 3.0  # a mean may differ by the larger of this fraction and so many standard errors
CAP = 0.05  # and never by more than this fraction, however far networks spread; a gain, of two means, by twice as much
BUILT = ("arch", "kwargs", "params")  # of a score: equal everywhere
MEASURED = ("top5", "by_class", "confused")  # beside the accuracy; older records have none


def compare_scores(
    claimed: Sequence[Score], found: Sequence[Score], *, same: bool, baseline: str | None = None
) -> tuple[list[CheckedRow], list[str]]:
    """Return every network with its claimed and its found accuracy, and why the claim does not hold."""
    stated = {(row.evaluator, row.seed): row for row in claimed}
    came = {(row.evaluator, row.seed): row for row in found}
    rows = [
        CheckedRow(
            evaluator=row.evaluator,
            seed=row.seed,
            claimed=stated[key].accuracy if key in stated else None,
            found=row.accuracy,
            control=baseline,
        )
        for key, row in came.items()
    ]
    why = [
        f"{name}, seed {seed}: claimed, but it cannot be trained here"
        for name, seed in stated
        if (name, seed) not in came
    ]
    left_out = {row.evaluator for row in found} - {row.evaluator for row in claimed}
    why += [f"{name}: left out, though it can be trained here" for name in sorted(left_out)]
    for key, row in came.items():
        claim = stated.get(key)
        if claim is None:
            continue
        if same and claim.accuracy != row.accuracy:
            why.append(f"{row.evaluator}, seed {row.seed}: {claim.accuracy:.4f} claimed, {row.accuracy:.4f} found")
        names = [*BUILT, *(name for name in MEASURED if same and getattr(claim, name) is not None)]
        why += [
            f"{row.evaluator}, seed {row.seed}: {name} {getattr(claim, name)!r} claimed, {getattr(row, name)!r} found"
            for name in names
            if getattr(claim, name) != getattr(row, name)
        ]
    return rows, why + ([] if same else distant_means(claimed, found))


def distant_means(claimed: Sequence[Score], found: Sequence[Score]) -> list[str]:
    """Compare means over networks on another platform."""
    why = []
    for evaluator in dict.fromkeys(row.evaluator for row in claimed):
        for what, measured in ((evaluator, "accuracy"), (f"top-5 of {evaluator}", "top5")):
            theirs = _values(claimed, evaluator, measured)
            ours = _values(found, evaluator, measured)
            if theirs and len(ours) >= 2:
                spread = math.sqrt(variance(ours) * (1 / len(theirs) + 1 / len(ours)))  # ours: theirs may say anything
                why += _apart(what, fmean(theirs), fmean(ours), spread, len(ours))
    return why


def _values(scores: Sequence[Score], evaluator: str, name: str) -> list[float]:
    """Return a measured value of all networks of an evaluator that have it."""
    values = (getattr(row, name) for row in scores if row.evaluator == evaluator)
    return [value for value in values if value is not None]


def distant_gains(theirs: Baseline, scores: Sequence[Score], found: Sequence[Score]) -> list[str]:
    """Compare the gain over a baseline on another platform."""
    why = []
    for evaluator, gain in gains(scores, found).items():
        claimed = theirs.gain.get(evaluator)
        if claimed is not None and gain.std is not None:
            spread = gain.std * math.sqrt(1 / claimed.n + 1 / gain.n)
            why += _apart(f"gain of {evaluator}", claimed.mean, gain.mean, spread, gain.n, 2 * CAP)
    return why


def _apart(what: str, claimed: float, found: float, spread: float, n: int, cap: float = CAP) -> list[str]:
    most = min(max(TOLERANCE, ERRORS * spread), cap)
    apart = abs(claimed - found)
    if apart <= most:
        return []
    return [
        f"{what}: {claimed:.4f} claimed, {found:.4f} found over {n} networks: {apart:.4f} apart, {most:.4f} allowed"
    ]


def dataset_differences(record: Record, found: object) -> list[str]:
    """Compare the dataset's sizes, and whether it may be flipped, with what was read."""
    return [
        f"dataset.{name}: {getattr(record.dataset, name)} claimed, {getattr(found, name)} found"
        for name in ("train_size", "test_size", "validation_size", "flip")
        if getattr(record.dataset, name) != getattr(found, name, None)
    ]


def teacher_differences(record: Record, evaluation: Evaluation, *, same: bool) -> list[str]:
    """Compare the teacher with the one that was loaded or trained here."""
    stated, found = record.teacher, evaluation.teacher
    if stated is None or found is None:
        return [] if stated is found else ["teacher: stated in one place only"]
    names = ("arch", "networks", "params", "bytes", "trained_on", "recipe", *(("sha256", "accuracy") if same else ()))
    pairs = ((name, getattr(stated, name), getattr(found, name)) for name in names)
    return [f"teacher.{name}: {is_!r} claimed, {has!r} found" for name, is_, has in pairs if is_ != has]
