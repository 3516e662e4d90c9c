"""Verify a claim, statically or in full, and keep the checks beside it; the claim itself is never written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from latentdd_plugin.artifacts.decode import allowed
from latentdd_plugin.core.errors import ArtifactError
from latentdd_plugin.core.storage import atomic_write
from latentdd_plugin.core.types import Json
from latentdd_plugin.leaderboard import claim as claims
from latentdd_plugin.leaderboard import registry
from latentdd_plugin.leaderboard.recompute import Finding, VerifyInputs, recompute
from latentdd_plugin.leaderboard.records import FAILED, LEVELS, VERIFIED, Check, VerificationRecord
from latentdd_plugin.results.environment import environment

__all__ = ["LEVELS", "verify"]


def verify(path: Path, level: str = "full", given: VerifyInputs | None = None, *, progress: bool = False) -> Check:
    """Check a run's folder or a submission's file, and keep the check beside it.

    Args:
        path: the folder or the file.
        level: `static` needs neither data nor training; `full` also trains every network again.
        given: where data and weights lie.
        progress: show progress bars on stderr.

    Raises:
        UsageError: the claim cannot be checked from here: data or weights are not given, a plug-in is not allowed.
            Nothing is kept then.
    """
    given = given or VerifyInputs()
    try:
        claim = claims.load(path, given.artifact)
    except ArtifactError as error:
        if path.suffix != ".json" or path.is_symlink() or not path.is_file():
            raise
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        kept = path.with_name(f"{path.stem}.verification.json")
        return _keep(kept, digest, level, Finding(FAILED, tuple(error.faults)), {})
    wrong = claims.static_faults(claim, allowed(given.plugins))
    if wrong or level == "static":
        finding = Finding(FAILED if wrong else VERIFIED, tuple(wrong))
        return _keep(claim.verification, claim.sha256, level, finding, {})
    finding, numerics = recompute(claim, given, progress=progress)
    return _keep(claim.verification, claim.sha256, level, finding, numerics)


def _keep(path: Path, claim: str, level: str, finding: Finding, numerics: Mapping[str, Json]) -> Check:
    """Append a check to those of the same claim; those of a claim that has changed since are dropped.

    Raises:
        ArtifactError: the registry's folder is a link and may lead anywhere, or the file that is there is broken.
    """
    if path.name != "verification.json":  # of a submission, in a registry that others write
        try:
            registry.refuse_links(path)
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error}") from None
    check = Check(
        level=level,
        result=finding.result,
        why=finding.why,
        rows=finding.rows,
        same_platform=finding.same_platform,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        environment=environment(numerics),
    )
    checks: tuple[Check, ...] = ()
    if path.exists():
        try:
            kept = registry.load_verification(path)
        except ArtifactError as error:
            raise ArtifactError([f"{path}: {fault}" for fault in error.faults]) from None
        checks = kept.checks if kept.claim_sha256 == claim else ()
    content = VerificationRecord(claim_sha256=claim, checks=(*checks, check)).to_json()
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")
    return check
