"""Check a claim at a level, and keep what was found beside it; the claim itself is never written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from latentdd_plugin.artifacts.decode import allowed
from latentdd_plugin.core.errors import ArtifactError
from latentdd_plugin.core.storage import atomic_write
from latentdd_plugin.leaderboard import registry
from latentdd_plugin.leaderboard import static_check as claims
from latentdd_plugin.leaderboard.recompute import VerifyInputs, recompute
from latentdd_plugin.leaderboard.records import FULL, REPEAT, STATIC, Check, VerificationRecord


def verify(path: Path, level: str = FULL, inputs: VerifyInputs | None = None, *, progress: bool = False) -> Check:
    """Check a run's folder or a submission's file, and keep what was found beside it.

    Args:
        path: the folder or the file.
        level: `static` needs neither data nor training; `full` also trains every network again; `repeat` also distils
            again.
        inputs: data, weights and plug-ins of the caller.
        progress: show progress bars on stderr.

    Raises:
        UsageError: nothing can be said about the claim from here: data or weights are not given, a plug-in is not
            allowed. Nothing is kept then.
    """
    inputs = inputs or VerifyInputs()
    try:
        claim = claims.load(path, inputs.artifact)
    except ArtifactError as error:
        if path.suffix != ".json" or path.is_symlink() or not path.is_file():
            raise
        check, digest = Check.of(level, error.faults), hashlib.sha256(path.read_bytes()).hexdigest()
        _keep(path.with_name(f"{path.stem}.verification.json"), digest, check)
        return check
    wrong = list(dict.fromkeys(claims.static_faults(claim, allowed(inputs.plugins))))
    if wrong or level == STATIC:
        check = Check.of(level, wrong)
    else:
        check = recompute(claim, inputs, repeat=level == REPEAT, progress=progress)
    _keep(claim.verification, claim.sha256, check)
    return check


def _keep(path: Path, claim: str, check: Check) -> None:
    """Append a check to those of the same claim; those of a claim that has changed since are dropped.

    Raises:
        ArtifactError: the registry's folder is a link and may lead anywhere, or the file that is there is broken.
    """
    if path.name != "verification.json":  # of a submission, in a registry that others write
        try:
            registry.refuse_links(path)
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error}") from None
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
