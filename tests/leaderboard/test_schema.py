"""docs/schema.md names every field of the files that are really written, and none that a form does not know."""

import json
import re
from pathlib import Path

import pytest

from latentdd_plugin.artifacts.file import load_artifact
from latentdd_plugin.leaderboard import schemas
from latentdd_plugin.leaderboard.registry import read

DOC = Path(__file__).parents[2] / "docs" / "schema.md"
KINDS = ("record", "claim", "verification", "card", "artifact")


def documented():
    """Patterns of each kind's table, in the order of the page."""
    sections = DOC.read_text().split("\n## ")[1:]
    found = {}
    for kind, section in zip(KINDS, sections, strict=True):
        rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
        found[kind] = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    return found


def pattern(name):
    parts = {"**": r".*", "*": r"[^.]+"}
    return re.compile(r"\.".join(parts.get(part, re.escape(part)) for part in name.split(".")))


def is_known(path, names):
    """Whether a name says this path, or something below or around it where the path is a whole list or a wildcard."""
    below = any(name.startswith(f"{path}.") or pattern(path).fullmatch(name) for name in names)
    return below or any(pattern(name).fullmatch(path) or path == f"{name}.*" for name in names)


def leaves(tree, path=""):
    """The path of every value; members of a list of objects are *."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from leaves(value, f"{path}.{key.replace('.', '_')}" if path else key)
    elif isinstance(tree, list) and tree and isinstance(tree[0], dict):
        for value in tree:
            yield from leaves(value, f"{path}.*")
    else:
        yield path


@pytest.fixture(scope="module")
def written(kept):
    """A real file of each kind, as JSON."""
    claim = next(s for s in read(kept).submissions if s.status == "verified")
    path = kept / "submissions" / claim.suite / f"{claim.slug}"
    return {
        "record": claim.record,
        "claim": claim.claim,
        "verification": json.loads(path.with_name(f"{path.name}.verification.json").read_text()),
        "card": read(kept).cards[0].data,
        "artifact": load_artifact(claim.artifact).header,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_that_is_written_is_documented(written, kind):
    strays = {path for path in leaves(written[kind]) if not is_known(path, documented()[kind])}
    assert not strays


@pytest.mark.parametrize("kind", KINDS)
def test_every_documented_field_is_written_or_asked_for(written, kind):
    forms = {
        "record": schemas.RECORD,
        "claim": {**schemas.CLAIM, **schemas.GRID},
        "verification": schemas.CHECKS,
        "card": schemas.CARD,
        "artifact": {"origin.format": None, "origin.values": None, "origin.selection": None},
    }[kind]
    there = {*leaves(written[kind]), *forms, *(["controls.x.skipped"] if kind == "record" else [])}
    unknown = [name for name in documented()[kind] if not any(pattern(name).fullmatch(path) for path in there)]
    assert not unknown


@pytest.mark.parametrize(
    ("kind", "form"),
    [("record", schemas.RECORD), ("claim", schemas.CLAIM), ("verification", schemas.CHECKS), ("card", schemas.CARD)],
)
def test_what_a_form_asks_for_is_documented(kind, form):
    missing = [path for path in form if not is_known(path, documented()[kind])]
    assert not missing
