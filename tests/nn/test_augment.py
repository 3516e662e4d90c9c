"""Every operation against the formula of the paper's own code, written slowly; Siamese draws; gradients."""

import math

import pytest
import tiny
import torch

from latentdd_plugin.nn.augment import OPERATIONS, SPATIAL, Augment, Draw, operations_for

SHAPES = [(2, 3, 8, 8), (2, 1, 6, 9)]


def samples(shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def numbers(*rows):
    return torch.tensor(rows, dtype=torch.float32)


# DSA's `color`: brightness, saturation, contrast, one after the other.
def slow_color(x, u):
    x = x + (u[0] - 0.5) * 1.0
    grey = sum(x[c] for c in range(len(x))) / len(x)
    x = torch.stack([(x[c] - grey) * (u[1] * 2.0) + grey for c in range(len(x))])
    mean = x.sum() / x.numel()
    return (x - mean) * (u[2] + 0.5) + mean


# DSA's `crop`: a shift by a whole number of pixels in [-pad, pad], pad = int(side / 8 + 0.5); zero comes in.
def slow_crop(x, u):
    (_, h, w), out = x.shape, torch.zeros_like(x)
    shift = [
        math.floor(float(u[i]) * (2 * int(n * 0.125 + 0.5) + 1)) - int(n * 0.125 + 0.5) for i, n in ((0, h), (1, w))
    ]
    for i in range(h):
        for j in range(w):
            if 0 <= i + shift[0] < h and 0 <= j + shift[1] < w:
                out[:, i, j] = x[:, i + shift[0], j + shift[1]]
    return out


# DSA's `cutout`: a rectangle of half the sides around a centre in [0, side + 1 - size % 2), clamped to the image.
def slow_cutout(x, u):
    (_, h, w), out = x.shape, x.clone()
    hole = []
    for i, n in ((0, h), (1, w)):
        size = int(n * 0.5 + 0.5)
        centre = math.floor(float(u[i]) * (n + 1 - size % 2))
        hole.append({min(max(centre - size // 2 + k, 0), n - 1) for k in range(size)})
    for i in hole[0]:
        for j in hole[1]:
            out[:, i, j] = 0
    return out


def slow_flip(x, u):
    return torch.stack([x[:, :, -1 - j] for j in range(x.shape[2])], 2) if u[0] < 0.5 else x


def bilinear(x, row, column):
    """x at a fractional position, zero outside."""
    _, h, w = x.shape
    value = torch.zeros(len(x))
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(column), math.floor(column) + 1):
            if 0 <= i < h and 0 <= j < w:
                value += (1 - abs(row - i)) * (1 - abs(column - j)) * x[:, i, j]
    return value


def slow_affine(x, matrix):
    """Each output place, in [-1, 1] with pixel centres between, looks up its image under the matrix."""
    (_, h, w), out = x.shape, torch.zeros_like(x)
    for i in range(h):
        for j in range(w):
            across, down = (2 * j + 1) / w - 1, (2 * i + 1) / h - 1
            u = matrix[0][0] * across + matrix[0][1] * down
            v = matrix[1][0] * across + matrix[1][1] * down
            out[:, i, j] = bilinear(x, ((v + 1) * h - 1) / 2, ((u + 1) * w - 1) / 2)
    return out


def slow_scale(x, u):
    sides = [float(u[i]) * (1.2 - 1 / 1.2) + 1 / 1.2 for i in range(2)]
    return slow_affine(x, [[sides[0], 0], [0, sides[1]]])


def slow_rotate(x, u):
    angle = (float(u[0]) - 0.5) * 2 * 15 / 180 * math.pi
    return slow_affine(x, [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


SLOW = {
    "color": slow_color,
    "crop": slow_crop,
    "cutout": slow_cutout,
    "flip": slow_flip,
    "scale": slow_scale,
    "rotate": slow_rotate,
}
ROWS = [(0.1, 0.9, 0.3), (0.75, 0.2, 0.6), (0.0, 0.999, 0.0), (0.999, 0.0, 0.999)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_is_its_formula(operation, shape):
    x = samples(shape)
    for row in ROWS:
        got = Augment().apply(x, Draw(operation, numbers(row)))
        expected = torch.stack([SLOW[operation](one, numbers(row)[0]) for one in x])
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_row_a_sample_treats_each_on_its_own(operation):
    x = samples((len(ROWS), 3, 8, 6))
    together = Augment().apply(x, Draw(operation, numbers(*ROWS)))
    alone = torch.cat([Augment().apply(x[i : i + 1], Draw(operation, numbers(row))) for i, row in enumerate(ROWS)])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_siamese_means_the_same_parameters_for_both(operation):
    draw = Augment((operation,)).draw(torch.Generator().manual_seed(4))
    real, synthetic = samples((5, 3, 8, 8), 1), samples((2, 3, 8, 8), 2)
    apart = [Augment().apply(part, draw) for part in (real, synthetic)]
    torch.testing.assert_close(Augment().apply(torch.cat([real, synthetic]), draw), torch.cat(apart))
    assert draw.numbers.shape == (1, 3)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_is_differentiable(operation, rows):
    x = samples((2, 2, 4, 5), dtype=torch.float64).requires_grad_()
    draw = Draw(operation, numbers(*ROWS[:rows]))
    assert torch.autograd.gradcheck(lambda x: Augment().apply(x, draw), (x,))


def test_draws_repeat_and_reach_every_operation():
    def operations(seed):
        g = torch.Generator().manual_seed(seed)
        return [Augment().draw(g, 4) for _ in range(60)]

    first, again = operations(0), operations(0)
    assert [d.operation for d in first] == [d.operation for d in again]
    assert all(torch.equal(a.numbers, b.numbers) for a, b in zip(first, again, strict=True))
    assert {d.operation for d in first} == set(OPERATIONS)
    assert all(d.numbers.shape == (4, 3) for d in first)
    assert bool(torch.stack([d.numbers for d in first]).std(1).min() > 0), "samples differ"


def test_no_operation_changes_nothing():
    x = samples(SHAPES[0])
    assert Augment(()).draw(torch.Generator()) is None
    assert Augment(()).apply(x, None) is x


@pytest.mark.parametrize(
    ("colour", "spatial", "flip", "operations"),
    [
        (True, True, True, OPERATIONS),
        (False, True, True, SPATIAL),
        (False, True, False, tuple(op for op in SPATIAL if op != "flip")),
        (True, False, True, ("color",)),
        (False, False, True, ()),
    ],
)
def test_only_what_means_something_is_done(colour, spatial, flip, operations):
    assert operations_for(colour=colour, spatial=spatial, flip=flip) == operations


def test_digits_are_never_mirrored():
    assert tiny.digits().flip is False
    assert set(tiny.task("dct").augment.operations) == {"crop", "cutout", "scale", "rotate"}
    assert tiny.task("pca").augment.operations == ()
