"""DM against the equation of its paper (arXiv 2110.04181, equation 4), written slowly."""

import statistics

import pytest
import tiny
import torch
import torch.nn.functional as F

from latentdd_plugin.core.errors import RunFailed
from latentdd_plugin.nn.augment import Augment, Draw


def slow_features(network, x):
    """The ConvNet's features, layer by layer, in float64."""
    for conv, norm in zip(network.blocks[0::4], network.blocks[1::4], strict=True):
        x = F.conv2d(x, conv.weight.double(), conv.bias.double(), padding=1)
        mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), unbiased=False, keepdim=True)
        x = (x - mean) / (variance + 1e-5).sqrt()
        x = norm.weight.double().view(1, -1, 1, 1) * x + norm.bias.double().view(1, -1, 1, 1)
        x = F.avg_pool2d(x.clamp_min(0), 2)
    return x.flatten(1)


def slow_loss(task, network, codes, draw):
    """sum over classes || 1/|T_c| sum psi(A(x)) - 1/|S_c| sum psi(A(s)) ||^2, with all real samples of a class."""
    total = torch.zeros((), dtype=torch.float64)
    per_class = len(codes) // task.num_classes
    for label in range(task.num_classes):
        real = task.real.take(task.real.by_class[label]).double()
        synthetic = task.view(codes[label * per_class : (label + 1) * per_class]).double()
        features = [slow_features(network, Augment().apply(part, draw)) for part in (real, synthetic)]
        difference = features[0].sum(0) / len(real) - features[1].sum(0) / len(synthetic)
        total = total + (difference * difference).sum()
    return total


STEP = 4  # whose network has no feature at the kink of a ReLU, where float32 and float64 may take different sides


class Fixed(Augment):
    """Always the same draw."""

    def draw(self, generator, samples=1):
        super().draw(generator, samples)
        return Draw("rotate", torch.tensor([[0.9, 0.2, 0.4]]))


@pytest.mark.parametrize("augment", [Augment(()), Fixed()], ids=["plain", "rotated"])
@pytest.mark.parametrize(("codec", "match"), [("dct", "code"), ("identity", "code"), ("dct", "pixel")])
def test_loss_and_gradient_are_the_equations(codec, match, augment):
    task = tiny.task(codec, match, augment=augment)
    method = tiny.distiller("dm", match, batch_real=10_000)
    variables = method.variables(task)
    (loss,) = method.iteration(task, variables, STEP)
    (gradient,) = torch.autograd.grad(loss, variables.codes)
    network = task.network("dm/network", STEP)
    codes = variables.codes.detach().clone().requires_grad_()
    expected = slow_loss(task, network, codes, augment.draw(torch.Generator()))
    (slow_gradient,) = torch.autograd.grad(expected, codes)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    torch.testing.assert_close(gradient, slow_gradient, rtol=1e-3, atol=1e-4 * float(slow_gradient.abs().max()))


def test_every_step_has_its_own_network_batch_and_draw():
    task = tiny.task("dct")
    method = tiny.distiller("dm", batch_real=8)
    variables = method.variables(task)
    losses = [next(method.iteration(task, variables, step)).item() for step in (0, 1, 2, 0)]
    assert losses[0] == losses[3]
    assert len(set(losses)) == 3


def test_the_update_is_sgd_with_momentum():
    """Two steps by hand: v = m v + g, x = x - lr v."""
    task = tiny.task("dct", augment=Augment(()))
    method = tiny.distiller("dm", iterations=2, batch_real=10_000, lr=0.3, optimizer="sgd")
    codes = task.init()[0].double()
    velocity = torch.zeros_like(codes)
    for step in range(2):
        x = codes.float().requires_grad_()
        (gradient,) = torch.autograd.grad(slow_loss(task, task.network("dm/network", step), x, None), x)
        velocity = 0.5 * velocity + gradient.double()
        codes = codes - 0.3 * velocity
    torch.testing.assert_close(method.distill(task).codes, codes.float(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("codec", "match"), [("dct", "code"), ("pca", "code"), ("pca", "pixel"), ("identity", "code")])
def test_steps_bring_the_loss_down(codec, match):
    method = tiny.distiller("dm", match, iterations=40, batch_real=32, lr=4.0, optimizer="sgd")
    found = method.distill(tiny.task(codec, match))
    losses = [loss for _, loss in found.losses]
    assert len(losses) == 40
    assert statistics.mean(losses[-15:]) < 0.95 * statistics.mean(losses[:15])
    assert float((found.codes - tiny.task(codec).init()[0]).abs().max()) > 1e-3


@pytest.mark.parametrize("iterations", [50, 2000])
def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_state(iterations):
    """Of 2000 steps only every tenth loss is looked at; a checkpoint in between must not be a broken one."""
    kept = tiny.Kept()
    method = tiny.distiller("dm", iterations=iterations, batch_real=8, lr=1e37, optimizer="sgd")
    with pytest.raises(
        RunFailed, match=r"step \d+: the loss is .* The last finite checkpoint is kept; try a smaller"
    ) as e:
        method.distill(tiny.task(checkpoint=kept))
    assert e.value.exit_code == 1
    assert kept.saved, "step 0 was saved before anything went wrong"
    assert all(bool(torch.isfinite(p["variables"]["codes"]).all()) for p in kept.saved)
    assert kept.saved[-1]["step"] <= int(str(e.value).split()[1].rstrip(":"))


@pytest.mark.parametrize(("codes", "step"), [(1, 0.1), (4, 0.05), (100, 0.01)])
def test_without_a_rate_the_step_follows_the_number_of_codes(codes, step):
    assert tiny.distiller("dm").lr is None
    for lr, wanted in ((None, step), (0.3, 0.3)):
        method = tiny.distiller("dm", lr=lr)
        (group,) = method.variables(tiny.task("dct", codes_per_class=codes)).optimizer.param_groups
        assert group["lr"] == pytest.approx(wanted)
