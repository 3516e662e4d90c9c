"""Recompute a claim's numbers from its artifact and the recorded protocol, under the recorded seeds.

The baselines are recomputed too: the claim's own configuration names them, and they are drawn and trained again, for a
gain is only as true as what it is taken over.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from statistics import fmean, variance
from typing import Any

import torch

from latentdd_plugin.artifacts.budget import ByteLedger
from latentdd_plugin.artifacts.decode import allowed
from latentdd_plugin.artifacts.file import load_artifact
from latentdd_plugin.core import plugins
from latentdd_plugin.core.cache import cache_dir
from latentdd_plugin.core.compute import resolve_numerics
from latentdd_plugin.core.config import DatasetConfig, EvaluationConfig, RunConfig
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import Json, Score, hash_json
from latentdd_plugin.experiments.baselines import baseline_configs
from latentdd_plugin.experiments.evaluate import evaluate_artifact
from latentdd_plugin.experiments.run import cached_run
from latentdd_plugin.experiments.run_folder import CHECKSUMS
from latentdd_plugin.leaderboard.claim import Claim
from latentdd_plugin.leaderboard.records import FAILED, VERIFIED, WITHIN, CheckedScore
from latentdd_plugin.results.environment import environment
from latentdd_plugin.results.evaluation import Evaluation
from latentdd_plugin.results.record import Record

NETWORKS = 5  # at least so many per evaluator on another platform
TOLERANCE, ERRORS = 0.01, 3.0  # an accuracy may differ by the larger of this fraction and so many standard errors
PACKAGES = ("latentdd-plugin", "timm")  # beside the numerics, what a network's bits depend on
ARITHMETIC = ("device", "amp", "compile", "threads")  # of the recorded numerics, what a configuration can ask for

Accuracies = Mapping[tuple[str, int], float]  # by evaluator and seed


@dataclass(frozen=True)
class VerifyInputs:
    """What the caller brings: where data and weights lie, and whose plug-ins may be used."""

    datasets: Mapping[str, str] = field(default_factory=dict)  # a data set's name, or "" for any -> folder or hub id
    codecs: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)  # a codec's name, or "" -> its locations
    plugins: tuple[str, ...] = ()
    artifact: Path | None = None  # of a submission whose artifact lies elsewhere

    def dataset(self, name: str) -> str | None:
        """Return where a data set lies, if the caller said so."""
        return self.datasets.get(name, self.datasets.get(""))

    def codec(self, name: str) -> dict[str, Json]:
        """Return where a codec's weights lie, if the caller said so."""
        return {**self.codecs.get("", {}), **self.codecs.get(name, {})}


@dataclass(frozen=True)
class Finding:
    """The result of one verification."""

    result: str  # verified | reproduced within tolerance | failed
    why: tuple[str, ...] = ()
    rows: tuple[CheckedScore, ...] = ()
    same_platform: bool | None = None


@dataclass(frozen=True)
class Recomputed:
    """The scores and bytes of an artifact, trained here."""

    scores: tuple[Score, ...]
    bytes: ByteLedger


@dataclass(frozen=True)
class Plan:
    """How to recompute a claim on this machine."""

    record: Record
    given: VerifyInputs
    config: RunConfig  # evaluators, seed and arithmetic
    asked: EvaluationConfig
    same: bool  # platform as recorded: every accuracy must come out to the bit
    progress: bool

    @property
    def locations(self) -> dict[str, Json]:
        """Where the caller says that the codec's weights lie."""
        return self.given.codec(self.record.codec.name)


def recompute(claim: Claim, given: VerifyInputs, *, progress: bool = False) -> tuple[Finding, Mapping[str, Json]]:
    """Train and test every network again, those of the baselines too.

    Returns:
        The finding, and the numerics that it was computed with.

    Raises:
        UsageError: data or weights are not given, or differ from the artifact's.
    """
    record, artifact = claim.record, _artifact_of(claim)
    _refuse_unnamed(record, given)
    plan = _plan(record, given, progress=progress)
    folder = cache_dir() / "verify" / hash_json([claim.sha256, asdict(plan.asked)])[:32]
    for name in (Evaluation.file, CHECKSUMS):  # a verification trains: it takes no finished result from a cache
        (folder / name).unlink(missing_ok=True)
    evaluation = evaluate_artifact(
        artifact,
        plan.asked,
        codec=plan.locations,
        allow_plugins=given.plugins,
        out=folder,
        progress=progress,
        command="verify",
    )
    shutil.rmtree(folder, ignore_errors=True)  # a second verification trains again
    rows, why = _compare(record.scores, evaluation.scores, same=plan.same)
    why += _bytes(record.budget.bytes, evaluation.budget.bytes)
    for name, config in _baselines(plan).items():
        more, reasons = _recompute_baseline(name, config, plan)
        rows += more
        why += reasons
    why += _decoder(artifact, plan) if plan.same and record.codec.fitted else []
    result = FAILED if why else VERIFIED if plan.same else WITHIN
    return Finding(result, tuple(why), tuple(rows), plan.same), evaluation.environment.numerics


def _plan(record: Record, given: VerifyInputs, *, progress: bool) -> Plan:
    config, same = _platform(record)
    asked = EvaluationConfig(
        dataset=_dataset(record, given),
        evaluators=config.evaluators,
        protocol=record.protocol.name,
        split=record.scored_on,
        seed=config.seed,
        networks=None if same else NETWORKS,
        compute=config.compute,
    )
    return Plan(record, given, config, asked, same, progress)


def _artifact_of(claim: Claim) -> Path:
    if claim.artifact is None:
        raise UsageError(f"{claim.name}: its artifact lies elsewhere; give --artifact FILE")
    return claim.artifact


def _refuse_unnamed(record: Record, given: VerifyInputs) -> None:
    """Raise UsageError if the record names code that is neither this package's nor allowed: it is never run."""
    among, known, named = allowed(given.plugins), plugins.entries("evaluators"), record.config.evaluators
    wrong = [f"evaluator {name!r}: code that a record names is not run" for name in named if ":" in name]
    wrong += [
        f"evaluator {name!r} is of {known[name].distribution}: allow it with --allow-plugin {known[name].distribution}"
        for name in named
        if name in known and known[name].distribution not in among
    ]
    if wrong:
        raise UsageError(wrong)


# --- baselines --------------------------------------------------------------------------------------------------------


def _recompute_baseline(name: str, config: RunConfig, plan: Plan) -> tuple[list[CheckedScore], list[str]]:
    """Return a baseline's rows, and why it does not come out as claimed."""
    theirs = plan.record.scored_baselines.get(name)
    try:
        found = _train(config, plan)
    except UsageError as error:  # the budget is too small for it, for example
        return [], [f"{name}: it has scores, but cannot be made ({error})"] if theirs else []
    if theirs is None:
        return [], [f"{name}: left out, though it can be made"]
    rows, why = _compare(theirs.scores, found.scores, same=plan.same)
    why += _bytes(theirs.budget.bytes, found.bytes, but=("file",))  # the header in the file names the data
    return [replace(row, control=name) for row in rows], [f"{name}: {reason}" for reason in why]


def _train(config: RunConfig, plan: Plan) -> Recomputed:
    """Draw and train a baseline here, once for all claims that are compared with it."""
    made = cached_run(config, kept="verified", progress=plan.progress)
    if plan.same:
        return Recomputed(made.scores, made.budget.bytes)
    locations = {} if config.codec["name"] == "identity" else plan.locations
    more = evaluate_artifact(  # more networks on the same draw
        made.folder,
        plan.asked,
        codec=locations,
        allow_plugins=plan.given.plugins,
        progress=plan.progress,
        command="verify",
    )
    return Recomputed(more.scores, more.budget.bytes)


def _run_config(plan: Plan) -> RunConfig:
    """Return the run's configuration as the record states it, as far as its baselines depend on it.

    The artifact was decoded before, so the codec's name, options and weights are known to be right.
    """
    record, codec, budget = plan.record, plan.record.codec, plan.record.budget
    return plan.config.replace(
        dataset=DatasetConfig(**{"name": record.dataset.name, **_dataset(record, plan.given)}),
        codec={**codec.config, **plan.locations, "name": codec.name, "upsample": codec.upsample},
        algo={"name": record.distiller.name},
        ipc=budget.ipc,
        lpc=None if budget.ipc else budget.codes_per_class,
        precision=budget.precision,
        protocol=record.protocol.name,
        split=record.scored_on,
    )


def _baselines(plan: Plan) -> dict[str, RunConfig]:
    """Return the configuration of each baseline of such a run; none if it was made without any."""
    record = plan.record
    found = baseline_configs(_run_config(plan), record.budget.bytes_per_class, record.dataset.image_shape)
    scored = list(record.scored_baselines)
    stray = [name for name in scored if not isinstance(found.get(name), RunConfig)]
    if stray:
        raise UsageError([f"controls.{name}: such a run does not have a baseline of that name" for name in stray])
    wanted = record.config.controls or scored
    return {name: one for name, one in found.items() if wanted and isinstance(one, RunConfig)}


def _decoder(artifact: Path, plan: Plan) -> list[str]:
    """Fit the codec again; a fitted decoder travels in the artifact and must come out the same."""
    run = _run_config(plan).replace(algo={"name": "random"}, controls=False)
    ours = load_artifact(cached_run(run, kept="verified").folder / "distilled.safetensors").codec_state
    theirs = load_artifact(artifact).codec_state
    equal = ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    return [] if equal else ["codec: its decoder is not what fitting on the training images gives"]


# --- platform and data ------------------------------------------------------------------------------------------------


def _platform(record: Record) -> tuple[RunConfig, bool]:
    """Return how to compute, as near to the record as this machine allows, and whether that is the same."""
    used = record.environment.numerics
    fixed: dict[str, Any] = {"evaluators": record.config.evaluators, "seed": record.config.seed}
    try:
        config = RunConfig(**fixed, **{key: used[key] for key in ARITHMETIC}).check()
        ours = resolve_numerics(config.compute).to_json()
    except (UsageError, KeyError, TypeError):  # no such device here, or numerics of another form
        return RunConfig(**fixed), False
    packages = environment(ours).packages
    same = ours == dict(used) and all(packages[name] == record.environment.packages.get(name) for name in PACKAGES)
    return config, same


def _dataset(record: Record, given: VerifyInputs) -> dict[str, Json]:
    """Return the data set with the record's options, at the caller's place; an installed one needs none."""
    place = given.dataset(record.dataset.name)
    known = {f.name for f in fields(DatasetConfig)} - {"name"}  # only the caller, or an installed entry, gives the name
    options = {key: value for key, value in record.dataset.options.items() if key in known}
    classes = options.get("classes")
    options["classes"] = tuple(map(str, classes)) if classes else None
    return {**options, **({"name": place} if place else {})}


# --- comparison -------------------------------------------------------------------------------------------------------


def _compare(claimed: Sequence[Score], found: Sequence[Score], *, same: bool) -> tuple[list[CheckedScore], list[str]]:
    """Return claimed rows beside those that came out, and why they are not the same."""
    values = {(row.evaluator, row.seed): row.accuracy for row in found}
    rows = [
        CheckedScore(row.evaluator, row.seed, row.accuracy, values[row.evaluator, row.seed])
        for row in claimed
        if (row.evaluator, row.seed) in values
    ]
    stated = {(row.evaluator, row.seed) for row in claimed}
    evaluators = {name for name, _ in stated}
    left_out = [key for key in values if key not in stated and (same or key[0] not in evaluators)]
    why = [f"{name}, seed {seed}: left out; {values[name, seed]:.4f} found" for name, seed in left_out]
    return rows, why + (_unequal(claimed, rows, values) if same else _too_far(claimed, values))


def _bytes(claimed: ByteLedger, found: ByteLedger, *, but: tuple[str, ...] = ()) -> list[str]:
    """Compare the ledgers, now that the codec is here and its decoder can be counted."""
    return [f"budget.bytes.{key}: {a} claimed, {b} found" for key, a, b in claimed.differences(found, but=but)]


def _unequal(claimed: Sequence[Score], rows: Sequence[CheckedScore], found: Accuracies) -> list[str]:
    """Return every row that does not come out to the bit."""
    why = [
        f"{row.evaluator}, seed {row.seed}: {row.claimed:.4f} claimed, {row.found:.4f} found"
        for row in rows
        if row.claimed != row.found
    ]
    missing = [row for row in claimed if (row.evaluator, row.seed) not in found]
    return why + [f"{row.evaluator}, seed {row.seed}: claimed, but it cannot be trained here" for row in missing]


def _too_far(claimed: Sequence[Score], found: Accuracies) -> list[str]:
    """Return evaluators whose mean over at least five networks is off by more than 0.01 and three standard errors."""
    why = []
    for evaluator in dict.fromkeys(row.evaluator for row in claimed):
        theirs = [row.accuracy for row in claimed if row.evaluator == evaluator]
        ours = [accuracy for (name, _), accuracy in found.items() if name == evaluator]
        if len(ours) < 2:
            why.append(f"{evaluator}: claimed, but it cannot be trained here")
            continue
        error = math.sqrt(variance(ours) * (1 / len(theirs) + 1 / len(ours)))  # ours: theirs may be made up
        limit = max(TOLERANCE, ERRORS * error)
        apart = abs(fmean(theirs) - fmean(ours))
        if apart > limit:
            why.append(
                f"{evaluator}: {fmean(theirs):.4f} claimed, {fmean(ours):.4f} found over {len(ours)} networks: "
                f"{apart:.4f} apart, {limit:.4f} allowed"
            )
    return why
