"""Bytes to codes and codes to bits: the formula of the design, the error of each precision, the size of the stream."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentdd_plugin.artifacts.budget import Budget, budget_for, image_bytes
from latentdd_plugin.artifacts.packing import pack, unpack
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import PRECISIONS

INTEGERS = [name for name, bits in PRECISIONS.items() if bits < 16]
quick = settings(max_examples=40, deadline=None)
shapes = st.tuples(st.integers(1, 7), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))


def codes_of(shape, seed, spread=3.0):
    draw = torch.Generator().manual_seed(seed)
    scale = torch.rand((1, shape[1], 1, 1), generator=draw) * spread
    return torch.randn(shape, generator=draw) * scale + torch.randn((1, shape[1], 1, 1), generator=draw)


@quick
@given(shapes, st.integers(0, 2**31), st.sampled_from(list(PRECISIONS)))
def test_what_comes_back_is_within_half_a_step(shape, seed, precision):
    codes = codes_of(shape, seed)
    packed = pack(codes, precision)
    back = unpack(packed)
    assert back.shape == codes.shape
    assert back.dtype == torch.float32
    error = (back - codes).abs()
    if precision == "fp32":
        assert torch.equal(back, codes)
    elif precision == "fp16":
        assert bool((error <= codes.abs() * 2**-11 + 2**-25).all())
    else:
        low, high = codes.amin((0, 2, 3), keepdim=True), codes.amax((0, 2, 3), keepdim=True)
        step = (high - low) / (2 ** PRECISIONS[precision] - 1)
        assert bool((error <= step / 2 + 1e-5 * (low.abs() + high.abs())).all())
        torch.testing.assert_close(back.amin((0, 2, 3)), low.flatten())
        torch.testing.assert_close(back.amax((0, 2, 3)), high.flatten())


@quick
@given(shapes, st.integers(0, 2**31), st.sampled_from(list(PRECISIONS)))
def test_packing_what_was_unpacked_changes_nothing(shape, seed, precision):
    once = pack(codes_of(shape, seed), precision)
    twice = pack(unpack(once), precision)
    torch.testing.assert_close(unpack(twice), unpack(once), rtol=1e-5, atol=1e-5)


@quick
@given(shapes, st.sampled_from(list(PRECISIONS)))
def test_one_bit_stream_for_the_whole_set(shape, precision):
    packed = pack(codes_of(shape, 0), precision)
    assert packed.nbytes == math.ceil(math.prod(shape) * PRECISIONS[precision] / 8)
    assert packed.nbytes == Budget(None, 0, 0, precision, shape[1:]).packed_bytes(shape[0])
    assert packed.shape == shape
    assert (packed.scale is None) == (precision not in INTEGERS)


@quick
@given(st.data(), st.sampled_from(INTEGERS))
def test_bits_lie_most_significant_first(data, precision):
    bits = PRECISIONS[precision]
    top = 2**bits - 1
    values = [0, top, *data.draw(st.lists(st.integers(0, top), max_size=20))]
    packed = pack(torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1), precision)
    text = "".join(f"{value:0{bits}b}" for value in values)
    text += "0" * (-len(text) % 8)
    assert packed.data.tolist() == [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]
    assert unpack(packed).flatten().tolist() == values


@pytest.mark.parametrize("precision", INTEGERS)
def test_each_channel_has_its_own_scale(precision):
    codes = torch.stack([torch.linspace(-1, 1, 9), torch.linspace(100, 900, 9)], 1).view(9, 2, 1, 1)
    packed = pack(codes, precision)
    np.testing.assert_array_equal(packed.scale, [[-1, 100], [1, 900]])
    constant = torch.full((3, 1, 2, 2), -4.25)
    assert torch.equal(unpack(pack(constant, precision)), constant)


def test_packing_leaves_the_codes_alone():
    codes = codes_of((3, 2, 2, 2), 0).requires_grad_()
    before = codes.detach().clone()
    for precision in PRECISIONS:
        assert not pack(codes, precision).data.requires_grad
    assert torch.equal(codes.detach(), before)


@quick
@given(
    st.tuples(st.sampled_from([1, 3]), st.integers(4, 64), st.integers(4, 64)),
    st.tuples(st.integers(1, 8), st.integers(1, 16), st.integers(1, 16)),
    st.sampled_from(list(PRECISIONS)),
    st.integers(1, 50),
    st.integers(0, 320),
)
def test_the_number_of_codes_is_the_formula(image, code, precision, ipc, label_bits):
    total = ipc * math.prod(image) * 4
    bits = PRECISIONS[precision] * math.prod(code) + label_bits
    if 8 * total < bits:
        with pytest.raises(UsageError):
            budget_for(image, code, precision, ipc=ipc, label_bits=label_bits)
        return
    budget = budget_for(image, code, precision, ipc=ipc, label_bits=label_bits)
    assert budget.bytes_per_class == total
    assert budget.codes_per_class * bits <= 8 * total < (budget.codes_per_class + 1) * bits
    assert budget.packed_bytes(budget.codes_per_class) <= total
    fixed = budget_for(image, code, precision, lpc=budget.codes_per_class, label_bits=label_bits)
    assert fixed.codes_per_class == budget.codes_per_class
    assert fixed.bytes_per_class <= total
    assert (
        fixed.packed_bytes(fixed.codes_per_class) + label_bits * fixed.codes_per_class / 8 <= fixed.bytes_per_class + 1
    )


@pytest.mark.parametrize(
    ("image", "code", "precision", "ipc", "codes"),
    [
        ((3, 128, 128), (4, 16, 16), "fp32", 1, 48),  # an f = 8, c = 4 autoencoder: 3 f^2 / c
        ((3, 128, 128), (4, 32, 32), "fp32", 1, 12),  # and at twice the size, LatentDD's 12
        ((3, 256, 256), (4, 64, 64), "fp32", 10, 120),
        ((3, 32, 32), (3, 32, 32), "fp32", 1, 1),
        ((3, 32, 32), (3, 16, 16), "int4", 1, 32),
        ((1, 8, 8), (1, 4, 4), "fp32", 1, 4),
        ((1, 8, 8), (1, 8, 8), "int2", 1, 16),
    ],
)
def test_known_numbers(image, code, precision, ipc, codes):
    assert budget_for(image, code, precision, ipc=ipc).codes_per_class == codes
    assert image_bytes(image) * ipc == budget_for(image, code, precision, ipc=ipc).bytes_per_class


def test_without_a_budget_it_is_one_image():
    assert budget_for((1, 8, 8), (1, 8, 8), "fp32") == budget_for((1, 8, 8), (1, 8, 8), "fp32", ipc=1)


def test_a_budget_that_holds_no_code_is_refused_with_the_numbers():
    with pytest.raises(UsageError) as raised:
        budget_for((1, 8, 8), (70, 1, 1), "fp32", ipc=1)
    assert str(raised.value) == (
        "budget too small: ipc=1 is 256 bytes per class, but one fp32 code of shape (70, 1, 1) takes 280 bytes; "
        "raise ipc, choose a lower precision or a codec with smaller codes"
    )
