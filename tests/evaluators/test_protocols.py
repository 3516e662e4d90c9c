"""The recipes: frozen by hash, every number in the hash, steps by image size."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
import tiny

from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.evaluators import protocols
from latentdd_plugin.nn.augment import OPERATIONS

FROZEN = json.loads((Path(__file__).parents[1] / "fixtures" / "protocols.json").read_text())


def test_every_protocol_is_frozen():
    """Scores compare inside one protocol only. If this fails, see the line `how` in fixtures/protocols.json."""
    now = {name: protocol.sha256 for name, protocol in protocols.PROTOCOLS.items()}
    changed = [name for name, sha256 in FROZEN["sha256"].items() if now.get(name) != sha256]
    assert not changed, f"published recipes changed or went: {changed}. {FROZEN['how']}"
    assert sorted(now) == sorted(FROZEN["sha256"]), FROZEN["how"]


@pytest.mark.parametrize("field", [f.name for f in fields(protocols.Protocol)])
def test_every_number_is_in_the_hash(field):
    value = getattr(tiny.PROTOCOL, field)
    more = (*value, *value, (1, 1)) if isinstance(value, tuple) else ()
    other = not value if isinstance(value, bool) else more or f"{value}1"
    assert replace(tiny.PROTOCOL, **{field: other}).sha256 != tiny.PROTOCOL.sha256


@pytest.mark.parametrize("name", protocols.PROTOCOLS)
def test_a_recipe_can_be_followed(name):
    protocol = protocols.get(name)
    assert protocol.name == name
    assert json.loads(json.dumps(protocol.to_json())) == protocol.to_json()
    assert set(protocol.augment) <= set(OPERATIONS)
    assert protocol.optimizer in ("adamw", "sgd")
    assert protocol.schedule in ("cosine", "drop", "half-cosine")
    assert protocol.loss in ("ce", "kl", "mse+ce")
    assert protocol.mix in ("none", "cutmix")
    assert protocol.lr_from in ("fixed", "artifact")
    assert protocol.labels in ("stored", "hard")
    assert protocol.seeds >= 2
    assert bool(protocol.steps) != bool(protocol.epochs), "steps or epochs, not both"
    assert list(protocol.steps) == sorted(protocol.steps)


@pytest.mark.parametrize(("side", "steps"), [(8, 400), (32, 400), (33, 300), (64, 300), (65, 300)])
def test_steps_go_by_the_side(side, steps):
    assert replace(tiny.PROTOCOL, steps=((32, 400), (64, 300))).steps_for(side) == steps
    assert replace(tiny.PROTOCOL, steps=()).steps_for(side) is None


def test_the_fields_own_recipe_is_the_fields():
    """DatasetCondensation's evaluation: SGD 0.01, momentum 0.9, decay 5e-4, batch 256, 1000 epochs, one drop."""
    found = protocols.get("dc-bench.v1")
    assert (found.optimizer, found.lr, found.momentum, found.weight_decay) == ("sgd", 0.01, 0.9, 5e-4)
    assert (found.batch, found.epochs, found.schedule, found.side) == (256, 1000, "drop", None)
    assert found.augment == OPERATIONS


def test_rdeds_recipe_is_rdeds():
    """AdamW 1e-3, decay 0.01 of weights alone, 300 epochs, CutMix, temperature 20, and a batch by samples per class."""
    found = protocols.get("rded.v1")
    assert (found.optimizer, found.lr, found.weight_decay, found.decay) == ("adamw", 1e-3, 0.01, "weights")
    assert (found.epochs, found.loss, found.temperature, found.mix) == (300, "kl", 20.0, "cutmix")
    assert [found.batch_for(10 * n, 10) for n in (1, 10, 50, 200)] == [10, 50, 100, 100]
    assert [found.batch_for(1000 * n, 1000) for n in (1, 10, 50)] == [20, 100, 200]


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(UsageError, match=r"unknown protocol 'fast'; there are: .*fast\.v1"):
        protocols.get("fast")
