"""A registry of real runs: what `submit` and `verify` leave, written as the registry's schemas say."""

import hashlib
import json
import re
import shutil

from latentdd_plugin.types import canonical_json, hash_json


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def slug_of(name):
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def submit(run, registry, *, suite="cpu-digits.v1", name="A run", **more):
    """Wrap a run's folder as a submission; the claim's path."""
    record = json.loads((run / "result.json").read_text())
    folder = registry / "submissions" / suite
    folder.mkdir(parents=True, exist_ok=True)
    slug = f"{slug_of(name)}-{run.name}"
    shutil.copy(run / "distilled.safetensors", folder / f"{slug}.safetensors")
    shutil.copy(run / "grid.png", folder / f"{slug}.png")
    claim = {
        "schema": "dd-bench/submission.v1",
        "name": name,
        "contact": "someone@example.org",
        "code": None,
        "paper": None,
        "notes": None,
        "suite": suite,
        "suite_sha256": hash_json(suite),
        "cell": run.name,
        "record": record,
        "artifact": {"file": f"{slug}.safetensors", "url": None, **stored(record)},
        "grid": {"file": f"{slug}.png", "sha256": sha256((run / "grid.png").read_bytes())},
        "submitted": "2026-01-31T12:00:00+00:00",
        **more,
    }
    path = folder / f"{slug}.json"
    path.write_text(canonical_json(claim))
    return path


def stored(record):
    return {key: record["artifact"][key] for key in ("sha256", "bytes")}


def change(path, alter):
    """Alter a claim in place."""
    claim = json.loads(path.read_text())
    alter(claim)
    path.write_text(canonical_json(claim))


def check(claim, result="verified", level="full", *, why=(), found=0.0):
    """Append a check to what lies beside a claim; `found` is what it differs by."""
    path = claim.with_name(f"{claim.stem}.verification.json")
    kept = json.loads(path.read_text()) if path.exists() else {"schema": "dd-bench/verification.v1", "checks": []}
    record = json.loads(claim.read_text())["record"]
    rows = [
        {"evaluator": r["evaluator"], "seed": r["seed"], "claimed": r["accuracy"], "found": r["accuracy"] + found}
        for r in record["scores"]
    ]
    kept["claim_sha256"] = sha256(claim.read_bytes())
    kept["checks"].append(
        {
            "level": level,
            "result": result,
            "why": list(why),
            "rows": rows if level == "full" else [],
            "same_platform": not found,
            "created": "2026-02-01T12:00:00+00:00",
            "environment": record["environment"],
        }
    )
    path.write_text(canonical_json(kept))
    return path
