"""The site's files: a pure function of a registry, with neither clock nor machine in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path, PurePosixPath

from latentdd_plugin.core.errors import RunFailed, UsageError
from latentdd_plugin.core.types import canonical_json
from latentdd_plugin.experiments import suites as suites_of
from latentdd_plugin.leaderboard import literature, submission, table
from latentdd_plugin.leaderboard.plot import plots
from latentdd_plugin.leaderboard.registry import CHECKED, CodecCard, Fault, Registry, Submission, read
from latentdd_plugin.results.card_page import codec_page
from latentdd_plugin.results.grid import write_file
from latentdd_plugin.results.pages import TEMPLATES, render

PACKAGE = "latentdd_plugin.leaderboard"  # whose `templates` these pages are
SUMS = "SHA256SUMS"  # of every file; what marks a folder as ours to replace
CODECS = ("Codecs", "codecs/index.html")
LITERATURE = ("Literature", "literature.html")


@dataclass(frozen=True)
class Site:
    """The site that was written."""

    folder: Path
    submissions: int
    cards: int
    faults: tuple[Fault, ...]  # files of the registry that are not shown


def build(registry: Path, out: Path) -> Site:
    """Write the site of a registry.

    Args:
        registry: its folder.
        out: a folder that is missing, empty, or holds an earlier site, whose files are replaced.

    Raises:
        UsageError: there is no such registry, or `out` holds something else.
        RunFailed: a file cannot be written.
    """
    _check_out(registry, out)
    found = _known(read(registry))
    files = dict(_files(found))
    _refuse_outside(out, {*files, *_listed(out)})
    sums = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    _remove(out, set(_listed(out)) - set(files))
    write_file(out / SUMS, sums.encode())
    for name, content in files.items():
        write_file(out / name, content)
    return Site(out, len(found.submissions), len(found.cards), found.faults)


def _known(found: Registry) -> Registry:
    """Leave out submissions of suites that do not exist, and say so."""
    names = suites_of.names()
    stray = [one for one in found.submissions if one.suite not in names]
    faults = [
        Fault(f"submissions/{one.suite}/{one.slug}.json", (f"suite: there is no suite {one.suite!r}",)) for one in stray
    ]
    return replace(
        found,
        submissions=tuple(one for one in found.submissions if one.suite in names),
        faults=tuple(sorted((*found.faults, *faults), key=lambda fault: fault.file)),
    )


# --- pages ------------------------------------------------------------------------------------------------------------


def _files(found: Registry) -> Iterator[tuple[str, bytes]]:
    """(path in the site, content) of every file."""
    shared, own = (resources.files(package) / "templates" for package in (TEMPLATES, PACKAGE))
    yield "style.css", (shared / "page.css").read_bytes() + (own / "site.css").read_bytes()
    for name in ("table.js", "icon.svg"):
        yield name, (own / name).read_bytes()
    suites = {name: [s for s in found.submissions if s.suite == name] for name in sorted(_suites(found.submissions))}
    yield "index.html", _index(found, suites)
    for name, members in suites.items():
        yield f"suites/{name}.html", _suite(name, members, found)
    for one in found.submissions:
        yield from _submission(one)
    yield "literature.html", _literature(found)
    yield "codecs/index.html", _page("codecs.html.j2", "../", (), title="Codec cards", cards=found.cards)
    for card in found.cards:
        yield from _card(card)


def _page(template: str, root: str, trail: Sequence[tuple[str, str]], **view: object) -> bytes:
    return render(template, package=PACKAGE, root=root, trail=[CODECS, LITERATURE, *trail], **view).encode()


def _index(found: Registry, suites: dict[str, list[Submission]]) -> bytes:
    rows = [
        {
            "name": name,
            "submissions": len(members),
            "verified": sum(s.status == "verified" for s in members),
            "datasets": _words(s.record.dataset.name for s in members),
            "codecs": _words(s.record.codec.name for s in members),
            "algos": _words(s.record.distiller.name for s in members),
        }
        for name, members in suites.items()
    ]
    numbers = sum(len(source.numbers) for source in found.literature)
    view = {"suites": rows, "cards": found.cards, "faults": found.faults, "numbers": numbers}
    return _page("index.html.j2", "", (), title="Leaderboard", sources=len(found.literature), **view)


def _literature(found: Registry) -> bytes:
    groups = literature.by_dataset(found.literature)
    return _page("literature.html.j2", "", (), title="Published numbers", groups=groups, sources=found.literature)


def _suite(name: str, members: list[Submission], found: Registry) -> bytes:
    entries = table.entries(members)
    return _page(
        "suite.html.j2",
        "../",
        (),
        title=name,
        submissions=len(members),
        verified=sum(s.status == "verified" for s in members),
        ledgers=[(key, table.LEDGERS[key], groups) for key, groups in table.ledgers(entries).items()],
        filters=table.choices(entries),
        plots=plots(entries, found.literature),
        cards={(c.card.codec.fingerprint, c.card.dataset.name): f"{c.codec}/{c.dataset}" for c in found.cards},
    )


def _submission(one: Submission) -> Iterator[tuple[str, bytes]]:
    place = f"submissions/{one.suite}/{one.slug}"
    trail = [(one.suite, f"suites/{one.suite}.html")]
    yield f"{place}.html", _page("submission.html.j2", "../../", trail, **submission.view(one))
    yield f"{place}.json", one.raw
    if one.grid:
        yield f"{place}.png", one.grid
    if one.checks:
        content = {"claim_sha256": one.checked, "checks": [check.to_json() for check in one.checks]}
        yield f"{place}{CHECKED}.json", canonical_json(content).encode()


def _card(card: CodecCard) -> Iterator[tuple[str, bytes]]:
    place = f"codecs/{card.codec}/{card.dataset}"
    grid = card.picture[0] if card.picture else None
    yield f"{place}.html", codec_page(card.card, grid, root="../../", trail=[CODECS, LITERATURE]).encode()
    yield f"{place}.json", card.raw
    if card.picture:
        yield f"codecs/{card.codec}/{card.picture[0]}", card.picture[1]


def _suites(found: Sequence[Submission]) -> set[str]:
    return {one.suite for one in found}


def _words(found: Iterator[str]) -> str:
    return ", ".join(sorted(set(found)))


# --- the folder -------------------------------------------------------------------------------------------------------


def _check_out(registry: Path, out: Path) -> None:
    ours, theirs = out.resolve(), registry.resolve()
    if ours == theirs or theirs in ours.parents or ours in theirs.parents:
        raise UsageError(f"--out {out}: the site cannot lie in the registry, nor around it; choose another folder")
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: this is a file; choose a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / SUMS).is_file():
        raise UsageError(f"--out {out}: this folder holds something else than a site ({SUMS} is missing)")


def _refuse_outside(out: Path, names: set[str]) -> None:
    """Raise UsageError if a folder within `out` is a link that leads elsewhere: nothing is written or removed there."""
    root = out.resolve()
    for folder in sorted({(out / name).parent for name in names}):
        if not folder.resolve().is_relative_to(root):
            raise UsageError(
                f"--out {out}: {folder} is a link that leads out of it; remove it or choose another folder"
            )


def _listed(out: Path) -> Iterator[str]:
    """Yield the files of an earlier site, as far as they lie inside its folder."""
    there = out / SUMS
    for line in there.read_text().splitlines() if there.is_file() else ():
        name = PurePosixPath(line.partition("  ")[2])
        if name.parts and not name.is_absolute() and ".." not in name.parts:
            yield str(name)


def _remove(out: Path, names: set[str]) -> None:
    """Take away pages of submissions that are gone, and folders that are empty then."""
    for name in sorted(names, reverse=True):
        path = out / name
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise RunFailed(f"cannot remove {path}: {error.strerror}") from error
        with suppress(OSError):
            path.parent.rmdir()
