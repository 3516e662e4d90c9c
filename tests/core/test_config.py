"""One configuration: parts that are useful alone, flat names as keywords, and the published flat JSON."""

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from latentdd_plugin.core.config import (
    BudgetConfig,
    ComputeConfig,
    DatasetConfig,
    EvaluationConfig,
    PartSpec,
    RunConfig,
    ScoringConfig,
)
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.experiments.build import resolve_run

FLAT = {
    "dataset": {
        "name": "digits", "subset": None, "revision": None, "image_size": None, "image_column": None,
        "label_column": None, "classes": ["1", "7"], "per_class": None, "flip": None, "validation": 0.0,
    },
    "codec": {"name": "dct", "size": 4},
    "algo": {"name": "dm", "preset": "quick"},
    "match": "code", "ipc": None, "lpc": 4, "precision": "int8", "evaluators": ["convnet"], "protocol": "fast.v1",
    "controls": False, "split": "test", "seed": 3, "device": "cpu", "amp": "auto", "compile": "auto", "threads": 2,
}  # fmt: skip


def test_the_json_is_the_flat_published_layout_in_its_order():
    config = RunConfig.from_json(FLAT)
    assert config.to_json() == FLAT
    assert list(config.to_json()) == list(FLAT)
    assert RunConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert config.hash8 == "c6fbf0e3"
    assert RunConfig(evaluators=("convnet",), protocol="fast.v1").hash8 == "a9918d99"
    assert "code" not in FLAT
    assert config.replace(code={"codec": "0" * 64}).to_json()["code"] == {"codec": "0" * 64}


def test_flat_names_and_parts_say_the_same():
    flat = RunConfig(
        lpc=4, precision="int8", evaluators="convnet", protocol="fast.v1", split="validation", device="cpu", threads=2
    )
    parts = RunConfig(
        budget=BudgetConfig(lpc=4, precision="int8"),
        scoring=ScoringConfig(split="validation"),
        compute=ComputeConfig(device="cpu", threads=2),
    )
    assert flat == parts
    assert (flat.lpc, flat.ipc, flat.precision, flat.split, flat.device, flat.threads) == (
        4, None, "int8", "validation", "cpu", 2,
    )  # fmt: skip
    assert RunConfig(compute=ComputeConfig(device="cpu", threads=2), threads=None).compute == ComputeConfig("cpu")


def test_the_dataset_decides_what_scores_it_by_default():
    assert (RunConfig().protocol, RunConfig().evaluators) == ("small.v1", ("convnet", "convnext_atto"))
    other = RunConfig(dataset="my/folder")
    assert (other.protocol, other.evaluators) == ("fast.v1", ("convnet",))
    assert RunConfig(protocol=None, evaluators=None) == RunConfig()
    assert RunConfig(protocol="quick.v1").evaluators == ("convnet", "convnext_atto")


def test_replace_takes_both():
    config = RunConfig(ipc=10, device="cpu")
    assert config.replace(precision="int4").budget == BudgetConfig(10, None, "int4")
    assert dataclasses.replace(config, lpc=2, ipc=None).budget == BudgetConfig(None, 2)
    assert config.replace(compute=ComputeConfig("cuda")).device == "cuda"
    assert config == RunConfig(ipc=10, device="cpu")


def test_a_name_is_enough_for_codec_and_distiller():
    config = RunConfig(codec="dct", algo="dm", device="cpu")
    assert config == RunConfig({"name": "digits"}, {"name": "dct"}, {"name": "dm"}, device="cpu")
    assert config.codec == {"name": "dct"}
    assert RunConfig(distiller="dc", baselines=False) == RunConfig(algo="dc", controls=False)
    assert resolve_run(config)[0].algo["preset"] == "quick"
    assert resolve_run(config)[0] == resolve_run(config.replace(algo={"name": "dm", "preset": "auto"}))[0]


def test_an_unknown_option_is_a_type_error():
    with pytest.raises(TypeError, match="'precison'"):
        RunConfig(precison="int8")
    with pytest.raises(TypeError, match="'devise'"):
        EvaluationConfig(devise="cpu")


def test_a_specification_is_its_mapping():
    spec = PartSpec.of({"size": np.int64(4), "name": "dct", "path": Path("a/b")})
    assert spec == {"name": "dct", "size": 4, "path": "a/b"}
    assert (spec.name, dict(spec.options), len(spec)) == ("dct", {"size": 4, "path": "a/b"}, 3)
    assert json.dumps(dict(spec))
    assert pickle.loads(pickle.dumps(spec)) == spec
    with pytest.raises(UsageError, match="name is missing"):
        RunConfig(codec={"size": 4})


def test_every_fault_is_found_at_once_whoever_asks():
    config = RunConfig(
        DatasetConfig(validation=1.5, image_size=0, per_class="two"),
        match="pixels", ipc=0, lpc=2, precision="int3", split="train", seed="x", device="cpu", amp="yes", threads=0,
    )  # fmt: skip
    text = "\n".join(config.faults())
    for part in ("per_class='two': must be a whole number", "ipc or lpc, not both", "ipc=0: must be", "precision=int3",
                 "split=train", "seed='x'", "amp=yes", "threads=0", "match=pixels"):  # fmt: skip
        assert part in text
    assert RunConfig(DatasetConfig(validation=1.5), split="validation").faults()
    assert RunConfig(split="validation").faults() == [
        "split=validation: set dataset.validation to the fraction to hold out, for example 0.1"
    ]
    with pytest.raises(UsageError):
        config.check()


def test_an_evaluation_takes_flat_names_and_parts():
    flat = EvaluationConfig("digits", evaluators="convnet", metrics="lrs", device="cpu", threads=1)
    parts = EvaluationConfig(
        "digits", evaluators=("convnet",), metrics=("lrs",), compute=ComputeConfig("cpu", threads=1)
    )
    assert flat == parts
    assert EvaluationConfig("digits").evaluators is None
    assert EvaluationConfig(DatasetConfig("digits")).dataset["name"] == "digits"
