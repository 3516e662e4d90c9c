"""Distilled sets by name: from a registry, a folder, an address with its sha256, or a repository of the hub."""

from __future__ import annotations

import difflib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from latentdd_plugin.artifacts.artifact import Artifact
from latentdd_plugin.artifacts.decode import located
from latentdd_plugin.artifacts.description import SetDescription, SetScore
from latentdd_plugin.artifacts.file import file_sha256, load_artifact
from latentdd_plugin.artifacts.hub import pull_set
from latentdd_plugin.core.cache import cache_dir
from latentdd_plugin.core.errors import ArtifactError, RunFailed, UsageError
from latentdd_plugin.core.hub_files import check_sha256
from latentdd_plugin.core.storage import atomic_write
from latentdd_plugin.experiments.compare.grid import short
from latentdd_plugin.leaderboard import registry
from latentdd_plugin.leaderboard.registry import STATUSES, Submission
from latentdd_plugin.results.record import Record

HUB = "hub:"
WEB = ("https://", "http://")
LARGEST = 4_000_000_000  # bytes of a download
PIECE = 1 << 20  # bytes that are read at a time
PATIENCE = 30.0  # seconds without an answer
ELSEWHERE = (
    "a checkout's registry or any folder of artifacts (source=FOLDER, --source FOLDER), an address with its sha256, "
    "or the hub (hub:user/set)"
)


@dataclass(frozen=True)
class ZooEntry:
    """A set that can be loaded by name."""

    about: SetDescription
    place: Path | str  # its file, or the address of its file


def load_distilled(
    name: str | Path, *, source: Path | str | None = None, sha256: str | None = None, revision: str | None = None
) -> Artifact:
    """Return a distilled set.

    Args:
        name: a name of `list_distilled`, `cifar10/dct-dm-int8-ipc1`; the path of an artifact or a run's folder; an
            address with https://; or `hub:user/set`.
        source: a registry or a folder of artifacts to look the name up in; None is the checkout's registry.
        sha256: hash that the file must have; needed with an address.
        revision: branch, tag or commit of a repository.

    Raises:
        UsageError: there is no such set, or it cannot be reached. ArtifactError: it is damaged or is another file.
    """
    text = str(name)
    if text.startswith(HUB):
        return pull_set(text.removeprefix(HUB), revision)[0]
    if text.startswith(WEB):
        return load_artifact(_downloaded(text, sha256))
    path = located(Path(text))[0]
    if not path.is_file():
        entry = find(text, source)
        sha256 = sha256 or entry.about.sha256
        path = entry.place if isinstance(entry.place, Path) else _downloaded(entry.place, sha256)
    if sha256 is not None and file_sha256(path) != sha256:
        raise ArtifactError(f"{path}: sha256 {file_sha256(path)[:12]}…, but {sha256[:12]}… was announced")
    return load_artifact(path)


def list_distilled(source: Path | str | None = None) -> list[SetDescription]:
    """Return the sets of a registry or a folder of artifacts; None is the checkout's registry."""
    return [one.about for one in entries(source)]


def describe_run(folder: Path | str, name: str | None = None) -> SetDescription:
    """Return the description of a finished run's set, with its accuracies."""
    path = located(Path(folder))[0]
    return _of_file(path, name or path.parent.name).about


def find(name: str, source: Path | str | None = None) -> ZooEntry:
    """Return the entry of a name.

    Raises:
        UsageError: there is none; the nearest names, or where sets come from.
    """
    known = {one.about.name: one for one in entries(source)}
    if name in known:
        return known[name]
    if not known:
        raise UsageError(
            f"{name!r}: no sets at {_place(source)}; an installed package carries none. Sets come from {ELSEWHERE}"
        )
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "dd-bench zoo list shows them"
    raise UsageError(f"{_place(source)} has no set {name!r}; {hint} Sets also come from {ELSEWHERE}")


def entries(source: Path | str | None = None) -> list[ZooEntry]:
    """Return the sets of a registry, or of a folder that holds artifacts at any depth, by name."""
    folder = _place(source)
    if not folder.is_dir():
        if source is None:
            return []
        raise UsageError(f"{folder} is not a folder; give a registry or a folder of artifacts")
    if (folder / "submissions").is_dir():
        found = list(_of_registry(folder))
    else:
        found = [
            _of_file(path, path.relative_to(folder).with_suffix("").as_posix().removesuffix("/distilled"))
            for path in sorted(folder.rglob("*.safetensors"))
            if _is_artifact(path)
        ]
    return sorted(found, key=lambda one: one.about.name)


def _place(source: Path | str | None) -> Path:
    return registry.default() if source is None else Path(source)


# --- registries -------------------------------------------------------------------------------------------------------


def _of_registry(folder: Path) -> Iterator[ZooEntry]:
    """Yield every submission with a set; the best verified has the plain name, others add the submitter's."""
    taken: set[str] = set()
    for one in sorted(registry.read(folder).submissions, key=lambda one: STATUSES.index(one.status)):
        place = one.artifact or one.claim.artifact.url
        if place is None:
            continue
        name = _free(_name(one.record), one.claim.name, taken)
        taken.add(name)
        yield ZooEntry(_described(one, name), place)


def _name(record: Record) -> str:
    """Return `dataset/codec-distiller-precision-budget`."""
    budget = record.budget
    size = f"ipc{budget.ipc}" if budget.ipc is not None else f"{budget.bytes_per_class}b"
    match = "" if record.distiller.match == "code" else f"-{record.distiller.match}"
    parts = f"{short(record.codec.name)}-{short(record.distiller.name)}{match}-{budget.precision}-{size}"
    return f"{record.dataset.name}/{parts}"


def _free(name: str, submitter: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    by = f"{name}-by-{re.sub('[^a-z0-9]+', '-', submitter.lower()).strip('-')}"
    return next(one for n in range(1, len(taken) + 2) if (one := by if n == 1 else f"{by}-{n}") not in taken)


def _described(one: Submission, name: str) -> SetDescription:
    record, stored = one.record, one.claim.artifact
    budget, data = record.budget, record.dataset
    accuracies = {evaluator: one.accuracy(evaluator) for evaluator in record.summary}
    return SetDescription(
        name=name,
        sha256=stored.sha256,
        file_bytes=stored.bytes,
        dataset=data.name,
        image_shape=data.image_shape,
        classes=data.classes,
        value_space="images in [0, 1], not clamped",
        labels="soft" if budget.bytes.labels else "hard",
        codec=record.codec.name,
        precision=budget.precision,
        images=budget.codes,
        budget_bytes=budget.bytes.total,
        method=record.distiller.name,
        scores=_scores(replace(record, summary=accuracies)),
        verification=one.status,
    )


def _scores(record: Record) -> tuple[SetScore, ...]:
    return tuple(
        SetScore(evaluator, record.protocol.name, record.scored_on, found.mean, found.std, found.n)
        for evaluator, found in record.summary.items()
    )


# --- folders and addresses --------------------------------------------------------------------------------------------


def _is_artifact(path: Path) -> bool:
    try:
        load_artifact(path)
    except ArtifactError:
        return False
    return True


def _of_file(path: Path, name: str) -> ZooEntry:
    """Return an artifact's entry; the record of its run, if it lies beside it, gives method and accuracies."""
    artifact = load_artifact(path)
    about = artifact.describe(name, sha256=file_sha256(path), file_bytes=path.stat().st_size)
    try:
        record = Record.load(path.parent)
    except (ArtifactError, UsageError):
        return ZooEntry(about, path)
    if record.artifact.sha256 == about.sha256:
        about = replace(about, method=record.distiller.name, scores=_scores(record))
    return ZooEntry(about, path)


def _downloaded(url: str, sha256: str | None) -> Path:
    """Return the file of an address, out of the cache if it is there, and only if it has this hash."""
    if sha256 is None:
        raise UsageError(
            f"{url}: give its sha256 too (sha256=…, --sha256 …): what comes from an address is compared with it"
        )
    path = cache_dir() / "zoo" / f"{sha256}.safetensors"
    if path.is_file() and file_sha256(path) == sha256:
        return path
    with atomic_write(path) as temporary:
        _fetch(url, temporary)
        check_sha256(temporary, sha256, url)
    return path


def _fetch(url: str, path: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer, path.open("wb") as file:  # noqa: S310 - http(s) alone
            while piece := answer.read(PIECE):
                if file.tell() + len(piece) > LARGEST:
                    raise UsageError(f"{url}: more than {LARGEST:,} bytes")
                file.write(piece)
    except urllib.error.HTTPError as error:
        raise UsageError(f"{url}: {error.code} {error.reason}") from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise RunFailed(f"{url} cannot be downloaded ({reason}); check the address and the network") from None
