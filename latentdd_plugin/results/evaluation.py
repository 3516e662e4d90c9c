"""What an evaluation of an existing artifact is asked for, and `evaluation.json`, what it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from latentdd_plugin.core.types import Json
from latentdd_plugin.results.record import Record
from latentdd_plugin.results.statistics import mean_std, percent


class Evaluation(Record):
    """A finished evaluation: the content of its `evaluation.json`, and where it lies."""

    schema: ClassVar[str] = "dd-bench/evaluation.v1"
    file: ClassVar[str] = "evaluation.json"

    def table(self) -> str:
        """The outcome as text for a person: accuracy, and the whole set's beside it."""
        return "\n".join(_table(self.data))


def _table(data: Mapping[str, Json]) -> list[str]:
    names, whole, budget = list(data["summary"]), data["reference"], data["budget"]
    codes = f"{budget['codes']:,} codes, {budget['bytes']['total']:,} bytes at {budget['precision']}"
    rows = [["", *names, "trained on"], ["the artifact", *(mean_std(data["summary"][n]) for n in names), codes]]
    if whole:
        rows.append(
            ["whole set", *(mean_std(whole["summary"].get(n)) for n in names), f"{whole['train_size']:,} images"]
        )
        rows.append(["recovery", *(_fraction(whole["recovery"].get(n)) for n in names), "accuracy / whole set's"])
    measured = data.get("metrics") or {"values": {}}
    asked = list(dict.fromkeys(key for found in measured["values"].values() for key in found))
    for key in asked:
        cells = [_value(measured["values"].get(name, {}).get(key)) for name in names]
        rows.append([key.upper(), *cells, "scale of fractions"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-" * max(map(len, lines)))
    lines += [f"skipped: {row['evaluator']}: {row['reason']}" for row in data["skipped"]]
    other = "" if data["dataset"]["same"] else ", other data than it was made from"
    where = f"{data['dataset']['name']}{other}, {data['protocol']['name']}, accuracy on {data['scored_on']}"
    return [*lines, f"{where} (mean ± std over seeds)"]


def _fraction(stats: Mapping[str, Json] | None) -> str:
    if stats is None or stats["ci95"] is None:
        return percent(stats["mean"] if stats else None)
    return f"{percent(stats['mean'])} [{100 * stats['ci95'][0]:.1f}, {100 * stats['ci95'][1]:.1f}]"


def _value(stats: Mapping[str, Json] | None) -> str:
    if stats is None:
        return "-"
    return f"{stats['mean']:.3f}" + (f" ± {stats['std']:.3f}" if stats["std"] is not None else "")
