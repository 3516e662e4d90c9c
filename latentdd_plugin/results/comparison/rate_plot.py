"""`rate.png`: accuracy against the bytes per class that a set really takes, one line per codec, precision and method.

Published numbers of other works are hollow grey marks: their protocols differ, and nothing is ranked with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentdd_plugin.results.comparison.plot import COUNTED
from latentdd_plugin.results.comparison.record import ComparisonRecord
from latentdd_plugin.results.comparison.table import lines
from latentdd_plugin.results.figures import COLOURS, INK, MARKERS, draw_frame, new_figure, png_of
from latentdd_plugin.results.formatting import amount
from latentdd_plugin.results.grid import write_file

DASHES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1)))  # by precision


@dataclass(frozen=True)
class PublishedPoint:
    """An accuracy that another work reports."""

    method: str
    bytes_per_class: float
    accuracy: float  # fraction


@dataclass(frozen=True)
class Curve:
    """Accuracies of one line of the table, by real bytes per class."""

    codec: str
    method: str
    precision: str
    points: tuple[tuple[float, float], ...]  # (bytes per class, accuracy as a fraction), ascending


def curves(comparison: ComparisonRecord, evaluator: str, counted: str) -> list[Curve]:
    """Return a curve for each line of the table that has a score.

    Args:
        comparison: a comparison at several budgets.
        evaluator: whose accuracy.
        counted: `total` or `total_with_decoder`, a sum of the byte ledger.
    """
    found, classes = [], len(comparison.dataset.classes) if comparison.dataset else 1
    for line in lines(comparison):
        points = []
        for cell in line.cells.values():
            accuracy = cell.accuracy(evaluator)
            if accuracy is not None and cell.budget is not None:
                points.append((getattr(cell.budget.bytes, counted) / classes, accuracy.mean))
        if points:
            found.append(Curve(line.codec, line.method, line.precision, tuple(sorted(points))))
    return found


def draw_curves(path: Path, comparison: ComparisonRecord, published: Sequence[PublishedPoint] = ()) -> None:
    """Write the plot of the first evaluator, decoder counted and not; nothing unless several budgets have scores."""
    evaluator = comparison.evaluators[0]
    if comparison.rates and curves(comparison, evaluator, "total"):
        write_file(path, picture(comparison, evaluator, published))


def picture(comparison: ComparisonRecord, evaluator: str, published: Sequence[PublishedPoint] = ()) -> bytes:
    """Return a PNG with a panel for each way of counting that differs, on one accuracy axis."""
    panels = {key: curves(comparison, evaluator, key) for key in COUNTED}
    if panels["total"] == panels["total_with_decoder"]:
        del panels["total_with_decoder"]
    figure, axes = new_figure(len(panels), height=4.8)
    for axis, (key, found) in zip(axes, panels.items(), strict=True):
        _panel(axis, found, published)
        axis.set_title(COUNTED[key], color=INK, fontsize=10)
    axes[0].set_ylabel(f"accuracy of {evaluator}, %", color=INK)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, labelcolor=INK, fontsize=8)
    return png_of(figure)


def _panel(axis: Any, found: Sequence[Curve], published: Sequence[PublishedPoint]) -> None:
    """Draw the curves, random codes hollow, and the published points."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    colours, marks, dashes = (list(dict.fromkeys(values)) for values in zip(*map(_style_keys, found), strict=True))
    for curve in found:
        colour = COLOURS[colours.index(curve.codec) % len(COLOURS)]
        axis.plot(
            [size for size, _ in curve.points], [100 * accuracy for _, accuracy in curve.points],
            color=colour, linestyle=DASHES[dashes.index(curve.precision) % len(DASHES)], linewidth=1.3,
            marker=MARKERS[marks.index(curve.method) % len(MARKERS)],
            markerfacecolor="none" if curve.method == "random" else colour,
            label=f"{curve.codec}, {curve.precision}, {curve.method}",
        )  # fmt: skip
    for i, one in enumerate(published):
        label = {"label": "reported by other works"} if i == 0 else {}
        axis.plot([one.bytes_per_class], [100 * one.accuracy], "o", color=INK, markerfacecolor="none", **label)
        axis.annotate(one.method, (one.bytes_per_class, 100 * one.accuracy), color=INK, fontsize=6)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: amount(value)))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("bytes per class", color=INK)
    draw_frame(axis)


def _style_keys(curve: Curve) -> tuple[str, str, str]:
    return curve.codec, curve.method, curve.precision
