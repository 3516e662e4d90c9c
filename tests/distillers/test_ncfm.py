"""NCFM against its discrepancy (arXiv 2502.20653), written with complex numbers, and through the command line."""

import cmath
import json
import math

import pytest
import tiny
import torch

from latentdd_plugin.cli.main import main
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.distillers.ncfm import SCALE, characteristic, discrepancy, sampled, sampling_network
from latentdd_plugin.distillers.siamese import siamese

SMALL = {"networks": 1, "epochs": 1, "batch_real": 16, "frequencies": 8}


def slow_discrepancy(real, synthetic, t, alpha):
    """The mean over frequencies of the root, with complex numbers, of lists of features of one class."""
    total = 0.0
    for row in t.double().tolist():
        phi = []
        for features in (real, synthetic):
            values = []
            for f in features.double().tolist():
                length = math.sqrt(sum(x * x for x in f))
                values.append(cmath.exp(1j * sum(a * b / length for a, b in zip(row, f, strict=True))))
            phi.append(sum(values) / len(values))
        (a, first), (b, second) = (cmath.polar(value) for value in phi)
        phase = 2 * a * b * (1 - math.cos(first - second))
        total += math.sqrt(alpha * (a - b) ** 2 + (1 - alpha) * phase)
    return total / len(t)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9, 1.0])
def test_the_discrepancy_is_the_papers(alpha):
    g = torch.Generator().manual_seed(0)
    real = [torch.randn((n, 6), generator=g) for n in (7, 4)]
    synthetic = [torch.randn((n, 6), generator=g) for n in (3, 2)]
    t = 3 * torch.randn((5, 6), generator=g)
    found = discrepancy(
        characteristic(torch.cat(real), real, t), characteristic(torch.cat(synthetic), synthetic, t), alpha
    )
    for label in (0, 1):
        assert found[label].item() == pytest.approx(slow_discrepancy(real[label], synthetic[label], t, alpha), rel=1e-4)


def test_equal_samples_have_no_discrepancy_and_a_finite_slope():
    x = torch.randn((4, 6), generator=torch.Generator().manual_seed(1)).requires_grad_()
    t = torch.randn((5, 6), generator=torch.Generator().manual_seed(2))
    found = discrepancy(characteristic(x.detach(), [x], t), characteristic(x, [x], t), 0.5)
    assert found.item() < 1e-3
    (gradient,) = torch.autograd.grad(found, x)
    assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize("sampling", ["network", "gaussian"])
@pytest.mark.parametrize(("codec", "match"), [("dct", "code"), ("dct", "pixel"), ("pca", "code")])
def test_one_step_is_calibration_and_discrepancy(codec, match, sampling):
    task = tiny.task(codec, match)
    method = tiny.distiller("ncfm", match, codec, **SMALL, sampling=sampling, calibration=0.7)
    variables = method.variables(task)
    calibration, loss = (value.item() for value in method.iteration(task, variables, 2))
    g = task.generator("ncfm/network", 2)
    assert int(torch.randint(1, (1,), generator=g)) == 0
    share = float(torch.rand((), generator=g))
    real, synthetic = siamese(task, variables.codes.detach(), 16, "ncfm", 2)
    network, experts = task.networks.network, method._experts(task)
    with torch.no_grad():
        for p, last in zip(network.parameters(), experts.snapshot(0, 1), strict=True):
            p.copy_(last)
        entropies = [-network(x).log_softmax(1)[:, label].mean() for label, x in enumerate(synthetic)]
        assert calibration == pytest.approx(0.7 * float(sum(entropies)), rel=1e-4)
        for p, first, last in zip(network.parameters(), experts.snapshot(0, 0), experts.snapshot(0, 1), strict=True):
            p.copy_(share * first + (1 - share) * last)
        t = method._frequencies(task, variables, 2)
        expected = sum(
            slow_discrepancy(network.features(r), network.features(s), t, 0.5)
            for r, s in zip(real, synthetic, strict=True)
        )
    assert loss == pytest.approx(SCALE * expected, rel=1e-3)


def test_codes_descend_and_the_sampling_network_ascends():
    """The same step again and again: with codes that rest the discrepancy grows, with a network that rests it falls."""
    for lr, lr_sampling, grows in ((0.0, 0.02, True), (0.05, 0.0, False)):
        task = tiny.task("dct")
        method = tiny.distiller("ncfm", **SMALL, calibration=0, lr=lr, lr_sampling=lr_sampling)
        variables, losses = method.variables(task), []
        for _ in range(15):
            (loss,) = method.iteration(task, variables, 0)
            variables.optimizer.zero_grad()
            loss.backward()
            variables.optimizer.step()
            losses.append(loss.item())
        assert (losses[-1] > 1.02 * losses[0]) == grows
        assert (losses[-1] < 0.98 * losses[0]) != grows


def test_the_sampling_network_is_the_authors():
    """Three linear layers with BatchNorm, leaky ReLU and at last tanh, as modules of torch."""
    parameters = sampling_network(6, torch.Generator().manual_seed(0))
    layers = []
    for layer in range(3):
        linear, norm = torch.nn.Linear(6, 6), torch.nn.BatchNorm1d(6)
        with torch.no_grad():
            linear.weight.copy_(parameters[f"sampler.{layer}.weight"])
            linear.bias.copy_(parameters[f"sampler.{layer}.bias"])
        layers += [linear, norm, torch.nn.Tanh() if layer == 2 else torch.nn.LeakyReLU(0.2)]
    noise = torch.randn((9, 6), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(sampled(parameters, noise), torch.nn.Sequential(*layers)(noise))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"frequencies": 1}, "frequencies=1: must be at least 2"),
        ({"alpha": 1.5}, "alpha=1.5: must be between 0 and 1"),
        ({"sampling": "sobol"}, "sampling=sobol: choose one of network, gaussian"),
    ],
)
def test_faulty_options_are_refused(option, message):
    with pytest.raises(UsageError, match=message):
        tiny.distiller("ncfm", **option)


def test_a_run(tmp_path):
    out = tmp_path / "run"
    words = ["run", "--codec", "dct", "--algo", "ncfm", "--precision", "int8", "--protocol", "demo.v1", "--quiet"]
    options = ["algo.iterations=3", "algo.networks=1", "algo.epochs=1", "algo.frequencies=8", "--controls", "none"]
    options += ["--evaluator", "convnet_d1"]
    assert main([*words, *options, "--out", str(out)]) == 0
    record = json.loads((out / "result.json").read_text())
    assert record["distiller"]["name"] == "ncfm"
    assert record["budget"]["bytes"]["total"] <= 2560
