"""A plug-in's file that was edited gives other numbers: nothing made with the old code is taken for the new one's."""

from pathlib import Path

import pytest
import tiny

from latentdd_plugin import run
from latentdd_plugin.codecs.dct import DCT
from latentdd_plugin.core import plugins
from latentdd_plugin.core.config import EvaluationConfig
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.experiments.build import resolve_run
from latentdd_plugin.experiments.evaluate import evaluate_artifact

CODEC = """
import torch.nn.functional as F
from latentdd_plugin.codecs.base import Codec

class Half(Codec):
    spatial = True

    def encode(self, images):
        return F.avg_pool2d(images, 2) * {scale}

    def decode(self, codes):
        return F.interpolate(codes, scale_factor=2)
"""
ALGO = """
from latentdd_plugin.distillers.base import Distiller
from latentdd_plugin.core.types import SyntheticSet

class Scaled(Distiller):
    def distill(self, task):
        codes, labels = task.init("real")
        return SyntheticSet(codes * {scale}, labels)
"""
EVALUATOR = """
from latentdd_plugin.evaluators.base import Evaluator
from latentdd_plugin.core.types import Score

class Constant(Evaluator):
    def evaluate(self, trial, seed):
        return Score("", "constant", {{}}, 0, seed, {scale})
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, tiny_protocol):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DD_BENCH_CACHE", str(tmp_path / "cache"))
    write("codec", CODEC, 1.0)
    write("algo", ALGO, 1.0)
    write("judge", EVALUATOR, 0.25)
    return tmp_path


def write(name, text, scale):
    Path(f"{name}.py").write_text(text.format(scale=scale))


def config(**more):
    parts = {"codec": "./codec.py:Half", "algo": {"name": "./algo.py:Scaled"}, "lpc": 4}
    return tiny.config(**{**parts, **more})


def test_of_this_packages_parts_nothing_is_noted():
    assert plugins.code_of(DCT) is None
    plain = resolve_run(tiny.config())[0]
    assert plain.code == {}
    assert "code" not in plain.to_json()


@pytest.mark.parametrize(("name", "text"), [("codec", CODEC), ("algo", ALGO)])
def test_a_run_belongs_to_the_code_that_made_it(name, text):
    run(config(), out="out")
    assert run(config(), out="out").to_json()["config"]["code"].keys() == {"codec", "algo"}
    before = resolve_run(config())[0].hash8
    write(name, text, 2.0)
    with pytest.raises(UsageError, match=rf"code\.{name}: .*\n\(code: the file of a plug-in was edited since"):
        run(config(), out="out")
    assert resolve_run(config())[0].hash8 != before, "so that the default folder is another one too"


def test_a_base_class_in_another_file_counts_too(here, monkeypatch):
    monkeypatch.syspath_prepend(str(here))
    (here / "shared_base.py").write_text(ALGO.format(scale=1.0))
    (here / "derived.py").write_text("from shared_base import Scaled\nclass Mine(Scaled):\n    pass\n")
    before = plugins.code_of(plugins.resolve("algos", "./derived.py:Mine").cls)
    (here / "shared_base.py").write_text(ALGO.format(scale=2.0))
    assert plugins.code_of(plugins.resolve("algos", "./derived.py:Mine").cls) != before


def test_a_control_is_made_anew_for_an_edited_codec():
    def control(out):
        record = run(config(controls=True, algo=tiny.DM), out=out)
        return record.to_json()["controls"]["random-codes"]["artifact"]["sha256"]

    first = control("a")
    write("codec", CODEC.replace("avg_pool2d(images, 2)", "max_pool2d(images, 2)"), 1.0)
    assert control("b") != first


def test_an_edited_codec_decodes_anew():
    run(config(algo=tiny.DM), out="out")
    asked = EvaluationConfig(evaluators=("convnet_d1",), protocol="tiny.test", device="cpu")
    spec = {"name": "./codec.py:Half"}
    first = evaluate_artifact("out", asked, codec=spec).to_json()
    write("codec", CODEC.replace("scale_factor=2)", "scale_factor=2).flip(3)"), 1.0)
    second = evaluate_artifact("out", asked, codec=spec).to_json()
    assert first["config"]["code"] != second["config"]["code"]
    assert first["scores"] != second["scores"]


def test_an_edited_evaluator_scores_anew():
    run(tiny.config(lpc=1), out="out")
    asked = EvaluationConfig(evaluators=("./judge.py:Constant",), protocol="tiny.test", device="cpu")
    assert evaluate_artifact("out", asked).to_json()["scores"][0]["accuracy"] == 0.25
    write("judge", EVALUATOR, 0.5)
    assert evaluate_artifact("out", asked).to_json()["scores"][0]["accuracy"] == 0.5
