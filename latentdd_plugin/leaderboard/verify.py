"""Do a claim's numbers come out again? From its artifact and the recorded protocol, under the recorded seeds."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from statistics import fmean, variance

from latentdd_plugin import assess, numerics, registry
from latentdd_plugin.cache import atomic_write, cache_dir
from latentdd_plugin.errors import ArtifactError, UsageError
from latentdd_plugin.evaluation import EvaluationConfig
from latentdd_plugin.leaderboard import claim as claims
from latentdd_plugin.leaderboard.claim import Claim
from latentdd_plugin.record import environment
from latentdd_plugin.types import Json, RunConfig, hash_json

log = logging.getLogger(__name__)

LEVELS = ("static", "full")
VERIFIED, WITHIN, FAILED = "verified", "reproduced within tolerance", "failed"
NETWORKS = 5  # at least so many an evaluator, where the platform is another one
TOLERANCE, ERRORS = 0.01, 3.0  # an accuracy may differ by the larger of this fraction and so many standard errors
PACKAGES = ("latentdd-plugin", "timm")  # beside what numerics say, what a network's bits depend on


@dataclass(frozen=True)
class Given:
    """What the caller brings: where data and weights lie, and whose plug-ins may be used."""

    datasets: Mapping[str, str] = field(default_factory=dict)  # a data set's name, or "" for any -> folder or hub id
    codecs: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)  # a codec's name, or "" -> its locations
    plugins: tuple[str, ...] = ()
    artifact: Path | None = None  # of a submission whose artifact lies elsewhere


@dataclass(frozen=True)
class Row:
    """One network: what its accuracy is said to be, and what came out."""

    evaluator: str
    seed: int
    claimed: float
    found: float


@dataclass(frozen=True)
class Check:
    """What one verification found."""

    level: str
    result: str  # verified | reproduced within tolerance | failed
    why: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    same_platform: bool | None = None

    def to_json(self, numbers: Mapping[str, Json]) -> dict[str, Json]:
        """As it is kept beside the claim."""
        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return {**json.loads(json.dumps(asdict(self))), "created": created, "environment": environment(numbers)}


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
        if path.is_dir() or not path.is_file():
            raise
        check, digest = Check(level, FAILED, error.faults), hashlib.sha256(path.read_bytes()).hexdigest()
        _keep(path.with_name(f"{path.stem}.verification.json"), digest, check, {})
        return check
    wrong = claims.static_faults(claim, assess.allowed(given.plugins))
    if wrong or level == "static":
        check = Check(level, FAILED if wrong else VERIFIED, tuple(wrong))
        used: Mapping[str, Json] = {}
    else:
        check, used = recomputed(claim, given, progress=progress)
    _keep(claim.verification, claim.sha256, check, used)
    return check


def _keep(path: Path, claim: str, check: Check, numbers: Mapping[str, Json]) -> None:
    """Append a check to those of the same claim; those of a claim that has changed since are dropped."""
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


# --- training again ---------------------------------------------------------------------------------------------------


def recomputed(claim: Claim, given: Given, *, progress: bool = False) -> tuple[Check, Mapping[str, Json]]:
    """Train and test every network again; what came out, and what it was computed with.

    Raises:
        UsageError: data or weights are not given, or are others than the artifact's.
    """
    record = claim.record
    config, same = _platform(record)
    asked = EvaluationConfig(
        dataset=_dataset(record, given),
        evaluators=config.evaluators,
        protocol=record["protocol"]["name"],
        split=record["scored_on"],
        seed=config.seed,
        networks=None if same else NETWORKS,
        device=config.device,
        amp=config.amp,
        compile=config.compile,
        threads=config.threads,
    )
    name = str(record["codec"]["name"])
    places = {**given.codecs.get("", {}), **given.codecs.get(name, {})}
    folder = cache_dir() / "verify" / hash_json([claim.sha256, asdict(asked)])[:32]
    evaluation = assess.evaluate_artifact(
        _there(claim), asked, codec=places, allow_plugins=given.plugins, out=folder, progress=progress, command="verify"
    )
    shutil.rmtree(folder, ignore_errors=True)  # a second verification trains again
    found = {(row["evaluator"], row["seed"]): float(row["accuracy"]) for row in evaluation.data["scores"]}
    rows = tuple(
        Row(row["evaluator"], row["seed"], row["accuracy"], found[row["evaluator"], row["seed"]])
        for row in record["scores"]
        if (row["evaluator"], row["seed"]) in found
    )
    why = _unequal(record, rows, found) if same else _far(record, found)
    why += _bytes(record["budget"]["bytes"], evaluation.data["budget"]["bytes"])
    result = FAILED if why else VERIFIED if same else WITHIN
    return Check("full", result, tuple(why), rows, same), evaluation.data["environment"]["numerics"]


def _there(claim: Claim) -> Path:
    if claim.artifact is None:
        raise UsageError(f"{claim.name}: its artifact lies elsewhere; give --artifact FILE")
    return claim.artifact


def _platform(record: Mapping[str, Json]) -> tuple[RunConfig, bool]:
    """How to compute, as near to the record as this machine allows; and whether that is the same."""
    theirs = record["environment"]
    used = theirs["numerics"]
    config = RunConfig(
        evaluators=tuple(record["config"]["evaluators"]),
        seed=record["config"]["seed"],
        device=used["device"],
        amp=used["amp"],
        compile=used["compile"],
        threads=used["threads"],
    )
    try:
        ours = numerics.resolve(config).to_json()
    except UsageError:  # no such device here
        return RunConfig(evaluators=config.evaluators, seed=config.seed), False
    packages = environment(ours)["packages"]
    same = ours == dict(used) and all(packages[name] == theirs["packages"].get(name) for name in PACKAGES)
    return config, same


def _dataset(record: Mapping[str, Json], given: Given) -> dict[str, Json]:
    """The data set with the record's options, at the caller's place; an installed one needs none."""
    data = record["dataset"]
    place = given.datasets.get(data["name"], given.datasets.get(""))
    options = {key: tuple(map(str, v)) if key == "classes" and v else v for key, v in data["options"].items()}
    return {**options, **({"name": place} if place else {})}


def _bytes(claimed: Mapping[str, Json], found: Mapping[str, Json]) -> list[str]:
    """The ledger, now that the codec is there and its decoder can be counted."""
    return [
        f"budget.bytes.{key}: {claimed[key]} claimed, {value} found"
        for key, value in found.items()
        if claimed[key] != value
    ]


def _unequal(record: Mapping[str, Json], rows: Sequence[Row], found: Mapping[tuple[str, int], float]) -> list[str]:
    """On the same platform every row comes out to the bit."""
    why = [
        f"{row.evaluator}, seed {row.seed}: {row.claimed:.4f} claimed, {row.found:.4f} found"
        for row in rows
        if row.claimed != row.found
    ]
    missing = [row for row in record["scores"] if (row["evaluator"], row["seed"]) not in found]
    return why + [f"{row['evaluator']}, seed {row['seed']}: claimed, but it cannot be trained here" for row in missing]


def _far(record: Mapping[str, Json], found: Mapping[tuple[str, int], float]) -> list[str]:
    """Elsewhere the mean over at least five networks comes out within the larger of 0.01 and three standard errors."""
    why = []
    for evaluator in dict.fromkeys(row["evaluator"] for row in record["scores"]):
        theirs = [float(row["accuracy"]) for row in record["scores"] if row["evaluator"] == evaluator]
        ours = [accuracy for (name, _), accuracy in found.items() if name == evaluator]
        if not ours:
            why.append(f"{evaluator}: claimed, but it cannot be trained here")
            continue
        error = math.sqrt(sum(variance(part) / len(part) for part in (theirs, ours) if len(part) > 1))
        allowed = max(TOLERANCE, ERRORS * error)
        apart = abs(fmean(theirs) - fmean(ours))
        if apart > allowed:
            why.append(
                f"{evaluator}: {fmean(theirs):.4f} claimed, {fmean(ours):.4f} found over {len(ours)} networks: "
                f"{apart:.4f} apart, {allowed:.4f} allowed"
            )
    return why
