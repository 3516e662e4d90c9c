"""The registry's files: submissions, and the checks that others made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from latentdd_plugin.core.json_record import JsonRecord, RecordOf, json_field
from latentdd_plugin.core.json_schema import (
    FLAG,
    FRACTION,
    LINE,
    NOTE,
    OBJECT,
    SHA256,
    TEXT,
    TIME,
    URL,
    WHOLE,
    Json,
    ListOf,
    word,
)
from latentdd_plugin.results.environment import environment
from latentdd_plugin.results.record import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

SUBMISSION, VERIFICATION = "dd-bench/submission.v1", "dd-bench/verification.v1"
STATIC, FULL, REPEAT = LEVELS = ("static", "full", "repeat")
MOST_REASONS, LONGEST_REASON = 100, 2000  # what a check keeps, so that its file stays readable
VERIFIED, WITHIN, FAILED = RESULTS = ("verified", "reproduced within tolerance", "failed")


@dataclass(frozen=True, kw_only=True)
class SubmittedArtifact(JsonRecord):
    """The file of the distilled set, in the registry or at an address."""

    file: str | None = json_field(LINE.or_null(), "file beside the claim; null if it lies elsewhere")
    url: str | None = json_field(URL.or_null(), "address of a file that is too large for the registry, or null")
    sha256: str = json_field(SHA256, "its hash")
    bytes: int = json_field(WHOLE, "its size")


@dataclass(frozen=True)
class SubmittedGrid(JsonRecord):
    """The picture of distilled samples beside the claim."""

    file: str = json_field(LINE, "file beside the claim")
    sha256: str = json_field(SHA256, "its hash")


@dataclass(frozen=True, kw_only=True)
class SubmissionRecord(JsonRecord):
    """A submission: a run's record under a suite, and who submits it."""

    schema: str = json_field(word(SUBMISSION), "name of this schema", default=SUBMISSION)
    name: str = json_field(LINE, "who submits")
    contact: str = json_field(LINE, "how to reach them")
    code: str | None = json_field(URL.or_null(), "address of the method's code, or null")
    paper: str | None = json_field(URL.or_null(), "address of the paper, or null")
    notes: str | None = json_field(NOTE.or_null(), "anything a reader should know, or null")
    suite: str = json_field(LINE, "name of the suite")
    suite_sha256: str = json_field(SHA256, "hash of the suite's content")
    cell: str = json_field(LINE, "name of the run in the suite")
    record: Record = json_field(RecordOf(Record), "the whole record of the run")
    artifact: SubmittedArtifact = json_field(RecordOf(SubmittedArtifact), "the distilled set")
    grid: SubmittedGrid | None = json_field(RecordOf(SubmittedGrid).or_null(), "its picture, or null")
    submitted: str = json_field(TIME, "time of submission, UTC")


@dataclass(frozen=True, kw_only=True)
class CheckedRow(JsonRecord):
    """One network: its claimed accuracy, and the one that came out."""

    evaluator: str = json_field(LINE, "name of the evaluator")
    seed: int = json_field(WHOLE, "seed of the network")
    claimed: float | None = json_field(FRACTION.or_null(), "accuracy claimed; null of a seed that the claim lacks")
    found: float = json_field(FRACTION, "accuracy found")
    control: str | None = json_field(
        LINE.or_missing(), "baseline that it belongs to; null for the set itself", default=None
    )

    @property
    def key(self) -> tuple[str | None, str, int]:
        """Baseline, evaluator and seed."""
        return self.control, self.evaluator, self.seed


def _readable(reasons: Sequence[str]) -> tuple[str, ...]:
    """Return reasons as a file and a terminal may hold them: printable, each of bounded length, and not too many."""
    shown = [_printable(" ".join(one.split())) for one in reasons[:MOST_REASONS]]
    more = [f"and {len(reasons) - MOST_REASONS:,} more"] if len(reasons) > MOST_REASONS else []
    return (*(one if len(one) <= LONGEST_REASON else f"{one[: LONGEST_REASON - 1]}…" for one in shown), *more)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


@dataclass(frozen=True, kw_only=True)
class Check(JsonRecord):
    """The outcome of one verification."""

    level: str = json_field(word(*LEVELS), "`static`, `full` or `repeat`")
    result: str = json_field(word(*RESULTS), "`verified`, `reproduced within tolerance` or `failed`")
    why: tuple[str, ...] = json_field(ListOf(TEXT), "every reason of a failure", default=())
    rows: tuple[CheckedRow, ...] = json_field(ListOf(RecordOf(CheckedRow)), "each network that was trained", default=())
    same_platform: bool | None = json_field(
        FLAG.or_null(), "whether the bits had to agree; null if nothing was computed", default=None
    )
    notes: tuple[str, ...] | None = json_field(
        ListOf(TEXT).or_missing(omit=True), "what was seen besides, and does not decide", default=None
    )
    created: str = json_field(TIME, "time of the check, UTC")
    environment: Mapping[str, Json] = json_field(OBJECT, "machine and software of the check")

    @classmethod
    def of(
        cls,
        level: str,
        why: Sequence[str],
        rows: Sequence[CheckedRow] = (),
        *,
        same_platform: bool | None = None,
        numerics: Mapping[str, Json] | None = None,
        notes: Sequence[str] = (),
    ) -> Check:
        """Return the check with these findings, made now on this machine; without a reason it has not failed."""
        return cls(
            level=level,
            result=FAILED if why else WITHIN if same_platform is False else VERIFIED,
            why=_readable(why),
            rows=tuple(rows),
            same_platform=same_platform,
            notes=_readable(notes) or None,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            environment=environment(numerics or {}).to_json(),
        )

    def covers(self, record: Record) -> bool:
        """Return whether a passed check that trained networks holds every row of a claim, as the claim states it.

        A check without them was written by hand, or belongs to another claim.
        """
        if self.level == STATIC or self.result == FAILED:
            return True
        stated = {row.key: row for row in self.rows if row.claimed is not None}
        wanted: dict[tuple[str | None, str, int], float] = {
            (name, score.evaluator, score.seed): score.accuracy
            for name, scores in ((None, record.scores), *((n, b.scores) for n, b in record.scored_baselines.items()))
            for score in scores
        }
        if {key: row.claimed for key, row in stated.items()} != wanted:
            return False
        return self.result == WITHIN or all(row.found == row.claimed for row in stated.values())


@dataclass(frozen=True, kw_only=True)
class VerificationRecord(JsonRecord):
    """Every check of one claim, the oldest first."""

    schema: str = json_field(word(VERIFICATION), "name of this schema", default=VERIFICATION)
    claim_sha256: str = json_field(SHA256, "hash of the claim's file that was checked")
    checks: tuple[Check, ...] = json_field(ListOf(RecordOf(Check)), "the checks")
