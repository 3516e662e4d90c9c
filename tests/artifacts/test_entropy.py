"""Entropy coding: what goes in comes out, near the entropy, and a damaged stream is one clear error."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from latentdd_plugin.artifacts.entropy import LARGEST, decode, encode
from latentdd_plugin.core.errors import ArtifactError, UsageError

FROZEN = (
    "01060020f23f002f33330101003066666603003a3333d90b003b0100db13003c3333e617003f0100ec1a003750e0ff6e1279"
    "a1bbe51a19e79074dd159a65ae5f818dda"
)


def laplacian(samples, columns, seed=0):
    """Quantised coefficients as a transform gives them: large at first, then smaller and smaller."""
    draw = np.random.default_rng(seed)
    scales = 40.0 * np.exp(-np.arange(columns) / (columns / 6))
    return np.rint(draw.laplace(size=(samples, columns)) * scales * 0.5).astype(np.int32)


def empirical_bytes(symbols):
    """The entropy of each column's own histogram, summed: what no model of single columns can beat."""
    total = 0.0
    for column in symbols.T:
        share = np.unique(column, return_counts=True)[1] / len(column)
        total -= len(column) * float((share * np.log2(share)).sum())
    return total / 8


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(np.int32, st.tuples(st.integers(1, 12), st.integers(1, 40)), elements=st.integers(-LARGEST, LARGEST))
)
def test_any_symbols_come_back(symbols):
    assert np.array_equal(decode(encode(symbols), *symbols.shape), symbols)


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (200, 300)])
def test_nothing_but_zeros_comes_back(shape):
    assert np.array_equal(decode(encode(np.zeros(shape, np.int32)), *shape), np.zeros(shape))


def test_the_stream_is_within_three_percent_of_the_entropy_of_its_columns():
    symbols = laplacian(1500, 1000)
    assert len(encode(symbols)) < 1.03 * empirical_bytes(symbols)


def test_equal_symbols_give_equal_streams_for_ever():
    symbols = laplacian(5, 8)
    assert encode(symbols).hex() == FROZEN
    assert np.array_equal(decode(bytes.fromhex(FROZEN), 5, 8), symbols)


def test_what_cannot_be_coded_is_refused():
    with pytest.raises(UsageError, match=r"magnitude 5000: at most 4095"):
        encode(np.array([[5000]], dtype=np.int32))
    with pytest.raises(UsageError, match="choose fewer codes or more bytes"):
        encode(np.zeros((1000, 1000), dtype=np.int32))


def test_damaged_streams_are_one_clear_error_or_other_symbols():
    symbols = laplacian(40, 30)
    stream, draw = encode(symbols), np.random.default_rng(1)
    refused = 0
    for _ in range(500):
        damaged = bytearray(stream)
        for place in draw.integers(0, len(stream), draw.integers(1, 4)):
            damaged[place] = draw.integers(0, 256)
        damaged = damaged[: draw.integers(0, len(stream) + 1)] if draw.random() < 0.3 else damaged
        begun = time.monotonic()
        try:
            found = decode(bytes(damaged), 40, 30)
        except ArtifactError as error:
            refused += 1
            assert str(error).startswith("coded stream: ")
        else:
            assert found.shape == (40, 30)
            assert np.abs(found).max() <= LARGEST
        assert time.monotonic() - begun < 1
    assert refused > 100


def test_a_short_stream_cannot_claim_many_symbols():
    stream = encode(laplacian(4, 4))
    with pytest.raises(ArtifactError, match="are not possible"):
        decode(stream, 1_000_000, 1_000)
    with pytest.raises(ArtifactError):
        decode(b"", 1, 1)
