"""The page of a submission: the run's own report, and beside it the claim and what checks found of it."""

from __future__ import annotations

from typing import Any

from latentdd_plugin.leaderboard.records import WITHIN, Check
from latentdd_plugin.leaderboard.registry import CHECKED, STALE, Submission
from latentdd_plugin.results import report
from latentdd_plugin.results.formatting import percent, points
from latentdd_plugin.results.record import Record

STATED = (
    "name",
    "contact",
    "code",
    "paper",
    "notes",
    "selection",
    "dataset.origin",
    "dataset.train",
    "dataset.test",
    "dataset.revision",
    "artifact.path",
    "codec.source",
    "distiller.config",
    "losses",
    "cost",
    "environment",
    "created",
    "command",
)
PLATFORMS = {True: "same platform", False: "another platform", None: ""}


def view(submission: Submission) -> dict[str, Any]:
    """Return everything for `submission.html.j2`."""
    claim, record = submission.claim, submission.record
    place = f"submissions/{submission.suite}/{submission.slug}"
    return {
        **report.view(record),
        "name": claim.name,
        "claim": claim,
        "status": submission.status,
        "levels": submission.levels,
        "stale": submission.status == STALE,
        "recomputed": _recomputed(submission),
        "sha256": submission.sha256,
        "artifact": claim.artifact,
        "artifact_found": submission.artifact is not None,
        "disclosure": _disclosure(record),
        "stated": STATED,
        "rows": _rows(record),
        "checks": [_check(check, record) for check in reversed(submission.checks)],
        "verify": f"dd-bench verify registry/{place}.json",
        "files": [f"{submission.slug}.json"] + ([f"{submission.slug}{CHECKED}.json"] if submission.checks else []),
        "curve": report.curve(record.losses or ()),
        "grid": f"{submission.slug}.png" if submission.grid else None,
    }


def _recomputed(submission: Submission) -> list[tuple[str, str, str]]:
    """Return (evaluator, recomputed, claimed) if the recomputed accuracy is the one that counts."""
    if submission.status != WITHIN:
        return []
    return [(name, str(submission.accuracy(name)), str(stats)) for name, stats in submission.record.summary.items()]


def _rows(record: Record) -> list[tuple[str, str, str, str, str, str]]:
    """Return (evaluator, architecture, parameters, seed, accuracy, gain over random codes) of every network."""
    baseline = record.random_codes
    others = {(row.evaluator, row.seed): row.accuracy for row in baseline.scores} if baseline else {}
    found = []
    for row in record.scores:
        other = others.get((row.evaluator, row.seed))
        gained = "" if other is None else points(row.accuracy - other)
        found.append((row.evaluator, row.arch, f"{row.params:,}", str(row.seed), percent(row.accuracy, 2), gained))
    return found


def _disclosure(record: Record) -> list[tuple[str, str]]:
    codec, dataset = record.codec, record.dataset.name
    trained = ", ".join(codec.trained_on) or ("this training set, by fitting" if codec.fitted else "nothing")
    known = "the decoder has seen this dataset; read the ledger with the decoder counted"
    seen = codec.fitted or dataset in codec.trained_on
    return [
        ("the codec was trained on", trained + (f" ({known})" if seen else "")),
        ("codec fingerprint", codec.fingerprint),
        ("dataset fingerprint", record.dataset.fingerprint),
        ("selection", record.selection),
        ("scored on", f"{record.scored_on} images"),
    ]


def _check(check: Check, record: Record) -> dict[str, Any]:
    machine = [check.environment.get(key) for key in ("cpu", "gpu", "platform")]
    packages = check.environment.get("packages")
    torch = packages.get("torch") if isinstance(packages, dict) else None
    differences = [abs(row.found - row.claimed) for row in check.rows if row.claimed is not None]
    foreign = () if check.covers(record) else ("it does not hold the rows of this claim, so it does not count",)
    return {
        "created": check.created[:16].replace("T", " "),
        "level": check.level,
        "result": check.result,
        "why": [*check.why, *foreign],
        "notes": check.notes or (),
        "platform": PLATFORMS[check.same_platform],
        "machine": ", ".join([*(m for m in machine if isinstance(m, str)), *([f"torch {torch}"] if torch else [])]),
        "largest": f"{100 * max(differences):.2f} points at most" if differences else "",
        "rows": [
            (row.control or "", row.evaluator, str(row.seed), percent(row.claimed), percent(row.found))
            for row in check.rows
        ],
    }
