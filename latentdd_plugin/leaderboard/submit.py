"""A finished run as a submission: checked as `verify --level static` does, then written into a registry."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from latentdd_plugin.artifacts.decode import allowed
from latentdd_plugin.artifacts.file import file_sha256
from latentdd_plugin.core.errors import ArtifactError, UsageError
from latentdd_plugin.core.json_schema import faults as faults_of
from latentdd_plugin.core.storage import atomic_write
from latentdd_plugin.core.types import Json
from latentdd_plugin.experiments import suites
from latentdd_plugin.experiments.suites import Suite
from latentdd_plugin.leaderboard import claim as claims
from latentdd_plugin.leaderboard import registry, schemas
from latentdd_plugin.leaderboard.claim import Claim

LARGEST = 2_000_000  # bytes of an artifact that the registry takes in; a larger one lies at a URL
PLACE = re.compile(r"(?<![^\s='\",])(?:~|\.{0,2})[\\/](?:[^\s'\",]*[\\/])?([^\s'\",\\/]*)")  # a path, and its last part


@dataclass(frozen=True)
class Submitter:
    """Who submits, and what they say of it."""

    name: str
    contact: str
    code: str | None = None
    paper: str | None = None
    notes: str | None = None
    url: str | None = None  # where the artifact lies, if the registry does not take it in


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
    faults = faults_of(content, schemas.CLAIM) or schemas.contradictions(content)
    folder = into / "submissions" / found.name
    if there:
        faults.append(f"{folder / slug}.json holds this very artifact already; a claim is never overwritten")
    if faults:
        raise UsageError(faults)
    return _written(folder / f"{slug}.json", content, beside)


def _free(folder: Path, slug: str, claim: Claim) -> tuple[str, bool]:
    """The slug, numbered where somebody's other run has it; and whether it is this very run that has it."""
    sha256 = claim.record["artifact"]["sha256"]
    stem = slug[:190].rstrip("-")  # room for a number
    for n in itertools.count(2):
        path = folder / f"{slug}.json"
        if not path.exists():
            return slug, False
        try:
            if registry.load_submission(path).claim["artifact"]["sha256"] == sha256:
                return slug, True
        except ArtifactError:
            pass
        slug = f"{stem}-{n}"
    raise AssertionError


def slug_of(name: str, cell: str) -> str:
    """The submission's file name: who, and what."""
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
    """Parts that others cannot name: files and dotted paths of the submitter's machine."""
    parts = {"codec": claim.record["codec"]["name"], "algorithm": claim.record["distiller"]["name"]}
    return [
        f"{part} {name!r} is a file or a module of yours: install it as a plug-in (dd-bench new), so that it has a name"
        for part, name in parts.items()
        if ":" in str(name)
    ]


def _content(
    claim: Claim, who: Submitter, suite: Suite, cell: str, slug: str
) -> tuple[dict[str, Json], dict[str, Path]]:
    """The submission's content, and what goes beside it by its file's name."""
    stored, grid = claim.artifact, claim.path / "grid.png"
    beside: dict[str, Path] = {}
    if stored is not None and who.url is None:
        beside[f"{slug}.safetensors"] = stored
    pictured = None
    if grid.is_file() and grid.stat().st_size <= registry.LONGEST:
        beside[f"{slug}.png"] = grid
        pictured = {"file": f"{slug}.png", "sha256": file_sha256(grid)}
    record = placeless(claim.record)
    content = {
        "schema": registry.SUBMISSION,
        "name": who.name,
        "contact": who.contact,
        "code": who.code,
        "paper": who.paper,
        "notes": who.notes,
        "suite": suite.name,
        "suite_sha256": suite.sha256,
        "cell": cell,
        "record": record,
        "artifact": {
            "file": None if who.url else f"{slug}.safetensors",
            "url": who.url,
            "sha256": record["artifact"]["sha256"],
            "bytes": record["artifact"]["bytes"],
        },
        "grid": pictured,
        "submitted": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    return content, beside


def placeless(record: Mapping[str, Json]) -> dict[str, Json]:
    """The record as others need it: of a path on the submitter's machine the last part stays, `…/taesd`.

    Data and weights are known by their fingerprints; where they lay is nobody's business and no use to anyone.
    """
    made = {**record, **{key: _placeless(record[key]) for key in ("command", "config", "distiller")}}
    made["controls"] = {
        name: {**entry, "config": _placeless(entry["config"])} if "config" in entry else entry
        for name, entry in record["controls"].items()
    }
    return made


def _placeless(value: Json) -> Json:
    if isinstance(value, Mapping):
        return {key: _placeless(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_placeless(member) for member in value]
    return PLACE.sub(r"…/\1", value) if isinstance(value, str) else value


def _written(path: Path, content: dict[str, Json], beside: dict[str, Path]) -> list[Path]:
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
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")
    return [path, *(path.with_name(name) for name in beside)]
