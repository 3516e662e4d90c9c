"""`report.html` of a comparison: one page that needs nothing else, in the look of a run's."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentdd_plugin.core.monitor import duration
from latentdd_plugin.core.types import Json
from latentdd_plugin.results.comparison.plot import dots, panels, picture
from latentdd_plugin.results.comparison.table import Line, ledger_title, lines, peak_mb, reading, reasons, state
from latentdd_plugin.results.grid import write_file
from latentdd_plugin.results.pages import count, percent, points, render, spread, ticks

COST_HEADS = ("bytes", "with decoder", "time to distil", "a step", "peak MB")


@dataclass(frozen=True)
class Score:
    """A line's accuracy in one ledger; positions are in per cent of the plot's width."""

    held: str = ""  # how many codes, how many bytes
    accuracy: str = ""
    gain: str = ""
    gain_interval: str = ""
    clear: str = ""  # up or down where the gain's interval leaves out zero
    mean: float | None = None
    span: tuple[float, float] | None = None  # left end and width of the 95% interval
    control: float | None = None  # where random codes stand
    why: str = ""  # instead of a score
    best: bool = False  # the highest accuracy of its ledger


@dataclass(frozen=True)
class Row:
    """One line of the page's table."""

    method: str
    random: bool
    scores: tuple[Score, ...]  # by ledger


@dataclass(frozen=True)
class Group:
    """The lines of one codec at one precision."""

    name: str
    precision: str
    held: tuple[str, ...]  # by ledger: what its lines hold, as a rule
    rows: tuple[Row, ...]


def write_page(path: Path, data: Mapping[str, Json]) -> None:
    """The page; all text is escaped.

    Raises:
        RunFailed: the file cannot be written.
    """
    write_file(path, render("compare.html.j2", **_view(data)).encode())


def _view(data: Mapping[str, Json]) -> dict[str, Any]:
    found, notes = lines(data), reasons(data)
    scored = [name for name in data["evaluators"] if dots(data, name, "total")]
    pictures = [
        (name, [base64.b64encode(picture(data, name, [key])).decode() for key in panels(data, name)]) for name in scored
    ]
    scale = _scale(data)
    dataset = data["dataset"] or {"name": "no data set yet"}
    titles = [ledger_title(data, ledger).partition(": ") for ledger in data["ledgers"]]
    return {
        "title": f"{dataset['name']} · {count(data['ipc'], 'image')} a class",
        "headline": _headline(data),
        "created": str(data["created"])[:16].replace("T", " "),
        "tags": _tags(data),
        "scored_on": data["scored_on"],
        "protocol": (data["protocol"] or {}).get("name"),
        "ledgers": [(title.capitalize(), amount) for title, _, amount in titles],
        "scores": [(name, _groups(data, found, name, notes, scale)) for name in data["evaluators"]],
        "scale": tuple(percent(v) for v in scale),
        "pictures": pictures,
        "cost_heads": COST_HEADS if data["memory_per_cell"] else COST_HEADS[:-1],
        "costs": _costs(data, found),
        "notes": [(number, reason) for reason, number in notes.items()],
        "reading": [paragraph.partition(": ") for paragraph in reading(data)],
        "command": data["command"],
        "cells": [(row["name"], row["folder"] or "", row["status"]) for row in data["cells"] if not row["same_as"]],
    }


def _headline(data: Mapping[str, Json]) -> str:
    evaluator = data["evaluators"][0]
    done = [row for row in data["cells"] if evaluator in row.get("summary", {})]
    ours = [row for row in done if row["algo"] != "random"]
    first = [row for row in ours or done if row["ledger"] == data["ledgers"][0]]
    if not first:
        return "No cell has a score yet."
    best = max(first, key=lambda row: row["summary"][evaluator]["mean"])
    held = f"{count(best['budget']['codes_per_class'], 'code')} a class at {best['precision']}"
    title = ledger_title(data, data["ledgers"][0]).partition(": ")
    text = (
        f"At {title[0].lower()} ({title[2]}) {best['codec']} + {best['algo']} leads: {evaluator} reaches "
        f"{spread(best['summary'][evaluator])} with {held}"
    )
    gain = best["gain"].get(evaluator)
    if gain is None:
        return f"{text}."
    side = "above" if gain["mean"] >= 0 else "below"
    return f"{text}, {abs(100 * gain['mean']):.1f} points {side} the same number of random codes."


def _tags(data: Mapping[str, Json]) -> list[str]:
    dataset, protocol = data["dataset"], data["protocol"]
    if dataset is None:
        return []
    rows = data["cells"]
    done = sum(row["status"] == "done" for row in rows)
    shape = "×".join(str(n) for n in dataset["image_shape"])
    seeds = count(int(protocol["seeds"]), "seed")
    return [
        f"images {shape}",
        f"{len(dataset['classes'])} classes",
        protocol["name"],
        seeds,
        f"{done} of {len(rows)} cells scored",
    ]


def _scale(data: Mapping[str, Json]) -> tuple[float, float]:
    values = []
    for row in data["cells"]:
        for stats in row.get("summary", {}).values():
            values += [stats["mean"], *(stats["ci95"] or ())]
    found = ticks(max(0.0, min(values, default=0.0)), min(1.0, max(values, default=1.0)))
    return found[0], found[-1]


def _groups(
    data: Mapping[str, Json], found: list[Line], evaluator: str, notes: Mapping[str, int], scale: tuple[float, float]
) -> list[Group]:
    best = {}
    for ledger in data["ledgers"]:
        means = [_mean(line.cells.get(ledger), evaluator) for line in found]
        best[ledger] = max((m for m in means if m is not None), default=None)
    groups: dict[tuple[str, str], list[Row]] = {}
    for line in found:
        scores = tuple(
            _score(line.cells.get(ledger), evaluator, notes, scale, best[ledger]) for ledger in data["ledgers"]
        )
        groups.setdefault((line.codec, line.precision), []).append(Row(line.method, line.random, scores))
    return [Group(*key, held=_held(rows), rows=tuple(rows)) for key, rows in groups.items()]


def _held(rows: list[Row]) -> tuple[str, ...]:
    by_ledger = zip(*([score.held for score in row.scores] for row in rows), strict=True)
    return tuple(next((text for text in column if text), "") for column in by_ledger)


def _mean(row: Mapping[str, Json] | None, evaluator: str) -> float | None:
    stats = (row or {}).get("summary", {}).get(evaluator)
    return None if stats is None else float(stats["mean"])


def _score(
    row: Mapping[str, Json] | None,
    evaluator: str,
    notes: Mapping[str, int],
    scale: tuple[float, float],
    best: float | None,
) -> Score:
    why = state(row, evaluator, notes)
    if row is None or why is not None:
        return Score(why=str(why))

    def at(value: float) -> float:
        return round(100 * min(1.0, max(0.0, (value - scale[0]) / (scale[1] - scale[0]))), 2)

    stats, gain, spent = row["summary"][evaluator], row["gain"].get(evaluator), row["budget"]
    interval, sure = stats["ci95"], gain["ci95"] if gain else None
    control = (row["control"] or {}).get(evaluator)
    return Score(
        held=f"{count(spent['codes_per_class'], 'code')}, {spent['bytes_per_class']:,} bytes a class",
        accuracy=spread(stats),
        gain=points(gain["mean"]) if gain else "",
        gain_interval=f"{points(sure[0])} to {points(sure[1])}" if sure else "",
        clear="" if not sure or sure[0] <= 0 <= sure[1] else ("up" if sure[0] > 0 else "down"),
        mean=at(stats["mean"]),
        span=(at(interval[0]), round(at(interval[1]) - at(interval[0]), 2)) if interval else None,
        control=at(control["mean"]) if control else None,
        best=stats["mean"] == best,
    )


def _costs(data: Mapping[str, Json], found: list[Line]) -> list[tuple[str, list[list[str]]]]:
    """(line, its costs in each ledger), for lines with any."""
    rows = []
    for line in found:
        cells = [line.cells.get(ledger) for ledger in data["ledgers"]]
        done = [
            _cost(cell, memory=data["memory_per_cell"]) if cell is not None and cell["status"] == "done" else []
            for cell in cells
        ]
        if any(done):
            rows.append((f"{line.codec} + {line.method}, {line.precision}", done))
    return rows


def _cost(row: Mapping[str, Json], *, memory: bool) -> list[str]:
    """What COST_HEADS name."""
    spent, cost = row["budget"]["bytes"], row["cost"]
    step = cost["step_ms_median"]
    cells = [f"{spent['total']:,}", f"{spent['total_with_decoder']:,}", duration(cost["distill_s"])]
    cells.append("" if step is None else duration(step / 1000))
    return [*cells, f"{peak_mb(cost):,.0f}"] if memory else cells
