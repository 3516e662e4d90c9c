"""A configuration tree to a RunConfig, and every fault of it at once."""

import logging

import pytest

from latentdd_plugin.cli import overrides, request
from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.experiments.build import resolve_run


def read(*words):
    kept, faults = overrides.checked(words, sweep=False)
    assert faults == []
    return request.read(overrides.composed(kept))


def faults_of(*words):
    with pytest.raises(UsageError) as raised:
        read(*words)
    assert raised.value.exit_code == 2
    return raised.value.faults


def test_the_defaults_are_those_of_the_api():
    wanted = read("device=cpu")
    assert wanted.config == resolve_run(RunConfig(device="cpu"))[0]
    assert resolve_run(wanted.config)[0] == wanted.config
    assert wanted.config.ipc == 1
    assert wanted.precisions == ("fp32",)
    assert wanted.out is None


def test_the_preset_is_quick_unless_paper_is_asked_for(monkeypatch):
    assert read("device=cpu").config.algo["preset"] == "quick"
    assert read("device=cpu", "algo.preset=paper").config.algo["preset"] == "paper"
    monkeypatch.setattr("latentdd_plugin.core.compute.resolve_device", lambda name: "cuda")
    assert read().config.algo["preset"] == "quick"


def test_auto_is_an_alias_of_quick_with_a_note(caplog):
    with caplog.at_level(logging.INFO, "latentdd_plugin"):
        assert read("device=cpu", "algo.preset=auto").config == read("device=cpu").config
    assert [m for m in caplog.messages if "algo.preset=auto means quick" in m] == caplog.messages
    assert len(caplog.messages) == 1


def test_a_preset_that_chooses_nothing_is_left_out():
    assert read("algo=random", "device=cpu").config == resolve_run(RunConfig(algo="random", device="cpu"))[0]
    assert dict(read("algo=random").config.algo) == {"name": "random"}


def test_values_get_the_types_of_the_api():
    config = read(
        "dataset.classes=[1,cat]",
        "dataset.validation=0",
        "dataset.name=123",
        "dataset.flip=false",
        "controls=none",
        "evaluator=convnet",
        "device=cpu",
        "lpc=4",
    ).config
    assert config.dataset.classes == ("1", "cat")
    assert config.dataset.validation == 0.0
    assert config.dataset.name == "123"
    assert config.dataset.flip is False
    assert config.controls is False
    assert config.evaluators == ("convnet",)
    assert (config.ipc, config.lpc) == (None, 4)
    assert RunConfig.from_json(config.to_json()) == config


def test_all_faults_come_together():
    found = faults_of(
        "codec.name=dtc",
        "algo.iteration=3",
        "ipc=many",
        "lpc=0",
        "seed=1.5",
        "precision=int3",
        "match=pixels",
        "protocol=fast.v0",
        "dataset.name=digit",
        "dataset.flip=perhaps",
        "controls=some",
    )
    text = "\n".join(found)
    for expected in (
        "unknown codec 'dtc' (did you mean dct",
        "algo.dm: DM has no option 'iteration' (did you mean iterations",
        "ipc='many': must be a whole number or null",
        "lpc=0: must be at least 1",
        "seed=1.5: must be a whole number",
        "precision=int3: choose one of",
        "match=pixels: choose one of code, pixel",
        "unknown protocol 'fast.v0'; there are: fast.v1",
        "unknown dataset 'digit' (did you mean digits?)",
        "dataset.flip='perhaps': must be true or false or null",
        "controls=some: choose one of default, none",
    ):
        assert expected in text
    assert len(found) == len(set(found))


def test_an_unknown_preset_and_evaluator_are_faults():
    assert "algo.preset=fast: dm has paper, quick" in faults_of("algo.preset=fast")
    (fault,) = faults_of("evaluator=[convnet,resnet81]")
    assert fault.startswith("unknown evaluator 'resnet81' (did you mean resnet")


def test_several_precisions_need_a_fixed_number_of_codes():
    assert read("precision=[fp32,int8]", "lpc=4", "device=cpu").precisions == ("fp32", "int8")
    assert "give --lpc" in faults_of("precision=[fp32,int8]")[0]
    assert faults_of("precision=[fp32,int9]", "lpc=4")[0].startswith("precision=int9: choose")


@pytest.mark.parametrize("name", ["a/b", "./x", "mnist", "/no/such/folder"])
def test_what_may_be_a_path_or_a_hub_id_is_left_to_the_data(name):
    assert read(f"dataset.name={name}", "device=cpu").config.dataset.name == name


def test_a_plug_in_that_raises_at_import_is_one_fault(tmp_path):
    (tmp_path / "broken_codec.py").write_text("raise SystemExit('no licence')")
    (fault,) = faults_of(f"codec.name='{tmp_path}/broken_codec.py:C'")
    assert "broken_codec.py:C' cannot be loaded: SystemExit: no licence" in fault


def test_a_class_of_another_kind_is_a_fault(tmp_path):
    (tmp_path / "other_thing.py").write_text("class C: ...")
    (fault,) = faults_of(f"codec.name='{tmp_path}/other_thing.py:C'")
    assert "does not derive from latentdd_plugin.codecs.base.Codec" in fault
