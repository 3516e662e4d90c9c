"""MTT (arXiv 2203.11932, equation 2): exact gradient at flat memory against the unrolled one; TESLA; the experts."""

import json

import pytest
import tiny
import torch
import torch.nn.functional as F
from safetensors import safe_open

from latentdd_plugin.artifacts.budget import budget_for
from latentdd_plugin.distillers import experts as trajectories
from latentdd_plugin.distillers.gradients import weights_of
from latentdd_plugin.distillers.trajectories import adjoint, unrolled
from latentdd_plugin.nn.augment import Augment

N = 20


def scene(dtype, *, soft=False, steps=N, augment=None):
    """(task, gradients, steps, begin, target, codes, labels, rate) of one outer step on the digits."""
    task = tiny.task("dct", augment=Augment(("crop", "cutout", "scale", "rotate")) if augment is None else augment)
    method = tiny.distiller("mtt", syn_steps=steps, batch_syn=8)
    begin = tuple(w.to(dtype) for w in weights_of(task.network("begin", 0)))
    target = tuple(w.to(dtype) for w in weights_of(task.network("target", 0)))
    gradients = method._gradients(task)
    task.networks.network.to(dtype)
    codes, labels = task.init("real")
    given = F.one_hot(labels, 10).to(dtype).mul(3).requires_grad_() if soft else labels
    rate = torch.tensor(0.05, dtype=dtype, requires_grad=True)
    return task, gradients, method._steps(task, len(codes), 0), begin, target, codes.to(dtype), given, rate


def gradients_of(kind, found):
    task, gradients, steps, begin, target, codes, labels, rate = found
    codes = codes.clone().requires_grad_()
    targets = labels.softmax(1) if labels.is_floating_point() else labels
    wanted = [codes, rate, *([labels] if labels.is_floating_point() else [])]
    if kind == "unrolled":
        loss = unrolled(gradients, task, steps, begin, target, codes, targets, rate)
    else:
        loss = adjoint(gradients, task, steps, begin, target, codes, targets, rate, exact=kind == "exact")
    return loss.detach(), torch.autograd.grad(loss, wanted)


def relative(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-4)], ids=["double", "single"])
def test_the_exact_gradient_is_the_unrolled_one(dtype, bound, soft):
    found = scene(dtype, soft=soft)
    loss, ours = gradients_of("exact", found)
    expected, theirs = gradients_of("unrolled", found)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for a, b in zip(ours, theirs, strict=True):
        assert relative(a, b) < bound


def test_the_loss_is_equation_2():
    """Plain SGD on the synthetic set, written as a loop over the network's own modules."""
    task, _, steps, begin, target, codes, labels, rate = scene(torch.float64, augment=Augment(()), steps=4)
    network = task.networks.network
    for parameter, weight in zip(network.parameters(), begin, strict=True):
        parameter.data.copy_(weight)
    network.requires_grad_(True)
    for step in steps:
        loss = F.cross_entropy(network(codes[step.rows]), labels[step.rows])
        for parameter, gradient in zip(
            network.parameters(), torch.autograd.grad(loss, list(network.parameters())), strict=True
        ):
            parameter.data -= rate.item() * gradient
    arrived = sum(((p - t) ** 2).sum() for p, t in zip(network.parameters(), target, strict=True))
    apart = sum(((b - t) ** 2).sum() for b, t in zip(begin, target, strict=True))
    network.requires_grad_(False)
    found, _ = gradients_of("exact", scene(torch.float64, augment=Augment(()), steps=4))
    assert found.item() == pytest.approx((arrived / apart).item(), rel=1e-9)


def test_tesla_is_its_own_formula():
    """|| theta_0 - alpha sum_n g_n(theta_n, x_n) - target ||^2 with every theta_n held constant (arXiv 2211.10586)."""
    found = scene(torch.float64)
    task, gradients, steps, begin, target, codes, labels, rate = found
    leaf = codes.clone().requires_grad_()
    weights, total = begin, [torch.zeros_like(b) for b in begin]
    for step in steps:
        x = task.augment.apply(leaf[step.rows], step.draw)
        g = gradients.with_graph(weights, x, labels[step.rows])
        total = [t + d for t, d in zip(total, g, strict=True)]
        weights = tuple(w - rate.detach() * d.detach() for w, d in zip(weights, g, strict=True))
    away = sum(((b - rate * t - e) ** 2).sum() for b, t, e in zip(begin, total, target, strict=True))
    apart = sum(((b - e) ** 2).sum() for b, e in zip(begin, target, strict=True))
    (expected,) = torch.autograd.grad(away / apart, leaf)
    _, ours = gradients_of("tesla", found)
    assert relative(ours[0], expected) < 1e-10
    _, exact = gradients_of("exact", found)
    assert relative(ours[0], exact[0]) > 1e-3, "an approximation, and not the same thing"


def test_experts_are_kept_one_by_one_and_only_the_missing_one_is_trained(monkeypatch):
    task = tiny.task("dct", real_id="experts")
    training = trajectories.ExpertTraining(experts=2, epochs=2, precision="fp16")
    first = trajectories.train_experts(task, training)
    kept = first.path(0).read_bytes()
    lost = first.snapshot(1, 2)
    first.path(1).unlink()
    trained = []
    train = trajectories._train
    monkeypatch.setattr(trajectories, "_train", lambda *a: trained.append(a[-1]) or train(*a))
    again = trajectories.train_experts(task, training)
    assert trained == [1]
    assert again.path(0).read_bytes() == kept
    assert all(torch.equal(a, b) for a, b in zip(lost, again.snapshot(1, 2), strict=True))
    with safe_open(again.path(0), framework="pt") as file:
        header = json.loads(file.metadata()["dd-bench"])
        assert file.get_tensor("000/head.weight").dtype == torch.float16
    assert header["owner"]["training"]["epochs"] == 2
    assert header["owner"]["network"] == "ConvNet"
    assert header["owner"]["real"] == "experts"


def test_an_expert_learns():
    task = tiny.task("dct", real_id="learns", augment=Augment(()))
    found = trajectories.train_experts(task, trajectories.ExpertTraining(experts=1, epochs=10, lr=0.3, batch=64))
    x, y = task.real.all()
    names = [name for name, _ in task.networks.network.named_parameters()]

    def accuracy(epoch):
        weights = dict(zip(names, found.snapshot(0, epoch), strict=True))
        return float((torch.func.functional_call(task.networks.network, weights, (x,)).argmax(1) == y).float().mean())

    assert accuracy(0) < 0.3
    assert accuracy(10) > 0.6


def test_soft_labels_are_learned_and_paid_for():
    method = tiny.distiller("mtt", labels="soft", iterations=2, syn_steps=2, experts=1, max_start_epoch=1)
    task = tiny.task("dct", real_id="soft")
    start = method.variables(task).labels.detach()
    assert start.argmax(1).tolist() == [label for label in range(10) for _ in range(2)]
    found = method.distill(task)
    assert found.label_kind == "logits"
    assert found.labels.shape == (20, 10)
    assert found.lr is not None
    assert not torch.equal(found.labels, start)
    bits = method.label_bits(10)
    assert bits == 320
    assert budget_for((1, 8, 8), (1, 4, 4), "fp32", ipc=1, label_bits=bits).codes_per_class == 8 * 256 // (512 + 320)


def test_unknown_words_are_refused():
    with pytest.raises(Exception, match="choose one of exact, tesla, unrolled"):
        tiny.distiller("mtt", gradient="exat")
    with pytest.raises(Exception, match="choose one of hard, soft"):
        tiny.distiller("mtt", labels="firm")
