"""The registry: submissions, their verifications, and codec cards. Its files are untrusted and only read here.

`submissions/<suite>/<slug>.json` is a submission; beside it may lie `<slug>.safetensors`, `<slug>.png` and
`<slug>.verification.json`. `codecs/<codec>/<dataset>.json` is a card, with a picture of the same name beside it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from latentdd_plugin.core.errors import ArtifactError, UsageError
from latentdd_plugin.core.json_record import JsonRecord
from latentdd_plugin.core.types import Json
from latentdd_plugin.leaderboard.consistency import contradictions_of_submission
from latentdd_plugin.leaderboard.records import (
    FAILED,
    SUBMISSION,
    VERIFICATION,
    VERIFIED,
    WITHIN,
    Check,
    SubmissionRecord,
    VerificationRecord,
)
from latentdd_plugin.results.cards import CODEC_CARD, CodecCard
from latentdd_plugin.results.record import Record

LONGEST = 4_000_000  # bytes of a JSON file or a picture
LARGEST = 8192  # px, of a picture's side
DEEPEST = 32  # levels of JSON
SLUG = re.compile(r"[a-z0-9]([a-z0-9-]{0,198}[a-z0-9])?")
SUITE = re.compile(r"[a-z0-9][a-z0-9-]{0,98}(\.[a-z0-9]+)*")
CARD_NAME = re.compile(r"[A-Za-z0-9_+=-][\w.+=-]{0,198}", re.ASCII)
CHECKED = ".verification"
STALE, PASSED, UNVERIFIED = "stale", "static checks passed", "unverified"
STATUSES = (VERIFIED, WITHIN, PASSED, UNVERIFIED, STALE, FAILED)

T = TypeVar("T")
R = TypeVar("R", bound=JsonRecord)


def default(*, reading: bool = False) -> Path:
    """Return the checkout's `registry`, or `./registry` if this package is installed.

    Args:
        reading: fall back on the registry inside the installed package, which holds codec cards and no submissions.
    """
    package = Path(__file__).parents[1]
    if (package.parent / ".git").exists():
        return package.parent / "registry"
    here, bundled = Path("registry"), package / "_registry"
    return bundled if reading and bundled.is_dir() and not here.exists() else here


@dataclass(frozen=True)
class Submission:
    """A submission whose form was checked, and its verifications; `verify` says whether it is true."""

    suite: str
    slug: str
    claim: SubmissionRecord
    sha256: str  # of the file's bytes
    raw: bytes  # the file
    checks: tuple[Check, ...]  # oldest first
    checked: str | None  # sha256 of the file that was checked; None if there was no check
    grid: bytes | None  # a PNG
    artifact: Path | None  # its path in the registry; None if it lies elsewhere

    @property
    def record(self) -> Record:
        """The record of the run."""
        return self.claim.record

    @property
    def status(self) -> str:
        """One of `STATUSES`: the result of the newest full check, else of the newest static one."""
        if not self.checks:
            return UNVERIFIED
        if self.checked != self.sha256:
            return STALE
        full = [check for check in self.checks if check.level == "full"]
        newest = (full or self.checks)[-1]
        return newest.result if full or newest.result == FAILED else PASSED


@dataclass(frozen=True)
class CardFile:
    """A codec's card and its picture."""

    codec: str  # its folder
    dataset: str  # its file, without the ending
    card: CodecCard
    raw: bytes
    picture: tuple[str, bytes] | None  # the file's name and content


@dataclass(frozen=True)
class Fault:
    """A file that cannot be used, with every reason."""

    file: str  # inside the registry
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Registry:
    """Everything that can be read, and the files that cannot."""

    submissions: tuple[Submission, ...]
    cards: tuple[CardFile, ...]
    faults: tuple[Fault, ...]


def read(folder: Path) -> Registry:
    """Read a registry; broken files are listed with their faults.

    Raises:
        UsageError: the folder does not exist.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; give the registry's with --registry")
    faults: list[Fault] = []

    def tried(load: Callable[[Path], T], path: Path) -> T | None:
        try:
            return load(path)
        except ArtifactError as error:
            faults.append(Fault(path.relative_to(folder).as_posix(), error.faults))
            return None

    submissions = [tried(lambda path: load_submission(path, faults), path) for path in _claims(folder / "submissions")]
    cards = [tried(load_card, path) for path in sorted(folder.glob("codecs/*/*.json"))]
    known = tuple(s for s in submissions if s is not None)
    return Registry(known, tuple(c for c in cards if c is not None), tuple(sorted(faults, key=lambda f: f.file)))


def _claims(folder: Path) -> Iterator[Path]:
    """Yield every submission, and every file that belongs to none, so that it is listed as a fault."""
    for path in sorted(folder.glob("*/*")):
        claim = path.with_name(f"{path.name.partition('.')[0]}.json")
        if path.name.startswith(".") or (path != claim and claim.exists()):
            continue
        yield path


def load_submission(path: Path, faults: list[Fault] | None = None) -> Submission:
    """Read a submission with the files beside it.

    Args:
        path: `<registry>/submissions/<suite>/<slug>.json`.
        faults: list that takes the faults of files beside it, which the submission survives; None raises them too.

    Raises:
        ArtifactError: it cannot be read or is not of its schema, with every fault.
    """
    suite, slug = path.parent.name, path.stem
    raw, data = _json(path, SUBMISSION)
    found = [] if SUITE.fullmatch(suite) else [f"{suite!r} is not the name of a suite: a-z, 0-9, - and a version"]
    found += [] if SLUG.fullmatch(slug) else [f"{slug!r} is not the name of a submission: only a-z, 0-9 and -"]
    try:
        claim = SubmissionRecord.from_json(data)
    except ArtifactError as error:
        raise ArtifactError([*found, *error.faults]) from None
    found += contradictions_of_submission(claim)
    if not found:
        found = _misplaced(claim, suite, slug)
    if found:
        raise ArtifactError(found)

    def beside(ending: str, load: Callable[[Path], T]) -> T | None:
        other = path.with_name(slug + ending)
        try:
            return load(other)
        except ArtifactError as error:
            if faults is None:
                raise
            faults.append(Fault("/".join(other.parts[-3:]), error.faults))
            return None

    there = path.with_name(f"{slug}{CHECKED}.json")
    verification = beside(f"{CHECKED}.json", load_verification) if there.exists() else None
    grid = claim.grid
    return Submission(
        suite=suite,
        slug=slug,
        claim=claim,
        sha256=hashlib.sha256(raw).hexdigest(),
        raw=raw,
        checks=verification.checks if verification else (),
        checked=verification.claim_sha256 if verification else None,
        grid=beside(".png", lambda other: _picture(other, grid.sha256)) if grid else None,
        artifact=beside(".safetensors", _present) if claim.artifact.file else None,
    )


def _misplaced(claim: SubmissionRecord, suite: str, slug: str) -> list[str]:
    """Return every place in which a submission and its path disagree."""
    found = [] if claim.suite == suite else [f"suite: {claim.suite!r}, but it lies in {suite!r}"]
    files = {"artifact": (claim.artifact.file, ".safetensors"), "grid": (claim.grid and claim.grid.file, ".png")}
    return found + [
        f"{key}.file: {name!r}, but it must be {slug + ending!r}"
        for key, (name, ending) in files.items()
        if name not in (None, slug + ending)
    ]


def load_verification(path: Path) -> VerificationRecord:
    """Read `<slug>.verification.json`; raise ArtifactError with every fault."""
    return _read(path, VERIFICATION, VerificationRecord)[1]


def load_card(path: Path) -> CardFile:
    """Read a codec's card and its picture; raise ArtifactError with every fault."""
    raw, card = _read(path, CODEC_CARD, CodecCard)
    names = (path.parent.name, path.stem)
    bad = [f"{name!r} cannot be the name of a card's folder or file" for name in names if not CARD_NAME.fullmatch(name)]
    if bad:
        raise ArtifactError(bad)
    pictures = [path.with_suffix(ending) for ending in (".webp", ".png")]
    there = next((picture for picture in pictures if picture.exists()), None)
    return CardFile(*names, card=card, raw=raw, picture=(there.name, _picture(there)) if there else None)


# --- files ------------------------------------------------------------------------------------------------------------


def _read(path: Path, schema: str, cls: type[R]) -> tuple[bytes, R]:
    raw, data = _json(path, schema)
    return raw, cls.from_json(data)


def refuse_links(path: Path) -> None:
    """Raise ArtifactError if a submission's file, or either folder above it in the registry, is a link.

    Others write the registry: a link in it may lead anywhere, so none is followed, neither to read nor to write.
    """
    linked = next((place for place in (path, *list(path.parents)[:2]) if place.is_symlink()), None)
    if linked is not None:
        raise ArtifactError(f"{'' if linked == path else f'{linked.name} '}is a link; the registry holds files")


def _present(path: Path) -> Path:
    """Return the path of an ordinary file; raise ArtifactError if it is missing or a link."""
    refuse_links(path)
    if not path.is_file():
        raise ArtifactError("there is no such file")
    return path


def _bytes(path: Path) -> bytes:
    try:
        size = _present(path).stat().st_size
        if size > LONGEST:
            raise ArtifactError(f"{size:,} bytes; at most {LONGEST:,} are read")
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot be read: {error.strerror}") from None


def _json(path: Path, schema: str) -> tuple[bytes, Mapping[str, Json]]:
    """Return a file and its JSON: plain numbers, well-formed text, no key twice."""
    if path.suffix != ".json" or (path.stem.endswith(CHECKED) and schema != VERIFICATION):
        raise ArtifactError("belongs to no submission")
    raw = _bytes(path)
    try:
        data = json.loads(raw.decode(), object_pairs_hook=_once)
        json.dumps(data, ensure_ascii=False, allow_nan=False).encode()
        if _depth(data) > DEEPEST:
            raise ValueError(f"nested deeper than {DEEPEST}")
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"not readable as JSON ({error})") from None
    if not isinstance(data, dict) or data.get("schema") != schema:
        raise ArtifactError(f"not of schema {schema!r}")
    return raw, data


def _depth(value: Json) -> int:
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, members), default=0)


def _once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _picture(path: Path, sha256: str | None = None) -> bytes:
    raw = _bytes(path)
    png, webp = raw.startswith(b"\x89PNG\r\n\x1a\n"), raw[:4] == b"RIFF" and raw[8:12] == b"WEBP"
    if not (png if path.suffix == ".png" else webp):
        raise ArtifactError("is not the picture that its name says")
    if png and max(int.from_bytes(raw[16:20], "big"), int.from_bytes(raw[20:24], "big")) > LARGEST:
        raise ArtifactError(f"more than {LARGEST} px wide or high")
    if sha256 is not None and hashlib.sha256(raw).hexdigest() != sha256:
        raise ArtifactError("is not the file that the submission names: another sha256")
    return raw
