"""`result.json`: intervals, paired gains, and records of every schema that load for ever."""

import json
import math
import re
import shutil
from dataclasses import replace
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
from latentdd_plugin.results.statistics import Accuracy, Gain, Statistics, gains, summarise

FIXTURE = Path(__file__).parents[1] / "fixtures" / "result.v1.json"
accuracies = st.lists(st.floats(0, 1), min_size=3, max_size=12)


def scores(values, evaluator="convnet", first=0):
    return [Score(evaluator, "convnet_d3", {}, 1, first + i, v) for i, v in enumerate(values)]


@settings(max_examples=50, deadline=None)
@given(accuracies)
def test_the_interval_is_students(values):
    found = Statistics.of(values)
    assert found.n == len(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.std == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    if found.std > 1e-9:
        expected = scipy.stats.t.interval(0.95, len(values) - 1, np.mean(values), scipy.stats.sem(values))
        assert found.ci95 == pytest.approx(expected)


def test_few_networks_have_no_interval():
    assert Statistics.of([0.5]) == Statistics(0.5, None, 1, None)
    two = Statistics.of([0.4, 0.6])
    assert two.ci95 is None
    assert two.std == pytest.approx(math.sqrt(0.02))
    assert Statistics.of([0.5, 0.5, 0.5]).ci95 == (0.5, 0.5)


def test_known_numbers():
    """t(0.975, 2) = 4.302653: (0.1, 0.2, 0.3) is 0.2 +- 4.302653 * 0.1 / sqrt(3)."""
    found = Statistics.of([0.1, 0.2, 0.3])
    assert found.ci95 == pytest.approx([0.2 - 0.248414, 0.2 + 0.248414], abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(accuracies, st.data())
def test_gains_are_paired_by_seed(ours, data):
    theirs = data.draw(st.lists(st.floats(0, 1), min_size=len(ours), max_size=len(ours)))
    order = data.draw(st.permutations(range(len(ours))))
    shuffled = [scores(theirs)[i] for i in order]
    expected = Gain.of([a - b for a, b in zip(ours, theirs, strict=True)])
    assert gains(scores(ours), shuffled) == {"convnet": expected}


def test_pairing_is_narrower_than_two_separate_intervals():
    ours, theirs = [0.50, 0.60, 0.70], [0.40, 0.50, 0.60]
    assert gains(scores(ours), scores(theirs))["convnet"].std == pytest.approx(0, abs=1e-9)


def test_only_what_both_have_is_compared():
    ours = [*scores([0.5, 0.6, 0.7]), *scores([0.9], "resnet18")]
    theirs = scores([0.1, 0.1], first=1)
    found = gains(ours, theirs)
    assert found == {"convnet": Gain.of([0.5, 0.6])}
    assert gains(scores([0.5], "vgg11"), theirs) == {}
    assert gains(scores([0.5], first=7), theirs) == {}


def test_a_summary_for_each_evaluator():
    found = summarise([*scores([0.5, 0.6, 0.7]), *scores([0.9], "resnet18")])
    assert list(found) == ["convnet", "resnet18"]
    assert found["resnet18"].n == 1


@pytest.fixture
def published(tmp_path):
    shutil.copy(FIXTURE, tmp_path / "result.json")
    return Record.load(tmp_path)


def test_the_first_schema_loads_for_ever(published):
    assert published.schema == "dd-bench/result.v1"
    table = published.table().splitlines()
    assert table[2].split()[:3] == ["pca", "+", "dm"]
    assert any(line.startswith("random-codes") for line in table)
    assert any(line.startswith("random-pixels") and "not run: 8 bytes" in line for line in table)
    assert any(line.startswith("skipped: vgg11: vgg11 cannot take 8x8 px") for line in table)
    assert "bytes at int8: codes 80, labels 0, side 224, decoder 1,280, file 2,792" in table


def test_what_is_saved_is_what_is_loaded(published, tmp_path):
    published.in_folder(tmp_path / "copy").save()
    assert Record.load(tmp_path / "copy") == published
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["result.json"]


def test_a_record_holds_no_nan(published, tmp_path):
    broken = replace(published, cost=replace(published.cost, encode_s=math.nan))
    with pytest.raises(ValueError, match="not JSON compliant"):
        broken.save()
    assert Record.load(tmp_path) == published, "what was there is kept"


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"schema": "dd-bench/result.v0"}', "\x00"])
def test_what_is_no_record_is_refused(tmp_path, text):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"result\.json: not a "):
        Record.load(tmp_path)
    with pytest.raises(ArtifactError, match=r"absent is not the folder of a finished run: it has no result.json$"):
        Record.load(tmp_path / "absent")


def test_a_full_disk_is_one_message(published, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(RunFailed, match=r"cannot write .*result\.json: No space left on device"):
        published.save()


def test_the_environment_can_be_written_down():
    found = environment({"device": "cpu"})
    written = json.dumps(found.to_json(), allow_nan=False)
    assert found.packages["torch"]
    assert found.numerics == {"device": "cpu"}
    assert {"python", "platform", "cpu", "gpu", "git"} <= set(json.loads(written))


def test_in_a_comparisons_folder_it_says_where_the_runs_are(tmp_path):
    cell = tmp_path / "cells" / "dct-dm"
    cell.mkdir(parents=True)
    (cell / "result.json").write_text("{}")
    with pytest.raises(ArtifactError, match=rf"the runs of a comparison lie in its cells, such as {cell}$"):
        Record.load(tmp_path)


def test_statistics_read_as_people_write_them():
    assert str(Accuracy(0.442, 0.008, 3, (0.43, 0.45))) == "44.2% ± 0.8"
    assert str(Accuracy(0.442, None, 1, None)) == "44.2%"
    gain = Gain(0.021, 0.01, 3, (0.004, 0.038))
    assert (str(gain), gain.direction, gain.side) == ("+2.1 [+0.4, +3.8]", "up", "2.1 points above")
    loss = Gain(-0.003, 0.01, 3, (-0.02, 0.01))
    assert (str(loss), loss.direction, loss.side) == ("-0.3 [-2.0, +1.0]", "", "0.3 points below")


def test_statistics_are_attributes_of_a_record(published):
    accuracy = published.summary["convnet"]
    assert (accuracy.n, accuracy.ci95) == (2, None)
    assert accuracy.mean == pytest.approx(0.61699, abs=1e-5)
    assert published.gain("convnet") == published.random_codes.gain["convnet"]
    assert published.budget.bytes.total == 80


def test_a_data_frame_has_a_row_per_score(published):
    frame = published.to_frame()
    assert len(frame) == 4
    assert list(frame.baseline) == ["", "", "random-codes", "random-codes"]
    assert {"dataset", "codec", "distiller", "precision", "protocol", "evaluator", "seed", "accuracy", "bytes"} <= set(
        frame
    )
    assert frame.groupby("baseline").accuracy.mean()[""] == pytest.approx(published.summary["convnet"].mean)


def test_a_prompt_shows_a_line(published):
    assert re.fullmatch(r"<Record: pca \+ dm on digits, convnet .*% ± .*; /\S+>", repr(published))


def test_a_notebook_shows_the_table_and_no_markup(published):
    bad = replace(published, dataset=replace(published.dataset, name="<script>"))
    assert bad._repr_html_().startswith("<pre>")
    assert "<script>" not in bad._repr_html_()
    assert "&lt;script&gt;" in bad._repr_html_()
