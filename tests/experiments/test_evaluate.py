"""Scoring an artifact that exists: the same scores as its run, other protocols, references, and what is refused."""

import json
import shutil
from dataclasses import replace

import pytest
import tiny

from latentdd_plugin import evaluate as evaluate_artifact
from latentdd_plugin.artifacts.artifact import Artifact
from latentdd_plugin.artifacts.file import load_artifact, save_artifact
from latentdd_plugin.core.config import DatasetConfig
from latentdd_plugin.core.errors import ArtifactError, PluginError, UsageError
from latentdd_plugin.core.types import Score
from latentdd_plugin.evaluators import protocols
from latentdd_plugin.evaluators.base import Trial
from latentdd_plugin.evaluators.scoring import ScoreFile
from latentdd_plugin.evaluators.train_scratch import TrainingSession
from latentdd_plugin.experiments.evaluate import EvaluationConfig
from latentdd_plugin.experiments.full_dataset import whole_set
from latentdd_plugin.experiments.run import run
from latentdd_plugin.results.evaluation import Evaluation
from latentdd_plugin.results.statistics import recoveries
from latentdd_plugin.testing import samples

pytestmark = pytest.mark.usefixtures("tiny_protocol")

CODEC = """
import torch.nn.functional as F
from latentdd_plugin.codecs.base import Codec

class Half(Codec):
    spatial = True
    locations = ("path",)

    def __init__(self, path=None, gain=1.0):
        super().__init__()
        self.path, self.gain = path, gain

    def encode(self, images):
        return self.gain * F.avg_pool2d(images, 2)

    def decode(self, codes):
        return F.interpolate(codes, scale_factor=2) / self.gain
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DD_BENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def trained(monkeypatch):
    """(architecture, seed, samples) of every network trained from here on."""
    found, score = [], TrainingSession.score

    def noted(self, seed):
        found.append((self.evaluator.arch, seed, len(self.trial.images)))
        return score(self, seed)

    monkeypatch.setattr(TrainingSession, "score", noted)
    return found


def evaluation_config(**more):
    given = {"evaluators": ("convnet_d1",), "protocol": tiny.PROTOCOL.name, **tiny.PLAIN, **more}
    return EvaluationConfig(**given)


@pytest.mark.parametrize("codec", ["dct", "pca", "identity"])
def test_the_scores_are_those_of_the_run(tmp_path, codec):
    done = run(tiny.config(codec=codec, precision="int8", seed=3), out=tmp_path / "run")
    again = evaluate_artifact(tmp_path / "run", evaluation_config(seed=3), command="the command")
    assert again.to_json()["scores"] == done.to_json()["scores"]
    assert again.to_json()["summary"] == done.to_json()["summary"]
    assert again.to_json()["protocol"] == done.to_json()["protocol"]
    assert again.to_json()["budget"]["bytes"] == done.to_json()["budget"]["bytes"]
    assert again.to_json()["codec"] == done.to_json()["codec"]
    assert again.to_json()["artifact"]["sha256"] == done.to_json()["artifact"]["sha256"]
    assert again.to_json()["dataset"]["same"] is True
    assert again.to_json()["command"] == "the command"
    assert again.folder.parent == tmp_path / "run" / "evaluations"
    assert again.folder.name.startswith("tiny.test-")
    assert Evaluation.load(again.folder) == again
    assert not (again.folder / "checkpoint").exists()


def test_a_finished_evaluation_is_returned_as_it_is(tmp_path, trained):
    run(tiny.config(), out=tmp_path / "run")
    first = evaluate_artifact(tmp_path / "run", evaluation_config())
    before = len(trained)
    assert (
        evaluate_artifact(tmp_path / "run" / "distilled.safetensors", evaluation_config()).to_json() == first.to_json()
    )
    assert len(trained) == before
    other = evaluate_artifact(tmp_path / "run", evaluation_config(evaluators=("convnet_d2",)))
    assert other.folder != first.folder
    assert [row["arch"] for row in other.to_json()["scores"]] == ["convnet_d2"] * 2
    with pytest.raises(UsageError, match=r"(?s)belongs to another configuration.*seed: 0 there, 1 asked for"):
        evaluate_artifact(tmp_path / "run", evaluation_config(seed=1), out=first.folder)


def test_it_goes_on_network_by_network(tmp_path, monkeypatch, trained):
    run(tiny.config(), out=tmp_path / "run")
    whole = evaluate_artifact(
        tmp_path / "run", evaluation_config(evaluators=("convnet_d1", "convnet_d2")), out=tmp_path / "whole"
    )
    write, kept = ScoreFile.write, []

    def broken(self, scores):
        write(self, scores)
        kept.append(scores)
        if len(kept) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(ScoreFile, "write", broken)
    with pytest.raises(KeyboardInterrupt):
        evaluate_artifact(
            tmp_path / "run", evaluation_config(evaluators=("convnet_d1", "convnet_d2")), out=tmp_path / "cut"
        )
    del trained[:]
    resumed = evaluate_artifact(
        tmp_path / "run", evaluation_config(evaluators=("convnet_d1", "convnet_d2")), out=tmp_path / "cut"
    )
    assert [(arch, seed) for arch, seed, _ in trained] == [("convnet_d2", 1)]
    assert resumed.to_json()["scores"] == whole.to_json()["scores"]


def test_the_whole_set_is_trained_once_for_all_artifacts(tmp_path, trained):
    run(tiny.config(), out=tmp_path / "a")
    run(tiny.config(codec="identity"), out=tmp_path / "b")
    del trained[:]
    first = evaluate_artifact(tmp_path / "a", evaluation_config(reference="full"))
    assert [samples for _, _, samples in trained] == [first.to_json()["budget"]["codes"]] * 2 + [
        len(tiny.digits().train)
    ] * 2
    whole = first.to_json()["reference"]
    assert whole["train_size"] == len(tiny.digits().train)
    assert whole["recovery"]["convnet_d1"]["n"] == 2
    del trained[:]
    second = evaluate_artifact(tmp_path / "b", evaluation_config(reference="full"))
    assert len(trained) == 2
    assert second.to_json()["reference"]["scores"] == whole["scores"]
    evaluate_artifact(tmp_path / "b", evaluation_config(reference="full", evaluators=("convnet_d1", "convnet_d2")))
    assert [row for row in trained[-4:] if row[2] > 100] == [
        ("convnet_d2", seed, whole["train_size"]) for seed in (0, 1)
    ]
    table = first.table()
    assert "whole set" in table
    assert "recovery" in table
    assert "1,438 images" in table


def test_the_whole_set_is_treated_as_the_distilled_one():
    trial = tiny.trial(lr=0.3, kind="probabilities", protocol=protocols.get("fast.v1"))
    whole = whole_set(tiny.digits(), replace(trial, teacher=samples.teacher()))
    assert whole.teacher is None, "its labels are the classes, whatever the distilled set's are"
    assert whole.lr is None
    assert whole.label_kind == "hard"
    assert whole.images.shape == (1438, 1, 8, 8)
    direct = Trial(**{**vars(tiny.trial()), "images": tiny.digits().train.pixels.float() / 255})
    assert (whole.inputs - direct.inputs).abs().max() < 1e-6
    assert whole.shape == trial.shape


def test_recovery_is_paired_by_seed():
    def row(seed, accuracy, evaluator="a"):
        return Score(evaluator, evaluator, {}, 1, seed, accuracy)

    ours = [row(0, 0.4), row(1, 0.3), row(2, 0.5), row(0, 0.9, "b")]
    theirs = [row(2, 1.0), row(1, 0.6), row(0, 0.8), row(0, 0.0, "b")]
    found = recoveries(ours, theirs)
    assert found["a"].mean == pytest.approx(0.5)
    assert found["a"].std == 0.0
    assert "b" not in found


# --- dataset ---------------------------------------------------------------------------------------------------------


def test_options_of_the_data_set_come_from_the_run(tmp_path):
    config = tiny.config(dataset=DatasetConfig("digits", classes=("3", "8"), per_class=50, validation=0.2))
    config = type(config)(**{**vars(config), "split": "validation"})
    done = run(config, out=tmp_path / "run")
    again = evaluate_artifact(tmp_path / "run", evaluation_config())
    assert again.to_json()["scored_on"] == "validation"
    assert again.to_json()["scores"] == done.to_json()["scores"]
    on_test = evaluate_artifact(tmp_path / "run", evaluation_config(split="test"))
    assert on_test.to_json()["scored_on"] == "test"
    assert on_test.to_json()["dataset"]["test_size"] != again.to_json()["dataset"]["test_size"]
    shutil.copy(tmp_path / "run" / "distilled.safetensors", tmp_path / "alone.safetensors")
    with pytest.raises(UsageError, match=r"of images \(1, 8, 8\) in 2 classes, dataset digits has .* in 10"):
        evaluate_artifact(tmp_path / "alone.safetensors", evaluation_config())
    said = {"classes": ("3", "8"), "per_class": 50, "validation": 0.2}
    alone = evaluate_artifact(tmp_path / "alone.safetensors", evaluation_config(dataset=said))
    assert alone.to_json()["scored_on"] == "validation"
    assert alone.to_json()["scores"] == done.to_json()["scores"]


def test_other_images_are_refused_unless_allowed(tmp_path):
    run(tiny.config(), out=tmp_path / "run")
    with pytest.raises(UsageError, match=r"digits is not what the artifact was made from .* or --allow-other-data"):
        evaluate_artifact(tmp_path / "run", evaluation_config(dataset={"per_class": 20}))
    with pytest.raises(UsageError, match=r"dataset\.image_size=8\?"):
        evaluate_artifact(tmp_path / "run", evaluation_config(dataset={"image_size": 16}), allow_other_data=True)
    found = evaluate_artifact(tmp_path / "run", evaluation_config(dataset={"per_class": 20}), allow_other_data=True)
    assert found.to_json()["dataset"]["same"] is False
    assert "other data than it was made from" in found.table()


def test_a_name_out_of_the_file_is_never_a_path(tmp_path):
    run(tiny.config(), out=tmp_path / "run")
    stored = load_artifact(tmp_path / "run" / "distilled.safetensors")
    header = replace(stored.header, dataset=replace(stored.header.dataset, name="/etc"))
    save_artifact(Artifact(stored.packed, stored.labels, None, {}, header), tmp_path / "x.safetensors")
    with pytest.raises(UsageError, match="the artifact is of dataset '/etc', which is not built in: give --dataset"):
        evaluate_artifact(tmp_path / "x.safetensors", evaluation_config())
    named = evaluate_artifact(tmp_path / "x.safetensors", evaluation_config(dataset="digits"))
    assert named.to_json()["dataset"]["same"] is True


# --- codec ------------------------------------------------------------------------------------------------------------


def test_a_codec_of_the_callers_own_must_be_the_one_it_was_made_with(tmp_path):
    (tmp_path / "half.py").write_text(CODEC)
    name = f"{tmp_path}/half.py:Half"
    done = run(tiny.config(codec={"name": name, "path": "here"}), out=tmp_path / "run")
    with pytest.raises(PluginError, match="unknown codec"):
        evaluate_artifact(tmp_path / "run", evaluation_config())
    found = evaluate_artifact(tmp_path / "run", evaluation_config(), codec={"name": name, "path": "elsewhere"})
    assert found.to_json()["scores"] == done.to_json()["scores"]
    with pytest.raises(ArtifactError, match="other weights; name the right ones"):
        evaluate_artifact(
            tmp_path / "run", evaluation_config(), codec={"name": name, "gain": 2.0}, out=tmp_path / "other"
        )


# --- faults -----------------------------------------------------------------------------------------------------------


def test_all_faults_are_told_before_any_data(tmp_path, monkeypatch):
    run(tiny.config(), out=tmp_path / "run")
    monkeypatch.setattr(
        "latentdd_plugin.experiments.evaluate.load_dataset", lambda *_a, **_o: pytest.fail("no data yet")
    )
    config = evaluation_config(protocol="x", evaluators=("convnt",), split="training", reference="half")
    with pytest.raises(UsageError) as raised:
        evaluate_artifact(tmp_path / "run", config)
    told = "\n".join(raised.value.faults)
    for fault in ("unknown protocol 'x'", "unknown evaluator 'convnt'", "split=training", "reference=half: choose one"):
        assert fault in told


def test_what_is_no_artifact(tmp_path):
    with pytest.raises(ArtifactError, match="no such file"):
        evaluate_artifact(tmp_path, evaluation_config())
    (tmp_path / "x.safetensors").write_bytes(b"not one")
    with pytest.raises(ArtifactError, match="not a readable safetensors file"):
        evaluate_artifact(tmp_path / "x.safetensors", evaluation_config())


def test_the_record_is_whole(tmp_path):
    run(tiny.config(), out=tmp_path / "run")
    found = evaluate_artifact(
        tmp_path / "run", evaluation_config(evaluators=("convnet_d1", "vgg11")), out=tmp_path / "out"
    )
    kept = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert kept == found.to_json()
    assert kept["schema"] == "dd-bench/evaluation.v1"
    assert set(kept) == {
        "schema", "created", "command", "config", "artifact", "budget", "dataset", "codec", "protocol", "scored_on",
        "scores", "skipped", "summary", "reference", "nearest",
        "metrics", "cost", "environment",
    }  # fmt: skip
    assert kept["reference"] is None
    assert set(kept["cost"]) == {"load_s", "decode_s", "evaluate_s", "peak_rss_mb"}
