"""`report.html` of a comparison: one page that needs no other file."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentdd_plugin.core.monitor import duration
from latentdd_plugin.results.comparison.plot import dots, panel_title, panels, picture, regimes
from latentdd_plugin.results.comparison.record import ComparedCell, ComparisonRecord
from latentdd_plugin.results.comparison.table import (
    Line,
    ledger_title,
    lines,
    mark,
    reading,
    reasons,
    size_heads,
    sizes,
    state,
)
from latentdd_plugin.results.formatting import amount, count, number, percent, points
from latentdd_plugin.results.grid import write_file
from latentdd_plugin.results.pages import render, ticks
from latentdd_plugin.results.report import minutes, position, span


@dataclass(frozen=True)
class Score:
    """A line's accuracy in one ledger; positions are in per cent of the plot's width."""

    held: str = ""  # how many codes, how many bytes
    accuracy: str = ""
    gain: str = ""
    gain_interval: str = ""
    clear: str = ""  # up or down if the gain's interval excludes zero
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


def write_page(path: Path, comparison: ComparisonRecord) -> None:
    """Write the page; all text is escaped.

    Raises:
        RunFailed: the file cannot be written.
    """
    write_file(path, render("compare.html.j2", **_view(comparison)).encode())


def _view(comparison: ComparisonRecord) -> dict[str, Any]:
    found, notes = lines(comparison), reasons(comparison)
    scored = [name for name in comparison.evaluators if dots(comparison, name, "total")]
    pictures = [(name, _pictures(comparison, name)) for name in scored]
    scale = _scale(comparison)
    name = comparison.dataset.name if comparison.dataset else "no dataset yet"
    titles = [ledger_title(comparison, ledger) for ledger in comparison.columns]
    return {
        "title": f"{name} · {_budget_text(comparison)} per class",
        "headline": _headline(comparison),
        "created": minutes(comparison.created),
        "tags": _tags(comparison),
        "scored_on": comparison.scored_on,
        "protocol": comparison.protocol.name if comparison.protocol else None,
        "ledgers": [(title.capitalize(), equal) for title, equal in titles],
        "scores": [(name, _groups(comparison, found, name, notes, scale)) for name in comparison.evaluators],
        "scale": tuple(percent(v) for v in scale),
        "pictures": pictures,
        "cost_heads": _cost_heads(comparison),
        "taught": comparison.has_label_bytes,
        "costs": _costs(comparison, found),
        "notes": [(n, reason) for reason, n in notes.items()],
        "reading": [paragraph.partition(": ") for paragraph in reading(comparison)],
        "command": comparison.command,
        "cells": [
            (cell.name, cell.folder or "", cell.artifact or "", cell.status)
            for cell in comparison.cells
            if not cell.same_as
        ],
    }


def _pictures(comparison: ComparisonRecord, evaluator: str) -> list[tuple[str, str]]:
    """Return (what it shows, PNG in base64) of each panel."""
    pairs = itertools.product(regimes(comparison, evaluator), panels(comparison, evaluator))
    return [
        (panel_title(key, regime), base64.b64encode(picture(comparison, evaluator, [key], [regime])).decode())
        for regime, key in pairs
    ]


def _budget_text(comparison: ComparisonRecord) -> str:
    if not comparison.rates:
        return count(comparison.ipc, "image")
    return " to ".join(dict.fromkeys(amount(size) for size in (min(comparison.rates), max(comparison.rates))))


def _headline(comparison: ComparisonRecord) -> str:
    """Return in a sentence or two which line has the highest accuracy, and what the best method is worth."""
    evaluator, ledger = comparison.evaluators[0], comparison.columns[0]
    best, method = comparison.best(evaluator, ledger), comparison.best(evaluator, ledger, method=True)
    if best is None:
        return "No cell has a score yet."
    title, equal = ledger_title(comparison, ledger)
    text = f"At {title} ({equal}) {best.codec} + {best.algo} leads: {evaluator} reaches {_reached(comparison, best)}"
    if best is method or method is None:
        return f"{text}{_worth(comparison, best)}."
    reached = f"{method.codec} + {method.algo} reaches {_reached(comparison, method)}"
    return f"{text}. These are random codes; of the methods, {reached}{_worth(comparison, method)}."


def _reached(comparison: ComparisonRecord, cell: ComparedCell) -> str:
    codes = count(comparison.codes_per_class(cell), "code")
    return f"{cell.accuracy(comparison.evaluators[0])} with {codes} per class at {cell.stored}"


def _worth(comparison: ComparisonRecord, cell: ComparedCell) -> str:
    """Return the end of the sentence: the gain over random codes, and whether it can be told from chance."""
    gain, random = cell.gain_over_random(comparison.evaluators[0]), comparison.random_beside(cell)
    if gain is None:
        return ""
    theirs = comparison.codes_per_class(cell) if random is None else comparison.codes_per_class(random)
    same = "the same number of" if theirs == comparison.codes_per_class(cell) else number(theirs)
    labels = "" if cell.labels is None else " with the same labels"
    return f", {gain.side} {same} random codes{labels}{gain.verdict}"


def _tags(comparison: ComparisonRecord) -> list[str]:
    dataset, protocol = comparison.dataset, comparison.protocol
    if dataset is None or protocol is None:
        return []
    done = sum(cell.status == "done" for cell in comparison.cells)
    return [
        f"images {dataset.shape_text}",
        f"{len(dataset.classes)} classes",
        protocol.name,
        count(protocol.seeds or 0, "seed"),
        f"{done} of {len(comparison.cells)} cells scored",
    ]


def _scale(comparison: ComparisonRecord) -> tuple[float, float]:
    values = []
    for cell in comparison.cells:
        for accuracy in (cell.summary or {}).values():
            values += [accuracy.mean, *(accuracy.ci95 or ())]
    found = ticks(max(0.0, min(values, default=0.0)), min(1.0, max(values, default=1.0)))
    return found[0], found[-1]


def _groups(
    comparison: ComparisonRecord,
    found: list[Line],
    evaluator: str,
    notes: Mapping[str, int],
    scale: tuple[float, float],
) -> list[Group]:
    best = {ledger: _mean(comparison.best(evaluator, ledger), evaluator) for ledger in comparison.columns}
    groups: dict[tuple[str, str], list[Row]] = {}
    for line in found:
        scores = tuple(
            _score(comparison, line.cells.get(ledger), evaluator, notes, scale, best[ledger])
            for ledger in comparison.columns
        )
        groups.setdefault((line.codec, line.precision), []).append(Row(line.method, line.random, scores))
    return [Group(*key, held=_held(rows), rows=tuple(rows)) for key, rows in groups.items()]


def _held(rows: list[Row]) -> tuple[str, ...]:
    by_ledger = zip(*([score.held for score in row.scores] for row in rows), strict=True)
    return tuple(next((text for text in column if text), "") for column in by_ledger)


def _mean(cell: ComparedCell | None, evaluator: str) -> float | None:
    accuracy = None if cell is None else cell.accuracy(evaluator)
    return None if accuracy is None else accuracy.mean


def _score(
    comparison: ComparisonRecord,
    cell: ComparedCell | None,
    evaluator: str,
    notes: Mapping[str, int],
    scale: tuple[float, float],
    best: float | None,
) -> Score:
    accuracy = None if cell is None else cell.accuracy(evaluator)
    if cell is None or accuracy is None or cell.budget is None:
        return Score(why=str(state(cell, evaluator, notes)))
    gain, random = cell.gain_over_random(evaluator), (cell.control or {}).get(evaluator)
    codes, size = comparison.codes_per_class(cell), cell.budget.bytes_per_class
    return Score(
        held=f"{count(codes, 'code')}{mark(cell, notes)}, {size:,} bytes per class",
        accuracy=str(accuracy),
        gain=points(gain.mean) if gain else "",
        gain_interval=gain.interval if gain else "",
        clear=gain.direction if gain else "",
        mean=position(accuracy.mean, scale),
        span=span(accuracy, scale),
        control=position(random.mean, scale) if random else None,
        best=accuracy.mean == best,
    )


def _costs(comparison: ComparisonRecord, found: list[Line]) -> list[tuple[str, list[list[str]]]]:
    """Return (line, its costs in each ledger), for lines with any."""
    rows = []
    for line in found:
        costs = [_cost(line.cells.get(ledger), comparison) for ledger in comparison.columns]
        if any(costs):
            rows.append((f"{line.codec} + {line.method}, {line.precision}", costs))
    return rows


def _cost_heads(comparison: ComparisonRecord) -> list[str]:
    return [*size_heads(comparison), "time to distil", "per step", *(["peak MB"] if comparison.memory_per_cell else [])]


def _cost(cell: ComparedCell | None, comparison: ComparisonRecord) -> list[str]:
    """Return the columns that `_cost_heads` names, or nothing for a cell without a result."""
    if cell is None or cell.status != "done" or cell.budget is None or cell.cost is None:
        return []
    cost, step = cell.cost, cell.cost.step_ms_median
    times = [duration(cost.distill_s or 0), "" if step is None else duration(step / 1000)]
    peak = [f"{cost.distill_peak_mb:,.0f}"] if comparison.memory_per_cell else []
    return [*(f"{size:,}" for size in sizes(cell, comparison)), *times, *peak]
