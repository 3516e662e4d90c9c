"""The contract suite for every registered distiller: registering one is enough to test it.

It runs with its `quick` preset; an entry in SMALL makes its tests faster.
"""

from functools import cache

import pytest
import tiny
import torch

from latentdd_plugin.core import plugins
from latentdd_plugin.core.errors import RunFailed, UsageError
from latentdd_plugin.core.types import SyntheticSet
from latentdd_plugin.distillers.task import validate_result
from latentdd_plugin.experiments.build import build_distiller
from latentdd_plugin.testing import DISTILLER_CONTRACTS, DistillerSubject

NAMES = [name for name in plugins.entries("algos") if name != "imported"]  # which needs a set
SMALL = {
    "mtt": {"syn_steps": 2, "experts": 1, "expert_epochs": 1, "max_start_epoch": 1},
    "datm": {"syn_steps": 2, "experts": 1, "expert_epochs": 1, "first_max_start_epoch": 1, "max_start_epoch": 1},
    "idm": {"networks": 1, "epochs": 1},
    "ncfm": {"networks": 1, "epochs": 1, "frequencies": 8},
    "el2n": {"epochs": 1},
    "margin": {"epochs": 1},
    "rded": {"candidates": 30, "crops": 2},
}
WITHOUT_A_DRAW = ("herding", "k-center")  # they compute their choice


@cache
def subject(name):
    return DistillerSubject(name, **SMALL.get(name, {}))


@pytest.mark.parametrize("contract", DISTILLER_CONTRACTS, ids=lambda contract: contract.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_contract(contract, name):
    contract(subject(name))


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_gives_other_codes(name):
    for codec, match in subject(name).spaces():
        other = subject(name).distil(codec, match, seed=1)
        same = torch.equal(other.codes, subject(name).distilled(codec, match).codes)
        assert same == (name in WITHOUT_A_DRAW)


@pytest.mark.parametrize("name", NAMES)
def test_what_it_cannot_do_is_refused_before_any_work(name):
    cls = plugins.resolve("algos", name).cls
    with pytest.raises(UsageError, match=f"algo.{name}: .* has no option 'no_such_option'"):
        tiny.distiller(name, no_such_option=1)
    with pytest.raises(UsageError, match=f"algo.preset=absurd: {name} has "):
        build_distiller({"name": name, "preset": "absurd"})
    if "pixel" not in cls.match_spaces:
        with pytest.raises(UsageError, match=f"match=pixel: {name} supports code only"):
            tiny.distiller(name, match="pixel")


def test_random_keeps_the_draw_that_the_others_start_from():
    task = tiny.task("dct")
    codes, labels = task.init("real")
    found = subject("random").distil()
    assert torch.equal(found.codes, codes)
    assert torch.equal(found.labels, labels)


CODES, LABELS = torch.zeros(20, 1, 4, 4), torch.arange(10).repeat_interleave(2)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ((CODES, LABELS), "returned a tuple instead of a SyntheticSet"),
        (
            SyntheticSet(CODES[:, :, :2], LABELS),
            r"returned codes \(20, 1, 2, 4\); allowed are \(1 … 20, \*\(1, 4, 4\)\)",
        ),
        (
            SyntheticSet(torch.cat([CODES, CODES[:1]]), torch.zeros(21)),
            r"returned codes \(21, 1, 4, 4\); allowed",
        ),
        (SyntheticSet(CODES[:0], LABELS[:0]), "returned codes"),
        (SyntheticSet(CODES, LABELS[:19]), r"returned hard labels \(19,\) for 20 codes"),
        (SyntheticSet(CODES, LABELS, "logits"), r"returned logits labels \(20,\) for 20 codes"),
        (SyntheticSet(CODES, LABELS + 1), r"labels outside 0 … 9"),
        (SyntheticSet(CODES + torch.nan, LABELS), "codes or labels that are not finite"),
        (SyntheticSet(CODES, torch.full((20, 10), torch.inf), "logits"), "codes or labels that are not finite"),
    ],
)
def test_what_is_no_synthetic_set_is_refused(found, message):
    with pytest.raises(RunFailed, match=message):
        validate_result(found, tiny.task("dct"))


def test_numbers_of_another_type_are_taken():
    found = validate_result(SyntheticSet(CODES.double().requires_grad_(), LABELS.int()), tiny.task("dct"))
    assert (found.codes.dtype, found.labels.dtype) == (torch.float32, torch.int64)
    assert not found.codes.requires_grad
