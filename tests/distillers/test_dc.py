"""DC and DSA against the equations of their papers (arXiv 2006.05929, equations 9 and 10; arXiv 2102.08259), slowly."""

import pytest
import tiny
import torch
import torch.nn.functional as F

from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.distillers.dc import LOOPS, gradient_distance
from latentdd_plugin.nn.augment import Augment, Draw


def slow_distance(synthetic, real):
    """Sum over weight tensors and outputs i of 1 - cos(grad_i(S), grad_i(T)), one output at a time."""
    total = torch.zeros((), dtype=real[0].dtype)
    for s, r in zip(synthetic, real, strict=True):
        if s.ndim == 1:
            continue
        for i in range(s.shape[0]):
            a, b = s[i].reshape(-1), r[i].reshape(-1)
            total = total + 1 - torch.dot(a, b) / (torch.sqrt(torch.dot(a, a)) * torch.sqrt(torch.dot(b, b)) + 1e-6)
    return total


class Fixed(Augment):
    """Always the same draw."""

    def draw(self, generator, samples=1):
        return Draw("scale", torch.tensor([[0.9, 0.2, 0.4]]))


def test_the_distance_is_the_equations():
    g = torch.Generator().manual_seed(0)
    shapes = [(8, 3, 3, 3), (8,), (10, 32)]
    real, synthetic = ([torch.randn(s, generator=g, dtype=torch.float64) for s in shapes] for _ in range(2))
    assert gradient_distance(tuple(synthetic), tuple(real)).item() == pytest.approx(
        slow_distance(synthetic, real).item()
    )
    assert gradient_distance(tuple(real), tuple(real)).item() == pytest.approx(0, abs=1e-5)
    opposite = tuple(-r for r in real)
    assert gradient_distance(opposite, tuple(real)).item() == pytest.approx(2 * (8 + 10), abs=1e-4)


@pytest.mark.parametrize(("name", "augment"), [("dc", Augment()), ("dsa", Fixed())])
@pytest.mark.parametrize(("codec", "match"), [("dct", "code"), ("dct", "pixel")])
def test_loss_and_gradient_are_the_equations(name, augment, codec, match):
    """With every real sample in the batch, so that the batch is known; DC leaves the augmentation alone."""
    task = tiny.task(codec, match, augment=augment)
    method = tiny.distiller(name, match, batch_real=10_000)
    variables = method.variables(task)
    (loss,) = method.iteration(task, variables, 5)
    (gradient,) = torch.autograd.grad(loss, variables.codes)

    network = task.network("dc/network", 5).requires_grad_(True)
    codes = variables.codes.detach().clone().requires_grad_()
    draw = augment.draw(torch.Generator()) if name == "dsa" else None
    total = torch.zeros(())
    for label in range(10):
        sides = []
        for x in (task.view(codes[2 * label : 2 * label + 2]), task.real.take(task.real.by_class[label])):
            moved = Augment().apply(x, draw)
            loss_of = F.cross_entropy(network(moved), torch.full((len(x),), label))
            sides.append(torch.autograd.grad(loss_of, list(network.parameters()), create_graph=True))
        total = total + slow_distance(sides[0], [r.detach() for r in sides[1]])
    (expected,) = torch.autograd.grad(total, codes)
    network.requires_grad_(False)
    assert loss.item() == pytest.approx(total.item(), rel=1e-4)
    torch.testing.assert_close(gradient, expected, rtol=1e-2, atol=2e-3 * float(expected.abs().max()))


@pytest.mark.parametrize(("codes", "loops"), [*LOOPS.items(), (2, (1, 1)), (12, (10, 50)), (480, (50, 10))])
def test_loops_are_the_papers_for_the_nearest_number_of_codes(codes, loops):
    method = tiny.distiller("dc", outer_loops=None, inner_loops=None)
    assert method._loops(codes) == loops


def test_the_network_is_trained_between_matching_steps():
    """Every yielded loss belongs to a further trained network; the codes change only through the loop."""
    task = tiny.task("dct", augment=Augment(()))
    method = tiny.distiller("dc", outer_loops=3, inner_loops=4, lr_net=0.5, batch_real=10_000)
    variables = method.variables(task)
    before = variables.codes.detach().clone()
    losses = [loss.item() for loss in method.iteration(task, variables, 0)]
    assert len(losses) == 3
    assert len(set(losses)) == 3
    assert torch.equal(variables.codes.detach(), before)


def test_small_steps_lower_the_distance():
    task = tiny.task("dct", augment=Augment(()))
    method = tiny.distiller("dc", batch_real=10_000)
    variables = method.variables(task)
    losses = []
    for _ in range(12):
        loss = next(method.iteration(task, variables, 0))
        losses.append(loss.item())
        (gradient,) = torch.autograd.grad(loss, variables.codes)
        with torch.no_grad():
            variables.codes -= 1e-4 * gradient
    assert losses[-1] < losses[0] - 1


@pytest.mark.parametrize("name", ["dc", "mtt"])
def test_adams_first_step_has_the_length_it_was_given(name):
    """Whatever the gradient's size: the quick presets rely on it for codes of any number and dimension."""
    task = tiny.task("dct", augment=Augment(()))
    method = tiny.distiller(name, iterations=1, optimizer="adam", lr=0.01)
    start = method.variables(task).codes.detach().clone()
    moved = (method.distill(task).codes - start).abs()
    assert float(moved.max()) == pytest.approx(0.01, rel=1e-3)
    assert float((moved > 0.009).float().mean()) > 0.9


@pytest.mark.parametrize(
    ("name", "option"), [("dc", "init"), ("dc", "optimizer"), ("mtt", "optimizer"), ("dm", "init"), ("dm", "optimizer")]
)
def test_a_word_that_is_none_of_an_options_is_refused(name, option):
    with pytest.raises(UsageError, match=rf"algo\.{name}: {option}=rael: choose one of"):
        tiny.distiller(name, **{option: "rael"})
