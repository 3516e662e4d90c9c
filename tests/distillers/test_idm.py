"""IDM against its equation (arXiv 2307.09742), with the network's layers written out, and through the command line."""

import json

import pytest
import tiny
import torch

from latentdd_plugin.cli.main import main
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.distillers.siamese import siamese

SMALL = {"networks": 2, "epochs": 1, "batch_real": 16}


def slow_loss(network, real, synthetic, ce):
    """Distance of means plus weighted cross-entropy, class by class and sample by sample."""
    right = sum(int(network(x[None]).argmax()) == label for label, part in enumerate(real) for x in part)
    percent = 100 * right / sum(map(len, real))
    total = 0.0
    for label, (t, s) in enumerate(zip(real, synthetic, strict=True)):
        means = [sum(network.features(x[None])[0] for x in part) / len(part) for part in (t, s)]
        entropies = [-torch.log(network(x[None]).softmax(1)[0, label]) for x in s]
        total += float(((means[0] - means[1]) ** 2).sum() + ce * percent * sum(entropies) / len(s))
    return total


@pytest.mark.parametrize("ce", [0.0, 0.5])
@pytest.mark.parametrize(("codec", "match"), [("dct", "code"), ("pca", "pixel")])
def test_the_loss_is_the_equation_for_one_snapshot(codec, match, ce):
    task = tiny.task(codec, match)
    method = tiny.distiller("idm", match, codec, **SMALL, ce=ce)
    variables, drawn = method.variables(task), set()
    for step in range(4):
        (loss,) = method.iteration(task, variables, step)
        g = task.generator("idm/network", step)
        expert, epoch = (int(torch.randint(2, (1,), generator=g)) for _ in range(2))
        drawn.add((expert, epoch))
        network = task.networks.network
        with torch.no_grad():
            for parameter, weight in zip(
                network.parameters(), method._experts(task).snapshot(expert, epoch), strict=True
            ):
                parameter.copy_(weight)
            real, synthetic = siamese(task, variables.codes.detach(), 16, "idm", step)
            assert loss.item() == pytest.approx(slow_loss(network, real, synthetic, ce), rel=1e-3)
    assert len(drawn) > 1, "snapshots differ from step to step"


def test_the_class_aware_term_makes_samples_recognisable():
    """The last snapshot is surer of codes that were moved with the term than without it."""
    task, sure = tiny.task("dct"), {}
    for ce in (0.0, 0.5):
        method = tiny.distiller("idm", **SMALL, iterations=30, lr=0.05, ce=ce)
        found = method.distill(task)
        with torch.no_grad():
            network, experts = task.networks.network, method._experts(task)
            for parameter, weight in zip(network.parameters(), experts.snapshot(0, 1), strict=True):
                parameter.copy_(weight)
            sure[ce] = network(found.codes).log_softmax(1).gather(1, found.labels[:, None]).mean().item()
    assert sure[0.5] > sure[0.0]


def test_a_negative_weight_is_refused():
    with pytest.raises(UsageError, match="ce=-1: must be 0 or a positive number"):
        tiny.distiller("idm", ce=-1)


def test_a_run_on_four_small_pictures_in_the_bytes_of_one(tmp_path):
    out = tmp_path / "run"
    words = ["run", "--codec", "downscale", "--algo", "idm", "--protocol", "demo.v1", "--controls", "none", "--quiet"]
    options = ["algo.iterations=3", "algo.networks=1", "algo.epochs=1", "--evaluator", "convnet_d1"]
    assert main([*words, *options, "--out", str(out)]) == 0
    record = json.loads((out / "result.json").read_text())
    assert record["distiller"]["name"] == "idm"
    assert record["budget"]["codes_per_class"] == 4
