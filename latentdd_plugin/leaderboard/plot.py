"""Accuracy against bytes as an SVG drawing whose points are links: positions and words; the template draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from latentdd_plugin.leaderboard.literature import Literature, Reported, comparable
from latentdd_plugin.leaderboard.table import Entry, Field, Reference
from latentdd_plugin.results.formatting import amount
from latentdd_plugin.results.pages import ticks

WIDTH, HEIGHT = 640, 380  # of the drawing
LEFT, RIGHT, TOP, BOTTOM = 62, 22, 14, 46  # margins
COLOURS = 8  # of site.css
NEAR = 12.0  # published budgets are drawn up to this factor below or above those of the entries
COLUMNS = 8  # marks of one budget and about one accuracy that stand side by side
LINE_OF_TEXT = 13.0  # least distance of two labels
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
    text: str


@dataclass(frozen=True)
class Mark:
    """A published number in the drawing: hollow, and never part of the front."""

    x: float
    y: float
    link: str
    text: str
    flagged: bool


@dataclass(frozen=True)
class Line:
    """A baseline in the drawing, from edge to edge."""

    points: str  # of a polyline
    colour: int | None  # None for pixels
    label: tuple[float, float]
    text: str


@dataclass(frozen=True)
class Panel:
    """One way of counting bytes."""

    counted: bool  # the decoder
    points: tuple[Point, ...]
    marks: tuple[Mark, ...]
    lines: tuple[Line, ...]
    front: str  # of a polyline: the best that so many bytes buy
    x: tuple[tuple[float, str], ...]
    y: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Plot:
    """The drawing of a field, both ways of counting."""

    field: Field
    panels: tuple[Panel, Panel]
    colours: tuple[tuple[str, int], ...]  # codec, number of the colour
    shapes: tuple[tuple[str, str], ...]  # algorithm, path
    published: tuple[Reported, ...]  # every comparable number, also those that are not drawn


class Style(NamedTuple):
    """Colours by codec and shapes by algorithm, the same in all drawings of a page."""

    colour: Mapping[str, int]
    shape: Mapping[str, str]


class Scale(NamedTuple):
    """From bytes per class and accuracies to positions in the drawing, with the ticks of both axes."""

    x: Callable[[float], float]
    y: Callable[[float], float]
    x_ticks: list[float]
    y_ticks: list[float]


def plots(found: Sequence[Entry], literature: Sequence[Literature] = ()) -> list[Plot]:
    """Return a plot for each field; colours and shapes are the same in all."""
    codecs, algos = sorted({e.codec for e in found}), sorted({e.algo for e in found})
    style = Style(
        {name: i % COLOURS for i, name in enumerate(codecs)},
        {name: SHAPES[i % len(SHAPES)] for i, name in enumerate(algos)},
    )
    fields: dict[Field, list[Entry]] = {}
    for entry in found:
        fields.setdefault(entry.field, []).append(entry)
    made = []
    for field, members in fields.items():
        published = comparable(literature, field.dataset, field.shape, field.evaluator)
        plain, counted = (_panel(members, published, how, style) for how in (False, True))
        here = tuple((name, style.colour[name]) for name in codecs if any(e.codec == name for e in members))
        drawn = tuple((name, style.shape[name]) for name in algos if any(e.algo == name for e in members))
        made.append(Plot(field, (plain, counted), here, drawn, tuple(published)))
    return made


def _panel(members: Sequence[Entry], published: Sequence[Reported], counted: bool, style: Style) -> Panel:
    sizes = {entry.key: max(1.0, entry.bytes_all if counted else entry.bytes) for entry in members}
    near = _near(published, members[0].field, min(sizes.values()), max(sizes.values()))
    references = _references(members, counted)
    scale = _scale(
        [*sizes.values(), *(size for size, _ in near)],
        [
            *(v for e in members for v in (e.accuracy, *(e.interval or ()))),
            *(one.number.accuracy for _, one in near),
            *(one.accuracy for found in references.values() for _, one in found),
        ],
    )
    front: list[Entry] = []
    for entry in sorted((e for e in members if e.ranked), key=lambda e: (sizes[e.key], -e.accuracy, e.key)):
        if not front or entry.accuracy > front[-1].accuracy:
            front.append(entry)
    taken: list[tuple[float, float]] = []
    points = [_point(e, sizes[e.key], scale, style) for e in sorted(members, key=lambda e: (e.accuracy, e.key))]
    points = [replace(one, x=_beside(one.x, one.y, taken, 14)) for one in points]
    marks = [_mark(one, size, scale) for size, one in near]
    marks = [replace(one, x=_beside(one.x, one.y, taken, 9)) for one in marks]
    return Panel(
        counted=counted,
        points=tuple(points),
        marks=tuple(marks),
        lines=_lines(references, scale, style),
        front=" ".join(f"{scale.x(sizes[e.key])},{scale.y(e.accuracy)}" for e in front),
        x=tuple((scale.x(v), amount(v)) for v in scale.x_ticks),
        y=tuple((scale.y(v), f"{100 * round(v, 6):.3g}%") for v in scale.y_ticks),
    )


def _point(entry: Entry, size: float, scale: Scale, style: Style) -> Point:
    return Point(
        entry=entry,
        x=scale.x(size),
        y=scale.y(entry.accuracy),
        bar=(scale.y(entry.interval[0]), scale.y(entry.interval[1])) if entry.interval else None,
        colour=style.colour[entry.codec],
        shape=style.shape[entry.algo],
        text=(
            f"{entry.name}, {entry.precision}, by {entry.submitter}: {entry.accuracy_text}, {size:,.0f} bytes per class"
        ),
    )


def _beside(x: float, y: float, taken: list[tuple[float, float]], width: float) -> float:
    """Return the first place to the right of x where a mark covers none of those that are taken, and take it."""
    for step in range(COLUMNS):
        at = round(x + step * width, 1)
        if at > WIDTH - RIGHT:
            break
        if all(abs(at - px) >= width or abs(y - py) >= width for px, py in taken):
            taken.append((at, y))
            return at
    return x


def _mark(one: Reported, size: float, scale: Scale) -> Mark:
    at = scale.x(size), scale.y(one.number.accuracy)
    return Mark(*at, link=one.source.source.url, text=one.text, flagged=one.number.flag is not None)


def _near(published: Sequence[Reported], field: Field, low: float, high: float) -> list[tuple[float, Reported]]:
    """Return (bytes per class, number) of the numbers whose budgets are comparable with those of the entries."""
    sized = [(one.number.size(field.shape), one) for one in published]
    return [(size, one) for size, one in sized if size is not None and low / NEAR <= size <= high * NEAR]


def _references(members: Sequence[Entry], counted: bool) -> dict[str, list[tuple[float, Reference]]]:
    """Return (bytes per class, baseline) by baseline, the smallest first; entries of one budget share a baseline."""
    found: dict[str, dict[float, Reference]] = {}
    for entry in members:
        for one in entry.references:
            found.setdefault(one.name, {}).setdefault(max(1.0, one.bytes_all if counted else one.bytes), one)
    return {name: sorted(sizes.items(), key=lambda item: item[0]) for name, sizes in sorted(found.items())}


def _lines(references: Mapping[str, list[tuple[float, Reference]]], scale: Scale, style: Style) -> tuple[Line, ...]:
    """Return the baselines, the highest first, with labels at the right end that do not cover each other."""
    made, above = [], float("-inf")
    for found in sorted(references.values(), key=lambda found: -found[-1][1].accuracy):
        heights = [scale.y(one.accuracy) for _, one in found]
        inside = [f"{scale.x(size)},{y}" for (size, _), y in zip(found, heights, strict=True)]
        above = max(heights[-1] - 4, above + LINE_OF_TEXT)
        last = found[-1][1]
        made.append(
            Line(
                points=" ".join([f"{LEFT},{heights[0]}", *inside, f"{WIDTH - RIGHT},{heights[-1]}"]),
                colour=style.colour.get(last.codec),
                label=(WIDTH - RIGHT, round(above, 1)),
                text=f"{last.name} {100 * last.accuracy:.1f}%",
            )
        )
    return tuple(made)


def _scale(sizes: Sequence[float], values: Sequence[float]) -> Scale:
    x_ticks = _powers(min(sizes), max(sizes))
    y_ticks = ticks(max(0.0, min(values)), min(1.0, max(values)))
    low, high = (math.log(v) for v in (min(x_ticks[0], *sizes), max(x_ticks[-1], *sizes)))

    def x(size: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (math.log(size) - low) / ((high - low) or 1), 1)

    def y(value: float) -> float:
        at = (min(max(value, y_ticks[0]), y_ticks[-1]) - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * at, 1)

    return Scale(x, y, x_ticks, y_ticks)


def _powers(low: float, high: float) -> list[float]:
    """Round sizes around a range on a logarithmic axis: powers of ten, with 2 and 5 between where it is short."""
    steps = (1, 2, 5) if high / low < 200 else (1,)
    around = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 2)
    every = [step * 10.0**power for power in around for step in steps]
    first = max(v for v in every if v <= low)
    return [v for v in every if first <= v <= min(w for w in every if w >= high and w > first)]
