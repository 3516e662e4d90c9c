"""`result.json`: everything needed to repeat and to judge a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from latentdd_plugin.core.json_record import JsonRecord, RecordOf, json_field
from latentdd_plugin.core.json_schema import (
    LINE,
    PAIR,
    TEXT,
    TIME,
    Definitions,
    Json,
    Kind,
    ListOf,
    MapOf,
    is_number,
    word,
)
from latentdd_plugin.core.types import Score, Skipped
from latentdd_plugin.results.entries import (
    ArtifactEntry,
    BudgetEntry,
    CodecEntry,
    Cost,
    DatasetEntry,
    DistillerEntry,
    Environment,
    NearestImages,
    ProtocolEntry,
    Seeds,
    Settings,
    TeacherEntry,
)
from latentdd_plugin.results.formatting import number, ruled, text_table
from latentdd_plugin.results.record_file import RecordFile
from latentdd_plugin.results.statistics import Accuracy, Gain, accuracies, gains, summarise_top5, text_of

SCHEMA = "dd-bench/result.v1"
CURVE_POINTS = 200  # of a loss curve in a record
RANDOM_CODES = "random-codes"  # the baseline that gains are quoted over

SCORES = ListOf(RecordOf(Score))
SKIPPED = ListOf(RecordOf(Skipped))
SUMMARY = MapOf(RecordOf(Accuracy))
GAINS = MapOf(RecordOf(Gain))


@dataclass(frozen=True)
class SkippedBaseline(JsonRecord):
    """A baseline that could not be made, and why."""

    skipped: str = json_field(TEXT, "why there is no such baseline")


@dataclass(frozen=True, kw_only=True)
class Baseline(JsonRecord):
    """A baseline: an ordinary run at the same bytes, and the method's gain over it."""

    config: Settings = json_field(RecordOf(Settings), "its whole configuration")
    codec: CodecEntry = json_field(RecordOf(CodecEntry), "its codec")
    budget: BudgetEntry = json_field(RecordOf(BudgetEntry), "its bytes")
    scores: tuple[Score, ...] = json_field(SCORES, "its networks")
    summary: Mapping[str, Accuracy] = json_field(SUMMARY, "its accuracy over seeds, by evaluator")
    artifact: ArtifactEntry = json_field(RecordOf(ArtifactEntry), "its file")
    gain: Mapping[str, Gain] = json_field(GAINS, "method - baseline, paired by seed, by evaluator")

    @classmethod
    def of(cls, record: Record, scores: tuple[Score, ...]) -> Baseline:
        """Return a finished run as a baseline of a method with these scores."""
        shared = [one.name for one in fields(cls) if one.name not in ("gain", "extra", "key_order")]
        return cls(**{name: getattr(record, name) for name in shared}, gain=gains(scores, record.scores))


@dataclass(frozen=True)
class BaselineKind(Kind):
    """The kind of a baseline: either a run or the reason why there is none."""

    wanted: str = "an object"

    def parse(self, value: Json, path: str, faults: list[str]) -> Any:
        """Return a Baseline or a SkippedBaseline."""
        if not isinstance(value, Mapping):
            return self._refuse(value, path, faults)
        cls: type[JsonRecord] = SkippedBaseline if value.keys() == {"skipped"} else Baseline
        return cls.parse(value, path, faults)

    def dump(self, value: JsonRecord) -> Json:
        """Return its JSON."""
        return value.to_json()

    def fragment(self, definitions: Definitions) -> Json:
        """Return a choice between both."""
        return {"anyOf": [RecordOf(cls).schema(definitions) for cls in (Baseline, SkippedBaseline)]}


@dataclass(frozen=True, kw_only=True, repr=False)
class Record(RecordFile):
    """A finished run."""

    schema_name: ClassVar[str] = SCHEMA
    file: ClassVar[str] = "result.json"

    schema: str = json_field(word(SCHEMA), "name of this schema", default=SCHEMA)
    created: str = json_field(TIME, "time of completion, UTC")
    command: str = json_field(TEXT, "command line")
    config: Settings = json_field(RecordOf(Settings), "what a repetition needs")
    dataset: DatasetEntry = json_field(RecordOf(DatasetEntry), "the data")
    codec: CodecEntry = json_field(RecordOf(CodecEntry), "the codec")
    distiller: DistillerEntry = json_field(RecordOf(DistillerEntry), "the method")
    budget: BudgetEntry = json_field(RecordOf(BudgetEntry), "bytes allowed and spent")
    teacher: TeacherEntry | None = json_field(
        RecordOf(TeacherEntry).or_missing(omit=True), "the teacher, if one labelled or scored samples", default=None
    )
    artifact: ArtifactEntry = json_field(RecordOf(ArtifactEntry), "the distilled set's file")
    protocol: ProtocolEntry = json_field(RecordOf(ProtocolEntry), "the evaluation recipe")
    scored_on: str = json_field(word("test", "validation"), "held-out images that scored")
    scores: tuple[Score, ...] = json_field(SCORES, "every trained network")
    skipped: tuple[Skipped, ...] = json_field(SKIPPED, "evaluators that could not judge this set")
    summary: Mapping[str, Accuracy] = json_field(SUMMARY, "accuracy over seeds, by evaluator")
    nearest: NearestImages | None = json_field(
        RecordOf(NearestImages).or_missing(omit=True),
        "samples near held-out images; missing in older files",
        default=None,
    )
    baselines: Mapping[str, Baseline | SkippedBaseline] = json_field(
        MapOf(BaselineKind()), "baselines at the same bytes, by name", key="controls"
    )
    selection: str = json_field(LINE, "which iterate was scored: `last-iterate`, or `unknown` of an imported set")
    cost: Cost = json_field(RecordOf(Cost), "time and memory")
    environment: Environment = json_field(RecordOf(Environment), "machine and software")
    seeds: Seeds = json_field(RecordOf(Seeds), "seeds of the run and of its networks")
    losses: tuple[tuple[float, float], ...] | None = json_field(
        ListOf(PAIR).or_missing(omit=True),
        "step and loss along the distillation, at most 200 points; missing in older files",
        default=None,
    )

    @property
    def method(self) -> str:
        """Codec and distiller: `dct + dm`."""
        return f"{self.codec.name} + {self.distiller.name}"

    @property
    def codes_per_class(self) -> float:
        """Codes per class that the file holds, a mean."""
        return self.budget.stored_per_class(len(self.dataset.classes))

    @property
    def regime(self) -> str:
        """The label regime: `own`, `hard`, `soft`, `views` or `teacher`."""
        return str((self.config.labels or {}).get("regime", "own"))

    @property
    def scored_baselines(self) -> dict[str, Baseline]:
        """The baselines that were run, by name."""
        return {name: one for name, one in self.baselines.items() if isinstance(one, Baseline)}

    @property
    def random_codes(self) -> Baseline | None:
        """The `random-codes` baseline, if it was run."""
        return self.scored_baselines.get(RANDOM_CODES)

    @property
    def headline(self) -> str:
        """Method, dataset and accuracies."""
        return f"{self.method} on {self.dataset.name}, {accuracies(self.summary)}"

    def gain(self, evaluator: str) -> Gain | None:
        """Return the gain over random codes under an evaluator, if both were scored."""
        return None if self.random_codes is None else self.random_codes.gain.get(evaluator)

    def table(self) -> str:
        """Return the result as text: method and baselines, accuracy, gain, bytes, seconds."""
        return "\n".join([*ruled(text_table(_table(self))), *_notes(self)])

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield one row per score, baselines included; `baseline` is empty for the method itself."""
        mine = {"codec": self.codec.name, "distiller": self.distiller.name}
        yield from (self._row(score, "", mine, self.budget) for score in self.scores)
        for name, one in self.scored_baselines.items():
            theirs = {"codec": one.codec.name, "distiller": one.config.algo.name}
            yield from (self._row(score, name, theirs, one.budget) for score in one.scores)

    def _row(self, score: Score, baseline: str, parts: Mapping[str, str], budget: BudgetEntry) -> dict[str, Any]:
        return {
            "dataset": self.dataset.name,
            **parts,
            "match": self.distiller.match if not baseline else "code",
            "precision": budget.precision,
            "labels": self.regime,
            "baseline": baseline,
            "protocol": self.protocol.name,
            "scored_on": self.scored_on,
            "run_seed": self.seeds.run,
            "evaluator": score.evaluator,
            "arch": score.arch,
            "seed": score.seed,
            "accuracy": score.accuracy,
            "codes_per_class": budget.stored_per_class(len(self.dataset.classes)),
            "bytes": budget.bytes.total,
            "label_bytes": budget.bytes.labels,
            "bytes_with_decoder": budget.bytes.total_with_decoder,
            "bytes_with_teacher": budget.bytes.total_with_teacher,
        }


def thinned(losses: Sequence[tuple[int, float]]) -> tuple[tuple[float, float], ...] | None:
    """Return at most 200 finite (step, loss), the first and the last among them; None if there are none."""
    found = [(step, float(f"{loss:.6g}")) for step, loss in losses if is_number(loss)]
    if len(found) > CURVE_POINTS:
        found = [found[round(i * (len(found) - 1) / (CURVE_POINTS - 1))] for i in range(CURVE_POINTS)]
    return tuple(found) or None


def _table(record: Record) -> list[list[str]]:
    """Return the header, the method and its baselines."""
    names = list(record.summary)
    over = names if record.baselines else []
    header = ["", *names, "codes/class", "bytes", *(f"gain over it ({name})" for name in over)]
    classes = len(record.dataset.classes)
    rows = [header, [*_scored(record.method, names, record, classes), *("" for _ in over)]]
    for name, one in record.baselines.items():
        if isinstance(one, SkippedBaseline):
            rows.append([name, f"not run: {one.skipped}"])
        else:
            rows.append([*_scored(name, names, one, classes), *(text_of(one.gain, evaluator) for evaluator in over)])
    return rows


def _scored(name: str, evaluators: list[str], entry: Record | Baseline, classes: int) -> list[str]:
    accuracies = [text_of(entry.summary, evaluator) for evaluator in evaluators]
    return [name, *accuracies, number(entry.budget.stored_per_class(classes)), f"{entry.budget.bytes.total:,}"]


def _notes(record: Record) -> list[str]:
    """Return the lines below the table."""
    budget, cost = record.budget, record.cost
    lines = [f"skipped: {row.evaluator}: {row.reason}" for row in record.skipped]
    lines.append(
        f"{record.dataset.name}, {record.protocol.name}, accuracy on {record.scored_on} (mean ± std over seeds)"
    )
    if five := summarise_top5(record.scores):
        lines.append("top-5: " + ", ".join(f"{name} {found}" for name, found in five.items()))
    parts = ", ".join(f"{part} {size:,}" for part, size in budget.bytes.parts.items())
    lines.append(f"bytes at {budget.precision}: {parts}")
    if (taught := record.teacher) is not None:
        where = f"{taught.arch}, {taught.bytes:,} bytes, {100 * taught.accuracy:.1f}% on {record.scored_on}"
        shared = f"; its {record.regime} labels are the baselines' too" if record.regime != "own" else ""
        lines.append(f"teacher: {where}{shared}")
    budgets = {"": budget, **{f" of {name}": one.budget for name, one in record.scored_baselines.items()}}
    lines += [f"shortfall{whose}: {one.shortfall}" for whose, one in budgets.items() if one.shortfall]
    stages = {
        "encode": cost.encode_s,
        "distil": cost.distill_s,
        "evaluate": cost.evaluate_s,
        "baselines": cost.controls_s,
    }
    seconds = ", ".join(f"{name} {value:.1f}" for name, value in stages.items() if value is not None)
    memory = "" if cost.peak_rss_mb is None else f"; peak memory {cost.peak_rss_mb:.0f} MB"
    return [*lines, f"seconds: {seconds}{memory}"]
