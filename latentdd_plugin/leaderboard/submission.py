"""View of a submission's page: the run's own report, the claim, and its verifications."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latentdd_plugin.leaderboard.records import Check
from latentdd_plugin.leaderboard.registry import CHECKED, STALE, Submission
from latentdd_plugin.results import report
from latentdd_plugin.results.entries import Environment
from latentdd_plugin.results.formatting import percent, points
from latentdd_plugin.results.record import Record


def view(submission: Submission) -> dict[str, Any]:
    """Return everything for `submission.html.j2`."""
    record = submission.record
    place = f"submissions/{submission.suite}/{submission.slug}"
    return {
        **report.view(record),
        "name": submission.claim.name,
        "claim": submission.claim,
        "status": submission.status,
        "stale": submission.status == STALE,
        "sha256": submission.sha256,
        "artifact": submission.claim.artifact,
        "artifact_found": submission.artifact is not None,
        "disclosure": _disclosure(record),
        "rows": _rows(record),
        "checks": [_check(check) for check in reversed(submission.checks)],
        "verify": f"dd-bench verify registry/{place}.json",
        "files": [f"{submission.slug}.json"] + ([f"{submission.slug}{CHECKED}.json"] if submission.checks else []),
        "curve": None,
        "grid": f"{submission.slug}.png" if submission.grid else None,
    }


def _rows(record: Record) -> list[tuple[str, str, str, str, str, str]]:
    """Return (evaluator, architecture, parameters, seed, accuracy, gain over random codes) of every network."""
    random = record.random_codes.scores if record.random_codes else ()
    baseline = {(row.evaluator, row.seed): row.accuracy for row in random}
    found = []
    for row in record.scores:
        other = baseline.get((row.evaluator, row.seed))
        gained = "" if other is None else points(row.accuracy - other)
        found.append(
            (row.evaluator, row.arch, f"{row.params:,}", str(row.seed), percent(row.accuracy, digits=2), gained)
        )
    return found


def _disclosure(record: Record) -> list[tuple[str, str]]:
    codec, dataset = record.codec, record.dataset
    trained = ", ".join(codec.trained_on) or ("this training set, by fitting" if codec.fitted else "nothing")
    known = "the decoder has seen this data set; read the ledger with the decoder counted"
    seen = codec.fitted or dataset.name in codec.trained_on
    return [
        ("the codec was trained on", trained + (f" ({known})" if seen else "")),
        ("codec fingerprint", codec.fingerprint),
        ("data set fingerprint", dataset.fingerprint),
        ("selection", record.selection),
        ("scored on", f"{record.scored_on} images"),
    ]


def _check(check: Check) -> dict[str, Any]:
    differences = [abs(row.found - row.claimed) for row in check.rows]
    return {
        "created": report.minutes(check.created),
        "level": check.level,
        "result": check.result,
        "why": check.why,
        "platform": {True: "same platform", False: "another platform", None: ""}[check.same_platform],
        "machine": _machine(check.environment),
        "largest": f"{100 * max(differences):.2f} points at most" if differences else "",
        "rows": [
            (row.control or "", row.evaluator, str(row.seed), percent(row.claimed), percent(row.found))
            for row in check.rows
        ],
    }


def _machine(environment: Environment) -> str:
    packages: Mapping[str, Any] = environment.packages
    torch = packages.get("torch")
    names = [name for name in (environment.cpu, environment.gpu, environment.platform) if isinstance(name, str)]
    return ", ".join([*names, *([f"torch {torch}"] if torch else [])])
