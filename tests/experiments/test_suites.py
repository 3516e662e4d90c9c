"""Suites: what comes with the package, what a file may say, and which runs meet the conditions."""

import json
from pathlib import Path

import pytest
import suite as tiny_suite

from latentdd_plugin.core import plugins
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.experiments import suites
from latentdd_plugin.results.record import Record

TREE = tiny_suite.TREE
ROOT = Path(__file__).parents[2]
FROZEN = {  # a published suite never changes: a change is a new version
    "cifar10-field.v1": "e9449d044fbbddee9ea9d85c4ddf3d47a9fad8016796df1117bc86e3e1f73976",
    "cifar10-ipc.v1": "c078a15ff4c8d2e623f3dcb6d3abf63a2f193f079b55c70b0cb1cbd68b602bcf",
    "cifar10-rate.v1": "b04ba99d72b1baa101e6c053cb18e2b708313e8b4470edd832094fb17bd2d3f4",
    "cifar10-labels.v1": "5e44ac22b8d62bf1d9d1957ef925d5f4ff4689873fdde5462a6d622d76f2a8dd",
    "cpu-digits.v1": "f571e72f140e36844def18857b6504ec62210176c1dc2514ef4e3e044ca3f8ad",
    "imagenet1k.v1": "a1872ca5a807f08b3225d1a780bd63ffc241767a73b964e75145624ab1b7a038",
    "imagenette128.v1": "d350e03d978f596835ea4e0fa8304090c4c8d38b0bea8a38e7149872acd5a6cf",
    "latentdd-paper.v1": "b052a66c32e432779607d89056ce9cda6e2d3e92806b9acc5575ec6ab9c4127e",
    "latentdd-questions.v1": "01f3e31acd542060325e276f77e3769a4137aed8509b7a89ea38fdc2882a6eb9",
}


def record(**more):
    """A record that meets the conditions of cpu-digits.v1, with some values changed: `part__key=value`."""
    data = json.loads((ROOT / "tests" / "fixtures" / "result.v1.json").read_text())
    data["config"] |= {"evaluators": ["convnet", "convnext_atto"], "ipc": 1, "lpc": None}
    for key, value in more.items():
        part, _, name = key.partition("__")
        data[part] = {**data[part], name: value} if name else value
    return Record.from_json(data)


@pytest.mark.parametrize("name", suites.names())
def test_what_comes_with_the_package_is_whole_and_unchanged(name):
    suite = suites.get(name)
    assert suite.name == name
    assert suite.sha256 == FROZEN[name]
    cells = suite.cells()
    named = [name for name, _ in cells]
    assert len(set(named)) == len(named) > 0
    assert all(cell.config or cell.reason or cell.same_as for _, cell in cells)


@pytest.mark.parametrize("name", suites.names())
def test_what_it_runs_does_not_change_with_a_preset(name):
    """Every number that a preset chooses stands in the suite itself: presets are tuned again, suites stay."""
    for algo in suites.get(name).algos:
        presets = plugins.resolve("algos", algo["name"]).cls.presets
        assert set(presets.get(algo.get("preset"), {})) <= set(algo), algo


def test_every_fault_of_a_file_is_told_at_once(tmp_path):
    path = tiny_suite.written(
        tmp_path,
        title=None,
        seed=-1,
        evaluators="convnet",
        ipc=[0],
        codecs=["./mine.py:Mine"],
        datasets=[{"name": "digits", "train_size": "many", "test_size": 1}],
        colour="red",
    )
    with pytest.raises(UsageError) as caught:
        suites.get(str(path))
    told = str(caught.value)
    for fault in (
        "unknown key 'colour'",
        "title is missing",
        "seed: ",
        "evaluators: ",
        "ipc: ",
        "codecs: ",
        "datasets: ",
    ):
        assert fault in told
    assert len(caught.value.faults) == 7


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"name": "Tiny"}, "a version are wanted"),
        ({"protocol": "slow.v1"}, "unknown protocol 'slow.v1'"),
        ({"codecs": [{"name": "taesd", "path": "/etc"}]}, "codecs, taesd: path must be left to the user"),
        ({"codecs": [{"name": "nothing", "size": 3}]}, "unknown codec 'nothing'"),
        (
            {"datasets": [{"name": "d", "train_size": 1, "test_size": 1, "options": {"name": "x"}}]},
            "unknown option 'name'",
        ),
        ({"datasets": [{"name": "d", "train_size": 1, "test_size": 1}] * 2}, "two have the same name"),
        ({"schema": "dd-bench/suite.v9"}, "not a suite of schema"),
        ({"labels": ["soft"]}, "labels: a mapping with a list of regimes"),
        ({"labels": {"regimes": ["soft"]}}, "name the teacher"),
        ({"labels": {"regimes": ["hard"], "topk": 3}}, r"unknown option 'topk' \(did you mean top_k"),
        ({"labels": {"regimes": ["softly"], "top_k": "all"}}, "labels.top_k"),
        ({"teacher": {"name": "convnet", "path": "/home/me"}}, "teacher: path must be left to the user"),
        ({"teacher": {"name": "convnet", "recipe": "mine"}}, "teacher.recipe=mine"),
    ],
)
def test_a_suite_says_nothing_that_only_a_caller_may_say(tmp_path, more, fault):
    with pytest.raises(UsageError, match=fault):
        suites.get(str(tiny_suite.written(tmp_path, **{"protocol": "demo.v1", **more})))


def test_impossible_runs_are_found_before_any_starts(tmp_path):
    path = tiny_suite.written(
        tmp_path, protocol="demo.v1", precisions=["fp32", "int3"], algos=[{"name": "dm", "speed": 1}]
    )
    with pytest.raises(UsageError, match=r"(?s)tiny.v1, digits-ipc1: precision=int3"):
        suites.get(str(path)).cells()


def test_a_file_is_called_as_the_suite_calls_itself(tmp_path):
    path = tiny_suite.written(tmp_path, protocol="demo.v1").rename(tmp_path / "other.v1.yaml")
    with pytest.raises(UsageError, match=r"the suite inside is named 'tiny\.v1'; call the file tiny.v1.yaml"):
        suites.get(str(path))


def test_an_unknown_name_lists_the_nearest():
    with pytest.raises(UsageError, match=r"unknown suite 'cpu-digit.v1' \(did you mean cpu-digits.v1"):
        suites.get("cpu-digit.v1")


def test_a_record_of_the_same_conditions_belongs():
    suite = suites.get("cpu-digits.v1")
    assert suite.place_of(record()) == ("digits-ipc1", [])
    assert suites.matching(record())[0].name == "cpu-digits.v1"


def test_random_codes_are_the_control_themselves():
    alone = record(config__controls=False, config__algo={"name": "random"})
    assert suites.get("cpu-digits.v1").place_of(alone)[1] == []


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"config__protocol": "fast.v1"}, "protocol is 'fast.v1', not 'demo.v1'"),
        ({"config__evaluators": ["convnet"]}, "evaluators is"),
        ({"config__seed": 3}, "seed is 3, not 0"),
        ({"config__controls": False}, "made without baselines"),
        ({"config__ipc": 10}, "ipc is 10, not 1"),
        ({"scored_on": "validation"}, "split is 'validation', not 'test'"),
        ({"dataset__train_size": 1000}, "dataset.train_size is 1000, not 1438, as in digits"),
        ({"dataset__options": {"validation": 0.0, "image_size": 16}}, "dataset.options.image_size is 16, not None"),
    ],
)
def test_one_of_other_conditions_does_not(more, fault):
    unmet = suites.get("cpu-digits.v1").place_of(record(**more))[1]
    assert any(fault in one for one in unmet)
    assert suites.matching(record(**more), ["cpu-digits.v1"])[0] is None


def labels_suite(tmp_path, **pins):
    teacher = {"name": "convnet_d1", "recipe": "teacher-quick.v1", "pins": pins}
    more = {"protocol": "demo.v1", "evaluators": ["convnet", "convnext_atto"], "teacher": teacher}
    path = tiny_suite.written(tmp_path, labels={"regimes": ["hard", "soft"], "precision": "fp16"}, **more)
    return suites.get(str(path))


def test_labels_and_teacher_reach_every_run_and_pins_not_the_hash(tmp_path):
    suite = labels_suite(tmp_path)
    (tmp_path / "teacher.json").write_text("{}")
    named = dict(suite.cells(suites.SuiteInputs(teacher=str(tmp_path))))
    soft = named["digits-ipc1-dct-random-int8-soft"].config
    assert (soft.labels.regime, soft.labels.precision) == ("soft", "fp16")
    assert (soft.teacher.name, soft.teacher.path) == ("convnet_d1", str(tmp_path))
    assert named["digits-ipc1-dct-random-int8-hard"].config.labels.regime == "hard"
    assert labels_suite(tmp_path, sha256="0" * 64).sha256 == suite.sha256


def test_a_record_with_other_labels_or_another_teacher_does_not_belong(tmp_path):
    suite = labels_suite(tmp_path, sha256="0" * 64)
    soft = {"regime": "soft", "temperature": 1.0, "precision": "fp16", "top_k": None}
    ours = {**suite.teacher.options.to_json(), "path": "…"}

    def unmet(labels, teacher, sha256="0" * 64):
        card = {"arch": "convnet_d1", "networks": 1, "params": 1, "bytes": 4, "trained_on": [], "accuracy": 0.9}
        return suite.place_of(
            record(config__labels=labels, config__teacher=teacher, teacher={**card, "sha256": sha256})
        )[1]

    assert unmet(soft, ours) == []
    assert "labels is regime=own, not regime=hard or" in unmet(None, None)[0]
    assert "labels is" in unmet({**soft, "precision": "int8"}, ours)[0]
    assert "teacher is name=resnet18" in unmet(soft, {**ours, "name": "resnet18"})[0]
    assert unmet(soft, ours, "1" * 64) == ["teacher.sha256 is 111111111111…, not 000000000000…"]
