"""What the page of a submission shows: the run's own report, and beside it the claim and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latentdd_plugin.core.types import Json
from latentdd_plugin.leaderboard.registry import CHECKED, STALE, Submission
from latentdd_plugin.leaderboard.table import CONTROL
from latentdd_plugin.results import report
from latentdd_plugin.results.pages import percent, points


def view(submission: Submission) -> dict[str, Any]:
    """Everything for `submission.html.j2`."""
    claim, record = submission.claim, submission.record
    place = f"submissions/{submission.suite}/{submission.slug}"
    artifact = claim["artifact"]
    return {
        **report.view(record),
        "name": claim["name"],
        "claim": claim,
        "status": submission.status,
        "stale": submission.status == STALE,
        "sha256": submission.sha256,
        "artifact": artifact,
        "artifact_found": submission.artifact is not None,
        "disclosure": _disclosure(record),
        "rows": _rows(record),
        "checks": [_check(check) for check in reversed(submission.checks)],
        "verify": f"dd-bench verify registry/{place}.json",
        "files": [f"{submission.slug}.json"] + ([f"{submission.slug}{CHECKED}.json"] if submission.checks else []),
        "curve": None,
        "grid": f"{submission.slug}.png" if submission.grid else None,
    }


def _rows(record: Mapping[str, Json]) -> list[tuple[str, str, str, str, str, str]]:
    """(evaluator, architecture, parameters, seed, accuracy, gain over random codes) of every training."""
    control = {
        (row["evaluator"], row["seed"]): row["accuracy"]
        for row in record["controls"].get(CONTROL, {}).get("scores", [])
    }
    found = []
    for row in record["scores"]:
        other = control.get((row["evaluator"], row["seed"]))
        gained = "" if other is None else points(row["accuracy"] - other)
        found.append(
            (
                row["evaluator"],
                row["arch"],
                f"{row['params']:,}",
                str(row["seed"]),
                f"{100 * row['accuracy']:.2f}%",
                gained,
            )
        )
    return found


def _disclosure(record: Mapping[str, Json]) -> list[tuple[str, str]]:
    codec, dataset = record["codec"], record["dataset"]["name"]
    trained = ", ".join(codec["trained_on"]) or ("this training set, by fitting" if codec["fitted"] else "nothing")
    known = "the decoder has seen this data set; read the ledger with the decoder counted"
    seen = codec["fitted"] or dataset in codec["trained_on"]
    return [
        ("the codec was trained on", trained + (f" ({known})" if seen else "")),
        ("codec fingerprint", codec["fingerprint"]),
        ("data set fingerprint", record["dataset"]["fingerprint"]),
        ("selection", record["selection"]),
        ("scored on", f"{record['scored_on']} images"),
    ]


def _check(check: Mapping[str, Json]) -> dict[str, Any]:
    environment = check["environment"]
    machine = [environment.get(key) for key in ("cpu", "gpu", "platform")]
    packages = environment.get("packages")
    torch = packages.get("torch") if isinstance(packages, Mapping) else None
    differences = [abs(row["found"] - row["claimed"]) for row in check["rows"]]
    return {
        "created": str(check["created"])[:16].replace("T", " "),
        "level": check["level"],
        "result": check["result"],
        "why": [str(reason) for reason in check["why"]],
        "platform": {True: "same platform", False: "another platform", None: ""}[check["same_platform"]],
        "machine": ", ".join([*(m for m in machine if isinstance(m, str)), *([f"torch {torch}"] if torch else [])]),
        "largest": f"{100 * max(differences):.2f} points at most" if differences else "",
        "rows": [
            (
                row.get("control") or "",
                row["evaluator"],
                str(row["seed"]),
                percent(row["claimed"]),
                percent(row["found"]),
            )
            for row in check["rows"]
        ],
    }
