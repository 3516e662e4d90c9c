"""What an evaluation of an existing artifact is asked for, and `evaluation.json`, what it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import ClassVar

from latentdd_plugin.record import Record, mean_std, percent
from latentdd_plugin.types import Json, RunConfig

REFERENCES = ("none", "full")


@dataclass(frozen=True)
class EvaluationConfig:
    """How an artifact shall be scored.

    Attributes:
        dataset: what the caller says of the data set: a name, or any options of DatasetConfig. What is left out comes
            from the configuration of the run that the artifact lies in, where there is one. Without a name the
            artifact's own is taken, if it is that of an installed data set.
        evaluators: evaluator names or timm architectures.
        protocol: name of the evaluation recipe.
        split: `test` or `validation`. None takes the run's own; `validation` where the caller sets its fraction.
        metrics: of `lrs` and `ars`, DD-Ranking's scores; their parts are measured under the same protocol.
        reference: `full` also trains on the whole real training set under the same protocol.
        seed: networks are trained under 1000 * seed + 0, 1, …
        networks: at least so many of them an evaluator; None leaves it to the protocol.
        device, amp, compile, threads: as for a run.
    """

    dataset: Mapping[str, Json] | str = field(default_factory=dict)
    evaluators: tuple[str, ...] = ("convnet",)
    protocol: str = "fast.v1"
    split: str | None = None
    reference: str = "none"
    metrics: tuple[str, ...] = ()
    seed: int = 0
    networks: int | None = None
    device: str = "auto"
    amp: str = "auto"
    compile: str = "auto"
    threads: int | None = None


class Evaluation(Record):
    """A finished evaluation: the content of its `evaluation.json`, and where it lies."""

    schema: ClassVar[str] = "dd-bench/evaluation.v1"
    file: ClassVar[str] = "evaluation.json"

    def table(self) -> str:
        """The outcome as text for a person: accuracy, and the whole set's beside it."""
        return "\n".join(_table(self.data))


@dataclass(frozen=True)
class Settled:
    """An evaluation with nothing left open: what its folder belongs to."""

    content: str  # the artifact's content_sha256
    run: RunConfig  # data set, evaluators, protocol, split, seed, device and arithmetic
    reference: str
    metrics: tuple[str, ...] = ()
    networks: int | None = None
    code: Mapping[str, str] = field(default_factory=dict)  # of a codec that is not this package's

    def to_json(self) -> dict[str, Json]:
        """Everything that decides the scores."""
        kept = {f.name for f in fields(EvaluationConfig)}
        known = {key: value for key, value in self.run.to_json().items() if key in kept}
        asked: dict[str, Json] = {"metrics": list(self.metrics)} if self.metrics else {}
        asked |= {"networks": self.networks} if self.networks else {}
        code = {**self.run.code, **self.code}
        asked |= {"code": code} if code else {}
        return {**known, "artifact": self.content, "reference": self.reference, **asked}


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
