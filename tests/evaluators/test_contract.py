"""What every registered evaluator keeps to. Registering is being tested."""

import json
from dataclasses import asdict

import pytest
import tiny
import torch

from latentdd_plugin import plugins
from latentdd_plugin.configure import build_evaluator
from latentdd_plugin.errors import UsageError

NAMES = [*plugins.entries("evaluators"), "convnet_d1"]


@pytest.mark.parametrize("name", NAMES)
def test_a_score_is_a_fraction_that_the_seed_decides(name):
    evaluator = build_evaluator(name)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    scores = [evaluator.evaluate(tiny.trial(), seed) for seed in (5, 6)]
    assert torch.equal(torch.get_rng_state(), before), "the global generator was used"
    for seed, score in zip((5, 6), scores, strict=True):
        assert 0 <= score.accuracy <= 1
        assert score.accuracy * 359 == pytest.approx(round(score.accuracy * 359)), "a count over the test images"
        assert score.seed == seed
        assert score.params > 0
        json.dumps(asdict(score), allow_nan=False)
    torch.rand(3)
    fresh = build_evaluator(name)
    assert fresh.evaluate(tiny.trial(), 6) == scores[1], "whatever was trained before, in this object or not"
    assert fresh.evaluate(tiny.trial(), 5) == scores[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_makes_the_same_evaluator(name):
    evaluator = build_evaluator(name)
    kept = json.loads(json.dumps(evaluator.config()))
    assert type(evaluator)(**kept).config() == kept


@pytest.mark.parametrize("kind", ["probabilities", "logits"])
@pytest.mark.parametrize("name", NAMES)
def test_soft_labels_are_taken(name, kind):
    hard = tiny.trial().labels
    soft = torch.nn.functional.one_hot(hard, 10).float()
    assert 0 <= build_evaluator(name).evaluate(tiny.trial(labels=soft, kind=kind), 0).accuracy <= 1


def test_an_unknown_name_lists_the_nearest():
    with pytest.raises(UsageError, match=r"unknown evaluator 'resnet-18' \(did you mean resnet18.*it may be any timm"):
        build_evaluator("resnet-18")
