"""Write a finished run into a registry as a submission, after the checks of `verify --level static`."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from latentdd_plugin.artifacts.decode import allowed
from latentdd_plugin.artifacts.file import file_sha256
from latentdd_plugin.core.errors import ArtifactError, UsageError
from latentdd_plugin.core.storage import atomic_write
from latentdd_plugin.core.types import Json
from latentdd_plugin.experiments import suites
from latentdd_plugin.experiments.suites import Suite
from latentdd_plugin.leaderboard import claim as claims
from latentdd_plugin.leaderboard import registry
from latentdd_plugin.leaderboard.claim import Claim
from latentdd_plugin.leaderboard.consistency import contradictions_of_submission
from latentdd_plugin.leaderboard.records import SubmissionRecord, SubmittedArtifact, SubmittedGrid
from latentdd_plugin.results.entries import Settings
from latentdd_plugin.results.record import Baseline, Record

LARGEST = 2_000_000  # bytes of an artifact that the registry takes in; a larger one lies at a URL
PLACE = re.compile(r"(?<![^\s='\",])(?:~|\.{0,2})[\\/](?:[^\s'\",]*[\\/])?([^\s'\",\\/]*)")  # a path, and its last part


@dataclass(frozen=True)
class Submitter:
    """The submitter and their remarks."""

    name: str
    contact: str
    code: str | None = None
    paper: str | None = None
    notes: str | None = None
    url: str | None = None  # where the artifact lies, if the registry does not take it in


def submit(
    run: Path, who: Submitter, *, into: Path, suite: str | None = None, allow_plugins: Sequence[str] = ()
) -> list[Path]:
    """Write `<into>/submissions/<suite>/<slug>.json` with artifact and grid beside it, and return their paths.

    Args:
        run: the folder of a finished run.
        who: the submitter.
        into: the registry.
        suite: name of the suite; None takes the first whose conditions the run meets.
        allow_plugins: distributions whose codecs the run may use.

    Raises:
        UsageError: the run cannot be submitted, with every reason. Nothing is written then.
    """
    claim = claims.load(run)
    found, faults = _suite(claim, suite)
    faults += claims.static_faults(claim, allowed(allow_plugins))
    faults += _unnamed(claim)
    size = claim.artifact.stat().st_size if claim.artifact and claim.artifact.is_file() else 0
    if size > LARGEST and who.url is None:
        faults.append(f"the artifact has {size:,} bytes, the registry takes {LARGEST:,}: publish it and give --url")
    if found is None or faults:
        raise UsageError(list(dict.fromkeys(faults)))
    cell = claims.of_suite(claim.record, found)[0]
    slug, there = _free(into / "submissions" / found.name, slug_of(who.name, cell), claim)
    content, beside = _content(claim, who, found, cell, slug)
    faults = _form_faults(content)
    folder = into / "submissions" / found.name
    if there:
        faults.append(f"{folder / slug}.json holds this very artifact already; a submission is never overwritten")
    if faults:
        raise UsageError(faults)
    return _write(folder / f"{slug}.json", content, beside)


def _free(folder: Path, slug: str, claim: Claim) -> tuple[str, bool]:
    """Return a slug, numbered if another run has it, and whether this very artifact was submitted under it."""
    sha256 = claim.record.artifact.sha256
    stem = slug[:190].rstrip("-")  # room for a number
    for n in itertools.count(2):
        path = folder / f"{slug}.json"
        if not path.exists():
            return slug, False
        try:
            if registry.load_submission(path).claim.artifact.sha256 == sha256:
                return slug, True
        except ArtifactError:
            pass
        slug = f"{stem}-{n}"
    raise AssertionError


def slug_of(name: str, cell: str) -> str:
    """Return the file name of a submission: the submitter and the cell."""
    return re.sub(r"[^a-z0-9]+", "-", f"{name}-{cell}".lower()).strip("-")[:200].strip("-")


def _suite(claim: Claim, name: str | None) -> tuple[Suite | None, list[str]]:
    if name is not None:
        suite = suites.get(name)
        return suite, claims.of_suite(claim.record, suite)[1]
    suite_, faults = suites.matching(claim.record)
    return suite_, [
        "the run meets no suite's conditions; dd-bench suite list has them",
        *faults,
    ] if suite_ is None else []


def _unnamed(claim: Claim) -> list[str]:
    """Return a fault for each part that others cannot name: a file or dotted path of the submitter's machine."""
    parts = {"codec": claim.record.codec.name, "distiller": claim.record.distiller.name}
    return [
        f"{part} {name!r} is a file or a module of yours: install it as a plug-in (dd-bench new), so that it has a name"
        for part, name in parts.items()
        if ":" in name
    ]


def _content(
    claim: Claim, who: Submitter, suite: Suite, cell: str, slug: str
) -> tuple[SubmissionRecord, dict[str, Path]]:
    """Return the submission, and the files that go beside it by their names."""
    stored, picture = claim.artifact, claim.path / "grid.png"
    beside: dict[str, Path] = {}
    if stored is not None and who.url is None:
        beside[f"{slug}.safetensors"] = stored
    grid = None
    if picture.is_file() and picture.stat().st_size <= registry.LONGEST:
        beside[f"{slug}.png"] = picture
        grid = SubmittedGrid(file=f"{slug}.png", sha256=file_sha256(picture))
    content = SubmissionRecord(
        name=who.name,
        contact=who.contact,
        code=who.code,
        paper=who.paper,
        notes=who.notes,
        suite=suite.name,
        suite_sha256=suite.sha256,
        cell=cell,
        record=placeless(claim.record),
        artifact=SubmittedArtifact(
            file=None if who.url else f"{slug}.safetensors",
            url=who.url,
            sha256=claim.record.artifact.sha256,
            bytes=claim.record.artifact.bytes,
        ),
        grid=grid,
        submitted=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    return content, beside


def _form_faults(content: SubmissionRecord) -> list[str]:
    """Return what a reader of the registry would find wrong with a submission."""
    try:
        return contradictions_of_submission(SubmissionRecord.from_json(content.to_json()))
    except ArtifactError as error:
        return list(error.faults)


def placeless(record: Record) -> Record:
    """Return the record without paths of the submitter's machine: of each path the last part stays, `…/taesd`.

    Data and weights are known by their fingerprints; where they lay is private and of no use to others.
    """
    return replace(
        record,
        command=_placeless(record.command),
        config=_placeless_settings(record.config),
        distiller=replace(record.distiller, config=_placeless(record.distiller.config)),
        baselines={
            name: replace(one, config=_placeless_settings(one.config)) if isinstance(one, Baseline) else one
            for name, one in record.baselines.items()
        },
    )


def _placeless_settings(settings: Settings) -> Settings:
    return Settings.from_json(_placeless(settings.to_json()))


def _placeless(value: Json) -> Json:
    if isinstance(value, Mapping):
        return {key: _placeless(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_placeless(member) for member in value]
    return PLACE.sub(r"…/\1", value) if isinstance(value, str) else value


def _write(path: Path, content: SubmissionRecord, beside: dict[str, Path]) -> list[Path]:
    """Write the files; the submission goes last, so that what it names is always there.

    Raises:
        ArtifactError: the suite's folder is a link, which may lead out of the registry.
    """
    try:
        registry.refuse_links(path)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None
    for name, source in beside.items():
        with atomic_write(path.with_name(name)) as temporary:
            shutil.copyfile(source, temporary)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content.to_json(), indent=2, sort_keys=True, allow_nan=False) + "\n")
    return [path, *(path.with_name(name) for name in beside)]
