"""The registry's files: submissions, and what verification found."""

from __future__ import annotations

from dataclasses import dataclass

from latentdd_plugin.core.json_record import JsonRecord, RecordOf, json_field
from latentdd_plugin.core.json_schema import FLAG, FRACTION, LINE, NOTE, SHA256, TEXT, TIME, URL, WHOLE, ListOf, word
from latentdd_plugin.results.entries import Environment
from latentdd_plugin.results.record import Record

SUBMISSION, VERIFICATION = "dd-bench/submission.v1", "dd-bench/verification.v1"
VERIFIED, WITHIN, FAILED = "verified", "reproduced within tolerance", "failed"
LEVELS = ("static", "full")


@dataclass(frozen=True, kw_only=True)
class SubmittedArtifact(JsonRecord):
    """The file of the distilled set: beside the submission, or at an address."""

    file: str | None = json_field(LINE.or_null(), "file beside the submission; null if it lies elsewhere")
    url: str | None = json_field(URL.or_null(), "address of a larger file; null if it lies beside the submission")
    sha256: str = json_field(SHA256, "hash of the file")
    bytes: int = json_field(WHOLE, "size of the file")


@dataclass(frozen=True, kw_only=True)
class SubmittedGrid(JsonRecord):
    """The picture beside a submission."""

    file: str = json_field(LINE, "file beside the submission")
    sha256: str = json_field(SHA256, "hash of the file")


@dataclass(frozen=True, kw_only=True)
class SubmissionRecord(JsonRecord):
    """A submission: a run's record, who submits it, and the suite it belongs to."""

    schema: str = json_field(word(SUBMISSION), "name of this schema", default=SUBMISSION)
    name: str = json_field(LINE, "who submits")
    contact: str = json_field(LINE, "how to reach them")
    code: str | None = json_field(URL.or_null(), "address of the method's code, or null")
    paper: str | None = json_field(URL.or_null(), "address of a description, or null")
    notes: str | None = json_field(NOTE.or_null(), "remarks, or null")
    suite: str = json_field(LINE, "suite")
    suite_sha256: str = json_field(SHA256, "hash of the suite's content")
    cell: str = json_field(LINE, "name of the run in the suite")
    record: Record = json_field(RecordOf(Record), "the whole record of the run")
    artifact: SubmittedArtifact = json_field(RecordOf(SubmittedArtifact), "the distilled set's file")
    grid: SubmittedGrid | None = json_field(RecordOf(SubmittedGrid).or_null(), "the picture, or null")
    submitted: str = json_field(TIME, "time of submission, UTC")


@dataclass(frozen=True)
class CheckedScore(JsonRecord):
    """One network: its claimed accuracy, and the one that came out."""

    evaluator: str = json_field(LINE, "evaluator")
    seed: int = json_field(WHOLE, "seed of the network")
    claimed: float = json_field(FRACTION, "accuracy that is claimed")
    found: float = json_field(FRACTION, "accuracy that came out")
    control: str | None = json_field(
        LINE.or_missing(), "baseline that it belongs to; null for the artifact itself", default=None
    )


@dataclass(frozen=True, kw_only=True)
class Check(JsonRecord):
    """One verification of a claim."""

    level: str = json_field(word(*LEVELS), "`static` or `full`")
    result: str = json_field(word(VERIFIED, WITHIN, FAILED), "what came out")
    why: tuple[str, ...] = json_field(ListOf(TEXT), "every reason for a failure", default=())
    rows: tuple[CheckedScore, ...] = json_field(ListOf(RecordOf(CheckedScore)), "every network", default=())
    same_platform: bool | None = json_field(
        FLAG.or_null(), "whether the bits must agree; null for `static`", default=None
    )
    created: str = json_field(TIME, "time of the check, UTC")
    environment: Environment = json_field(RecordOf(Environment), "machine and software of the check")


@dataclass(frozen=True, kw_only=True)
class VerificationRecord(JsonRecord):
    """Every check of one claim, oldest first."""

    schema: str = json_field(word(VERIFICATION), "name of this schema", default=VERIFICATION)
    claim_sha256: str = json_field(SHA256, "hash of the claim's file that was checked")
    checks: tuple[Check, ...] = json_field(ListOf(RecordOf(Check)), "what was found, oldest first")
