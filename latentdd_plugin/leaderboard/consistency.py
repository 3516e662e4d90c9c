"""Contradictions inside a claim: its baselines, rows and summaries, bytes and hashes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from latentdd_plugin.core.json_schema import short
from latentdd_plugin.leaderboard.records import SubmissionRecord
from latentdd_plugin.results.record import Baseline, Record
from latentdd_plugin.results.statistics import Statistics, gains, summarise

ROUNDING = 1e-6  # another version of Python or scipy may round a mean or an interval differently


def contradictions_of_submission(submission: SubmissionRecord) -> list[str]:
    """Return every contradiction inside a submission; empty if there is none."""
    found = [f"record.{fault}" for fault in contradictions_of_record(submission.record)]
    if submission.artifact.sha256 != submission.record.artifact.sha256:
        found.append("artifact.sha256: not the record's")
    return found


def contradictions_of_record(record: Record) -> list[str]:
    """Return every contradiction inside a run's record; empty if there is none."""
    classes = len(record.dataset.classes)
    found = _of_scores(record, "", classes)
    for name, one in record.scored_baselines.items():
        path = f"controls.{short(name)}."
        faults = _of_scores(one, path, classes)
        if not faults and not _same(gains(record.scores, one.scores), one.gain):
            faults.append(f"{path}gain: not what the rows of scores give, paired by seed")
        found += faults
    if not record.scores:
        found.append("scores: no row; there is nothing to show")
    return found


def _of_scores(entry: Record | Baseline, path: str, classes: int) -> list[str]:
    found = []
    if len({(row.evaluator, row.seed) for row in entry.scores}) < len(entry.scores):
        found.append(f"{path}scores: an evaluator and seed are there twice")
    elif not _same(summarise(entry.scores), entry.summary):
        found.append(f"{path}summary: not what the rows of scores give")
    spent, allowed = entry.budget.bytes.total, entry.budget.bytes_per_class * classes
    if spent > allowed:
        found.append(f"{path}budget.bytes.total: {spent:,} spent, {allowed:,} allowed")
    return found


def _same(ours: Mapping[str, Statistics], theirs: Mapping[str, Statistics]) -> bool:
    """Return True if two summaries agree, up to rounding."""
    return ours.keys() == theirs.keys() and all(_close(ours[name], theirs[name]) for name in ours)


def _close(ours: Statistics, theirs: Statistics) -> bool:
    pairs = [(ours.mean, theirs.mean), (ours.std, theirs.std)]
    pairs += zip(ours.ci95 or (None, None), theirs.ci95 or (None, None), strict=True)
    near = [
        math.isclose(a, b, abs_tol=ROUNDING) if a is not None and b is not None else a is None and b is None
        for a, b in pairs
    ]
    return ours.n == theirs.n and all(near) and not theirs.extra
