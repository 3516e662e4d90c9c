"""Do a claim's numbers come out again? From its artifact and the recorded protocol, under the recorded seeds.

The controls too: they are named by the claim's own configuration, drawn again and trained again, for a gain is only as
true as what it is taken over.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from statistics import fmean, variance

import torch

from latentdd_plugin.artifacts.decode import allowed
from latentdd_plugin.artifacts.file import load_artifact
from latentdd_plugin.core import plugins
from latentdd_plugin.core.cache import cache_dir
from latentdd_plugin.core.compute import resolve_numerics
from latentdd_plugin.core.config import DatasetConfig, EvaluationConfig, RunConfig
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import Json, hash_json
from latentdd_plugin.experiments.baselines import control_configs
from latentdd_plugin.experiments.evaluate import evaluate_artifact
from latentdd_plugin.experiments.run import control
from latentdd_plugin.experiments.run_folder import CHECKSUMS
from latentdd_plugin.leaderboard.claim import Claim
from latentdd_plugin.results.environment import environment
from latentdd_plugin.results.evaluation import Evaluation

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
    control: str | None = None  # of which control; None is the method's own


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


def recomputed(claim: Claim, given: Given, *, progress: bool = False) -> tuple[Check, Mapping[str, Json]]:
    """Train and test every network again, the controls' too; what came out, and what it was computed with.

    Raises:
        UsageError: data or weights are not given, or are others than the artifact's.
    """
    record = claim.record
    _refuse_unnamed(record, given)
    config, same = _platform(record)
    asked = EvaluationConfig(
        dataset=_dataset(record, given),
        evaluators=config.evaluators,
        protocol=record["protocol"]["name"],
        split=record["scored_on"],
        seed=config.seed,
        networks=None if same else NETWORKS,
        compute=config.compute,
    )
    places = _places(record, given)
    folder = cache_dir() / "verify" / hash_json([claim.sha256, asdict(asked)])[:32]
    for name in (Evaluation.file, CHECKSUMS):  # a verification trains: it takes no finished result from a cache
        (folder / name).unlink(missing_ok=True)
    evaluation = evaluate_artifact(
        _there(claim), asked, codec=places, allow_plugins=given.plugins, out=folder, progress=progress, command="verify"
    )
    shutil.rmtree(folder, ignore_errors=True)  # a second verification trains again
    rows, why = _compared(record, evaluation.data["scores"], same=same)
    why += _bytes(record["budget"]["bytes"], evaluation.data["budget"]["bytes"])
    for name, beside in _controls(record, config, given).items():
        theirs = record["controls"].get(name, {})
        try:
            found = _trained(beside, asked, given, places, same=same, progress=progress)
        except UsageError as error:  # a budget too small for one, say: then there is none
            why += [f"{name}: it has scores, but cannot be made ({error})"] if "scores" in theirs else []
            continue
        if "scores" not in theirs:
            why.append(f"{name}: left out, though it can be made")
            continue
        more, reasons = _compared(theirs, found["scores"], same=same)
        rows += [replace(row, control=name) for row in more]
        spent = {key: value for key, value in found["bytes"].items() if key != "file"}  # whose header names the data
        why += [f"{name}: {reason}" for reason in (*reasons, *_bytes(theirs["budget"]["bytes"], spent))]
    why += _decoder(claim, config, given) if same and record["codec"]["fitted"] else []
    result = FAILED if why else VERIFIED if same else WITHIN
    return Check("full", result, tuple(why), tuple(rows), same), evaluation.data["environment"]["numerics"]


def _places(record: Mapping[str, Json], given: Given) -> dict[str, Json]:
    """Where the caller says that the codec's weights lie."""
    return {**given.codecs.get("", {}), **given.codecs.get(str(record["codec"]["name"]), {})}


def _refuse_unnamed(record: Mapping[str, Json], given: Given) -> None:
    """UsageError where the record names code that is neither this package's nor allowed: it is never run."""
    among = allowed(given.plugins)
    known = plugins.entries("evaluators")
    wrong = [f"evaluator {name!r}: code that a record names is not run" for name in _evaluators(record) if ":" in name]
    wrong += [
        f"evaluator {name!r} is of {known[name].distribution}: allow it with --allow-plugin {known[name].distribution}"
        for name in _evaluators(record)
        if name in known and known[name].distribution not in among
    ]
    if wrong:
        raise UsageError(wrong)


def _evaluators(record: Mapping[str, Json]) -> tuple[str, ...]:
    return tuple(map(str, record["config"]["evaluators"]))


def _run(record: Mapping[str, Json], config: RunConfig, given: Given) -> RunConfig:
    """What the record says of the run, as far as its controls depend on it.

    The codec is known by its name, options and weights to the artifact's decoding, which has gone well before.
    """
    codec, budget = record["codec"], record["budget"]
    return config.replace(
        dataset=DatasetConfig(**{"name": record["dataset"]["name"], **_dataset(record, given)}),
        codec={**codec["config"], **_places(record, given), "name": codec["name"], "upsample": codec["upsample"]},
        algo={"name": record["distiller"]["name"]},
        ipc=budget["ipc"],
        lpc=None if budget["ipc"] else budget["codes_per_class"],
        precision=budget["precision"],
        protocol=record["protocol"]["name"],
        split=record["scored_on"],
    )


def _controls(record: Mapping[str, Json], config: RunConfig, given: Given) -> dict[str, RunConfig]:
    """The configuration of each control that a run like the record's has; none where it was made without any."""
    run, images = _run(record, config, given), tuple(record["dataset"]["image_shape"])
    found = control_configs(run, record["budget"]["bytes_per_class"], images)
    scored = [name for name, entry in record["controls"].items() if "scores" in entry]
    stray = [name for name in scored if not isinstance(found.get(name), RunConfig)]
    if stray:
        raise UsageError([f"controls.{name}: such a run has no control of that name" for name in stray])
    wanted = record["config"]["controls"] or scored
    return {name: one for name, one in found.items() if wanted and isinstance(one, RunConfig)}


def _decoder(claim: Claim, config: RunConfig, given: Given) -> list[str]:
    """A decoder that was fitted on the training images travels in the artifact: fitting again has to give it."""
    run = _run(claim.record, config, given).replace(algo={"name": "random"}, controls=False)
    ours = load_artifact(control(run, kept="verified").folder / "distilled.safetensors").codec_state
    theirs = load_artifact(_there(claim)).codec_state
    equal = ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    return [] if equal else ["codec: its decoder is not what fitting on the training images gives"]


def _trained(
    config: RunConfig,
    asked: EvaluationConfig,
    given: Given,
    places: Mapping[str, Json],
    *,
    same: bool,
    progress: bool,
) -> dict[str, Json]:
    """Scores and bytes of a control: drawn and trained here, once for all claims that have it beside them."""
    made = control(config, kept="verified", progress=progress)
    if same:
        return {"scores": made.data["scores"], "bytes": made.data["budget"]["bytes"]}
    places = {} if config.codec["name"] == "identity" else places  # more networks on what was drawn
    more = evaluate_artifact(
        made.folder, asked, codec=places, allow_plugins=given.plugins, progress=progress, command="verify"
    )
    return {"scores": more.data["scores"], "bytes": more.data["budget"]["bytes"]}


def _compared(
    claimed: Mapping[str, Json], found: Sequence[Mapping[str, Json]], *, same: bool
) -> tuple[list[Row], list[str]]:
    """Claimed rows beside those that came out, and why they are not the same."""
    values = {(row["evaluator"], row["seed"]): float(row["accuracy"]) for row in found}
    rows = [
        Row(row["evaluator"], row["seed"], row["accuracy"], values[row["evaluator"], row["seed"]])
        for row in claimed["scores"]
        if (row["evaluator"], row["seed"]) in values
    ]
    told = {(row["evaluator"], row["seed"]) for row in claimed["scores"]}
    untold = [key for key in values if key not in told and (same or key[0] not in {name for name, _ in told})]
    why = [f"{name}, seed {seed}: left out; {values[name, seed]:.4f} found" for name, seed in untold]
    return rows, why + (_unequal(claimed, rows, values) if same else _far(claimed, values))


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
        ours = resolve_numerics(config.compute).to_json()
    except UsageError:  # no such device here
        return RunConfig(evaluators=config.evaluators, seed=config.seed), False
    packages = environment(ours)["packages"]
    same = ours == dict(used) and all(packages[name] == theirs["packages"].get(name) for name in PACKAGES)
    return config, same


def _dataset(record: Mapping[str, Json], given: Given) -> dict[str, Json]:
    """The data set with the record's options, at the caller's place; an installed one needs none."""
    data = record["dataset"]
    place = given.datasets.get(data["name"], given.datasets.get(""))
    known = {f.name for f in fields(DatasetConfig)} - {"name"}  # which is the caller's to say, or an installed one's
    options = {key: value for key, value in data["options"].items() if key in known}
    options["classes"] = tuple(map(str, options["classes"])) if options.get("classes") else None
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
        if len(ours) < 2:
            why.append(f"{evaluator}: claimed, but it cannot be trained here")
            continue
        error = math.sqrt(variance(ours) * (1 / len(theirs) + 1 / len(ours)))  # ours: theirs may say anything
        allowed = max(TOLERANCE, ERRORS * error)
        apart = abs(fmean(theirs) - fmean(ours))
        if apart > allowed:
            why.append(
                f"{evaluator}: {fmean(theirs):.4f} claimed, {fmean(ours):.4f} found over {len(ours)} networks: "
                f"{apart:.4f} apart, {allowed:.4f} allowed"
            )
    return why
