"""Check a claim against its suite, its protocol and its artifact: everything that needs neither training nor data."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latentdd_plugin.artifacts.artifact import Artifact
from latentdd_plugin.artifacts.file import file_sha256, load_artifact
from latentdd_plugin.codecs.base import decoder_bytes
from latentdd_plugin.core import plugins
from latentdd_plugin.core.entry_points import WEIGHTS
from latentdd_plugin.core.errors import ArtifactError, UsageError
from latentdd_plugin.core.types import Json
from latentdd_plugin.evaluators import protocols
from latentdd_plugin.experiments import suites
from latentdd_plugin.experiments.compare.grid import short
from latentdd_plugin.experiments.suites import Suite
from latentdd_plugin.leaderboard import registry
from latentdd_plugin.leaderboard.consistency import contradictions_of_record
from latentdd_plugin.leaderboard.records import SubmissionRecord
from latentdd_plugin.results.entries import CodecEntry, ProtocolEntry
from latentdd_plugin.results.record import Record

ROUNDING = 1e-6  # of one image: an accuracy is a count over the test images


@dataclass(frozen=True)
class Claim:
    """A record and its artifact, from a run's folder or out of the registry."""

    path: Path  # the run's folder, or the submission's file
    record: Record
    artifact: Path | None  # None if it lies elsewhere
    sha256: str  # of the file that makes the claim
    submission: SubmissionRecord | None = None

    @property
    def verification(self) -> Path:
        """The file that keeps its checks."""
        if self.submission is None:
            return self.path / "verification.json"
        return self.path.with_name(f"{self.path.stem}.verification.json")

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"{self.path.parent.name}/{self.path.stem}" if self.submission is not None else str(self.path)


def all_in(folder: Path) -> list[Path]:
    """Return the file of every submission in a registry."""
    found = sorted((folder / "submissions").glob("*/*.json"))
    return [path for path in found if not path.name.endswith(".verification.json")]


def load(path: Path, elsewhere: Path | None = None) -> Claim:
    """Read the claim of a run's folder, or of a submission's file.

    Args:
        path: the folder or the file.
        elsewhere: the artifact, if it does not lie beside the submission.

    Raises:
        ArtifactError: it cannot be read, or is not of its schema, with every fault.
    """
    if path.suffix != ".json":  # a folder of that name in a registry is not a run to follow
        record = Record.load(path)
        wrong = contradictions_of_record(record)
        if wrong:
            raise ArtifactError([f"{path / Record.file}: {fault}" for fault in wrong])
        digest = hashlib.sha256((path / Record.file).read_bytes()).hexdigest()
        return Claim(path, record, elsewhere or path / "distilled.safetensors", digest)
    try:
        found = registry.load_submission(path)
    except ArtifactError as error:
        raise ArtifactError([f"{path}: {fault}" for fault in error.faults]) from None
    return Claim(path, found.record, elsewhere or found.artifact, found.sha256, found.claim)


def static_faults(claim: Claim, distributions: Sequence[str]) -> list[str]:
    """Return everything wrong with a claim that needs neither data nor training; empty if nothing is.

    Args:
        claim: the claim.
        distributions: those whose codecs may be built.
    """
    record = claim.record
    found = [*_against_suite(claim), *_against_protocol(record), *_against_itself(record)]
    if claim.artifact is None:
        url = claim.submission.artifact.url if claim.submission else None
        return [*found, f"artifact: it lies elsewhere ({url}); fetch it and give --artifact FILE"]
    try:
        stored = load_artifact(claim.artifact)
    except ArtifactError as error:
        return [*found, *(f"artifact: {fault}" for fault in error.faults)]
    return [*found, *_against_artifact(record, claim.artifact, stored, distributions)]


def _against_suite(claim: Claim) -> list[str]:
    submission = claim.submission
    if submission is None:
        return []
    try:
        suite = suites.get(submission.suite)
    except UsageError as error:
        return [f"suite: {fault}" for fault in error.faults]
    name, found = of_suite(claim.record, suite)
    if submission.suite_sha256 != suite.sha256:
        theirs, ours = submission.suite_sha256[:12], suite.sha256[:12]
        found.append(f"suite_sha256: made under another {suite.name} ({theirs}…), this one is {ours}…")
    if not found and submission.cell != name:
        found.append(f"cell: {submission.cell!r}, but the record is {name!r}")
    return found


def of_suite(record: Record, suite: Suite) -> tuple[str, list[str]]:
    """Return the name of a record in a suite, and the suite's conditions that it breaks."""
    place, found = suite.place_of(record)
    codec, distiller = short(record.codec.name), short(record.distiller.name)
    name = suites.name_of(place, codec, distiller, record.distiller.match, record.budget.precision)
    return name, [f"{suite.name}: {fault}" for fault in found]


def _against_protocol(record: Record) -> list[str]:
    """Check that the protocol is this package's, with a row for each of its seeds and accuracies that are counts."""
    try:
        protocol = protocols.get(record.protocol.name)
    except UsageError as error:
        return [f"protocol: {fault}" for fault in error.faults]
    claimed, ours = record.protocol.to_json(), ProtocolEntry.of(protocol).to_json()
    found = [
        f"protocol.{key}: {claimed.get(key)!r}, but {protocol.name} has {ours.get(key)!r}"
        for key in sorted({*claimed, *ours})
        if claimed.get(key) != ours.get(key)
    ]
    return found + _rows(record, protocol.seeds)


def _rows(record: Record, seeds: int) -> list[str]:
    left_out = [row.evaluator for row in record.skipped]
    wanted = [
        (name, 1000 * record.config.seed + i)
        for name in record.config.evaluators
        if name not in left_out
        for i in range(seeds)
    ]
    there = [(row.evaluator, row.seed) for row in record.scores]
    found = [f"scores: {name} has no row of seed {seed}" for name, seed in wanted if (name, seed) not in there]
    found += [
        f"scores: a row of {name}, seed {seed}, was not asked for" for name, seed in there if (name, seed) not in wanted
    ]
    images = record.dataset.test_size
    for row in record.scores:
        right = row.accuracy * images
        if abs(right - round(right)) > ROUNDING:
            found.append(f"scores: {row.evaluator}, seed {row.seed}: {row.accuracy} is not a count of {images} images")
    return found


def _against_itself(record: Record) -> list[str]:
    """Check how the set was selected, what its decoder has seen, and that budget and configuration agree."""
    found = []
    allowed_selections = {"last-iterate", *(["unknown"] if record.distiller.name == "imported" else [])}
    if record.selection not in allowed_selections:
        found.append(f"selection: {record.selection!r}, but only the last iterate may be scored")
    codec, budget, config = record.codec, record.budget, record.config
    if codec.decoder_bytes and not codec.fitted and not codec.trained_on:
        found.append(f"codec.trained_on: {codec.name} has weights; say what data they have seen")
    pairs: dict[str, tuple[Json, Json]] = {
        "ipc": (budget.ipc, config.ipc),
        "precision": (budget.precision, config.precision),
    }
    if config.lpc is not None and not budget.shortfall:
        pairs["codes_per_class"] = (budget.codes_per_class, config.lpc)
    found += [
        f"budget.{key}: {there!r}, but the configuration has {asked!r}"
        for key, (there, asked) in pairs.items()
        if there != asked
    ]
    allowed = budget.ipc and budget.ipc * 4 * math.prod(record.dataset.image_shape)
    if allowed is not None and budget.bytes_per_class != allowed:
        found.append(f"budget.bytes_per_class: {budget.bytes_per_class:,}, but ipc={budget.ipc} is {allowed:,} bytes")
    return found


def _against_artifact(record: Record, path: Path, stored: Artifact, distributions: Sequence[str]) -> list[str]:
    """Check that the file is the one that the record describes, and count every byte that it really has."""
    header, size = stored.header, path.stat().st_size
    codes, classes = stored.packed.shape[0], len(stored.classes)
    pairs: dict[str, tuple[Json, Json]] = {
        "artifact.sha256": (record.artifact.sha256, file_sha256(path)),
        "artifact.bytes": (record.artifact.bytes, size),
        "dataset.name": (record.dataset.name, header.dataset.name),
        "dataset.fingerprint": (record.dataset.fingerprint, header.dataset.fingerprint),
        "dataset.classes": (record.dataset.classes, header.classes),
        "dataset.image_shape": (record.dataset.image_shape, header.image_shape),
        "budget.precision": (record.budget.precision, header.precision),
        "budget.codes": (record.budget.codes, codes),
        "budget.codes_per_class": (record.budget.codes_per_class, codes // classes),
        "codec.code_shape": (record.codec.code_shape, header.codes_shape[1:]),
        "codec.name": (record.codec.name, header.codec.name),
        "codec.config": (record.codec.config, header.codec.config),
        "codec.upsample": (record.codec.upsample, header.codec.upsample),
        "codec.fingerprint": (record.codec.fingerprint, header.codec.fingerprint),
    }
    if record.budget.shortfall:
        del pairs["budget.codes_per_class"]
    decoder, found = _decoder(stored, record.codec, distributions)
    spent = stored.bytes(size, decoder)
    pairs |= {f"budget.bytes.{key}": (is_, has) for key, is_, has in record.budget.bytes.differences(spent)}
    found += [
        f"{key}: {_shown(is_)} claimed, the artifact has {_shown(has)}"
        for key, (is_, has) in pairs.items()
        if is_ != has
    ]
    allowed = record.budget.bytes_per_class * classes
    if spent.total > allowed:
        found.append(f"budget: {spent.total:,} bytes of codes and labels, {allowed:,} are allowed")
    return found


def _decoder(stored: Artifact, claimed: CodecEntry, distributions: Sequence[str]) -> tuple[int, list[str]]:
    """Return the decoder's bytes, counted if the codec can be built from what is here, else as claimed; and faults."""
    entry = plugins.entries("codecs").get(stored.header.codec.name)
    if entry is None or entry.distribution not in distributions or WEIGHTS in entry.extras:
        return claimed.decoder_bytes, []
    try:
        return decoder_bytes(stored.space(installed_only=True, distributions=tuple(distributions)).codec.codec), []
    except UsageError as error:
        return claimed.decoder_bytes, [f"codec: {fault}" for fault in error.faults]


def _shown(value: Json) -> str:
    text = f"{value:,}" if type(value) is int else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
