"""SRe2L against the objective of its paper (arXiv 2306.13092), written slowly, and through the command line."""

import json
import math

import pytest
import timm
import tiny
import torch

from latentdd_plugin import load_artifact
from latentdd_plugin.cli.main import main
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.distillers.sre2l import inside
from latentdd_plugin.nn.architectures import build, has_batch_norm
from latentdd_plugin.nn.teacher import Teacher
from latentdd_plugin.testing.samples import teacher

PLAIN = {"area": 1.0, "shift": 0.0}  # images as they are


def trained_teacher():
    """A teacher of two networks whose running statistics are those of real digits, nearly."""
    data, networks = tiny.digits(), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        network, *_ = build("convnet_bn_d2", data.image_shape, 10)
        with torch.no_grad():
            for rows in torch.arange(600).split(100):
                network.train()(data.train.pixels[rows].float() / 255 - 0.3)
        networks.append(network)
    card = teacher().card
    kept = {name: getattr(card, name) for name in ("classes", "input_shape", "mean", "std", "trained_on")}
    return Teacher.of(tuple(networks), arch="convnet_bn_d2", kwargs={}, **kept)


def slow_loss(teacher, images, labels, *, bn, first, tv, l2):
    """The objective in float64, layer by layer, of images (n, 1, 8, 8) in [0, 1] units."""
    mean, std = teacher.card.mean[0], teacher.card.std[0]
    inputs = (images.double() - mean) / std
    logits, distances = [], []
    for network in teacher.networks:
        x, number = inputs, 0
        for layer in network.blocks:
            if isinstance(layer, torch.nn.Conv2d):
                x = torch.nn.functional.conv2d(x, layer.weight.double(), layer.bias.double(), padding=1)
            elif isinstance(layer, torch.nn.BatchNorm2d):
                mu, var = layer.running_mean.double(), layer.running_var.double()
                seen_mu = torch.stack([x[:, c].mean() for c in range(x.shape[1])])
                seen_var = torch.stack([((x[:, c] - x[:, c].mean()) ** 2).mean() for c in range(x.shape[1])])
                apart = ((seen_mu - mu) ** 2).sum().sqrt() + ((seen_var - var) ** 2).sum().sqrt()
                distances.append(apart * (first if number == 0 else 1))
                number += 1
                x = (x - mu.view(-1, 1, 1)) / (var.view(-1, 1, 1) + layer.eps).sqrt()
                x = x * layer.weight.double().view(-1, 1, 1) + layer.bias.double().view(-1, 1, 1)
            else:
                x = layer(x)
        logits.append(x.flatten(1) @ network.head.weight.double().T + network.head.bias.double())
    average = sum(logits) / len(logits)
    entropy = -sum(average[i].log_softmax(0)[y] for i, y in enumerate(labels.tolist())) / len(labels)
    across, down = inputs[..., 1:] - inputs[..., :-1], inputs[..., 1:, :] - inputs[..., :-1, :]
    one, other = inputs[..., 1:, 1:] - inputs[..., :-1, :-1], inputs[..., 1:, :-1] - inputs[..., :-1, 1:]
    variation = sum((d * d).sum().sqrt() for d in (across, down, one, other))
    size = sum((x * x).sum().sqrt() for x in inputs) / len(inputs)
    return entropy + bn * sum(distances) / len(logits) + tv * variation + l2 * size


@pytest.mark.parametrize("codec", ["dct", "pca", "identity"])
@pytest.mark.parametrize("batch", [100, 10])
def test_loss_and_gradient_are_the_papers(codec, batch):
    found = trained_teacher()
    task = tiny.task(codec, codes_per_class=2, teacher=found)
    weights = {"bn": 0.3, "tv": 0.01, "l2": 0.02}
    method = tiny.distiller("sre2l", codec=codec, batch=batch, first_bn=10.0, **weights, **PLAIN)
    variables = method.variables(task)
    (loss,) = method.iteration(task, variables, 0)
    (gradient,) = torch.autograd.grad(loss, variables.codes)
    codes = variables.codes.detach().clone().requires_grad_()
    images = task.space.decode(codes)
    groups = [torch.arange(20)] if batch == 100 else [torch.arange(0, 20, 2), torch.arange(1, 20, 2)]
    expected = sum(
        slow_loss(found, images[rows].clamp(0, 1), variables.labels[rows], first=10, **weights) for rows in groups
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    within = (images.detach() > 0) & (images.detach() < 1)
    (pull,) = torch.autograd.grad(expected, images, retain_graph=True)
    if bool(within.all()) or codec == "identity":
        (slow,) = torch.autograd.grad(expected, codes)
        moving = within if codec == "identity" else torch.ones_like(slow, dtype=torch.bool)
        torch.testing.assert_close(gradient[moving], slow[moving].float(), rtol=1e-3, atol=1e-5)
    assert float(pull.abs().max()) > 0


def test_pixels_stay_inside_as_if_they_were_clamped_after_each_step():
    x = torch.tensor([-0.5, 0.0, 0.5, 1.0, 1.5], requires_grad=True)
    for sign, kept in ((1.0, [0, 0, 1, 1, 1]), (-1.0, [-1, -1, -1, 0, 0])):
        y = inside(x)
        assert y.tolist() == [0, 0, 0.5, 1, 1]
        (gradient,) = torch.autograd.grad(sign * y.sum(), x)
        assert gradient.tolist() == kept


def test_batches_are_optimised_independently():
    """Two codes per class in one batch each: what one batch becomes does not depend on the other."""
    made = []
    for codes in (1, 2):
        task = tiny.task("dct", codes_per_class=codes, teacher=trained_teacher())
        made.append(tiny.distiller("sre2l", batch=10, iterations=3, init="real", **PLAIN).distill(task).codes)
    torch.testing.assert_close(made[1][0::2], made[0], rtol=1e-4, atol=1e-5)


def test_the_step_falls_as_a_cosine():
    task = tiny.task("dct", teacher=trained_teacher())
    method = tiny.distiller("sre2l", iterations=10, lr=0.2)
    variables = method.variables(task)
    assert variables.optimizer.param_groups[0]["betas"] == (0.5, 0.9)
    for step in (0, 5, 9):
        next(method.iteration(task, variables, step))
        assert variables.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * (1 + math.cos(math.pi * step / 10)))


@pytest.mark.parametrize("init", ["real", "noise"])
def test_steps_bring_the_loss_down(init):
    task = tiny.task("dct", teacher=trained_teacher())
    found = tiny.distiller("sre2l", iterations=60, init=init, lr=0.1, bn=1.0).distill(task)
    losses = [loss for _, loss in found.losses]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def test_views_are_cropped_flipped_only_if_the_class_allows_it_and_shifted():
    method = tiny.distiller("sre2l", area=1.0, shift=0.0)
    images = torch.rand((6, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    seen = [
        method._seen(tiny.task("dct", flip=flip), images, torch.Generator().manual_seed(1)) for flip in (False, True)
    ]
    assert torch.equal(seen[0], images)
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(seen[1], images, strict=True)]
    assert 0 < sum(mirrored) < 6
    rolled = tiny.distiller("sre2l", area=1.0, shift=0.5)._seen(
        tiny.task("dct"), images, torch.Generator().manual_seed(3)
    )
    assert not torch.equal(rolled, images)
    assert torch.equal(rolled.flatten(1).sort(1).values, images.flatten(1).sort(1).values)
    cropped = tiny.distiller("sre2l", area=0.1, shift=0.0)._seen(
        tiny.task("dct"), images, torch.Generator().manual_seed(1)
    )
    assert cropped.shape == images.shape
    assert not torch.equal(cropped, images)


def test_a_teacher_without_batch_norm_is_refused():
    network, *_ = build("convnet_d1", tiny.digits().image_shape, 10)
    card = teacher().card
    kept = {name: getattr(card, name) for name in ("classes", "input_shape", "mean", "std", "trained_on")}
    without = Teacher.of((network,), arch="convnet_d1", kwargs={}, **kept)
    with pytest.raises(UsageError, match="the teacher has no BatchNorm; take convnet_bn or a ResNet"):
        tiny.distiller("sre2l").distill(tiny.task("dct", teacher=without))


@pytest.mark.parametrize(
    ("arch", "has"),
    [
        ("convnet", False),
        ("convnet_d3", False),
        ("convnet_bn", True),
        ("resnet18", True),
        ("vit_tiny_patch16_224", False),
    ],
)
def test_batch_norm_is_known_by_name(arch, has):
    if arch.startswith("vit") and not hasattr(timm.layers, "calculate_drop_path_rates"):
        has = None  # an older timm reads a tensor's values to build it, which a network without weights does not have
    assert has_batch_norm(arch) is has


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--teacher", "convnet"], "algo=sre2l: sre2l matches BatchNorm statistics, and the teacher has no BatchNorm"),
        ([], "needs a teacher"),
        (["--teacher", "convnet_bn", "--match", "pixel"], "match=pixel: sre2l supports code only"),
        (["--teacher", "convnet_bn", "algo.area=0"], "area=0: must be above 0"),
        (["--teacher", "convnet_bn", "algo.batch=0"], "batch=0: must be at least 1"),
        (["--teacher", "convnet_bn", "algo.optimizer=lion"], "optimizer=lion: choose one of sgd, adam"),
    ],
)
def test_faults_are_seen_before_any_work(words, message, tmp_path, capsys):
    out = tmp_path / "run"
    given = ["run", "--codec", "dct", "--algo", "sre2l", "--precision", "int8", "--quiet", "--out", str(out)]
    assert main([*given, *words]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_run_with_labels_of_the_same_teacher(tmp_path):
    out = tmp_path / "run"
    words = ["run", "--codec", "dct", "--algo", "sre2l", "--precision", "int8", "--protocol", "demo.v1", "--quiet"]
    options = ["--labels", "soft", "--teacher", "convnet_bn_d1", "algo.iterations=3", "--controls", "none"]
    options += ["--evaluator", "convnet_d1"]
    assert main([*words, *options, "--out", str(out)]) == 0
    record = json.loads((out / "result.json").read_text())
    assert record["distiller"]["name"] == "sre2l"
    assert record["budget"]["bytes"]["total"] <= 2560
    assert load_artifact(out / "distilled.safetensors").soft is not None
