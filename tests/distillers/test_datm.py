"""DATM (arXiv 2310.05773): the window of start epochs, the first labels, the threshold; its loss is MTT's."""

import json

import pytest
import tiny
import torch

from latentdd_plugin.cli.main import main
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.distillers.trajectories import unrolled

SMALL = {"syn_steps": 2, "experts": 2, "expert_epochs": 1}
WINDOW = {"first_max_start_epoch": 1, "max_start_epoch": 2}


def network_at(task, method, expert, epoch):
    """The matching network with an expert's weights."""
    with torch.no_grad():
        weights = method._experts(task).snapshot(expert, epoch)
        for parameter, weight in zip(task.networks.network.parameters(), weights, strict=True):
            parameter.copy_(weight)
    return task.networks.network


def test_the_window_grows_from_easy_to_hard():
    """Upper end at step s of E: first + floor((last - first) s / E), then the last; as in the authors' code."""
    method = tiny.distiller("datm", min_start_epoch=2, first_max_start_epoch=10, max_start_epoch=20, expansion=1000)
    assert [method.window(step) for step in (0, 99, 100, 550, 999, 1000, 9000)] == [
        *((2, 10), (2, 10), (2, 11), (2, 15), (2, 19), (2, 20), (2, 20))
    ]
    assert tiny.distiller("datm", first_max_start_epoch=1, max_start_epoch=5, expansion=0).window(0) == (0, 5)


@pytest.mark.parametrize(("codec", "match"), [("dct", "code"), ("dct", "pixel")])
def test_the_loss_is_mtts_from_the_windows_epoch(codec, match):
    window = {"min_start_epoch": 1, "first_max_start_epoch": 2, "max_start_epoch": 2}
    method = tiny.distiller("datm", match, codec, **SMALL, **window, batch_syn=8, threshold=None)
    task = tiny.task(codec, match)
    variables = method.variables(task)
    (loss,) = method.iteration(task, variables, 3)
    g = task.generator("mtt/start", 3)
    expert = int(torch.randint(2, (1,), generator=g))
    begin, target = (method._experts(task).snapshot(expert, epoch) for epoch in (1, 2))
    view, labels = task.view(variables.codes), variables.labels.softmax(1)
    steps = method._steps(task, len(view), 3)
    expected = unrolled(method._gradients(task), task, steps, begin, target, view, labels, variables.lr)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    wanted = [variables.codes, variables.labels, variables.lr]
    for a, b in zip(torch.autograd.grad(loss, wanted), torch.autograd.grad(expected, wanted), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-4 * float(b.abs().max()))


def test_labels_begin_as_the_logits_of_the_experts_that_are_right():
    method = tiny.distiller("datm", **SMALL, **WINDOW)
    task = tiny.task("dct", codes_per_class=3)
    variables = method.variables(task)
    classes = torch.arange(10).repeat_interleave(3)
    with torch.no_grad():
        each = [network_at(task, method, expert, 2)(variables.codes).clone() for expert in (0, 1)]
    for row, label in enumerate(classes.tolist()):
        right = [logits[row] for logits in each if int(logits[row].argmax()) == label]
        if right:
            torch.testing.assert_close(variables.labels[row], sum(right) / len(right), rtol=1e-4, atol=1e-5)
        assert int(variables.labels[row].argmax()) == label
        assert bool(torch.isfinite(variables.labels[row]).all())


def test_samples_are_drawn_among_those_that_an_expert_knows():
    method = tiny.distiller("datm", **SMALL, **WINDOW)
    task = tiny.task("dct", codes_per_class=2)
    codes, labels = method.start(task)
    with torch.no_grad():
        network = network_at(task, method, 0, 2)
        known = network(codes).argmax(1) == labels
        every = network(task.real.all()[0]).argmax(1) == task.real.labels
    for label in range(10):
        enough = int(every[task.real.by_class[label]].sum())
        assert int(known[labels == label].sum()) == min(2, enough)
    real = task.codes.all()[0]
    assert all(bool((real == code).flatten(1).all(1).any()) for code in codes)


def test_a_step_above_the_threshold_changes_nothing_and_is_recorded():
    task = tiny.task("dct")
    method = tiny.distiller("datm", **SMALL, **WINDOW, iterations=3, threshold=0.0)
    before = method.variables(task)
    found = method.distill(tiny.task("dct"))
    assert torch.equal(found.codes, before.codes)
    assert torch.equal(found.labels, before.labels)
    assert len(found.losses) == 3
    assert all(loss > 0 for _, loss in found.losses)
    moved = tiny.distiller("datm", **SMALL, **WINDOW, iterations=3, threshold=None).distill(tiny.task("dct"))
    assert not torch.equal(moved.codes, before.codes)
    assert not torch.equal(moved.labels, before.labels)
    assert moved.label_kind == "logits"


def test_labels_have_their_own_momentum():
    method = tiny.distiller("datm", **SMALL, **WINDOW, optimizer="sgd", lr=1.0, momentum_labels=0.8)
    codes, rate, labels = method.variables(tiny.task("dct")).optimizer.param_groups
    assert (codes["momentum"], rate["momentum"], labels["momentum"]) == (0.5, 0.5, 0.8)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"min_start_epoch": 3}, "min_start_epoch=3, .* each must be above"),
        ({"first_max_start_epoch": 9}, "max_start_epoch=3: each must be above"),
        ({"expansion": -1}, "expansion=-1: must be 0 or more"),
        ({"init": "random"}, "init=random: choose one of predicted, real, noise"),
    ],
)
def test_faulty_options_are_refused(option, message):
    with pytest.raises(UsageError, match=message):
        tiny.distiller("datm", **option)


def test_a_run_counts_the_learned_labels(tmp_path):
    out = tmp_path / "run"
    words = ["run", "--codec", "dct", "--algo", "datm", "--precision", "int8", "--protocol", "demo.v1", "--quiet"]
    options = ["algo.iterations=2", "algo.experts=1", "algo.max_start_epoch=1", "--controls", "none"]
    options += ["--evaluator", "convnet_d1"]
    assert main([*words, *options, "--out", str(out)]) == 0
    record = json.loads((out / "result.json").read_text())
    assert record["distiller"]["name"] == "datm"
    assert record["budget"]["bytes"]["labels"] == 40 * record["budget"]["codes"]
    assert record["budget"]["bytes"]["total"] <= 2560
