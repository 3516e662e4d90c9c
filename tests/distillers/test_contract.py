"""What every registered distiller keeps to, on every kind of code, in both match spaces. Registering is being tested.

A new method needs nothing here: it runs with its `quick` preset. A line in SMALL makes its tests faster.
"""

import json
from dataclasses import replace

import pytest
import tiny
import torch

from latentdd_plugin import plugins
from latentdd_plugin.configure import build_distiller
from latentdd_plugin.distillers.base import Distiller, checked
from latentdd_plugin.errors import RunFailed, UsageError
from latentdd_plugin.space import members
from latentdd_plugin.types import SyntheticSet

NAMES = list(plugins.entries("algos"))
MATCHING = {"iterations": 2, "batch_real": 8}
SMALL = {
    "dm": MATCHING,
    "dc": MATCHING,
    "dsa": MATCHING,
    "mtt": {"iterations": 2, "syn_steps": 2, "experts": 1, "expert_epochs": 1, "max_start_epoch": 1},
}
WITHOUT_A_DRAW = ("herding", "k-center")  # they compute their choice
SPACES = [(codec, match) for codec in ("dct", "pca", "identity") for match in ("code", "pixel")]


def small(name, match="code", codec="dct", **more):
    """The method with small arguments; skipped where it cannot look at this space."""
    cls = plugins.resolve("algos", name, base=Distiller).cls
    if match not in cls.match_spaces and codec != "identity":
        pytest.skip(f"{name} supports match={' and '.join(cls.match_spaces)} only")
    return tiny.distiller(name, match, codec, **{**SMALL.get(name, {}), **more})


def distilled(name, codec="dct", match="code", **task):
    return small(name, match, codec).distill(tiny.task(codec, match, **task))


@pytest.mark.parametrize(("codec", "match"), SPACES, ids=["-".join(s) for s in SPACES])
@pytest.mark.parametrize("name", NAMES)
def test_a_balanced_finite_set_that_owes_nothing_to_the_global_state(name, codec, match):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    found = distilled(name, codec, match)
    assert torch.equal(torch.get_rng_state(), state), "the global generator was used"
    task = tiny.task(codec, match)
    checked(found, task)
    assert found.codes.shape == (20, *task.code_shape)
    assert not found.codes.requires_grad
    hard = found.labels if found.label_kind == "hard" else found.labels.argmax(1)
    assert torch.bincount(hard, minlength=10).tolist() == [2] * 10
    torch.manual_seed(2)
    torch.rand(7)
    again = distilled(name, codec, match)
    assert torch.equal(again.codes, found.codes), "the same seed gives the same codes"
    assert torch.equal(again.labels, found.labels)
    other = distilled(name, codec, match, seed=1)
    assert torch.equal(other.codes, found.codes) == (name in WITHOUT_A_DRAW)


@pytest.mark.parametrize("name", NAMES)
def test_in_identity_both_match_spaces_are_one(name):
    if len(plugins.resolve("algos", name).cls.match_spaces) < 2:
        pytest.skip(f"{name} looks at codes only")
    assert torch.equal(distilled(name, "identity", "code").codes, distilled(name, "identity", "pixel").codes)


@pytest.mark.parametrize("name", NAMES)
def test_a_class_that_is_too_small_keeps_to_the_budget(name):
    """A class of 3 images and a budget of 5: at most 5 a class, and no crash."""
    task = tiny.task("dct", codes_per_class=5)
    keep = torch.cat([rows[:3] for rows in task.codes.by_class])
    labels = task.codes.labels[keep]
    few = replace(task.codes, store=task.codes.store[keep], labels=labels, by_class=members(labels, 10))
    found = checked(small(name).distill(replace(task, real=few, codes=few)), task)
    hard = found.labels if found.label_kind == "hard" else found.labels.argmax(1)
    counts = torch.bincount(hard, minlength=10)
    assert len(set(counts.tolist())) == 1
    assert 3 <= int(counts[0]) <= 5


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_makes_the_same_method(name):
    method = small(name)
    kept = json.loads(json.dumps(method.config()))
    assert type(method)(**kept).config() == method.config()
    assert {"paper", "quick"} <= set(method.presets)
    for preset in method.presets:
        build_distiller({"name": name, "preset": preset})


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


@pytest.mark.parametrize("name", [n for n in NAMES if hasattr(plugins.resolve("algos", n).cls, "iteration")])
def test_interrupted_and_resumed_it_gives_the_same_bits(name):
    """Go on from the checkpoint of every step: the same codes as without a break."""
    kept = tiny.Kept()
    whole = small(name, iterations=3).distill(tiny.task(checkpoint=kept))
    assert [payload["step"] for payload in kept.saved] == [0, 1, 2, 3]
    for payload in kept.saved[1:]:
        resumed = small(name, iterations=3).distill(tiny.task(checkpoint=tiny.Kept(payload)))
        assert torch.equal(resumed.codes, whole.codes)
        assert torch.equal(resumed.labels, whole.labels)
        assert (resumed.lr, resumed.losses) == (whole.lr, whole.losses)


def test_random_keeps_the_draw_that_the_others_start_from():
    task = tiny.task("dct")
    codes, labels = task.init("real")
    found = distilled("random")
    assert torch.equal(found.codes, codes)
    assert torch.equal(found.labels, labels)


CODES, LABELS = torch.zeros(20, 1, 4, 4), torch.arange(10).repeat_interleave(2)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ((CODES, LABELS), "returned a tuple, a SyntheticSet is wanted"),
        (SyntheticSet(CODES[:, :, :2], LABELS), r"returned codes \(20, 1, 2, 4\), wanted \(1 … 20, \*\(1, 4, 4\)\)"),
        (SyntheticSet(torch.cat([CODES, CODES[:1]]), torch.zeros(21)), r"returned codes \(21, 1, 4, 4\), wanted"),
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
        checked(found, tiny.task("dct"))


def test_numbers_of_another_type_are_taken():
    found = checked(SyntheticSet(CODES.double().requires_grad_(), LABELS.int()), tiny.task("dct"))
    assert (found.codes.dtype, found.labels.dtype) == (torch.float32, torch.int64)
    assert not found.codes.requires_grad
