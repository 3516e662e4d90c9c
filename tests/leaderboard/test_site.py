"""The leaderboard's files: a pure function of the registry, whose broken files are named and whose text is text."""

import hashlib
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from latentdd_plugin.cli import main
from latentdd_plugin.experiments import suites
from latentdd_plugin.leaderboard import table
from latentdd_plugin.leaderboard.registry import read
from latentdd_plugin.leaderboard.site import SUMS, build


@pytest.fixture
def registry(filled, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(filled, tmp_path / "registry")


@pytest.fixture(scope="module")
def site(filled, tmp_path_factory):
    """The site of the whole registry."""
    return build(filled, tmp_path_factory.mktemp("site") / "site").folder


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class Page(HTMLParser):
    """Links, and tags with their attributes."""

    def __init__(self, path):
        super().__init__()
        self.path, self.tags = path, []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def links(self):
        for _, attrs in self.tags:
            yield from (attrs[key] for key in ("href", "src") if attrs.get(key))


# --- a pure function --------------------------------------------------------------------------------------------------


def test_the_command_builds_it_and_names_what_is_not_shown(registry, tmp_path, capsys):
    (registry / "submissions" / "tiny.v1" / "broken.json").write_text("{")
    assert main.main(["leaderboard", "--registry", str(registry), "--out", str(tmp_path / "site")]) == 0
    told = capsys.readouterr()
    assert told.out == f"7 submissions, 2 codec cards\n{tmp_path / 'site' / 'index.html'}\n"
    assert "not shown: submissions/tiny.v1/broken.json: not readable as JSON" in told.err
    assert "submissions/tiny.v1/broken.json" in (tmp_path / "site" / "index.html").read_text()


def test_the_same_registry_gives_the_same_bytes_wherever_it_lies(site, registry, tmp_path):
    assert files(build(registry, tmp_path / "again").folder) == files(site)


def test_the_sums_are_those_of_every_file(site):
    listed = dict(reversed(line.split("  ")) for line in (site / SUMS).read_text().splitlines())
    assert listed == {n: hashlib.sha256(c).hexdigest() for n, c in files(site).items() if n != SUMS}


def test_a_submission_that_is_gone_takes_its_pages_with_it(registry, tmp_path):
    out = build(registry, tmp_path / "site").folder
    (out / "submissions" / "mine.txt").write_text("not the site's")
    claim = next((registry / "submissions" / "tiny.v1").glob("*liar*.json"))
    for path in claim.parent.glob(f"{claim.stem}*"):
        path.unlink()
    before = set(files(out))
    build(registry, out)
    gone = before - set(files(out))
    assert gone
    assert all("a-liar" in name for name in gone)
    assert (out / "submissions" / "mine.txt").exists()


@pytest.mark.parametrize("place", ["registry/site", ".", "taken"])
def test_it_is_never_written_over_something_else(registry, tmp_path, place):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.tex").write_text("years")
    before = files(tmp_path)
    assert main.main(["leaderboard", "--registry", str(registry), "--out", str(tmp_path / place)]) == 2
    assert files(tmp_path) == before


def test_an_empty_registry_has_a_page(tmp_path):
    (tmp_path / "registry").mkdir()
    assert "No submissions yet" in (build(tmp_path / "registry", tmp_path / "site").folder / "index.html").read_text()


# --- pages ------------------------------------------------------------------------------------------------------------


def test_every_link_leads_somewhere_and_nothing_is_asked_of_the_network(site):
    pages = [Page(path) for path in site.rglob("*.html")]
    assert len(pages) == 13
    for page in pages:
        for link in page.links():
            if not link.startswith(("data:", "#", "https://example.org")):
                assert (page.path.parent / link.partition("#")[0]).resolve().is_file(), (page.path.name, link)
        assert not [
            link for tag, attrs in page.tags if tag != "a" for link in [attrs.get("href")] if link and ":" in link
        ]


def test_untrusted_markup_is_text(site):
    said = 0
    for path in site.rglob("*.html"):
        page = Page(path)
        assert not [tag for tag, attrs in page.tags if any(key.startswith("on") for key in attrs)], path
        assert not [attrs for tag, attrs in page.tags if tag == "img" and attrs.get("src") == "x"]
        said += path.read_text().count("{{7*7}}")
    assert said >= 4, "it is shown as it was written"


def test_every_status_is_on_the_page_and_only_the_unrefuted_are_ranked(filled):
    entries = {e.key.split("/")[1]: e for e in table.entries(read(filled).submissions)}
    statuses = {key: e.status for key, e in entries.items()}
    assert set(statuses.values()) == {"verified", "static checks passed", "unverified", "stale", "failed"}
    groups = table.ledgers(list(entries.values()))["bytes"]
    ranks = {e.status: rank for group in groups for e, rank, _ in group.rows}
    assert (ranks["failed"], ranks["stale"]) == ("–", "–")
    assert ranks["verified"] != "–"


def test_a_rank_is_the_place_by_accuracy_among_equal_bytes(filled):
    (group,) = table.ledgers(table.entries(read(filled).submissions))["bytes"]
    ranked = [(e.accuracy, int(rank)) for e, rank, _ in group.rows if rank != "–"]
    assert ranked == sorted(ranked, key=lambda pair: -pair[0])
    assert [rank for _, rank in ranked] == [1 + sum(a > mine for a, _ in ranked) for mine, _ in ranked]
    assert len(ranked) == 5


def test_a_decoder_that_exceeds_the_budget_has_no_rank_where_it_is_counted(filled):
    (group,) = table.ledgers(table.entries(read(filled).submissions))["bytes"]
    pca = next((rank, counted) for e, rank, counted in group.rows if e.codec == "pca")
    assert pca[0] != "–"
    assert pca[1] == "–"


def test_equal_count_compares_those_with_as_many_decoded_images(filled):
    for group in table.ledgers(table.entries(read(filled).submissions))["count"]:
        assert len({e.images for e, *_ in group.rows}) == 1


def test_other_labels_compete_where_every_byte_is_counted_alone(filled):
    made = read(filled).submissions
    config = replace(made[0].record.config, labels={"regime": "soft"})
    other = replace(made[0], claim=replace(made[0].claim, record=replace(made[0].record, config=config)))
    groups = table.ledgers(table.entries([other, *made[1:]]))
    assert len(groups["bytes"]) == 2
    assert [e.labels for e, *_ in groups["bytes"][1].rows] == ["soft"]
    (every,) = groups["all"]
    ranked = [(e.bytes_everything, e.accuracy, int(rank)) for e, rank, _ in every.rows if rank != "–"]
    assert [rank for *_, rank in ranked] == [
        1 + sum(more > mine and size <= own for size, more, _ in ranked) for own, mine, _ in ranked
    ]


def test_a_submissions_page_has_its_grid_its_record_and_the_command(filled, site):
    one = next(s for s in read(filled).submissions if s.status == "verified")
    text = (site / "submissions" / one.suite / f"{one.slug}.html").read_text()
    assert f"dd-bench verify registry/submissions/{one.suite}/{one.slug}.json" in text
    assert f'src="{one.slug}.png"' in text
    assert one.record.command.split()[-1] in text
    assert (site / "submissions" / one.suite / f"{one.slug}.json").read_bytes() == one.raw
    for row in one.record.scores:
        assert f"{100 * row.accuracy:.2f}%" in text


# --- what untrusted submitters send ---


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda p: p.write_text("[" * 200_000), "not readable as JSON"),
        (
            lambda p: p.write_text(p.read_text().replace('"name": "A. Person"', '"name": "a", "name": "b"')),
            "key is there twice",
        ),
        (
            lambda p: p.write_text(re.sub(r'"accuracy": [\d.]+', '"accuracy": NaN', p.read_text(), count=1)),
            "not readable",
        ),
        (
            lambda p: p.write_text(re.sub(r'"accuracy": [\d.]+', '"accuracy": 1e999', p.read_text(), count=1)),
            "not readable",
        ),
        (lambda p: p.write_bytes(b"\xff" * 100), "not readable as JSON"),
        (lambda p: p.write_text(" " * 5_000_000), "at most 4,000,000 are read"),
        (lambda p: (p.unlink(), p.symlink_to("/etc/hostname")), "is a link"),
        (lambda p: altered(p, "artifact", "file", to="../../../secret"), "artifact.file"),
        (lambda p: altered(p, "code", to="javascript:alert(1)"), "code"),
        (lambda p: altered(p, "suite", to="../up"), "lies in 'tiny.v1'"),
        (lambda p: altered(p, "record", "summary", "convnet_d1", "mean", to=0.99), "not what the rows of scores give"),
        (lambda p: altered(p, "record", "scores", to=[]), "no row"),
    ],
)
def test_a_broken_claim_is_named_and_the_rest_is_shown(registry, tmp_path, spoil, says):
    claim = next((registry / "submissions" / "tiny.v1").glob("a-person*pca*fp32.json"))
    spoil(claim)
    site = build(registry, tmp_path / "site")
    assert site.submissions == 6
    reasons = {fault.file: " ".join(fault.reasons) for fault in site.faults}
    assert says in reasons[f"submissions/tiny.v1/{claim.name}"]


def altered(path, *keys, to):
    tree = json.loads(path.read_text())
    place = tree
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to
    path.write_text(json.dumps(tree, indent=2, sort_keys=True))


def test_a_picture_of_another_kind_or_content_is_not_shown(registry, tmp_path):
    grid = next((registry / "submissions" / "tiny.v1").glob("a-person*pca*.png"))
    grid.write_bytes(grid.read_bytes() + b"more")
    site = build(registry, tmp_path / "site")
    assert [fault.file for fault in site.faults] == [f"submissions/tiny.v1/{grid.name}"]
    assert site.submissions == 7
    assert not (site.folder / "submissions" / "tiny.v1" / grid.name).exists()


def test_the_registry_of_this_checkout_is_whole(tmp_path, monkeypatch):
    """All of the repository's registry can be shown."""
    folder = Path(__file__).parents[2] / "registry"
    monkeypatch.setattr(suites, "folder", lambda: folder.parent / "benchmarks")
    if not folder.is_dir():
        pytest.skip("the registry is not beside the tests")
    assert build(folder, tmp_path / "site").faults == ()
