"""Check a claim against its suite, its artifact and itself: what needs no training and no data."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from latentdd_plugin.artifacts.artifact import Artifact
from latentdd_plugin.artifacts.file import file_sha256, load_artifact
from latentdd_plugin.artifacts.labels import LabelForm
from latentdd_plugin.codecs.base import decoder_bytes
from latentdd_plugin.core import plugins
from latentdd_plugin.core.entry_points import WEIGHTS
from latentdd_plugin.core.errors import ArtifactError, UsageError
from latentdd_plugin.core.parts import label_config
from latentdd_plugin.core.types import Json
from latentdd_plugin.experiments import suites
from latentdd_plugin.experiments.compare.grid import short
from latentdd_plugin.experiments.suites import Suite
from latentdd_plugin.leaderboard import registry
from latentdd_plugin.leaderboard.consistency import contradictions, inconsistencies
from latentdd_plugin.leaderboard.keys import key_faults
from latentdd_plugin.leaderboard.publish import DETAILS
from latentdd_plugin.leaderboard.records import SubmissionRecord
from latentdd_plugin.results.entries import CodecEntry
from latentdd_plugin.results.record import Record


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
        """The file that holds what checks found."""
        if self.submission is None:
            return self.path / "verification.json"
        return self.path.with_name(f"{self.path.stem}.verification.json")

    @property
    def name(self) -> str:
        """The name in messages."""
        return f"{self.path.parent.name}/{self.path.stem}" if self.submission is not None else str(self.path)

    @property
    def stored(self) -> Path:
        """The artifact's file.

        Raises:
            UsageError: it lies elsewhere.
        """
        if self.artifact is None:
            raise UsageError(f"{self.name}: its artifact lies elsewhere; give --artifact FILE")
        return self.artifact


def all_in(folder: Path) -> list[Path]:
    """Return the file of every submission in a registry."""
    found = sorted((folder / "submissions").glob("*/*.json"))
    return [path for path in found if not path.name.endswith(".verification.json")]


def load(path: Path, elsewhere: Path | None = None) -> Claim:
    """Return the claim of a run's folder, or of a submission's file.

    Args:
        path: the folder or the file.
        elsewhere: the artifact, if it does not lie beside the submission.

    Raises:
        ArtifactError: it cannot be read, or is not of its schema, with every fault.
    """
    if path.suffix != ".json":  # a folder of that name in a registry is not a run to follow
        record = Record.load(path)
        wrong = contradictions(record)
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
    """Return everything wrong with a claim that needs neither data nor training.

    Args:
        claim: the claim.
        distributions: those whose codecs may be built.
    """
    keys = key_faults(_without_account(claim.record) if claim.submission is None else claim.submission)
    found = [*keys, *_against_suite(claim), *_details(claim), *inconsistencies(claim.record)]
    if claim.artifact is None:
        url = claim.submission.artifact.url if claim.submission else None
        return [*found, f"artifact: it lies elsewhere ({url}); fetch it and give --artifact FILE"]
    try:
        stored = load_artifact(claim.artifact)
    except ArtifactError as error:
        return [*found, *(f"artifact: {fault}" for fault in error.faults)]
    return [*found, *_against_artifact(claim.record, stored, claim.artifact, distributions)]


def _without_account(record: Record) -> Record:
    """Return a run's record without the account of a local folder's files, which no claim holds."""
    extra = {key: value for key, value in record.dataset.extra.items() if key != "files"}
    return replace(record, dataset=replace(record.dataset, extra=extra))


def _details(claim: Claim) -> list[str]:
    """Return the details of single networks that a submission holds: another platform cannot recompute them."""
    if claim.submission is None:
        return []
    rows = [*claim.record.scores]
    rows += [row for baseline in claim.record.scored_baselines.values() for row in baseline.scores]
    return [
        f"scores: {name} is part of a run's report, not of a claim"
        for name in DETAILS
        if any(getattr(row, name) is not None for row in rows)
    ]


def _against_suite(claim: Claim) -> list[str]:
    submission = claim.submission
    if submission is None:
        return []
    if submission.suite not in suites.names():  # a name alone: no file that a submission points at is opened
        return [f"suite: there is no suite {submission.suite!r}; there are: {', '.join(suites.names())}"]
    suite = suites.get(submission.suite)
    cell, found = of_suite(claim.record, suite)
    if submission.suite_sha256 != suite.sha256:
        theirs, ours = submission.suite_sha256[:12], suite.sha256[:12]
        found.append(f"suite_sha256: made under another {suite.name} ({theirs}…), this one is {ours}…")
    if not found and submission.cell != cell:
        found.append(f"cell: {submission.cell!r}, but the record is {cell!r}")
    return found


def of_suite(record: Record, suite: Suite) -> tuple[str, list[str]]:
    """Return the name of a record in a suite, and which of the suite's conditions it breaks."""
    place, found = suite.place_of(record)
    codec, distiller = short(record.codec.name), short(record.distiller.name)
    name = suites.name_of(place, codec, distiller, record.distiller.match, record.budget.precision, record.regime)
    return name, [f"{suite.name}: {fault}" for fault in found]


def _against_artifact(record: Record, stored: Artifact, path: Path, distributions: Sequence[str]) -> list[str]:
    """Compare the file with what the record says of it, and count every byte that it has."""
    header, size, classes = stored.header, path.stat().st_size, len(stored.classes)
    pairs: dict[str, tuple[Json, Json]] = {
        "artifact.sha256": (record.artifact.sha256, file_sha256(path)),
        "artifact.bytes": (record.artifact.bytes, size),
        "dataset.name": (record.dataset.name, header.dataset.name),
        "dataset.fingerprint": (record.dataset.fingerprint, header.dataset.fingerprint),
        "dataset.classes": (record.dataset.classes, header.classes),
        "dataset.image_shape": (record.dataset.image_shape, header.image_shape),
        "budget.precision": (record.budget.precision, header.precision),
        "budget.codes": (record.budget.codes, stored.packed.shape[0]),
        "config.labels": (_label_options(record), None if header.labels is None else header.labels.options()),
        "teacher.sha256": (
            header.labels and record.teacher and record.teacher.sha256,
            header.labels and record.teacher and header.labels.teacher,
        ),
        "codec.code_shape": (record.codec.code_shape, tuple(header.codes_shape[1:])),
        "codec.tokens": (record.codec.tokens, header.tokens),
        **{
            f"codec.{key}": (getattr(record.codec, key), getattr(header.codec, key))
            for key in ("name", "config", "upsample", "fingerprint")
        },
    }
    decoder, found = _decoder(stored, record.codec, distributions)
    spent = stored.bytes(size, decoder)
    found += [
        f"budget.bytes.{part}: {is_:,} claimed, the artifact has {has:,}"
        for part, is_, has in record.budget.bytes.differences(spent)
    ]
    found += [
        f"{key}: {_text(is_)} claimed, the artifact has {_text(has)}" for key, (is_, has) in pairs.items() if is_ != has
    ]
    allowed = record.budget.bytes_per_class * classes
    if spent.total > allowed:
        found.append(f"budget: {spent.total:,} bytes of codes and labels, {allowed:,} are allowed")
    return found


def _decoder(stored: Artifact, claimed: CodecEntry, distributions: Sequence[str]) -> tuple[int, list[str]]:
    """Return the decoder's bytes: counted if the codec can be built from what is installed, else as claimed."""
    name = stored.header.codec.name
    entry = plugins.entries("codecs").get(name)
    if entry is None or entry.distribution not in distributions or WEIGHTS in entry.extras:
        return claimed.decoder_bytes, []
    try:
        sized = stored.space(installed_only=True, distributions=tuple(distributions)).codec
    except UsageError as error:
        return claimed.decoder_bytes, [f"codec: {fault}" for fault in error.faults]
    ours = CodecEntry.from_json(sized.describe(name))
    return decoder_bytes(sized.codec), codec_differences(claimed, ours)


def _label_options(record: Record) -> Json:
    """Return the options of a teacher's labels as an artifact's header has them; None if there are none."""
    try:
        config = label_config(dict(record.config.labels or {}))
    except TypeError:  # an option that there is not, which is reported with the configuration's faults
        return dict(record.config.labels or {})
    return LabelForm.of(config, "").options() if config.taught else None


def codec_differences(claimed: CodecEntry, found: CodecEntry) -> list[str]:
    """Return where a claim describes its codec otherwise than the codec itself does."""
    names = (
        "name",
        "config",
        "upsample",
        "fingerprint",
        "code_shape",
        "tokens",
        "spatial",
        "decoder_bytes",
        "fitted",
        "trained_on",
        "grey",
    )
    pairs = {name: (getattr(claimed, name), getattr(found, name)) for name in names}
    return [
        f"codec.{name}: {_text(is_)} claimed, the codec says {_text(has)}"
        for name, (is_, has) in pairs.items()
        if is_ != has
    ]


def _text(value: Json) -> str:
    text = f"{value:,}" if type(value) is int else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
