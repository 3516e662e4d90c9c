"""`report.html` of a run: one page that needs no other file."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentdd_plugin.core.json_record import JsonRecord
from latentdd_plugin.core.monitor import duration
from latentdd_plugin.core.types import Json, canonical_json
from latentdd_plugin.results.by_class import by_class
from latentdd_plugin.results.entries import BudgetEntry, Cost
from latentdd_plugin.results.formatting import count, percent, points
from latentdd_plugin.results.grid import ROWS, write_file
from latentdd_plugin.results.pages import render, ticks
from latentdd_plugin.results.record import Baseline, Record, SkippedBaseline
from latentdd_plugin.results.statistics import Accuracy, Gain, summarise_top5


def write_report(path: Path, record: Record, losses: Sequence[tuple[int, float]], grid: Path) -> None:
    """Write a self-contained HTML page of a run; all text of the record is escaped.

    Args:
        path: file to write.
        record: the run.
        losses: (step, loss) along the distillation; may be empty.
        grid: the PNG of `write_grid`.

    Raises:
        RunFailed: the file cannot be written.
    """
    picture = base64.b64encode(grid.read_bytes()).decode()
    page = render("report.html.j2", **view(record), curve=curve(losses), grid=picture)
    write_file(path, page.encode())


# --- curve ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """A loss curve in per cent of its box, (0, 0) at the top left, so that the page can draw it at any width."""

    points: str  # of an SVG polyline
    x: tuple[tuple[float, str], ...]  # (position, text) of ticks
    y: tuple[tuple[float, str], ...]
    first: str
    last: str
    log: bool


def curve(losses: Sequence[tuple[float, float]]) -> Curve | None:
    """Return the curve of the finite losses by step; logarithmic if they span a factor above 30, None below two."""
    found = sorted((step, loss) for step, loss in losses if math.isfinite(loss))
    if len(found) < 2 or found[0][0] == found[-1][0]:
        return None
    low, high = min(loss for _, loss in found), max(loss for _, loss in found)
    log = low > 0 and high > 30 * low
    y_ticks = _powers(low, high) if log else ticks(low, high)
    bottom, top = (math.log(v) if log else v for v in (min(low, *y_ticks), max(high, *y_ticks)))
    start, end = found[0][0], found[-1][0]

    def x(step: float) -> float:
        return round(100 * (step - start) / (end - start), 2)

    def y(loss: float) -> float:
        return round(100 - 100 * ((math.log(loss) if log else loss) - bottom) / ((top - bottom) or 1), 2)

    return Curve(
        points=" ".join(f"{x(step)},{y(loss)}" for step, loss in found),
        x=tuple((x(v), f"{v:,.0f}") for v in ticks(start, end, 6) if start <= v <= end),
        y=tuple((y(v), f"{v:.4g}") for v in y_ticks),
        first=f"{found[0][1]:.4g}",
        last=f"{found[-1][1]:.4g}",
        log=log,
    )


def _powers(low: float, high: float) -> list[float]:
    return [10.0**p for p in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]


# --- page -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One line of the scores table; positions are in per cent of the plot's width."""

    name: str
    note: str  # how many codes, how many bytes; or why it was not run
    accuracy: str = ""
    top5: str = ""
    interval: str = ""
    gain: str = ""
    gain_interval: str = ""
    clear: str = ""  # up or down if the gain's interval excludes zero
    mean: float | None = None
    span: tuple[float, float] | None = None  # left end and width of the 95% interval
    seeds: tuple[float, ...] = ()


def view(record: Record) -> dict[str, Any]:
    """Return everything that the template shows, in words and positions."""
    scale = _scale(record)
    return {
        "title": f"{record.dataset.name} · {record.method}",
        "headline": _headline(record),
        "created": minutes(record.created),
        "tags": _tags(record),
        "scored_on": record.scored_on,
        "protocol": record.protocol.name,
        "scores": [(name, _rows(record, name, scale)) for name in record.summary],
        "scale": tuple(percent(v) for v in scale),
        "by_class": by_class(record.scores, record.dataset.classes) if record.scores else None,
        "budget": record.budget,
        "byte_rows": _byte_rows(record),
        "cost": _cost(record.cost),
        "skipped": record.skipped,
        "command": record.command,
        "details": _details(record),
        "classes": len(record.dataset.classes),
        "shown": min(len(record.dataset.classes), ROWS),
    }


def minutes(created: str) -> str:
    """Format a time without its seconds: `2026-01-31 12:00`."""
    return created[:16].replace("T", " ")


def _headline(record: Record) -> str:
    """Return one sentence: the accuracy, the bytes it took, and what the distillation added to random codes."""
    budget = record.budget
    codes = count(record.codes_per_class, "code")
    size = f"{codes} per class, {budget.bytes_per_class:,} bytes per class at {budget.precision}"
    if not record.summary:
        return f"{size}. No evaluator could be run."
    evaluator, accuracy = next(iter(record.summary.items()))
    return f"{evaluator} reaches {accuracy} on {record.dataset.name} with {size}{_worth(record, evaluator)}"


def _worth(record: Record, evaluator: str) -> str:
    """Return the end of the sentence: the gain over random codes, and whether its interval excludes zero."""
    gain = record.gain(evaluator)
    if gain is None:
        if record.distiller.name == "random":
            return "; nothing was optimised: this is the baseline of other methods."
        return "; without a baseline at the same bytes, what the method adds is not known."
    return f": {gain.side} random codes at the same bytes{gain.verdict}."


def _tags(record: Record) -> list[str]:
    return [
        f"images {record.dataset.shape_text}",
        f"codes {record.codec.shape_text}",
        record.budget.precision,
        *([f"{record.regime} labels"] if record.regime != "own" else []),
        f"matched in {record.distiller.match} space",
        record.protocol.name,
        record.selection,
    ]


def _scale(record: Record) -> tuple[float, float]:
    """Return the plot's ends, as fractions: round numbers around every score and interval."""
    values = []
    entries: list[Record | Baseline] = [record, *record.scored_baselines.values()]
    for entry in entries:
        values += [score.accuracy for score in entry.scores]
        for accuracy in entry.summary.values():
            values += [accuracy.mean, *(accuracy.ci95 or ())]
    found = ticks(max(0.0, min(values, default=0.0)), min(1.0, max(values, default=1.0)))
    return found[0], found[-1]


def position(value: float, scale: tuple[float, float]) -> float:
    """Return where a value lies between the ends of a scale, in per cent."""
    return round(100 * min(1.0, max(0.0, (value - scale[0]) / (scale[1] - scale[0]))), 2)


def span(accuracy: Accuracy, scale: tuple[float, float]) -> tuple[float, float] | None:
    """Return left end and width of an interval on a scale, in per cent."""
    if accuracy.ci95 is None:
        return None
    low, high = (position(value, scale) for value in accuracy.ci95)
    return low, round(high - low, 2)


def _rows(record: Record, evaluator: str, scale: tuple[float, float]) -> list[Row]:
    """Return a row for the method and one for each baseline."""
    classes = len(record.dataset.classes)
    rows = [_row(record.method, record, evaluator, scale, None, classes)]
    for name, one in record.baselines.items():
        if isinstance(one, SkippedBaseline):
            rows.append(Row(name, f"not run: {one.skipped}"))
        else:
            rows.append(_row(name, one, evaluator, scale, one.gain.get(evaluator), classes))
    return rows


def _row(
    name: str,
    entry: Record | Baseline,
    evaluator: str,
    scale: tuple[float, float],
    gain: Gain | None,
    classes: int,
) -> Row:
    accuracy = entry.summary.get(evaluator)
    if accuracy is None:
        return Row(name, "no score")
    return Row(
        name=name,
        note=_held(entry.budget, classes),
        accuracy=str(accuracy),
        top5=str(summarise_top5(entry.scores).get(evaluator, "")),
        interval=accuracy.interval or f"{count(accuracy.n, 'seed')}, no interval",
        gain=points(gain.mean) if gain else "",
        gain_interval=gain.interval if gain else "",
        clear=gain.direction if gain else "",
        mean=position(accuracy.mean, scale),
        span=span(accuracy, scale),
        seeds=tuple(position(score.accuracy, scale) for score in entry.scores if score.evaluator == evaluator),
    )


def _held(budget: BudgetEntry, classes: int) -> str:
    codes = f"{count(budget.stored_per_class(classes), 'code')} per class"
    short = f"; {budget.shortfall}" if budget.shortfall else ""
    return f"{codes}, {budget.precision}, {budget.bytes.total:,} bytes{short}"


def _byte_rows(record: Record) -> list[tuple[str, str, int, bool]]:
    """Return (name, remark, bytes, whether it is a sum)."""
    spent, trained = record.budget.bytes, record.codec.trained_on
    decoder = "needed for decoding" + (f"; trained on {', '.join(trained)}" if trained else "")
    return [
        ("codes", "packed, as stored", spent.codes, False),
        ("soft labels", "hard labels are free, as the literature counts", spent.labels, False),
        ("charged to the budget", "", spent.total, True),
        ("side information", "scales, standardisation, learned learning rate", spent.side, False),
        ("decoder", decoder, spent.decoder, False),
        ("charged, with decoder", "", spent.total_with_decoder, True),
        *_teacher_rows(record),
        ("artifact on disk", "everything in the file, header included", spent.file, False),
    ]


def _teacher_rows(record: Record) -> list[tuple[str, str, int, bool]]:
    """Return the teacher's bytes and the sum with them; nothing if there is no teacher."""
    spent, teacher = record.budget.bytes, record.teacher
    if teacher is None or not spent.teacher:
        return []
    use = {"teacher": "asked at every step of a training", "own": "asked by the method", "hard": "asked by the method"}
    remark = f"{teacher.arch}, {percent(teacher.accuracy)} on {record.scored_on} images, "
    return [
        ("teacher", remark + use.get(record.regime, "its labels are stored"), spent.teacher, False),
        ("everything: codes, labels, decoder and teacher", "", spent.total_with_teacher, True),
    ]


def _cost(cost: Cost) -> list[tuple[str, str]]:
    stages = {
        "load": cost.load_s,
        "fit": cost.fit_s,
        "encode": cost.encode_s,
        "distil": cost.distill_s,
        "evaluate": cost.evaluate_s,
        "baselines": cost.controls_s,
    }
    found = [(name, duration(value)) for name, value in stages.items() if value is not None]
    measured = [
        ("one step", cost.step_ms_median, "ms"),
        ("peak memory, distilled", cost.distill_peak_rss_mb, "MB"),
        ("peak memory", cost.peak_rss_mb, "MB"),
        ("peak on device", cost.peak_device_mb, "MB"),
    ]
    return found + [(name, f"{value:,.0f} {unit}") for name, value, unit in measured if value is not None]


def _details(record: Record) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return sections of names and values, for readers who want to repeat the run."""
    shown = ("dataset", "codec", "distiller", "protocol", "seeds", "artifact", "environment")
    entries: list[tuple[str, JsonRecord]] = [(name, getattr(record, name)) for name in shown]
    return [(name, named_values(entry)) for name, entry in entries]


def named_values(entry: JsonRecord) -> list[tuple[str, str]]:
    """Return an entry's keys and values as text."""
    return [(key, _plain(value)) for key, value in entry.to_json().items()]


def _plain(value: Json) -> str:
    if isinstance(value, list) and len(value) > 20:
        return f"{', '.join(map(str, value[:20]))} … ({len(value)})"
    if isinstance(value, list) and not any(isinstance(v, (list, dict)) for v in value):
        return ", ".join(map(str, value)) or "none"
    if value is None:
        return "none"
    return canonical_json(value).replace('"', "") if isinstance(value, dict) else str(value)
