"""What a person opens after a run: `report.html`, one page that needs nothing else."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentdd_plugin.core.monitor import duration
from latentdd_plugin.core.types import Json, canonical_json
from latentdd_plugin.results.grid import ROWS, write_file, write_grid
from latentdd_plugin.results.pages import count, percent, points, render, spread, ticks

__all__ = ["Curve", "curve", "write_grid", "write_report"]


def write_report(path: Path, record: Mapping[str, Json], losses: Sequence[tuple[int, float]], grid: Path) -> None:
    """A self-contained HTML page of a run; all text of the record is escaped.

    Args:
        path: where to write.
        record: the content of `result.json`.
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


def curve(losses: Sequence[tuple[int, float]]) -> Curve | None:
    """The curve of the finite losses; logarithmic where they span more than a factor of 30. None below two points."""
    found = [(step, loss) for step, loss in losses if math.isfinite(loss)]
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
    interval: str = ""
    gain: str = ""
    gain_interval: str = ""
    clear: str = ""  # up or down where the gain's interval leaves out zero
    mean: float | None = None
    span: tuple[float, float] | None = None  # left end and width of the 95% interval
    seeds: tuple[float, ...] = ()


def view(record: Mapping[str, Json]) -> dict[str, Any]:
    """What the template shows, in words and positions."""
    dataset, budget, codec = record["dataset"], record["budget"], record["codec"]
    method = f"{codec['name']} + {record['distiller']['name']}"
    scale = _scale(record)
    evaluators = list(record["summary"])
    return {
        "title": f"{dataset['name']} · {method}",
        "headline": _headline(record),
        "created": str(record.get("created", ""))[:16].replace("T", " "),
        "tags": _tags(record),
        "scored_on": record.get("scored_on", "test"),
        "protocol": record["protocol"]["name"],
        "scores": [(name, _rows(record, method, name, scale)) for name in evaluators],
        "scale": tuple(percent(v) for v in scale),
        "budget": budget,
        "byte_rows": _byte_rows(record),
        "cost": _cost(record.get("cost", {})),
        "skipped": record.get("skipped", []),
        "command": record.get("command", ""),
        "details": _details(record),
        "classes": len(dataset["classes"]),
        "shown": min(len(dataset["classes"]), ROWS),
    }


def _headline(record: Mapping[str, Json]) -> str:
    budget, control = record["budget"], record.get("controls", {}).get("random-codes", {})
    size = (
        f"{count(budget['codes_per_class'], 'code')} a class, {budget['bytes_per_class']:,} bytes a class "
        f"at {budget['precision']}"
    )
    if not record["summary"]:
        return f"{size}. No evaluator could be run."
    evaluator, stats = next(iter(record["summary"].items()))
    text = f"{evaluator} reaches {spread(stats)} on {record['dataset']['name']} with {size}"
    gained = control.get("gain", {}).get(evaluator)
    if gained is None:
        return f"{text}."
    side = "above" if gained["mean"] >= 0 else "below"
    return f"{text}: {abs(100 * gained['mean']):.1f} points {side} random codes at the same bytes."


def _tags(record: Mapping[str, Json]) -> list[str]:
    shape = "×".join(str(n) for n in record["dataset"].get("image_shape", []))
    code = "×".join(str(n) for n in record["codec"].get("code_shape", []))
    found = [
        f"images {shape}" if shape else "",
        f"codes {code}" if code else "",
        record["budget"]["precision"],
        f"matched in {record['distiller'].get('match', 'code')} space",
        record["protocol"]["name"],
        str(record.get("selection", "")),
    ]
    return [tag for tag in found if tag]


def _scale(record: Mapping[str, Json]) -> tuple[float, float]:
    """The plot's ends, as fractions: round numbers around every score and interval."""
    values = []
    for entry in _entries(record).values():
        values += [score["accuracy"] for score in entry.get("scores", [])]
        for stats in entry.get("summary", {}).values():
            values += [stats["mean"], *(stats.get("ci95") or ())]
    found = ticks(max(0.0, min(values, default=0.0)), min(1.0, max(values, default=1.0)))
    return found[0], found[-1]


def _entries(record: Mapping[str, Json]) -> dict[str, Mapping[str, Json]]:
    return {"": record, **record.get("controls", {})}


def _rows(record: Mapping[str, Json], method: str, evaluator: str, scale: tuple[float, float]) -> list[Row]:
    return [_row(name or method, entry, evaluator, scale) for name, entry in _entries(record).items()]


def _row(name: str, entry: Mapping[str, Json], evaluator: str, scale: tuple[float, float]) -> Row:
    stats = entry.get("summary", {}).get(evaluator)
    if stats is None:
        reason = str(entry.get("skipped", "no score"))
        return Row(name, f"not run: {reason}" if isinstance(entry.get("skipped"), str) else "no score")

    def at(value: float) -> float:
        return round(100 * min(1.0, max(0.0, (value - scale[0]) / (scale[1] - scale[0]))), 2)

    interval = stats.get("ci95")
    gain = entry.get("gain", {}).get(evaluator)
    sure = gain.get("ci95") if gain else None
    return Row(
        name=name,
        note=_held(entry.get("budget", {})),
        accuracy=spread(stats),
        interval=f"{100 * interval[0]:.1f} – {100 * interval[1]:.1f}"
        if interval
        else f"{count(stats['n'], 'seed')}, no interval",
        gain=points(gain["mean"]) if gain else "",
        gain_interval=f"{points(sure[0])} to {points(sure[1])}" if sure else "",
        clear="" if not sure or sure[0] <= 0 <= sure[1] else ("up" if sure[0] > 0 else "down"),
        mean=at(stats["mean"]),
        span=(at(interval[0]), round(at(interval[1]) - at(interval[0]), 2)) if interval else None,
        seeds=tuple(at(s["accuracy"]) for s in entry.get("scores", []) if s["evaluator"] == evaluator),
    )


def _held(budget: Mapping[str, Json]) -> str:
    parts = []
    if "codes_per_class" in budget:
        parts.append(f"{count(budget['codes_per_class'], 'code')} a class")
    if "precision" in budget:
        parts.append(str(budget["precision"]))
    if "total" in budget.get("bytes", {}):
        parts.append(f"{budget['bytes']['total']:,} bytes")
    return ", ".join(parts)


def _byte_rows(record: Mapping[str, Json]) -> list[tuple[str, str, int, bool]]:
    """(what, remark, bytes, whether it is a sum)."""
    spent, trained = record["budget"]["bytes"], record["codec"].get("trained_on")
    decoder = "what decoding needs" + (f"; trained on {', '.join(map(str, trained))}" if trained else "")
    known = [
        ("codes", "packed, as stored", "codes", False),
        ("soft labels", "hard labels are free, as the literature counts", "labels", False),
        ("charged to the budget", "", "total", True),
        ("side information", "scales, standardisation, learned learning rate", "side", False),
        ("decoder", decoder, "decoder", False),
        ("charged, with decoder", "", "total_with_decoder", True),
        ("artifact on disk", "everything in the file, header too", "file", False),
    ]
    return [(what, remark, spent[key], total) for what, remark, key, total in known if key in spent]


def _cost(cost: Mapping[str, Json]) -> list[tuple[str, str]]:
    stages = [(key, cost[key]) for key in cost if key.endswith("_s")]
    found = [(key[:-2].replace("distill", "distil"), duration(value)) for key, value in stages if value is not None]
    units = [
        ("step_ms_median", "one step", "ms"),
        ("distill_peak_rss_mb", "peak memory, distilled", "MB"),
        ("peak_rss_mb", "peak memory", "MB"),
        ("peak_device_mb", "peak on device", "MB"),
    ]
    return found + [(name, f"{cost[key]:,.0f} {unit}") for key, name, unit in units if cost.get(key) is not None]


def _details(record: Mapping[str, Json]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Sections of names and values, for whoever wants to repeat the run."""
    shown = ("dataset", "codec", "distiller", "protocol", "seeds", "artifact", "environment")
    return [(key, [(str(k), _plain(v)) for k, v in record[key].items()]) for key in shown if record.get(key)]


def _plain(value: Json) -> str:
    if isinstance(value, list) and len(value) > 20:
        return f"{', '.join(map(str, value[:20]))} … ({len(value)})"
    if isinstance(value, list) and not any(isinstance(v, (list, dict)) for v in value):
        return ", ".join(map(str, value)) or "none"
    if value is None:
        return "none"
    return canonical_json(value).replace('"', "") if isinstance(value, dict) else str(value)
