"""An honest claim with one field changed at random: it is refused, or gains nothing but what its submitter states."""

import copy
import json
import random
import re
from collections import Counter

import pytest

from latentdd_plugin.artifacts.decode import allowed
from latentdd_plugin.cli import main
from latentdd_plugin.core.errors import ArtifactError
from latentdd_plugin.leaderboard import registry, table
from latentdd_plugin.leaderboard import static_check as claims
from latentdd_plugin.leaderboard.site import build
from latentdd_plugin.leaderboard.submission import STATED
from latentdd_plugin.leaderboard.verify import verify

KINDS = ("value", "type", "absence", "twice", "unknown")
OTHERS = (None, True, 0, -1, 1.5, 1e15, "", "x", "…", [], {}, ["x"], {"x": 1}, [[1]])
WORDS = (
    "dct",
    "pca",
    "identity",
    "dm",
    "random",
    "fp32",
    "int8",
    "pixel",
    "code",
    "test",
    "validation",
    "mnist",
    "cuda",
)
OUTSIDE = ("name", "contact", "code", "paper", "notes", "submitted")  # of the submission, not of the run's record


def nodes(tree, path=()):
    """Yield the path of every value below a JSON value."""
    for key in tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield (*path, key)
        yield from nodes(tree[key], (*path, key))


def at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def another_value(value, draws):
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return draws.choice([value + 1, value * 2 + 1, max(0, value - 1), 0, 1, 10**6])
    if isinstance(value, float):
        return draws.choice([value + 1 / 359, value * 0.5 + 0.01, 0.0, 1.0])
    if isinstance(value, str):
        digit = re.sub(r"[0-9]", lambda m: str((int(m[0]) + 1) % 10), value, count=1)
        return draws.choice([digit, value + "x", value[1:] + value[:1], draws.choice(WORDS)])
    if isinstance(value, list):
        return draws.choice([value[1:], [*value, *value[:1]], value[::-1]])
    if isinstance(value, dict) and value:
        return dict(list(value.items())[1:])
    return draws.choice(OTHERS)


def changed(sound, draws):
    """Return (kind, path, text) of a claim with one field changed; the text says something else than the claim."""
    while True:
        tree, kind, path = copy.deepcopy(sound), draws.choice(KINDS), draws.choice(list(nodes(sound)))
        holder, key = at(tree, path[:-1]), path[-1]
        value = holder[key]
        if kind == "value":
            holder[key] = another_value(value, draws)
        elif kind == "type":
            holder[key] = draws.choice([one for one in OTHERS if type(one) is not type(value)])
        elif kind == "absence":
            del holder[key]
        elif kind == "twice" and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(value))
        elif kind == "twice":
            text = json.dumps(tree)
            pair = f"{json.dumps(key)}: {json.dumps(value)}"
            return (
                kind,
                path,
                text.replace(pair, f"{pair}, {json.dumps(key)}: {json.dumps(another_value(value, draws))}", 1),
            )
        elif isinstance(value, dict):
            path = (*path, draws.choice(["verified", "accuracy", "extra", "seal of quality"]))
            value[path[-1]] = draws.choice([True, "9", 0.99, {"x": 1}])
        if json.dumps(tree, sort_keys=True) != json.dumps(sound, sort_keys=True):
            return kind, path, json.dumps(tree)


def stated(path):
    """Return whether a path of the claim is one that the page marks as stated by the submitter."""
    names = tuple(map(str, path))
    if names[0] in OUTSIDE:
        return True
    within = names[1:] if names[0] == "record" else ()
    return any(within[: len(name)] == name for name in (tuple(one.split(".")) for one in STATED))


class Pages:
    """A registry of one claim, and what its site shows."""

    def __init__(self, claim, top):
        self.claim, self.top, self.sound = claim, top, claim.read_text()
        self.registry = claim.parents[2]
        self.honest, self.trained = self.shown(), {}

    def shown(self):
        """(pages without the claim's own hash, entries as they are ranked)."""
        build(self.registry, self.top / "site")
        found = registry.read(self.registry).submissions
        sha = found[0].sha256 if found else "-"
        pages = {
            str(path.relative_to(self.top)): path.read_text().replace(sha, "SHA")
            for path in sorted((self.top / "site").rglob("*.html"))
        }
        return pages, [vars(one) | {"submitter": ""} for one in table.entries(found)]

    def refused(self, level):
        """Return whether verification at a level refuses the claim as it lies there."""
        if level == "static":
            try:
                return bool(claims.static_faults(claims.load(self.claim), allowed(())))
            except ArtifactError:
                return True
        result = verify(self.claim, level).result
        self.claim.with_name(f"{self.claim.stem}.verification.json").unlink()
        return result == "failed"

    def outcome(self, kind, path, text):
        """Write a changed claim; return what becomes of it."""
        self.claim.write_text(text)
        if self.refused("static"):
            return "refused"
        pages, ranked = self.shown()
        if pages == self.honest[0]:
            assert ranked == self.honest[1]
            return "accepted, the pages unchanged"
        if stated(path):
            assert ranked == self.honest[1], f"{kind} of {path}: a statement changes the ranking"
            return f"accepted, stated: {'.'.join(map(str, path[1:3] if path[0] == 'record' else path[:1]))}"
        if path not in self.trained:  # once per field, because it trains networks
            self.trained[path] = self.refused("full")
        return "refused by full verification" if self.trained[path] else "believed"


def campaign(pages, count, seed):
    """Return how many changed claims had each outcome; none may be believed."""
    draws, found, believed = random.Random(seed), Counter(), []
    sound = json.loads(pages.sound)
    for number in range(1, count + 1):
        kind, path, text = changed(sound, draws)
        outcome = pages.outcome(kind, path, text)
        found[outcome] += 1
        if outcome == "believed":
            believed.append(f"{kind} of {'.'.join(map(str, path))}: {at(json.loads(text), path[:-1])}"[:300])
        if number % 100 == 0:
            print(number, json.dumps(found, sort_keys=True), believed, flush=True)
    pages.claim.write_text(pages.sound)
    assert believed == []
    assert not pages.refused("static"), "the claim as it was"
    return found


@pytest.fixture(scope="module")
def honest(made, tmp_path_factory):
    """The pages of an honest claim."""
    top = tmp_path_factory.mktemp("changed")
    words = ["submit", made, "--name", "A. Person", "--contact", "a@example.org", "--registry", top / "registry"]
    assert main.main([*map(str, words)]) == 0
    (claim,) = (top / "registry").glob("submissions/*/*.json")
    return Pages(claim, top)


def test_a_changed_field_is_refused_or_stated(honest):
    found = campaign(honest, 150, seed=0)
    assert found["refused"] > 100


@pytest.mark.slow
def test_many_changed_fields_are_refused_or_stated(honest):
    found = campaign(honest, 2000, seed=1)
    print(json.dumps(found, indent=1, sort_keys=True))
    assert sum(found.values()) == 2000
