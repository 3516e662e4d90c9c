"""`evaluate --metrics`: what is measured, under which protocol, and that it goes on after an interruption."""

from dataclasses import replace

import pytest
import tiny
import torch

from latentdd_plugin import evaluate as evaluate_artifact
from latentdd_plugin.cli import main
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.evaluators import protocols
from latentdd_plugin.evaluators.train_scratch import TrainingSession
from latentdd_plugin.experiments.dd_ranking import random_subset
from latentdd_plugin.experiments.evaluate import EvaluationConfig
from latentdd_plugin.experiments.metrics import augmentation_robust_score, label_robust_score
from latentdd_plugin.experiments.run import run

pytestmark = pytest.mark.usefixtures("tiny_protocol")


@pytest.fixture
def folder(tmp_path):
    return run(tiny.config(), out=tmp_path / "run").folder


@pytest.fixture
def trained(monkeypatch):
    """(samples, label kind, labels, augmentation) of every network trained from here on."""
    found, score = [], TrainingSession.score

    def noted(self, seed):
        trial = self.trial
        found.append((len(trial.images), trial.label_kind, trial.protocol.labels, trial.protocol.augment))
        return score(self, seed)

    monkeypatch.setattr(TrainingSession, "score", noted)
    return found


def evaluation_config(*names, **more):
    given = {"evaluators": ("convnet_d1",), "protocol": tiny.PROTOCOL.name, "metrics": names, **tiny.PLAIN, **more}
    return EvaluationConfig(**given)


def accuracy(measured, name, seed):
    (value,) = [row["accuracy"] for row in measured[name]["scores"] if row["seed"] == seed]
    return value


def test_the_values_are_those_of_the_measured_accuracies(folder):
    data = evaluate_artifact(folder, evaluation_config("lrs", "ars")).to_json()
    found = data["metrics"]
    measured, values = found["measured"], found["values"]["convnet_d1"]
    assert sorted(measured) == ["random", "random-plain", "synthetic", "synthetic-plain", "whole"]
    assert measured["synthetic"]["scores"] == data["scores"]
    assert measured["random-plain"]["augment"] == []
    assert measured["random"]["augment"] == list(tiny.PROTOCOL.augment)
    lrs, ars = [], []
    for seed in (0, 1):
        synthetic, random, whole = (accuracy(measured, n, seed) for n in ("synthetic", "random", "whole"))
        lrs.append(label_robust_score(whole - synthetic, synthetic - random))
        plain = accuracy(measured, "synthetic-plain", seed) - accuracy(measured, "random-plain", seed)
        ars.append(augmentation_robust_score(synthetic - random, plain))
    assert values["lrs"]["mean"] == pytest.approx(sum(lrs) / 2)
    assert values["ars"]["mean"] == pytest.approx(sum(ars) / 2)
    assert values["hlr"]["n"] == values["ior-plain"]["n"] == 2


def test_only_what_is_needed_is_trained(folder, trained):
    evaluate_artifact(folder, evaluation_config("ars"))
    codes = trained[0][0]
    assert {(n, augment == ()) for n, _, _, augment in trained} == {(codes, False), (codes, True)}
    assert len(trained) == 8, "two networks each: synthetic and random, with and without augmentation"
    del trained[:]
    evaluate_artifact(folder, evaluation_config("ars"))
    assert trained == []


def test_soft_labels_are_hardened_for_hlr_alone(tmp_path, trained):
    images = torch.rand(20, 1, 8, 8)
    from latentdd_plugin.artifacts.file import ARTIFACT, save_artifact
    from latentdd_plugin.artifacts.formats.base import ExternalSet, ImportOptions
    from latentdd_plugin.artifacts.formats.incoming import to_artifact

    labels = torch.eye(10).repeat_interleave(2, 0) * 3
    made = to_artifact(
        ExternalSet(images, labels, "logits", 0.01),
        ImportOptions(values="none", dataset=tiny.digits()),
        tmp_path,
        "test",
    )
    (tmp_path / "soft").mkdir()
    save_artifact(made, tmp_path / "soft" / ARTIFACT)
    found = evaluate_artifact(tmp_path / "soft", evaluation_config("lrs")).to_json()["metrics"]
    assert sorted(found["measured"]) == ["random", "synthetic", "synthetic-hard", "whole"]
    assert found["measured"]["synthetic"]["labels"] == "stored"
    assert found["measured"]["synthetic-hard"]["labels"] == "hard"
    assert ("logits", "hard") in {(kind, labels) for _, kind, labels, _ in trained}


def test_random_images_are_as_many_of_each_class_and_follow_the_seed():
    images = tiny.digits()
    trial = tiny.trial()
    first, again, other = (random_subset(images, trial, seed) for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert torch.bincount(first.labels).tolist() == [2] * 10
    few = replace(trial, labels=torch.zeros(20, dtype=torch.int64))
    assert torch.bincount(random_subset(images, few, 0).labels, minlength=10).tolist() == [20] + [0] * 9


def test_what_cannot_be_measured_is_refused(folder, monkeypatch, capsys):
    plain = replace(tiny.PROTOCOL, name="plain.test", augment=())
    monkeypatch.setitem(protocols.PROTOCOLS, plain.name, plain)
    with pytest.raises(UsageError, match=r"metrics=ars: protocol plain.test has no augmentation to do without"):
        evaluate_artifact(folder, evaluation_config("ars", protocol="plain.test"))
    words = f"evaluate {folder} --protocol tiny.test --metrics lrs,hlr"
    assert main.main(words.split()) == 2
    assert "metrics: 'hlr'; choose of lrs, ars" in capsys.readouterr().err


def test_the_table_shows_them(folder, capsys):
    words = f"evaluate {folder} --protocol tiny.test --evaluator convnet_d1 --metrics lrs --quiet device=cpu threads=1"
    assert main.main(words.split()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[3:6]] == ["HLR", "IOR", "LRS"]
