"""Accuracy against bytes as an SVG drawing whose points are links: positions and words; the template draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from latentdd_plugin.leaderboard.table import Entry, Field
from latentdd_plugin.results.formatting import amount
from latentdd_plugin.results.pages import ticks

WIDTH, HEIGHT = 640, 380  # of the drawing
LEFT, RIGHT, TOP, BOTTOM = 62, 22, 14, 46  # margins
COLOURS = 8  # of site.css
SHAPES = (  # paths about (0, 0), one for an algorithm
    "M-6,0a6,6 0 1,0 12,0a6,6 0 1,0 -12,0z",
    "M-5.5,-5.5h11v11h-11z",
    "M0,-7.5 7,0 0,7.5 -7,0z",
    "M0,-7 7,6 -7,6z",
    "M0,7 7,-6 -7,-6z",
    "M-2.3,-7h4.6v4.7h4.7v4.6h-4.7v4.7h-4.6v-4.7h-4.7v-4.6h4.7z",
)


@dataclass(frozen=True)
class Point:
    """An entry in the drawing."""

    entry: Entry
    x: float
    y: float
    bar: tuple[float, float] | None  # the ends of its interval
    colour: int
    shape: str
    hollow: bool  # random codes
    text: str


@dataclass(frozen=True)
class Panel:
    """One way of counting bytes."""

    counted: bool  # the decoder
    points: tuple[Point, ...]
    front: str  # of a polyline: the best that so many bytes buy
    x: tuple[tuple[float, str], ...]
    y: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Plot:
    """The drawing of a field, both ways of counting."""

    field: Field
    panels: tuple[Panel, Panel]
    colours: tuple[tuple[str, int], ...]  # codec, number of the colour
    shapes: tuple[tuple[str, str, bool], ...]  # algorithm, path, whether hollow


def plots(found: Sequence[Entry]) -> list[Plot]:
    """Return a plot for each field; colours and shapes are the same in all."""
    codecs, algos = sorted({e.codec for e in found}), sorted({e.algo for e in found})
    colour = {name: i % COLOURS for i, name in enumerate(codecs)}
    shape = {name: SHAPES[i % len(SHAPES)] for i, name in enumerate(algos)}
    fields: dict[Field, list[Entry]] = {}
    for entry in found:
        fields.setdefault(entry.field, []).append(entry)
    made = []
    for field, members in fields.items():
        plain, counted = (_panel(members, how, colour, shape) for how in (False, True))
        here = [(name, colour[name]) for name in codecs if any(e.codec == name for e in members)]
        drawn = [(name, shape[name], name == "random") for name in algos if any(e.algo == name for e in members)]
        made.append(Plot(field, (plain, counted), tuple(here), tuple(drawn)))
    return made


def _panel(members: Sequence[Entry], counted: bool, colour: dict[str, int], shape: dict[str, str]) -> Panel:
    sizes = {entry.key: max(1.0, entry.bytes_all if counted else entry.bytes) for entry in members}
    x_ticks = _powers(min(sizes.values()), max(sizes.values()))
    values = [v for e in members for v in (e.accuracy, *(e.interval or ()))]
    y_ticks = ticks(max(0.0, min(values)), min(1.0, max(values)))
    low, high = (math.log(v) for v in (min(x_ticks[0], *sizes.values()), max(x_ticks[-1], *sizes.values())))

    def x(size: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (math.log(size) - low) / ((high - low) or 1), 1)

    def y(value: float) -> float:
        at = (min(max(value, y_ticks[0]), y_ticks[-1]) - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * at, 1)

    front: list[Entry] = []
    for entry in sorted((e for e in members if e.ranked), key=lambda e: (sizes[e.key], -e.accuracy, e.key)):
        if not front or entry.accuracy > front[-1].accuracy:
            front.append(entry)
    return Panel(
        counted=counted,
        points=tuple(
            Point(
                entry=e,
                x=x(sizes[e.key]),
                y=y(e.accuracy),
                bar=(y(e.interval[0]), y(e.interval[1])) if e.interval else None,
                colour=colour[e.codec],
                shape=shape[e.algo],
                hollow=e.algo == "random",
                text=(
                    f"{e.name}, {e.precision}, by {e.submitter}: {e.accuracy_text}, {sizes[e.key]:,.0f} bytes per class"
                ),
            )
            for e in sorted(members, key=lambda e: (e.accuracy, e.key))
        ),
        front=" ".join(f"{x(sizes[e.key])},{y(e.accuracy)}" for e in front),
        x=tuple((x(v), amount(v)) for v in x_ticks),
        y=tuple((y(v), f"{100 * round(v, 6):.3g}%") for v in y_ticks),
    )


def _powers(low: float, high: float) -> list[float]:
    """Round sizes around a range on a logarithmic axis: powers of ten, with 2 and 5 between where it is short."""
    steps = (1, 2, 5) if high / low < 200 else (1,)
    around = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 2)
    every = [step * 10.0**power for power in around for step in steps]
    first = max(v for v in every if v <= low)
    return [v for v in every if first <= v <= min(w for w in every if w >= high and w > first)]
