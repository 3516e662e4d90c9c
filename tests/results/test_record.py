"""`result.json`: intervals, paired gains, and records of every schema that load for ever."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from latentdd_plugin.core.errors import ArtifactError, RunFailed
from latentdd_plugin.core.types import Score
from latentdd_plugin.results.environment import environment
from latentdd_plugin.results.record import Record
from latentdd_plugin.results.statistics import gain, summarise, summary

FIXTURE = Path(__file__).parents[1] / "fixtures" / "result.v1.json"
accuracies = st.lists(st.floats(0, 1), min_size=3, max_size=12)


def scores(values, evaluator="convnet", first=0):
    return [Score(evaluator, "convnet_d3", {}, 1, first + i, v) for i, v in enumerate(values)]


@settings(max_examples=50, deadline=None)
@given(accuracies)
def test_the_interval_is_students(values):
    found = summarise(values)
    assert found["n"] == len(values)
    assert found["mean"] == pytest.approx(np.mean(values))
    assert found["std"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    if found["std"] > 1e-9:
        expected = scipy.stats.t.interval(0.95, len(values) - 1, np.mean(values), scipy.stats.sem(values))
        assert found["ci95"] == pytest.approx(expected)


def test_few_networks_have_no_interval():
    assert summarise([0.5]) == {"mean": 0.5, "std": None, "n": 1, "ci95": None}
    two = summarise([0.4, 0.6])
    assert two["ci95"] is None
    assert two["std"] == pytest.approx(math.sqrt(0.02))
    assert summarise([0.5, 0.5, 0.5])["ci95"] == [0.5, 0.5]


def test_known_numbers():
    """t(0.975, 2) = 4.302653: (0.1, 0.2, 0.3) is 0.2 +- 4.302653 * 0.1 / sqrt(3)."""
    found = summarise([0.1, 0.2, 0.3])
    assert found["ci95"] == pytest.approx([0.2 - 0.248414, 0.2 + 0.248414], abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(accuracies, st.data())
def test_gains_are_paired_by_seed(ours, data):
    theirs = data.draw(st.lists(st.floats(0, 1), min_size=len(ours), max_size=len(ours)))
    order = data.draw(st.permutations(range(len(ours))))
    shuffled = [scores(theirs)[i] for i in order]
    expected = summarise([a - b for a, b in zip(ours, theirs, strict=True)])
    assert gain(scores(ours), shuffled) == {"convnet": expected}


def test_pairing_is_narrower_than_two_separate_intervals():
    ours, theirs = [0.50, 0.60, 0.70], [0.40, 0.50, 0.60]
    assert gain(scores(ours), scores(theirs))["convnet"]["std"] == pytest.approx(0, abs=1e-9)


def test_only_what_both_have_is_compared():
    ours = [*scores([0.5, 0.6, 0.7]), *scores([0.9], "resnet18")]
    theirs = scores([0.1, 0.1], first=1)
    found = gain(ours, theirs)
    assert found == {"convnet": summarise([0.5, 0.6])}
    assert gain(scores([0.5], "vgg11"), theirs) == {}
    assert gain(scores([0.5], first=7), theirs) == {}


def test_a_summary_for_each_evaluator():
    found = summary([*scores([0.5, 0.6, 0.7]), *scores([0.9], "resnet18")])
    assert list(found) == ["convnet", "resnet18"]
    assert found["resnet18"]["n"] == 1


@pytest.fixture
def published(tmp_path):
    shutil.copy(FIXTURE, tmp_path / "result.json")
    return Record.load(tmp_path)


def test_the_first_schema_loads_for_ever(published):
    assert published.data["schema"] == "dd-bench/result.v1"
    table = published.table().splitlines()
    assert table[2].split()[:3] == ["pca", "+", "dm"]
    assert any(line.startswith("random-codes") for line in table)
    assert any(
        line.startswith("random-pixels") and "not run: 8 bytes a class hold not one int8" in line for line in table
    )
    assert any(line.startswith("skipped: vgg11: vgg11 cannot take 8x8 px") for line in table)
    assert "bytes at int8: codes 80, labels 0, side 224, decoder 1,280, file 2,792" in table


def test_what_is_saved_is_what_is_loaded(published, tmp_path):
    copy = Record(published.data, tmp_path / "copy")
    copy.save()
    assert Record.load(tmp_path / "copy").data == published.data
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["result.json"]


def test_a_record_holds_no_nan(published, tmp_path):
    broken = Record({**published.data, "cost": {"encode_s": math.nan}}, tmp_path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        broken.save()
    assert Record.load(tmp_path).data == published.data, "what was there is kept"


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"schema": "dd-bench/result.v0"}', "\x00"])
def test_what_is_no_record_is_refused(tmp_path, text):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"result\.json: not a "):
        Record.load(tmp_path)
    with pytest.raises(ArtifactError, match=r"absent is no folder of a finished run: it holds no result.json$"):
        Record.load(tmp_path / "absent")


def test_a_full_disk_is_one_message(published, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(RunFailed, match=r"cannot write .*result\.json: No space left on device"):
        published.save()


def test_the_environment_can_be_written_down():
    found = environment({"device": "cpu"})
    json.dumps(found, allow_nan=False)
    assert found["packages"]["torch"]
    assert found["numerics"] == {"device": "cpu"}
    assert {"python", "platform", "cpu", "gpu", "git"} <= set(found)


def test_in_a_comparisons_folder_it_says_where_the_runs_are(tmp_path):
    cell = tmp_path / "cells" / "dct-dm"
    cell.mkdir(parents=True)
    (cell / "result.json").write_text("{}")
    with pytest.raises(ArtifactError, match=rf"a comparison's runs lie in its cells, as {cell}$"):
        Record.load(tmp_path)
