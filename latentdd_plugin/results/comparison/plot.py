"""`pareto.png`: accuracy against bytes, on a logarithmic axis, with and without the decoder.

If all sets have the same bytes, as in a comparison at equal bytes, codecs stand side by side instead. Each label
regime has a row of its own: what the same bytes buy is compared under the same labels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentdd_plugin.results.comparison.record import ComparisonRecord
from latentdd_plugin.results.comparison.table import lines
from latentdd_plugin.results.figures import COLOURS, INK, MARKERS, draw_frame, draw_interval, new_figure, png_of
from latentdd_plugin.results.formatting import amount
from latentdd_plugin.results.grid import write_file

ONE_SIZE = 1.05  # sizes nearer than this are one
COUNTED = {"total": "decoder not counted", "total_with_decoder": "decoder counted"}


@dataclass(frozen=True)
class Dot:
    """One finished cell in the plane."""

    codec: str
    method: str
    bytes: int
    accuracy: float  # fraction
    interval: tuple[float, float] | None
    precision: str
    labels: str | None  # the label regime, if one was asked for

    @property
    def group(self) -> str:
        """Its label on an axis of codecs."""
        return f"{self.codec}\n{self.precision}"


def dots(comparison: ComparisonRecord, evaluator: str, counted: str) -> list[Dot]:
    """Return the cells that have an accuracy; equal runs are one dot.

    Args:
        comparison: the comparison.
        evaluator: whose accuracy.
        counted: `total` or `total_with_decoder`, a sum of the byte ledger.
    """
    found: dict[Dot, None] = {}
    for line in lines(comparison):
        for cell in line.cells.values():
            accuracy = cell.accuracy(evaluator)
            if accuracy is not None and cell.budget is not None:
                size = int(getattr(cell.budget.bytes, counted))
                method = cell.algo if cell.match == "code" else line.method
                scored = accuracy.mean, accuracy.ci95
                found[Dot(line.codec, method, size, *scored, cell.precision, cell.labels)] = None
    return list(found)


def panels(comparison: ComparisonRecord, evaluator: str) -> list[str]:
    """Return the ways of counting that differ: one if no codec has a decoder to store."""
    first, second = (dots(comparison, evaluator, key) for key in COUNTED)
    return list(COUNTED)[: 1 if first == second else 2]


def regimes(comparison: ComparisonRecord, evaluator: str) -> list[str | None]:
    """Return the label regimes of the cells that have an accuracy."""
    return list(dict.fromkeys(dot.labels for dot in dots(comparison, evaluator, "total")))


def front(found: Sequence[Dot]) -> list[Dot]:
    """Return the dots that no other beats with as many or fewer bytes and a higher accuracy."""
    best: list[Dot] = []
    for dot in sorted(found, key=lambda d: (d.bytes, -d.accuracy)):
        if not best or dot.accuracy > best[-1].accuracy:
            best.append(dot)
    return best


def draw(path: Path, comparison: ComparisonRecord) -> None:
    """Write the plot of the first evaluator, both ways of counting side by side; nothing if no cell has a score."""
    first = comparison.evaluators[0]
    if dots(comparison, first, "total"):
        write_file(path, picture(comparison, first, panels(comparison, first), regimes(comparison, first)))


def picture(
    comparison: ComparisonRecord, evaluator: str, counted: Sequence[str], labels: Sequence[str | None]
) -> bytes:
    """Return a PNG with a panel for each way of counting and a row for each label regime, on one accuracy axis."""
    figure, axes = new_figure(len(counted), rows=len(labels))
    everything = dots(comparison, evaluator, "total")
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(dict.fromkeys(d.codec for d in everything))}
    markers = {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(dict.fromkeys(d.method for d in everything))}
    for axis, (regime, key) in zip(axes, itertools.product(labels, counted), strict=True):
        found = [dot for dot in dots(comparison, evaluator, key) if dot.labels == regime]
        _panel(axis, found, colours, markers)
        axis.set_title(panel_title(key, regime), color=INK, fontsize=10)
    for axis in axes[:: len(counted)]:
        axis.set_ylabel(f"accuracy of {evaluator}, %", color=INK)
    _legend(figure, colours, markers)
    return png_of(figure)


def panel_title(counted: str, regime: str | None) -> str:
    """Return what a panel shows: `decoder not counted, soft labels`."""
    return COUNTED[counted] if regime is None else f"{COUNTED[counted]}, {regime} labels"


def _panel(axis: Any, found: Sequence[Dot], colours: Mapping[str, str], markers: Mapping[str, str]) -> None:
    sizes = [dot.bytes for dot in found]
    one_size = max(sizes) < ONE_SIZE * min(sizes)
    place = _side_by_side(axis, found, list(markers)) if one_size else _on_bytes(axis, found)
    for dot in found:
        x, colour, plain = place(dot), colours[dot.codec], dot.method == "random"
        draw_interval(axis, x, dot.interval and [100 * end for end in dot.interval], colour)
        face = "none" if plain else colour
        style = {"markerfacecolor": face, "markeredgecolor": colour, "markersize": 7, "markeredgewidth": 1.4}
        axis.plot([x], [100 * dot.accuracy], markers[dot.method], zorder=3, **style)
    draw_frame(axis)
    axis.margins(x=0.08, y=0.08)


def _side_by_side(axis: Any, found: Sequence[Dot], methods: Sequence[str]) -> Callable[[Dot], float]:
    """Draw an axis of codecs and precisions; return the position of a dot on it, methods side by side."""
    groups = list(dict.fromkeys(dot.group for dot in found))
    axis.set_xticks(range(len(groups)), groups, fontsize=8)
    axis.set_xlim(-0.5, len(groups) - 0.5)
    axis.set_xlabel(f"{amount(min(dot.bytes for dot in found))} each", color=INK)
    return lambda dot: groups.index(dot.group) + 0.6 * ((methods.index(dot.method) + 0.5) / len(methods) - 0.5)


def _on_bytes(axis: Any, found: Sequence[Dot]) -> Callable[[Dot], float]:
    """Draw a logarithmic axis of bytes and the front; return the position of a dot on it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    best = front(found)
    axis.step(
        [d.bytes for d in best], [100 * d.accuracy for d in best], where="post", color=INK, linewidth=1, linestyle="--"
    )
    axis.set_xscale("log")
    spread = max(d.bytes for d in found) / min(d.bytes for d in found)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if spread < 50 else (1,)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: amount(value)))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("bytes of the whole set", color=INK)
    return lambda dot: dot.bytes


def _legend(figure: Any, colours: Mapping[str, str], markers: Mapping[str, str]) -> None:
    """Codecs by colour, then methods by shape; random codes are hollow."""
    from matplotlib.lines import Line2D

    kinds = [Line2D([], [], marker="s", linestyle="", color=colour, label=name) for name, colour in colours.items()]
    shapes = [
        Line2D([], [], marker=marker, linestyle="", color=INK, label=name, fillstyle=_fill(name))
        for name, marker in markers.items()
    ]
    shapes.append(Line2D([], [], color=INK, linestyle="--", linewidth=1, label="best for its bytes"))
    columns = min(5, max(2, len(kinds)))
    figure.legend(
        handles=[*kinds, *shapes], loc="outside lower center", ncols=columns, frameon=False, labelcolor=INK, fontsize=9
    )


def _fill(method: str) -> str:
    return "none" if method == "random" else "full"
