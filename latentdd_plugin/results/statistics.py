"""Means, sample deviations, Student intervals and gains paired by seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latentdd_plugin.core.json_record import JsonRecord, json_field
from latentdd_plugin.core.json_schema import COUNT, DIFFERENCE, FRACTION, NUMBER, PAIR
from latentdd_plugin.core.types import Score
from latentdd_plugin.results.formatting import percent, points

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Statistics(JsonRecord):
    """Mean, deviation and interval of one value per seed."""

    mean: float = json_field(NUMBER, "mean")
    std: float | None = json_field(NUMBER.or_null(), "sample standard deviation; null for one value")
    n: int = json_field(COUNT, "number of values, one per seed")
    ci95: tuple[float, float] | None = json_field(
        PAIR.or_null(), "Student's t 95% interval of the mean; null below three values"
    )

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Return the statistics of at least one value; deviation and interval need two and three values."""
        n = len(values)
        mean = math.fsum(values) / n
        if n < 2:
            return cls(mean, None, n, None)
        std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
        if n < 3:
            return cls(mean, std, n, None)
        from scipy.stats import t

        half = float(t.ppf(0.975, n - 1)) * std / math.sqrt(n)
        return cls(mean, std, n, (mean - half, mean + half))

    def __str__(self) -> str:
        """Format plain numbers: `0.442 ± 0.008`."""
        return f"{self.mean:.3f}" + (f" ± {self.std:.3f}" if self.std is not None else "")


@dataclass(frozen=True)
class Accuracy(Statistics):
    """An accuracy over seeds, as fractions."""

    mean: float = json_field(FRACTION, "mean accuracy, a fraction")

    def __str__(self) -> str:
        """Format percentages: `44.2% ± 0.8`."""
        return percent(self.mean) + (f" ± {100 * self.std:.1f}" if self.std is not None else "")

    @property
    def interval(self) -> str:
        """The interval in per cent, `[43.1, 45.3]`; empty if there is none."""
        return "" if self.ci95 is None else f"[{100 * self.ci95[0]:.1f}, {100 * self.ci95[1]:.1f}]"


@dataclass(frozen=True)
class Recovery(Accuracy):
    """An accuracy as a fraction of that of the whole training set; it may exceed 1."""

    mean: float = json_field(NUMBER, "mean of accuracy / accuracy of the whole training set")

    def __str__(self) -> str:
        """Format the fraction with its interval: `61.3% [59.0, 63.6]`."""
        return f"{percent(self.mean)} {self.interval}".rstrip()


@dataclass(frozen=True)
class Gain(Statistics):
    """A difference of accuracies over seeds, as fractions."""

    mean: float = json_field(DIFFERENCE, "mean difference, paired by seed, a fraction")

    def __str__(self) -> str:
        """Format percentage points: `+2.1 [+0.4, +3.8]`."""
        return f"{points(self.mean)} {self.interval}".rstrip()

    @property
    def interval(self) -> str:
        """The interval in percentage points, `[+0.4, +3.8]`; empty if there is none."""
        return "" if self.ci95 is None else f"[{points(self.ci95[0])}, {points(self.ci95[1])}]"

    @property
    def direction(self) -> str:
        """`up` or `down` if the interval excludes zero, else an empty text."""
        if self.ci95 is None or self.ci95[0] <= 0 <= self.ci95[1]:
            return ""
        return "up" if self.ci95[0] > 0 else "down"

    @property
    def side(self) -> str:
        """The mean in words: `2.1 points above` or `0.3 points below`."""
        return f"{abs(100 * self.mean):.1f} points {'above' if self.mean >= 0 else 'below'}"

    @property
    def verdict(self) -> str:
        """The interval in words, to follow `side`: whether it can be told from chance."""
        if self.ci95 is None:
            return "; it takes three seeds to tell that from chance"
        meaning = {
            "up": "so the method adds to them",
            "down": "so the method is worse than not distilling",
            "": "which may be chance, because the interval includes zero",
        }[self.direction]
        return f", 95% interval {self.interval}, {meaning}"


def by_evaluator(scores: Iterable[Score]) -> dict[str, dict[int, float]]:
    """Return accuracies by evaluator and seed."""
    rows: dict[str, dict[int, float]] = {}
    for score in scores:
        rows.setdefault(score.evaluator, {})[score.seed] = score.accuracy
    return rows


def summarise(scores: Iterable[Score]) -> dict[str, Accuracy]:
    """Return each evaluator's accuracy over seeds."""
    return {name: Accuracy.of(list(seeds.values())) for name, seeds in by_evaluator(scores).items()}


def summarise_top5(scores: Iterable[Score]) -> dict[str, Accuracy]:
    """Return each evaluator's top-5 accuracy over seeds, where every network has one."""
    found: dict[str, list[float | None]] = {}
    for score in scores:
        found.setdefault(score.evaluator, []).append(score.top5)
    known = {name: [value for value in values if value is not None] for name, values in found.items()}
    return {name: Accuracy.of(values) for name, values in known.items() if values and len(values) == len(found[name])}


def gains(method: Iterable[Score], baseline: Iterable[Score]) -> dict[str, Gain]:
    """Return method - baseline, paired by seed, for each evaluator that both have."""
    ours, theirs = by_evaluator(method), by_evaluator(baseline)
    pairs = {
        name: [seeds[s] - theirs[name][s] for s in seeds if s in theirs[name]]
        for name, seeds in ours.items()
        if name in theirs
    }
    return {name: Gain.of(differences) for name, differences in pairs.items() if differences}


def recoveries(scores: Iterable[Score], whole: Iterable[Score]) -> dict[str, Recovery]:
    """Return accuracy / accuracy of the whole set, paired by seed, for each evaluator that both have."""
    ours, theirs = by_evaluator(scores), by_evaluator(whole)
    ratios = {
        name: [value / theirs[name][seed] for seed, value in seeds.items() if theirs.get(name, {}).get(seed)]
        for name, seeds in ours.items()
    }
    return {name: Recovery.of(found) for name, found in ratios.items() if found}


def accuracies(found: Mapping[str, Statistics]) -> str:
    """Return the statistics of all evaluators as text: `convnet 45.7% ± 0.3, resnet18 40.1% ± 0.5`."""
    return ", ".join(f"{name} {one}" for name, one in found.items()) or "not scored"


def text_of(found: Mapping[str, Statistics], name: str) -> str:
    """Return an evaluator's statistics as text; `-` if it has none."""
    return str(found[name]) if name in found else "-"
