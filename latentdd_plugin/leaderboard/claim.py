"""What a record claims, held against its suite, its protocol and its artifact: what needs no training and no data."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from latentdd_plugin.artifacts.artifact import Artifact
from latentdd_plugin.artifacts.file import file_sha256, load_artifact
from latentdd_plugin.codecs.base import decoder_bytes
from latentdd_plugin.core import plugins
from latentdd_plugin.core.entry_points import WEIGHTS
from latentdd_plugin.core.errors import ArtifactError, UsageError
from latentdd_plugin.core.json_schema import faults as faults_of
from latentdd_plugin.core.types import Json
from latentdd_plugin.evaluators import protocols
from latentdd_plugin.experiments import suites
from latentdd_plugin.experiments.compare.grid import short
from latentdd_plugin.experiments.suites import Suite
from latentdd_plugin.leaderboard import registry
from latentdd_plugin.leaderboard.schemas import RECORD, contradictions
from latentdd_plugin.results.record import Record

ROUNDING = 1e-6  # of one image: an accuracy is a count over the test images


@dataclass(frozen=True)
class Claim:
    """A record and its artifact, from a run's folder or out of the registry."""

    path: Path  # the run's folder, or the submission's file
    record: Mapping[str, Json]
    artifact: Path | None  # None where it lies elsewhere
    sha256: str  # of the file that makes the claim
    submission: Mapping[str, Json] | None = None

    @property
    def verification(self) -> Path:
        """Where what checks find is kept."""
        if self.submission is None:
            return self.path / "verification.json"
        return self.path.with_name(f"{self.path.stem}.verification.json")

    @property
    def name(self) -> str:
        """What it is called where it is told about."""
        return f"{self.path.parent.name}/{self.path.stem}" if self.submission is not None else str(self.path)


def all_in(folder: Path) -> list[Path]:
    """Every submission's file in a registry."""
    found = sorted((folder / "submissions").glob("*/*.json"))
    return [path for path in found if not path.name.endswith(".verification.json")]


def load(path: Path, elsewhere: Path | None = None) -> Claim:
    """The claim of a run's folder, or of a submission's file.

    Args:
        path: the folder or the file.
        elsewhere: the artifact, where it does not lie beside the submission.

    Raises:
        ArtifactError: it cannot be read, or is not of its schema, with every fault.
    """
    if path.suffix != ".json":  # a folder of that name in a registry is not a run to follow
        record = Record.load(path)
        alone = {"record": record.data, "artifact": record.data.get("artifact"), "grid": None}
        wrong = faults_of(record.data, RECORD) or contradictions(alone)
        if wrong:
            raise ArtifactError([f"{path / Record.file}: {fault}" for fault in wrong])
        digest = hashlib.sha256((path / Record.file).read_bytes()).hexdigest()
        return Claim(path, record.data, elsewhere or path / "distilled.safetensors", digest)
    try:
        found = registry.load_submission(path)
    except ArtifactError as error:
        raise ArtifactError([f"{path}: {fault}" for fault in error.faults]) from None
    return Claim(path, found.record, elsewhere or found.artifact, found.sha256, found.claim)


def static_faults(claim: Claim, distributions: Sequence[str]) -> list[str]:
    """Everything wrong with a claim that needs neither data nor training; empty where nothing is.

    Args:
        claim: what is claimed.
        distributions: those whose codecs may be built.
    """
    record = claim.record
    found = [*_against_suite(claim), *_against_protocol(record), *_against_itself(record)]
    if claim.artifact is None:
        url = claim.submission["artifact"]["url"] if claim.submission else None
        return [*found, f"artifact: it lies elsewhere ({url}); fetch it and give --artifact FILE"]
    try:
        stored = load_artifact(claim.artifact)
    except ArtifactError as error:
        return [*found, *(f"artifact: {fault}" for fault in error.faults)]
    return [*found, *_guarded(lambda: _against_artifact(claim, stored, distributions))]


def _guarded(check: Callable[[], list[str]]) -> list[str]:
    """A record is a stranger's: what its form does not promise may be anything."""
    try:
        return check()
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        return [f"record: malformed ({type(error).__name__}: {error})"]


def _against_suite(claim: Claim) -> list[str]:
    submission = claim.submission
    if submission is None:
        return []
    try:
        suite = suites.get(submission["suite"])
    except UsageError as error:
        return [f"suite: {fault}" for fault in error.faults]
    found = _guarded(lambda: of_suite(claim.record, suite)[1])
    if submission["suite_sha256"] != suite.sha256:
        theirs, ours = submission["suite_sha256"][:12], suite.sha256[:12]
        found.append(f"suite_sha256: made under another {suite.name} ({theirs}…), this one is {ours}…")
    named = _guarded(lambda: [of_suite(claim.record, suite)[0]])
    if not found and submission["cell"] != named[0]:
        found.append(f"cell: {submission['cell']!r}, but the record is {named[0]!r}")
    return found


def of_suite(record: Mapping[str, Json], suite: Suite) -> tuple[str, list[str]]:
    """What a record is called in a suite, and which of the suite's conditions it breaks."""
    place, found = suite.place_of(record)
    codec, algo = (short(str(record[part]["name"])) for part in ("codec", "distiller"))
    name = suites.name_of(place, codec, algo, record["distiller"]["match"], record["budget"]["precision"])
    return name, [f"{suite.name}: {fault}" for fault in found]


def _against_protocol(record: Mapping[str, Json]) -> list[str]:
    """The protocol as this package has it, unchanged; a row for each of its seeds; accuracies that are counts."""
    claimed = dict(record["protocol"])
    try:
        protocol = protocols.get(claimed["name"])
    except UsageError as error:
        return [f"protocol: {fault}" for fault in error.faults]
    ours: dict[str, Json] = json.loads(json.dumps({**protocol.to_json(), "sha256": protocol.sha256}))
    found = [
        f"protocol.{key}: {claimed.get(key)!r}, but {protocol.name} has {ours.get(key)!r}"
        for key in sorted({*claimed, *ours})
        if claimed.get(key) != ours.get(key)
    ]
    return found + _guarded(lambda: _rows(record, protocol.seeds))


def _rows(record: Mapping[str, Json], seeds: int) -> list[str]:
    config, left_out = record["config"], [row["evaluator"] for row in record["skipped"]]
    wanted = [
        (name, 1000 * config["seed"] + i) for name in config["evaluators"] if name not in left_out for i in range(seeds)
    ]
    there = [(row["evaluator"], row["seed"]) for row in record["scores"]]
    found = [f"scores: {name} has no row of seed {seed}" for name, seed in wanted if (name, seed) not in there]
    found += [
        f"scores: a row of {name}, seed {seed}, nobody asked for" for name, seed in there if (name, seed) not in wanted
    ]
    images = record["dataset"]["test_size"]
    for row in record["scores"]:
        right = row["accuracy"] * images
        if abs(right - round(right)) > ROUNDING:
            found.append(
                f"scores: {row['evaluator']}, seed {row['seed']}: {row['accuracy']} is no count of {images} images"
            )
    return found


def _against_itself(record: Mapping[str, Json]) -> list[str]:
    """How the set was selected, and what its decoder has seen."""
    found = []
    wanted = {"last-iterate", *(["unknown"] if record["distiller"]["name"] == "imported" else [])}
    if record["selection"] not in wanted:
        found.append(f"selection: {record['selection']!r}, but only the last iterate may be scored")
    codec, data = record["codec"], record["dataset"]
    if codec["decoder_bytes"] and not codec["fitted"] and not codec["trained_on"]:
        found.append(f"codec.trained_on: {codec['name']} has weights; say what data they have seen")
    budget, config = record["budget"], record["config"]
    pairs = {"ipc": config["ipc"], "precision": config["precision"]}
    if config["lpc"] is not None and not budget.get("shortfall"):
        pairs["codes_per_class"] = config["lpc"]
    found += [
        f"budget.{key}: {budget[key]!r}, but the configuration has {asked!r}"
        for key, asked in pairs.items()
        if budget[key] != asked
    ]
    allowed = budget["ipc"] and budget["ipc"] * 4 * math.prod(data["image_shape"])
    if allowed is not None and budget["bytes_per_class"] != allowed:
        found.append(
            f"budget.bytes_per_class: {budget['bytes_per_class']:,}, but ipc={budget['ipc']} is {allowed:,} bytes"
        )
    return found


def _against_artifact(claim: Claim, stored: Artifact, distributions: Sequence[str]) -> list[str]:
    """The file that the record speaks of, and every byte that it really has."""
    record, header, path = claim.record, stored.header, claim.artifact
    if path is None:
        return []
    size = path.stat().st_size
    pairs: dict[str, tuple[Json, Json]] = {
        "artifact.sha256": (record["artifact"]["sha256"], file_sha256(path)),
        "artifact.bytes": (record["artifact"]["bytes"], size),
        "dataset.name": (record["dataset"]["name"], header["dataset"]["name"]),
        "dataset.fingerprint": (record["dataset"]["fingerprint"], header["dataset"]["fingerprint"]),
        "dataset.classes": (record["dataset"]["classes"], header["classes"]),
        "dataset.image_shape": (record["dataset"]["image_shape"], header["image_shape"]),
        "budget.precision": (record["budget"]["precision"], header["precision"]),
        "budget.codes": (record["budget"]["codes"], stored.packed.shape[0]),
        "budget.codes_per_class": (record["budget"]["codes_per_class"], stored.packed.shape[0] // len(stored.classes)),
        "codec.code_shape": (record["codec"]["code_shape"], header["codes_shape"][1:]),
        **{
            f"codec.{key}": (record["codec"][key], header["codec"][key])
            for key in ("name", "config", "upsample", "fingerprint")
        },
    }
    if record["budget"].get("shortfall"):
        del pairs["budget.codes_per_class"]
    decoder, found = _decoder(stored, record["codec"], distributions)
    spent = stored.bytes(size, decoder)
    total = spent["codes"] + spent["labels"]
    spent |= {"total": total, "total_with_decoder": total + decoder}
    pairs |= {f"budget.bytes.{key}": (record["budget"]["bytes"][key], value) for key, value in spent.items()}
    found += [
        f"{key}: {_told(is_)} claimed, the artifact has {_told(has)}" for key, (is_, has) in pairs.items() if is_ != has
    ]
    allowed = record["budget"]["bytes_per_class"] * len(stored.classes)
    if total > allowed:
        found.append(f"budget: {total:,} bytes of codes and labels, {allowed:,} are allowed")
    return found


def _decoder(stored: Artifact, claimed: Mapping[str, Json], distributions: Sequence[str]) -> tuple[int, list[str]]:
    """The decoder's bytes, counted where the codec can be built from what is here; else as claimed."""
    name = str(stored.header["codec"]["name"])
    entry = plugins.entries("codecs").get(name)
    if entry is None or entry.distribution not in distributions or WEIGHTS in entry.extras:
        return int(claimed["decoder_bytes"]), []
    try:
        return decoder_bytes(stored.space(installed_only=True, distributions=tuple(distributions)).codec.codec), []
    except UsageError as error:
        return int(claimed["decoder_bytes"]), [f"codec: {fault}" for fault in error.faults]


def _told(value: Json) -> str:
    text = f"{value:,}" if type(value) is int else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
