"""Turn a finished run into a submission: check it as `verify --level static` does, then write it into a registry."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from latentdd_plugin.artifacts.decode import allowed
from latentdd_plugin.artifacts.file import file_sha256
from latentdd_plugin.core.errors import ArtifactError, UsageError
from latentdd_plugin.core.storage import atomic_write
from latentdd_plugin.experiments import suites
from latentdd_plugin.experiments.suites import Suite
from latentdd_plugin.leaderboard import registry
from latentdd_plugin.leaderboard import static_check as claims
from latentdd_plugin.leaderboard.publish import published
from latentdd_plugin.leaderboard.records import SubmissionRecord, SubmittedArtifact, SubmittedGrid
from latentdd_plugin.leaderboard.static_check import Claim

LARGEST = 2_000_000  # bytes of an artifact that the registry takes in; a larger one lies at a URL


@dataclass(frozen=True)
class Submitter:
    """The person who submits, and their own words."""

    name: str
    contact: str
    code: str | None = None
    paper: str | None = None
    notes: str | None = None
    url: str | None = None  # address of the artifact, if the registry does not take it in


def submit(
    run: Path, who: Submitter, *, into: Path, suite: str | None = None, allow_plugins: Sequence[str] = ()
) -> list[Path]:
    """Write `<into>/submissions/<suite>/<slug>.json`, with the artifact and the grid beside it; their paths.

    Args:
        run: the folder of a finished run.
        who: the submitter.
        into: the registry.
        suite: under which one; None takes the first whose conditions the run meets.
        allow_plugins: distributions whose codecs the run may use.

    Raises:
        UsageError: it cannot be submitted, with every reason. Nothing is written then.
    """
    made = claims.load(run)
    claim = replace(made, record=published(made.record))
    found, faults = _suite(claim, suite)
    faults += claims.static_faults(claim, allowed(allow_plugins))
    faults += _unnamed(claim)
    size = made.stored.stat().st_size if made.stored.is_file() else 0
    if size > LARGEST and who.url is None:
        faults.append(f"the artifact has {size:,} bytes, the registry takes {LARGEST:,}: publish it and give --url")
    if found is None or faults:
        raise UsageError(list(dict.fromkeys(faults)))
    cell = claims.of_suite(claim.record, found)[0]
    folder = into / "submissions" / found.name
    slug, there = _free(folder, slug_of(who.name, cell), claim)
    content, beside = _content(claim, who, found, cell, slug)
    SubmissionRecord.from_json(json.loads(json.dumps(content.to_json())))  # every fault of what the submitter typed
    if there:
        raise UsageError(f"{folder / slug}.json holds this very artifact already; a claim is never overwritten")
    return _written(folder / f"{slug}.json", content, beside)


def _free(folder: Path, slug: str, claim: Claim) -> tuple[str, bool]:
    """Return the slug, numbered if another run has it, and whether this very run has it."""
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
    """Return a submission's file name: who, and what."""
    return re.sub(r"[^a-z0-9]+", "-", f"{name}-{cell}".lower()).strip("-")[:200].strip("-")


def _suite(claim: Claim, name: str | None) -> tuple[Suite | None, list[str]]:
    if name is not None:
        suite = suites.get(name)
        return suite, claims.of_suite(claim.record, suite)[1]
    found, faults = suites.matching(claim.record)
    if found is None:
        return None, ["the run meets no suite's conditions; dd-bench suite list shows them", *faults]
    return found, []


def _unnamed(claim: Claim) -> list[str]:
    """Return a fault for each part that others cannot name: a file or module of the submitter's machine."""
    parts = {"codec": claim.record.codec.name, "distiller": claim.record.distiller.name}
    return [
        f"{part} {name!r} is a file or a module of yours: install it as a plug-in (dd-bench new), so that it has a name"
        for part, name in parts.items()
        if ":" in name
    ]


def _content(
    claim: Claim, who: Submitter, suite: Suite, cell: str, slug: str
) -> tuple[SubmissionRecord, dict[str, Path]]:
    """Return the submission, and the files that go beside it by name."""
    grid, record = claim.path / "grid.png", claim.record
    beside: dict[str, Path] = {}
    if who.url is None:
        beside[f"{slug}.safetensors"] = claim.stored
    pictured = None
    if grid.is_file() and grid.stat().st_size <= registry.LONGEST:
        beside[f"{slug}.png"] = grid
        pictured = SubmittedGrid(f"{slug}.png", file_sha256(grid))
    content = SubmissionRecord(
        name=who.name,
        contact=who.contact,
        code=who.code,
        paper=who.paper,
        notes=who.notes,
        suite=suite.name,
        suite_sha256=suite.sha256,
        cell=cell,
        record=record,
        artifact=SubmittedArtifact(
            file=None if who.url else f"{slug}.safetensors",
            url=who.url,
            sha256=record.artifact.sha256,
            bytes=record.artifact.bytes,
        ),
        grid=pictured,
        submitted=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    return content, beside


def _written(path: Path, content: SubmissionRecord, beside: dict[str, Path]) -> list[Path]:
    """Write the claim last, so that it never lacks what it names.

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
