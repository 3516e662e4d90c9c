"""`evaluation.json`: the scores of an artifact under a protocol of the caller's choice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from latentdd_plugin.artifacts.header import Origin
from latentdd_plugin.core.json_record import JsonRecord, RecordOf, json_field
from latentdd_plugin.core.json_schema import (
    COUNT,
    FLAG,
    LINE,
    LINES,
    NUMBER,
    OBJECT,
    SHA256,
    TEXT,
    TIME,
    WHOLE,
    Json,
    MapOf,
    word,
)
from latentdd_plugin.core.types import Score, Skipped
from latentdd_plugin.results.entries import (
    CodecEntry,
    Cost,
    DatasetEntry,
    Environment,
    NearestImages,
    ProtocolEntry,
    StoredSize,
    TeacherEntry,
)
from latentdd_plugin.results.formatting import ruled, text_table
from latentdd_plugin.results.record import SCORES, SKIPPED, SUMMARY
from latentdd_plugin.results.record_file import RecordFile
from latentdd_plugin.results.statistics import Accuracy, Recovery, Statistics, accuracies, summarise_top5, text_of

SCHEMA = "dd-bench/evaluation.v1"


@dataclass(frozen=True, kw_only=True)
class EvaluatedArtifact(JsonRecord):
    """The file that was scored."""

    path: str = json_field(LINE, "name of the file")
    origin: Origin | None = json_field(RecordOf(Origin).or_null(), "where an imported set came from, or null")
    sha256: str = json_field(SHA256, "hash of the file")
    content_sha256: str = json_field(SHA256, "hash of its header and tensors")
    bytes: int = json_field(WHOLE, "size of the file")


@dataclass(frozen=True, kw_only=True)
class EvaluatedDataset(DatasetEntry):
    """The data that an artifact was scored on."""

    same: bool = json_field(FLAG, "whether the artifact was made from these training images")


@dataclass(frozen=True, kw_only=True)
class WholeSet(JsonRecord):
    """Networks trained on the whole real training set under the same protocol."""

    train_size: int = json_field(COUNT, "real training images")
    scores: tuple[Score, ...] = json_field(SCORES, "every trained network")
    skipped: tuple[Skipped, ...] = json_field(SKIPPED, "evaluators that could not take the job")
    summary: Mapping[str, Accuracy] = json_field(SUMMARY, "accuracy over seeds, by evaluator")
    recovery: Mapping[str, Recovery] | None = json_field(
        MapOf(RecordOf(Recovery)).or_missing(omit=True),
        "accuracy of the set / accuracy of the whole set, paired by seed, by evaluator",
        default=None,
    )


@dataclass(frozen=True, kw_only=True)
class Measured(JsonRecord):
    """One accuracy that DD-Ranking's scores are made of."""

    labels: str = json_field(LINE, "labels that were trained on")
    augment: tuple[str, ...] = json_field(LINES, "augmentation of the recipe")
    scores: tuple[Score, ...] = json_field(SCORES, "every trained network")
    summary: Mapping[str, Accuracy] = json_field(SUMMARY, "accuracy over seeds, by evaluator")


@dataclass(frozen=True, kw_only=True)
class Metrics(JsonRecord):
    """DD-Ranking's scores, and every accuracy that they come from."""

    scale: str = json_field(LINE, "unit of the accuracies")
    weight: float = json_field(NUMBER, "weight of the first term")
    values: Mapping[str, Mapping[str, Statistics]] = json_field(
        MapOf(MapOf(RecordOf(Statistics))), "each metric over seeds, by evaluator and metric"
    )
    measured: Mapping[str, Measured] = json_field(MapOf(RecordOf(Measured)), "accuracies, by what was trained on")

    @property
    def names(self) -> list[str]:
        """The metrics, in the order in which they were asked for."""
        return list(dict.fromkeys(name for found in self.values.values() for name in found))


@dataclass(frozen=True, kw_only=True, repr=False)
class Evaluation(RecordFile):
    """A finished evaluation of an artifact."""

    schema_name: ClassVar[str] = SCHEMA
    file: ClassVar[str] = "evaluation.json"

    schema: str = json_field(word(SCHEMA), "name of this schema", default=SCHEMA)
    created: str = json_field(TIME, "time of completion, UTC")
    command: str = json_field(TEXT, "command line")
    config: Mapping[str, Json] = json_field(OBJECT, "everything that decides the scores")
    artifact: EvaluatedArtifact = json_field(RecordOf(EvaluatedArtifact), "what was scored")
    budget: StoredSize = json_field(RecordOf(StoredSize), "its codes and bytes")
    dataset: EvaluatedDataset = json_field(RecordOf(EvaluatedDataset), "the data")
    codec: CodecEntry = json_field(RecordOf(CodecEntry), "the codec that decoded it")
    teacher: TeacherEntry | None = json_field(
        RecordOf(TeacherEntry).or_missing(omit=True), "the teacher that labels came from, if any", default=None
    )
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
    reference: WholeSet | None = json_field(
        RecordOf(WholeSet).or_null(), "the whole real training set under the same protocol, if asked for"
    )
    metrics: Metrics | None = json_field(
        RecordOf(Metrics).or_missing(), "DD-Ranking's scores, if asked for", default=None
    )
    cost: Cost = json_field(RecordOf(Cost), "time and memory")
    environment: Environment = json_field(RecordOf(Environment), "machine and software")

    @property
    def headline(self) -> str:
        """Codec, dataset and accuracies."""
        return f"{self.budget.codes:,} codes of {self.codec.name} on {self.dataset.name}, {accuracies(self.summary)}"

    def table(self) -> str:
        """Return the result as text: accuracy, and that of the whole training set beside it."""
        lines = ruled(text_table(_table(self)))
        lines += [f"skipped: {row.evaluator}: {row.reason}" for row in self.skipped]
        other = "" if self.dataset.same else ", other data than it was made from"
        place = f"{self.dataset.name}{other}, {self.protocol.name}, accuracy on {self.scored_on}"
        return "\n".join([*lines, f"{place} (mean ± std over seeds)"])

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield one row per score; `trained_on` tells the artifact from the whole set and the metrics' parts."""
        sets = {"artifact": self.scores}
        sets |= {"whole set": self.reference.scores} if self.reference else {}
        sets |= {name: one.scores for name, one in self.metrics.measured.items()} if self.metrics else {}
        for trained_on, scores in sets.items():
            for score in scores:
                yield {
                    "dataset": self.dataset.name,
                    "codec": self.codec.name,
                    "precision": self.budget.precision,
                    "artifact": self.artifact.sha256,
                    "trained_on": trained_on,
                    "protocol": self.protocol.name,
                    "scored_on": self.scored_on,
                    "evaluator": score.evaluator,
                    "arch": score.arch,
                    "seed": score.seed,
                    "accuracy": score.accuracy,
                    "codes": self.budget.codes,
                    "bytes": self.budget.bytes.total,
                    "bytes_with_decoder": self.budget.bytes.total_with_decoder,
                }


def _table(evaluation: Evaluation) -> list[list[str]]:
    names, budget = list(evaluation.summary), evaluation.budget
    codes = f"{budget.codes:,} codes, {budget.bytes.total:,} bytes at {budget.precision}"
    rows = [["", *names, "trained on"], ["the artifact", *(text_of(evaluation.summary, n) for n in names), codes]]
    if five := summarise_top5(evaluation.scores):
        rows.append(["top-5", *(text_of(five, n) for n in names), codes])
    whole = evaluation.reference
    if whole:
        rows.append(["whole set", *(text_of(whole.summary, n) for n in names), f"{whole.train_size:,} images"])
        recovery = whole.recovery or {}
        rows.append(["recovery", *(text_of(recovery, n) for n in names), "accuracy / whole set's"])
    if evaluation.metrics:
        values = evaluation.metrics.values
        for metric in evaluation.metrics.names:
            cells = [text_of(values.get(name, {}), metric) for name in names]
            rows.append([metric.upper(), *cells, "scale of fractions"])
    return rows
