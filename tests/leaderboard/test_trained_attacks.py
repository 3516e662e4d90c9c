"""Attacks that take a training to be found; the others are in `test_attacks.py`."""

import json
import logging
import shutil

import pytest
import suite as tiny_suite

from latentdd_plugin.cli import main
from latentdd_plugin.core.types import Score
from latentdd_plugin.leaderboard import registry
from latentdd_plugin.leaderboard.records import FAILED
from latentdd_plugin.leaderboard.verify import verify
from latentdd_plugin.results.record import Record
from latentdd_plugin.results.statistics import gains, summarise


def called(*words):
    return main.main([str(word) for word in words])


@pytest.fixture
def claim(run, tmp_path):
    """The file of an honest submission."""
    assert called("submit", run, "--name", "A", "--contact", "a@b.org", "--registry", tmp_path / "registry") == 0
    (path,) = (tmp_path / "registry").glob("submissions/*/*.json")
    return path


def edit(path, change):
    """Apply a function to the record of a claim, and write it."""
    tree = json.loads(path.read_text())
    change(tree["record"])
    path.write_text(json.dumps(tree))


def reasons(path, level="static"):
    """Return why verification refuses a claim; empty if it does not."""
    check = verify(path, level)
    assert (check.result == FAILED) == bool(check.why)
    return "\n".join(check.why)


def as_json(found):
    return {name: one.to_json() for name, one in found.items()}


def agreeing(record):
    """Make summaries and gains follow from the rows."""
    own = [Score.from_json(row) for row in record["scores"]]
    record["summary"] = as_json(summarise(own))
    for baseline in record["controls"].values():
        rows = [Score.from_json(row) for row in baseline["scores"]]
        baseline |= {"summary": as_json(summarise(rows)), "gain": as_json(gains(own, rows))}


def test_d_the_size_of_a_network_is_compared(claim):
    def attack(record):
        record["scores"][0]["params"] = 5

    edit(claim, attack)
    assert reasons(claim) == "", "nothing static contradicts it"
    assert "params" in reasons(claim, "full")


def test_e_a_false_platform_lifts_no_rank(claim):
    honest = json.loads(claim.read_text())["record"]["summary"]["convnet_d1"]["mean"]

    def attack(record):
        record["environment"]["numerics"]["torch"] = "0.1"
        for row in record["scores"]:
            row["accuracy"] = (round(row["accuracy"] * 359) + 3) / 359
        agreeing(record)

    edit(claim, attack)
    check = verify(claim, "full")
    found = registry.load_submission(claim)
    ranked = found.accuracy("convnet_d1").mean
    if check.result == FAILED:
        assert "allowed" in "\n".join(check.why)
        return
    assert found.status == "reproduced within tolerance"
    assert ranked != found.record.summary["convnet_d1"].mean
    rows = [row.found for row in check.rows if row.control is None]
    assert ranked == pytest.approx(sum(rows) / len(rows))
    assert honest in (pytest.approx(sum(rows[:2]) / 2),), "the networks of the honest claim are among them"


METHODS = {
    "dm": "dm algo.iterations=2 algo.batch_real=8",
    "dc": "dc algo.iterations=2 algo.batch_real=8 algo.outer_loops=1 algo.inner_loops=1 algo.batch_train=8",
    "kmeans": "kmeans",
}


@pytest.mark.parametrize("method", METHODS)
def test_f_an_honest_distillation_is_repeated_to_the_bit(tiny_suites, tmp_path, method):
    words = tiny_suite.RUN.replace(METHODS["dm"], METHODS[method])
    assert called(*words.split(), "--out", tmp_path / "run") == 0
    check = verify(tmp_path / "run", "repeat")
    assert (check.level, check.result, check.same_platform) == ("repeat", "verified", True), check.why


def test_f_more_iterations_than_were_stated_are_found_by_repetition(claim):
    def attack(record):
        record["config"]["algo"]["iterations"] = record["distiller"]["config"]["iterations"] = 1

    edit(claim, attack)
    assert reasons(claim, "full") == "", "the set is what it is"
    assert "distilled again: the codes or labels are not those of the artifact" in reasons(claim, "repeat")


def test_k_a_sound_baseline_under_the_name_of_another_is_not_taken(made, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("DD_BENCH_CACHE", str(tmp_path / "cache"))
    caplog.set_level(logging.INFO)
    words = tiny_suite.RUN.split()
    assert called(*words, "--seed", 1, "--out", tmp_path / "one") == 0
    theirs = {path.name: path for path in (tmp_path / "cache" / "controls").iterdir()}
    assert called(*words, "--out", tmp_path / "zero") == 0
    expected = Record.load(tmp_path / "zero").to_json()["controls"]
    ours = [path for path in (tmp_path / "cache" / "controls").iterdir() if path.name not in theirs]
    for target, source in zip(sorted(ours), sorted(theirs.values()), strict=True):
        shutil.rmtree(target)
        shutil.copytree(source, target)
    assert called(*words, "--out", tmp_path / "again") == 0
    found = Record.load(tmp_path / "again").to_json()["controls"]
    assert {name: one["scores"] for name, one in found.items()} == {n: one["scores"] for n, one in expected.items()}
