"""Published numbers: what a file may hold, and that they stand beside verified results without a rank."""

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from latentdd_plugin.cli import main
from latentdd_plugin.core.errors import ArtifactError
from latentdd_plugin.leaderboard import literature, plot, table
from latentdd_plugin.leaderboard.registry import load_literature, read
from latentdd_plugin.leaderboard.site import build

REGISTRY = Path(__file__).parents[2] / "registry"
NUMBER = {
    "method": "DM", "paper": "2110.04181", "dataset": "digits", "resolution": 8, "ipc": 1, "bytes_per_class": None,
    "counted": None, "evaluator": "ConvNet-D1", "protocol": None, "labels": "hard", "accuracy": 0.9, "deviation": 0.01,
    "reported_by": "others", "place": "Table 1", "flag": None, "note": None,
}  # fmt: skip
SOURCE = {"title": "A paper", "arxiv": "2401.00001", "url": "https://arxiv.org/abs/2401.00001"}


def written(path, *numbers, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"schema": literature.SCHEMA, "source": SOURCE, "numbers": list(numbers), **more}))
    return path


def test_the_registry_holds_numbers_with_their_sources(capsys):
    found = read(REGISTRY)
    assert [fault for fault in found.faults if fault.file.startswith("literature")] == []
    numbers = list(literature.reported(found.literature))
    assert len(numbers) >= 150
    assert all(one.source.source.arxiv for one in numbers)
    assert {"cifar10", "imagenette", "imagenet-1k"} <= {one.number.dataset for one in numbers}
    assert main.main(["literature", "check"]) == 0
    assert capsys.readouterr().out == f"{len(found.literature)} files, {len(numbers)} numbers, 0 with faults\n"


def test_figures_are_the_papers_own():
    """Some that can be read in abstracts, readmes and tables."""
    found = {
        (one.source.source.arxiv, one.number.method, one.number.dataset, one.number.ipc): one.number
        for one in literature.reported(read(REGISTRY).literature)
        if one.number.place not in ("Table 2", "Table 3")
    }
    pad = found["2408.03360", "DATM", "cifar10", 50]
    assert (pad.accuracy, pad.deviation, pad.labels, pad.reported_by) == (0.761, 0.003, "soft", "others")
    assert found["2006.05929", "DSA", "mnist", 10].accuracy == 0.978
    assert found["2512.03844", "CoDA", "imagenet-1k", 50].accuracy == 0.604
    assert found["2509.26219", "GSDD (TM)", "imagenette", 1].accuracy == 0.764


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ipc": None}, "needs either ipc or bytes_per_class"),
        ({"bytes_per_class": 100.0}, "has 2 budgets"),
        ({"method": literature.WHOLE}, "needs no budget"),
        ({"accuracy": 46.2}, "a fraction"),
        ({"labels": "fuzzy"}, "one of hard, soft, views, teacher"),
        ({"paper": "arXiv:2110.04181"}, "an arXiv id"),
        ({"reported_by": "us"}, "one of authors, others"),
    ],
)
def test_a_wrong_number_is_refused_with_its_place(tmp_path, change, says):
    with pytest.raises(ArtifactError, match=r"numbers\.1") as error:
        load_literature(written(tmp_path / "a.json", NUMBER, {**NUMBER, "dataset": "other", **change}))
    assert says in str(error.value)


def test_the_same_number_twice_and_a_source_without_an_address_are_refused(tmp_path, capsys):
    twice = written(tmp_path / "a.json", NUMBER, {**NUMBER, "accuracy": 0.8})
    bare = written(tmp_path / "b.json", NUMBER, source={**SOURCE, "url": "arxiv"})
    assert main.main(["literature", "check", str(twice), str(bare)]) == 1
    told = capsys.readouterr()
    assert "numbers.1: the same as numbers.0" in told.err
    assert "source.url" in told.err
    assert told.out == "2 files, 0 numbers, 2 with faults\n"


def test_the_list_is_filtered(capsys):
    assert main.main(["literature", "list", "--dataset", "cifar10", "--ipc", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "cifar10, 32 px"
    assert re.search(r"DATM +46\.9% ± 0\.5 +1 IPC +ConvNet-D3 +soft +others +arXiv 2408\.03360", "\n".join(lines))
    assert not any("10 IPC" in line for line in lines)


@pytest.fixture
def site(filled, tmp_path):
    """The site of the tiny registry, with one source of numbers for its dataset."""
    folder = shutil.copytree(filled, tmp_path / "registry")
    ten = {**NUMBER, "ipc": 10, "accuracy": 0.97}
    far = {**NUMBER, "ipc": 5000, "accuracy": 0.98}
    other = {**NUMBER, "evaluator": "ResNet-18", "accuracy": 0.99}
    written(folder / "literature" / "2401.00001.json", {**NUMBER, "flag": "chosen on test"}, ten, far, other)
    return folder, build(folder, tmp_path / "site").folder


def test_reported_numbers_are_hollow_marks_and_hold_no_rank(site, filled):
    folder, out = site
    page = (out / "suites" / "tiny.v1.html").read_text()
    plain = page.split('<figure class="counted">')[0]
    assert plain.count('aria-label="reported: DM') == 2  # not the far budget, not the other architecture
    assert plain.count('class="reported flagged"') == 1
    assert "3 numbers reported in papers" in page
    ranked = [re.sub(r"\s+", " ", row) for row in re.findall(r'<tr class="entry.*?</tr>', page, re.DOTALL)]
    bare = build(filled, folder.parent / "bare").folder / "suites" / "tiny.v1.html"
    assert ranked == [
        re.sub(r"\s+", " ", row) for row in re.findall(r'<tr class="entry.*?</tr>', bare.read_text(), re.DOTALL)
    ]
    listed = (out / "literature.html").read_text()
    assert listed.count("https://arxiv.org/abs/2401.00001") == 5
    assert "flagged: chosen on test" in listed


def test_the_front_is_of_verified_entries_alone(site):
    found = read(site[0])
    entries = table.entries(found.submissions)
    (with_papers,), (without,) = plot.plots(entries, found.literature), plot.plots(entries)
    assert len(with_papers.panels[0].front.split()) == len(without.panels[0].front.split())


def test_baselines_are_lines_from_edge_to_edge(filled):
    (found,) = plot.plots(table.entries(read(filled).submissions))
    lines = {line.text.rpartition(" ")[0]: line for line in found.panels[0].lines}
    assert {"random-codes, dct", "random-codes, pca", "random-pixels"} <= set(lines)
    assert "random-codes, identity" not in lines
    for line in lines.values():
        assert line.points.startswith(f"{plot.LEFT},")
        assert f" {plot.WIDTH - plot.RIGHT}," in line.points
    heights = [line.label[1] for line in found.panels[0].lines]
    assert all(b - a >= plot.LINE_OF_TEXT for a, b in pairwise(heights))


def test_a_dataset_with_its_resolution_in_the_name_is_recognised():
    found = read(REGISTRY).literature
    ours = literature.comparable(found, "imagenette128", (3, 128, 128), "convnet")
    assert {one.number.dataset for one in ours} == {"imagenette"}
    assert {one.number.resolution for one in ours} == {128}
    assert literature.comparable(found, "imagenette128", (3, 64, 64), "convnet") == []
