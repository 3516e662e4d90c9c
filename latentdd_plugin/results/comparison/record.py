"""`compare.json`: a grid of runs at one budget, in one record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from latentdd_plugin.artifacts.file import ARTIFACT
from latentdd_plugin.core.json_record import JsonRecord, RecordOf, json_field
from latentdd_plugin.core.json_schema import AMOUNT, COUNT, FLAG, LINE, NAMES, TEXT, TIME, ListOf, word
from latentdd_plugin.core.types import Score, Skipped
from latentdd_plugin.results.entries import (
    BudgetEntry,
    CodecEntry,
    Cost,
    DatasetEntry,
    DistillerEntry,
    Environment,
    ProtocolEntry,
    TeacherEntry,
)
from latentdd_plugin.results.record import GAINS, SCORES, SKIPPED, SUMMARY, Record
from latentdd_plugin.results.record_file import RecordFile
from latentdd_plugin.results.statistics import Accuracy, Gain

SCHEMA = "dd-bench/compare.v1"
STATUSES = ("done", "not run", "skipped", "failed", "unfinished")
NOT_ASKED = "not asked for"  # the reason of a cell that was left out this time


@dataclass(frozen=True)
class CellParts(JsonRecord):
    """The codec, the distiller and the teacher of a finished cell."""

    codec: CodecEntry = json_field(RecordOf(CodecEntry), "the codec")
    distiller: DistillerEntry = json_field(RecordOf(DistillerEntry), "the method")
    teacher: TeacherEntry | None = json_field(
        RecordOf(TeacherEntry).or_missing(omit=True), "the teacher, if one labelled or scored samples", default=None
    )


@dataclass(frozen=True, kw_only=True)
class ComparedCell(JsonRecord):
    """One cell of a comparison: its place, its status and, if it is done, its result."""

    name: str = json_field(LINE, "folder of the cell")
    ledger: str = json_field(word("bytes", "count"), "what is equal: bytes, or the number of codes")
    codec: str = json_field(LINE, "codec")
    algo: str = json_field(LINE, "distiller")
    match: str = json_field(LINE, "match space")
    precision: str = json_field(LINE, "how codes are stored")
    labels: str | None = json_field(
        LINE.or_missing(omit=True), "label regime; missing: the method's own labels", default=None
    )
    reason: str | None = json_field(TEXT.or_null(), "why there is no result")
    same_as: str | None = json_field(LINE.or_null(), "cell that is the same run")
    added: bool = json_field(FLAG, "whether it is a baseline that was not asked for by name")
    status: str = json_field(word(*STATUSES), "what became of it")
    rate: int | None = json_field(
        COUNT.or_missing(omit=True), "budget in bytes per class, in a comparison of several", default=None
    )
    estimate_s: float | None = json_field(AMOUNT.or_null(), "estimated seconds of a distillation that was refused")
    folder: str | None = json_field(LINE.or_null(), "folder of its run, inside the comparison's")
    parts: CellParts | None = json_field(RecordOf(CellParts).or_missing(omit=True), "its parts, if done", default=None)
    budget: BudgetEntry | None = json_field(
        RecordOf(BudgetEntry).or_missing(omit=True), "its bytes, if done", default=None
    )
    summary: Mapping[str, Accuracy] | None = json_field(
        SUMMARY.or_missing(omit=True), "accuracy over seeds, by evaluator, if done", default=None
    )
    scores: tuple[Score, ...] | None = json_field(
        SCORES.or_missing(omit=True), "every trained network, if done", default=None
    )
    skipped: tuple[Skipped, ...] | None = json_field(
        SKIPPED.or_missing(omit=True), "evaluators that could not judge it, if done", default=None
    )
    cost: Cost | None = json_field(RecordOf(Cost).or_missing(omit=True), "time and memory, if done", default=None)
    control: Mapping[str, Accuracy] | None = json_field(
        SUMMARY.or_missing(omit=True), "accuracy of random codes, if done and compared with them", default=None
    )
    gain: Mapping[str, Gain] | None = json_field(
        GAINS.or_missing(omit=True), "gain over random codes, by evaluator, if done", default=None
    )

    @property
    def column(self) -> str:
        """Column of the table: the budget in bytes per class, or the ledger."""
        return self.ledger if self.rate is None else str(self.rate)

    @property
    def is_random(self) -> bool:
        """True for random codes, what other cells must beat."""
        return self.algo == "random"

    @property
    def stored(self) -> str:
        """Precision of the codes and, if it was asked for, the label regime: `int4, soft labels`."""
        return self.precision if self.labels is None else f"{self.precision}, {self.labels} labels"

    @property
    def place(self) -> tuple[str, str, str]:
        """Codec, storage and column: random codes of the same place are what a cell must beat."""
        return self.codec, self.stored, self.column

    @property
    def has_label_bytes(self) -> bool:
        """True if labels or a teacher take bytes."""
        return self.budget is not None and bool(self.budget.bytes.labels or self.budget.bytes.teacher)

    @property
    def left_out(self) -> bool:
        """True if the cell has no result because it was not asked for this time."""
        return self.status == "not run" and self.reason == NOT_ASKED

    def accuracy(self, evaluator: str) -> Accuracy | None:
        """Return the accuracy under an evaluator, if there is one."""
        return (self.summary or {}).get(evaluator)

    def gain_over_random(self, evaluator: str) -> Gain | None:
        """Return the gain over random codes under an evaluator, if there is one."""
        return (self.gain or {}).get(evaluator)

    @property
    def artifact(self) -> str | None:
        """The file of the set, inside the comparison's folder; None without a result."""
        return None if self.folder is None else f"{self.folder}/{ARTIFACT}"

    @staticmethod
    def result_of(record: Record, folder: str) -> dict[str, Any]:
        """Return the fields of a finished cell."""
        random = record.random_codes
        return {
            "folder": folder,
            "parts": CellParts(record.codec, record.distiller, record.teacher),
            "budget": record.budget,
            "summary": record.summary,
            "scores": record.scores,
            "skipped": record.skipped,
            "cost": record.cost,
            "control": None if random is None else random.summary,
            "gain": {} if random is None else random.gain,
        }


@dataclass(frozen=True, kw_only=True, repr=False)
class ComparisonRecord(RecordFile):
    """The content of a comparison; `Comparison` adds its table."""

    schema_name: ClassVar[str] = SCHEMA
    file: ClassVar[str] = "compare.json"

    schema: str = json_field(word(SCHEMA), "name of this schema", default=SCHEMA)
    created: str = json_field(TIME, "time of completion, UTC")
    command: str = json_field(TEXT, "command line")
    ipc: int = json_field(COUNT, "budget in images per class")
    ledgers: tuple[str, ...] = json_field(NAMES, "what is held equal, ledger by ledger")
    rates: tuple[int, ...] | None = json_field(
        ListOf(COUNT).or_missing(omit=True), "budgets in bytes per class, if several are compared", default=None
    )
    evaluators: tuple[str, ...] = json_field(NAMES, "evaluators")
    memory_per_cell: bool = json_field(FLAG, "whether each cell ran in a process of its own")
    dataset: DatasetEntry | None = json_field(
        RecordOf(DatasetEntry).or_null(), "the data; null before the first result"
    )
    protocol: ProtocolEntry | None = json_field(RecordOf(ProtocolEntry).or_null(), "the recipe; null before a result")
    scored_on: str | None = json_field(LINE.or_null(), "held-out images that scored; null before a result")
    environment: Environment | None = json_field(RecordOf(Environment).or_null(), "machine of the first result")
    cells: tuple[ComparedCell, ...] = json_field(ListOf(RecordOf(ComparedCell)), "every cell, in the table's order")

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the table: budgets in bytes per class, or ledgers."""
        return tuple(map(str, self.rates)) if self.rates else self.ledgers

    @property
    def failed(self) -> bool:
        """True if a cell that should have run did not end well."""
        return any(cell.status in ("failed", "unfinished") for cell in self.cells)

    @property
    def headline(self) -> str:
        """Dataset, and how many of the cells are done."""
        done = sum(cell.status == "done" for cell in self.cells)
        return f"{self.dataset.name if self.dataset else 'no dataset'}, {done} of {len(self.cells)} cells done"

    @property
    def has_label_bytes(self) -> bool:
        """True if labels or a teacher take bytes in any cell."""
        return any(cell.has_label_bytes for cell in self.cells)

    @property
    def teachers(self) -> list[TeacherEntry]:
        """The teachers that labelled or scored samples of any cell."""
        found = [cell.parts.teacher for cell in self.cells if cell.parts and cell.parts.teacher]
        return list({one.sha256: one for one in found}.values())

    def best(self, evaluator: str, column: str, *, method: bool = False) -> ComparedCell | None:
        """Return the finished cell with the highest accuracy in a column; with `method`, random codes left out."""
        found = [(accuracy.mean, cell) for cell in self.cells if (accuracy := cell.accuracy(evaluator)) is not None]
        fit = [pair for pair in found if pair[1].column == column and not (method and pair[1].is_random)]
        return max(fit, key=lambda pair: pair[0])[1] if fit else None

    def random_beside(self, cell: ComparedCell) -> ComparedCell | None:
        """Return the finished random codes of the cell's codec, storage and column, if they are among the cells."""
        found = (one for one in self.cells if one.is_random and one.status == "done" and one.place == cell.place)
        return next(found, None)

    def codes_per_class(self, cell: ComparedCell) -> float:
        """Return how many codes per class a finished cell holds, a mean."""
        if cell.budget is None or self.dataset is None:
            return 0
        return cell.budget.stored_per_class(len(self.dataset.classes))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield one row per cell and evaluator, with or without a result; fractions and bytes as plain numbers."""
        for cell in self.cells:
            for evaluator in self.evaluators:
                yield self._row(cell, evaluator)

    def _row(self, cell: ComparedCell, evaluator: str) -> dict[str, Any]:
        accuracy, gain = cell.accuracy(evaluator), cell.gain_over_random(evaluator)
        spent, cost = cell.budget, cell.cost
        interval = (accuracy and accuracy.ci95) or (None, None)
        sure = (gain and gain.ci95) or (None, None)
        return {
            "ledger": cell.ledger,
            "codec": cell.codec,
            "algo": cell.algo,
            "match": cell.match,
            "precision": cell.precision,
            "labels": cell.labels or "own",
            "status": cell.status,
            "reason": cell.reason,
            "evaluator": evaluator,
            "accuracy": accuracy and accuracy.mean,
            "std": accuracy and accuracy.std,
            "seeds": accuracy and accuracy.n,
            "ci95_low": interval[0],
            "ci95_high": interval[1],
            "gain_over_random": gain and gain.mean,
            "gain_ci95_low": sure[0],
            "gain_ci95_high": sure[1],
            **({"bytes_allowed": cell.rate} if self.rates else {}),
            "codes_per_class": spent and self.codes_per_class(cell),
            "bytes": spent and spent.bytes.total,
            "label_bytes": spent and spent.bytes.labels,
            "teacher_bytes": spent and (spent.bytes.teacher or 0),
            "bytes_with_decoder": spent and spent.bytes.total_with_decoder,
            "bytes_with_teacher": spent and spent.bytes.total_with_teacher,
            "file_bytes": spent and spent.bytes.file,
            "artifact": cell.artifact,
            "distill_s": cost and cost.distill_s,
            "step_ms": cost and cost.step_ms_median,
            "evaluate_s": cost and cost.evaluate_s,
            "peak_mb": cost and cost.distill_peak_rss_mb if self.memory_per_cell else None,
            "same_as": cell.same_as,
        }
