"""Check a claim, static or in full, and keep what was found beside it; the claim itself is never written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from latentdd_plugin.artifacts.decode import allowed
from latentdd_plugin.core.errors import ArtifactError
from latentdd_plugin.core.storage import atomic_write
from latentdd_plugin.core.types import Json
from latentdd_plugin.leaderboard import claim as claims
from latentdd_plugin.leaderboard import registry
from latentdd_plugin.leaderboard.recompute import FAILED, VERIFIED, Check, Given, recomputed

LEVELS = ("static", "full")


def verify(path: Path, level: str = "full", given: Given | None = None, *, progress: bool = False) -> Check:
    """Check a run's folder or a submission's file, and keep what was found beside it; the claim is never written.

    Args:
        path: the folder or the file.
        level: `static` needs neither data nor training; `full` also trains every network again.
        given: where data and weights lie.
        progress: show progress bars on stderr.

    Raises:
        UsageError: nothing can be said about the claim from here: data or weights are not given, a plug-in is not
            allowed. Nothing is kept then.
    """
    given = given or Given()
    try:
        claim = claims.load(path, given.artifact)
    except ArtifactError as error:
        if path.suffix != ".json" or path.is_symlink() or not path.is_file():
            raise
        check, digest = Check(level, FAILED, error.faults), hashlib.sha256(path.read_bytes()).hexdigest()
        _keep(path.with_name(f"{path.stem}.verification.json"), digest, check, {})
        return check
    wrong = claims.static_faults(claim, allowed(given.plugins))
    if wrong or level == "static":
        check = Check(level, FAILED if wrong else VERIFIED, tuple(wrong))
        used: Mapping[str, Json] = {}
    else:
        check, used = recomputed(claim, given, progress=progress)
    _keep(claim.verification, claim.sha256, check, used)
    return check


def _keep(path: Path, claim: str, check: Check, numbers: Mapping[str, Json]) -> None:
    """Append a check to those of the same claim; those of a claim that has changed since are dropped.

    Raises:
        ArtifactError: the registry's folder is a link and may lead anywhere, or the file that is there is broken.
    """
    if path.name != "verification.json":  # of a submission, in a registry that others write
        try:
            registry.refuse_links(path)
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error}") from None
    checks: list[Json] = []
    if path.exists():
        try:
            kept = registry.load_verification(path)
        except ArtifactError as error:
            raise ArtifactError([f"{path}: {fault}" for fault in error.faults]) from None
        checks = list(kept["checks"]) if kept["claim_sha256"] == claim else []
    checks.append(check.to_json(numbers))
    content = {"schema": registry.VERIFICATION, "claim_sha256": claim, "checks": checks}
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")
