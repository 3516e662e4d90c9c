"""The registry: folders of claims, their checks, and codec cards. Its files are untrusted and only read here.

`submissions/<suite>/<slug>.json` is a claim; beside it may lie `<slug>.safetensors`, `<slug>.png` and
`<slug>.verification.json`. `codecs/<codec>/<dataset>.json` is a card, with a picture of the same name beside it.
`literature/<source>.json` holds published numbers.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from latentdd_plugin.core.checkout import PACKAGE, checkout
from latentdd_plugin.core.errors import ArtifactError, UsageError
from latentdd_plugin.core.json_record import JsonRecord
from latentdd_plugin.core.types import Json
from latentdd_plugin.core.untrusted import no_key_twice
from latentdd_plugin.leaderboard import literature
from latentdd_plugin.leaderboard.consistency import contradictions
from latentdd_plugin.leaderboard.literature import Literature
from latentdd_plugin.leaderboard.records import (
    FAILED,
    LEVELS,
    STATIC,
    SUBMISSION,
    VERIFICATION,
    WITHIN,
    Check,
    SubmissionRecord,
    VerificationRecord,
)
from latentdd_plugin.results import cards
from latentdd_plugin.results.cards import CODEC_CARD
from latentdd_plugin.results.record import Record
from latentdd_plugin.results.statistics import Accuracy

LONGEST = 4_000_000  # bytes of a JSON file or a picture
LARGEST = 8192  # px, of a picture's side
DEEPEST = 32  # levels of JSON
SLUG = re.compile(r"[a-z0-9]([a-z0-9-]{0,198}[a-z0-9])?")
SUITE = re.compile(r"[a-z0-9][a-z0-9-]{0,98}(\.[a-z0-9]+)*")
CARD_NAME = re.compile(r"[A-Za-z0-9_+=-][\w.+=-]{0,198}", re.ASCII)
CHECKED = ".verification"
STALE, PASSED, UNVERIFIED = "stale", "static checks passed", "unverified"
STATUSES = ("verified", WITHIN, PASSED, UNVERIFIED, STALE, FAILED)

T = TypeVar("T")
R = TypeVar("R", bound=JsonRecord)


def default(*, reading: bool = False) -> Path:
    """Return the checkout's `registry`, or `./registry` if this package is installed.

    Args:
        reading: fall back on the registry inside the installed package, which holds codec cards and no submissions.
    """
    if tree := checkout():
        return tree / "registry"
    here, bundled = Path("registry"), PACKAGE / "_registry"
    return bundled if reading and bundled.is_dir() and not here.exists() else here


@dataclass(frozen=True)
class Submission:
    """A claim whose form was checked, and what others found; `verify` says whether it is true."""

    suite: str
    slug: str
    claim: SubmissionRecord
    sha256: str  # of the file's bytes
    raw: bytes  # the file
    checks: tuple[Check, ...]  # oldest first
    checked: str | None  # sha256 of the claim that the checks were made of; None if there are none
    grid: bytes | None  # a PNG
    artifact: Path | None  # in the registry

    @property
    def record(self) -> Record:
        """The run's `result.json`."""
        return self.claim.record

    @property
    def deciding(self) -> Check | None:
        """The check that decides the status: a failure stands until a check of its level or a higher one passes."""
        if self.checked != self.sha256:
            return None
        counted = [check for check in self.checks if check.covers(self.record)]
        trained = [check for check in counted if check.level != STATIC]
        if not counted:
            return None
        standing = [check for number, check in enumerate(counted) if _stands(check, counted[number + 1 :])]
        return standing[-1] if standing else (trained or counted)[-1]

    @property
    def status(self) -> str:
        """One of `STATUSES`."""
        if not self.checks:
            return UNVERIFIED
        if self.checked != self.sha256:
            return STALE
        check = self.deciding
        if check is None:
            return UNVERIFIED
        return PASSED if check.level == STATIC and check.result != FAILED else check.result

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels that the claim has passed and no later check refutes, the weakest first."""
        check = self.deciding
        if check is None or check.result == FAILED:
            return ()
        passed = {one.level for one in self.checks if one.covers(self.record) and one.result != FAILED}
        return tuple(level for level in (STATIC, "full", "repeat") if level in passed)

    def accuracy(self, evaluator: str) -> Accuracy:
        """Return the accuracy to rank and to show: the recomputed one if the bits did not have to agree."""
        check = self.deciding
        found = (
            [row.found for row in check.rows if row.control is None and row.evaluator == evaluator]
            if check is not None and check.result == WITHIN
            else []
        )
        return Accuracy.of(found) if found else self.record.summary[evaluator]


def _stands(check: Check, later: Sequence[Check]) -> bool:
    """Return whether a check failed and none of its level or a higher one has passed since."""
    if check.result != FAILED:
        return False
    return not any(one.result != FAILED and LEVELS.index(one.level) >= LEVELS.index(check.level) for one in later)


@dataclass(frozen=True)
class CodecCard:
    """The card of a codec on a dataset."""

    codec: str  # its folder
    dataset: str  # its file, without the ending
    card: cards.CodecCard
    raw: bytes
    picture: tuple[str, bytes] | None  # the file's name and content


@dataclass(frozen=True)
class Fault:
    """A file that cannot be used, and every reason."""

    file: str  # inside the registry
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Registry:
    """All that can be read, by name, and what cannot."""

    submissions: tuple[Submission, ...]
    cards: tuple[CodecCard, ...]
    faults: tuple[Fault, ...]
    literature: tuple[Literature, ...] = ()


def read(folder: Path) -> Registry:
    """Return everything in a registry; what is broken is told apart, file by file.

    Raises:
        UsageError: there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; give the registry's with --registry")
    folder = folder.resolve()  # the caller's own folder may be a link; what others put into it may not
    faults: list[Fault] = []

    def tried(load: Callable[[Path], T], path: Path) -> T | None:
        try:
            return load(path)
        except ArtifactError as error:
            faults.append(Fault(path.relative_to(folder).as_posix(), error.faults))
            return None

    submissions = [tried(lambda path: load_submission(path, faults), path) for path in _claims(folder / "submissions")]
    cards = [tried(load_card, path) for path in sorted(folder.glob("codecs/*/*.json"))]
    papers = [tried(load_literature, path) for path in sorted(folder.glob("literature/*.json"))]
    return Registry(
        tuple(s for s in submissions if s is not None),
        tuple(c for c in cards if c is not None),
        tuple(sorted(faults, key=lambda f: f.file)),
        tuple(p for p in papers if p is not None),
    )


def _claims(folder: Path) -> Iterator[Path]:
    """Every claim; a file beside them that belongs to none counts as one, so that it is named."""
    for path in sorted(folder.glob("*/*")):
        claim = path.with_name(f"{path.name.partition('.')[0]}.json")
        if path.name.startswith(".") or (path != claim and claim.exists()):
            continue
        yield path


def load_submission(path: Path, faults: list[Fault] | None = None) -> Submission:
    """Return a claim and the files beside it.

    Args:
        path: `<registry>/submissions/<suite>/<slug>.json`.
        faults: where to note that what lies beside it is broken, which the claim survives; None raises that too.

    Raises:
        ArtifactError: it cannot be read or is not of its schema, with every fault.
    """
    suite, slug = path.parent.name, path.stem
    raw, data = _json(path, SUBMISSION)
    found = [] if SUITE.fullmatch(suite) else [f"{suite!r} is not a suite's name: it needs a-z, 0-9, - and a version"]
    found += [] if SLUG.fullmatch(slug) else [f"{slug!r} is not a submission's name: only a-z, 0-9 and -"]
    claim = SubmissionRecord.parse(data, "", found)
    if claim is None or found:
        raise ArtifactError(list(dict.fromkeys(found)))
    found += contradictions(claim.record, "record.")
    if claim.artifact.sha256 != claim.record.artifact.sha256:
        found.append("artifact.sha256: not the record's")
    if claim.suite != suite:
        found.append(f"suite: {claim.suite!r}, but it lies in {suite!r}")
    for key, stated, ending in (
        ("artifact", claim.artifact.file, ".safetensors"),
        ("grid", claim.grid.file if claim.grid else None, ".png"),
    ):
        if stated not in (None, slug + ending):
            found.append(f"{key}.file: {stated!r}, but it must be {slug + ending!r}")
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

    there, grid = path.with_name(f"{slug}{CHECKED}.json"), claim.grid
    verification = beside(f"{CHECKED}.json", load_verification) if there.exists() else None
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


def load_verification(path: Path) -> VerificationRecord:
    """Return the content of `<slug>.verification.json`; raise ArtifactError with every fault."""
    return _checked(path, VERIFICATION, VerificationRecord)[1]


def load_card(path: Path) -> CodecCard:
    """Return a codec's card and its picture; raise ArtifactError with every fault."""
    raw, data = _checked(path, CODEC_CARD, cards.CodecCard)
    names = (path.parent.name, path.stem)
    ill = [f"{name!r} is not the name of a card's folder or file" for name in names if not CARD_NAME.fullmatch(name)]
    if ill:
        raise ArtifactError(ill)
    pictures = [path.with_suffix(ending) for ending in (".webp", ".png")]
    there = next((picture for picture in pictures if picture.exists()), None)
    return CodecCard(*names, card=data, raw=raw, picture=(there.name, _picture(there)) if there else None)


def load_literature(path: Path) -> Literature:
    """Return the published numbers of one source; raise ArtifactError with every fault."""
    found = _checked(path, literature.SCHEMA, Literature)[1]
    wrong = literature.faults(found)
    if wrong:
        raise ArtifactError(wrong)
    return found


# --- files ------------------------------------------------------------------------------------------------------------


def _checked(path: Path, schema: str, cls: type[R]) -> tuple[bytes, R]:
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


def _json(path: Path, schema: str) -> tuple[bytes, dict[str, Any]]:
    """Return a file and its JSON: plain numbers, well-formed text, no key twice."""
    if path.suffix != ".json" or (path.stem.endswith(CHECKED) and schema != VERIFICATION):
        raise ArtifactError("belongs to no submission")
    raw = _bytes(path)
    try:
        data = json.loads(raw.decode(), object_pairs_hook=no_key_twice)
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
