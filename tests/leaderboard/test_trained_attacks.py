"""Attacks that take a training to be found; the others are in `test_attacks.py`."""

import json
import logging
import shutil

import pytest
import suite as tiny_suite
from forgery import agreeing, called, edit, reasons

from latentdd_plugin import load_artifact
from latentdd_plugin.leaderboard import registry
from latentdd_plugin.leaderboard.records import FAILED
from latentdd_plugin.leaderboard.verify import verify
from latentdd_plugin.results.record import Record


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


def assert_repeated(place):
    """Distil again and compare: the same codes and scores, to the bit."""
    check = verify(place, "repeat")
    assert (check.level, check.result, check.same_platform) == ("repeat", "verified", True), check.why


METHODS = {
    "dm": "dm algo.iterations=2 algo.batch_real=8",
    "dc": "dc algo.iterations=2 algo.batch_real=8 algo.outer_loops=1 algo.inner_loops=1 algo.batch_train=8",
    "kmeans": "kmeans",
}


@pytest.mark.parametrize("method", METHODS)
def test_f_an_honest_distillation_is_repeated_to_the_bit(tiny_suites, tmp_path, method):
    words = tiny_suite.RUN.replace(METHODS["dm"], METHODS[method])
    assert called(*words.split(), "--out", tmp_path / "run") == 0
    assert_repeated(tmp_path / "run")


SPACES = {
    "a decoder that is trained": "hallucinator codec.width=2 codec.depth=2 codec.joint=true",
    "a memory per class too": "hallucinator codec.width=2 codec.depth=2 codec.joint=true codec.classes=10",
    "codes without an encoder": "ddif codec.steps=3",
}


@pytest.mark.parametrize("codec", SPACES)
def test_f_a_claim_of_every_kind_of_space_is_submitted_and_repeated_to_the_bit(tiny_suites, tmp_path, codec):
    words = tiny_suite.RUN.replace("--codec dct", f"--match pixel --codec {SPACES[codec]}").split()
    assert called(*words, "--out", tmp_path / "run") == 0
    words = ["submit", tmp_path / "run", "--name", "A", "--contact", "a@b.org", "--registry", tmp_path / "registry"]
    assert called(*words) == 0
    (claim,) = (tmp_path / "registry").glob("submissions/*/*.json")
    assert_repeated(claim)
    assert called("export", "imagefolder", tmp_path / "run", "--out", tmp_path / "pictures") == 0
    stored = load_artifact(claim.with_suffix(".safetensors"))
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == len(stored.labels)


def test_f_more_iterations_than_were_stated_are_found_by_repetition(claim):
    def attack(record):
        record["config"]["algo"]["iterations"] = record["distiller"]["config"]["iterations"] = 1

    edit(claim, attack)
    assert reasons(claim, "full") == "", "the set is what it is"
    assert "distilled again: the codes, the labels or the decoder are not those of the artifact" in reasons(
        claim, "repeat"
    )


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


@pytest.mark.parametrize(("part", "change"), [("nearest", {"nearer_to_test": 10}), ("dataset", {"validation_size": 7})])
def test_d_what_verification_finds_anyway_is_compared(claim, part, change):
    edit(claim, lambda record: record[part].update(change))
    assert reasons(claim) == "", "nothing static contradicts it"
    assert part in reasons(claim, "full")
