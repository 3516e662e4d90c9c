"""Accuracy by class and the most frequent mistakes of a run, in a size that does not grow with the classes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from latentdd_plugin.core.types import Score
from latentdd_plugin.results.formatting import percent

SHOWN = 20  # classes, and mistakes


@dataclass(frozen=True)
class ClassRow:
    """A class and its accuracy; the bar's length is in per cent."""

    name: str
    accuracy: str
    bar: float


@dataclass(frozen=True)
class ByClass:
    """The view of one evaluator's networks, class by class."""

    evaluator: str
    networks: int
    note: str  # which classes are shown
    rows: tuple[ClassRow, ...]
    mistakes: tuple[tuple[str, str, int], ...]  # class, class given instead, images of all networks together


def by_class(scores: Sequence[Score], classes: Sequence[str]) -> ByClass | None:
    """Return the first evaluator's accuracy by class, the mean over its networks; None if it is not in the scores.

    All classes are shown in their order up to `SHOWN`, of more the best and the worst.
    """
    found = [score for score in scores if score.evaluator == scores[0].evaluator]
    kept = [score.by_class for score in found if score.by_class is not None and len(score.by_class) == len(classes)]
    if not kept or len(kept) < len(found):
        return None
    means = [_mean([each[number] for each in kept]) for number in range(len(classes))]
    tested = [number for number in range(len(classes)) if means[number] is not None]
    note = ""
    if len(tested) > SHOWN:
        order = sorted(tested, key=lambda number: -(means[number] or 0.0))
        tested = order[: SHOWN // 2] + order[-SHOWN // 2 :]
        note = f"the {SHOWN // 2} best and the {SHOWN // 2} worst of {len(classes):,} classes"
    rows = [ClassRow(classes[n], percent(means[n]), round(100 * (means[n] or 0.0), 2)) for n in tested]
    return ByClass(found[0].evaluator, len(found), note, tuple(rows), _mistakes(found, classes))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _mistakes(scores: Sequence[Score], classes: Sequence[str]) -> tuple[tuple[str, str, int], ...]:
    counts = Counter[tuple[int, int]]()
    for score in scores:
        for right, given, images in score.confused or ():
            if max(right, given) < len(classes):
                counts[right, given] += images
    return tuple((classes[right], classes[given], images) for (right, given), images in counts.most_common(SHOWN))
