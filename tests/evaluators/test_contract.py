"""The contract suite, for every registered evaluator: registering one is enough to test it."""

from functools import cache

import pytest

from latentdd_plugin.core import plugins
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.experiments.build import build_evaluator
from latentdd_plugin.testing import EVALUATOR_CONTRACTS, EvaluatorSubject

NAMES = [*plugins.entries("evaluators"), "convnet_d1"]
subject = cache(EvaluatorSubject)


@pytest.mark.parametrize("contract", EVALUATOR_CONTRACTS, ids=lambda contract: contract.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_contract(contract, name):
    contract(subject(name))


@pytest.mark.parametrize("name", NAMES)
def test_networks_have_parameters(name):
    assert all(score.params > 0 for score in subject(name).scores.values())


def test_an_unknown_name_lists_the_nearest():
    with pytest.raises(UsageError, match=r"unknown evaluator 'resnet-18' \(did you mean resnet18.*it may be any timm"):
        build_evaluator("resnet-18")
