"""Tokens to bytes and back: every width, the entropy-coded form beside its entropy, and files that say what is not."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from latentdd_plugin.artifacts import token_coding
from latentdd_plugin.artifacts.budget import budget_for
from latentdd_plugin.artifacts.file import KEY, _content_hash, _tensors, load_artifact, save_artifact
from latentdd_plugin.artifacts.packing import Packed, pack_tokens, unpack
from latentdd_plugin.core.errors import ArtifactError, UsageError
from latentdd_plugin.core.types import LARGEST_CODEBOOK, canonical_json, token_bits
from latentdd_plugin.experiments.api import distill
from latentdd_plugin.testing.samples import digits

LEVELS = "latentdd_plugin.testing.token_codec:Levels"
quick = settings(max_examples=60, deadline=None)


def drawn(size, count, seed, power):
    """Tokens that occur as unequally as `power` says; 0 is equally."""
    weights = np.arange(1, min(size, 5000) + 1, dtype=float) ** -power
    rng = np.random.default_rng(seed)
    return rng.permutation(size)[rng.choice(len(weights), count, p=weights / weights.sum())]


# --- bytes ------------------------------------------------------------------------------------------------------------


@quick
@given(st.integers(2, 70_000), st.integers(1, 4000), st.integers(0, 2**31), st.floats(0, 3))
def test_tokens_come_back_from_either_form(size, count, seed, power):
    given_tokens = drawn(size, count, seed, power)
    fixed, coded = token_coding.pack(given_tokens, size), token_coding.encode(given_tokens, size)
    assert len(coded) <= len(fixed) == math.ceil(count * math.ceil(math.log2(size)) / 8)
    assert np.array_equal(token_coding.unpack(fixed, size, count), given_tokens)
    assert np.array_equal(token_coding.decode(coded, size, count), given_tokens)


def test_the_bits_lie_as_the_format_says():
    assert token_coding.pack(np.array([5, 0, 7, 1]), 8) == bytes([0b10100011, 0b10010000])
    assert token_coding.pack(np.array([512, 1]), 513) == bytes([0b10000000, 0b00000000, 0b00010000])


def test_more_tokens_than_one_block(monkeypatch):
    monkeypatch.setattr(token_coding, "BLOCK", 16)
    given_tokens = drawn(1000, 333, 0, 1)
    packed = token_coding.pack(given_tokens, 1000)
    assert np.array_equal(token_coding.unpack(packed, 1000, 333), given_tokens)
    monkeypatch.undo()
    assert packed == token_coding.pack(given_tokens, 1000)


@pytest.mark.parametrize("size", [16, 1024, 16384])
def test_the_stream_is_near_the_entropy_of_its_histogram(size):
    given_tokens = drawn(size, 100_000, 0, 1.0)
    share = np.bincount(given_tokens) / len(given_tokens)
    entropy = -(share[share > 0] * np.log2(share[share > 0])).sum() * len(given_tokens) / 8
    stream = token_coding.encode(given_tokens, size)
    assert len(stream) <= 1.03 * entropy + size / 2  # beyond it: the model, at most 4 bits for each entry
    assert len(stream) < 0.9 * token_coding.fixed_bytes(100_000, size)


def test_a_model_that_costs_more_than_it_saves_is_left_out():
    given_tokens = drawn(16384, 500, 0, 0)
    assert token_coding.encode(given_tokens, 16384) == token_coding.pack(given_tokens, 16384)


def test_one_token_alone_and_the_largest_codebook():
    alone = np.full(5000, LARGEST_CODEBOOK - 1)
    stream = token_coding.encode(alone, LARGEST_CODEBOOK)
    assert len(stream) < 32
    assert np.array_equal(token_coding.decode(stream, LARGEST_CODEBOOK, 5000), alone)


def test_a_stream_of_next_to_nothing_is_not_written_and_not_believed():
    many = np.zeros(10**6, dtype=np.int64)
    assert len(token_coding.encode(many, 4)) == token_coding.fixed_bytes(10**6, 4)
    short = token_coding.encode(np.zeros(5000, dtype=np.int64), 4)
    with pytest.raises(ArtifactError, match="not possible"):
        token_coding.decode(short, 4, 10**9)


@pytest.mark.parametrize(
    ("data", "size", "count", "says"),
    [
        (bytes([0b11100000]), 5, 1, "7 is not an entry of a codebook of 5"),
        (bytes([0b10000001]), 5, 1, "something follows the last one"),
        (bytes(2), 5, 1, "1 of 3 bits are not 2 bytes"),
    ],
)
def test_wrong_bits_at_a_fixed_width(data, size, count, says):
    with pytest.raises(ArtifactError, match=says):
        token_coding.unpack(data, size, count)


# --- the budget -------------------------------------------------------------------------------------------------------


@quick
@given(st.integers(2, LARGEST_CODEBOOK), st.integers(1, 64), st.integers(1, 9), st.integers(0, 70), st.integers(1, 5))
def test_as_many_codes_as_fit_beside_their_labels(size, side, classes, label_bits, ipc):
    shape = (1, side, side)
    try:
        found = budget_for((3, 32, 32), shape, "tokens", ipc=ipc, label_bits=label_bits, tokens=size)
    except UsageError:
        assert 8 * ipc * 12288 < side**2 * token_bits(size) + label_bits + 16
        return
    codes = found.codes_per_class * classes
    spent = found.packed_bytes(codes, classes) + math.ceil(codes * label_bits / 8)
    assert spent <= ipc * 12288 * classes
    assert 8 * ipc * 12288 < (found.codes_per_class + 2) * (side**2 * token_bits(size) + label_bits)
    coded = budget_for((3, 32, 32), shape, "coded", ipc=ipc, label_bits=label_bits, tokens=size)
    assert coded.codes_per_class == found.codes_per_class
    assert coded.packed_bytes(codes, classes) >= found.packed_bytes(codes, classes)


def test_a_precision_of_other_codes_is_refused():
    with pytest.raises(UsageError, match="precision=int8: the codes of this codec are tokens"):
        budget_for((3, 32, 32), (1, 8, 8), "int8", ipc=1, tokens=256)
    with pytest.raises(UsageError, match="precision=tokens: the codes of this codec are not numbers of a codebook"):
        budget_for((3, 32, 32), (1, 8, 8), "tokens", ipc=1)


def test_more_codes_than_the_bytes_hold_are_refused():
    codes = torch.from_numpy(drawn(256, 640, 0, 0)).float().view(10, 1, 8, 8)
    assert torch.equal(unpack(pack_tokens(codes, 256, "coded", 640)), codes)
    with pytest.raises(UsageError, match="10 codes take 640 bytes as coded, 639 are allowed: choose fewer codes"):
        pack_tokens(codes, 256, "coded", 639)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["tokens", "coded"])
def stored(request):
    """A set of a codec of tokens, in memory."""
    data = digits()
    pixels, labels = data.train.pixels[:], data.train.labels
    return distill(pixels, labels, LEVELS, "random", precision=request.param, lpc=20, device="cpu")


def test_a_file_holds_the_codes_as_they_are(stored, tmp_path):
    save_artifact(stored, tmp_path / "a.safetensors")
    again = load_artifact(tmp_path / "a.safetensors")
    assert again.header.tokens == 16
    assert torch.equal(again.codes, stored.codes)
    assert torch.equal(again.codes, again.codes.round())
    assert again.bytes(0, 0).codes == len(again.packed.data)
    assert (len(again.packed.data) == token_coding.fixed_bytes(200 * 16, 16)) == (again.header.precision == "tokens")
    assert torch.equal(
        again.decode(installed_only=False, distributions=None), stored.decode(installed_only=False, distributions=None)
    )


def forged(stored, folder, packed=None, **header):
    """Write a file whose header says something else, with a hash that fits."""
    made = replace(stored, packed=packed or stored.packed)
    fields = {**stored.header.sealed(None).to_json(), **header}
    fields = {key: value for key, value in fields.items() if value is not None}
    made_tensors = _tensors(made)
    fields["content_sha256"] = _content_hash(fields, made_tensors)
    path = Path(folder) / "forged.safetensors"
    save_file(made_tensors, path, metadata={KEY: canonical_json(fields)})
    return path


WRONG = {
    "no size": ({"tokens": None, "precision": "tokens"}, "precision `tokens` needs `tokens`"),
    "one entry": ({"tokens": 1}, "it must be a whole number from 2 to 1048576"),
    "too many entries": ({"tokens": LARGEST_CODEBOOK + 1}, "it must be a whole number from 2 to 1048576"),
    "another precision": ({"precision": "int8"}, "tokens are stored as `tokens` or `coded`, not as int8"),
    "standardised": ({"space": {"mean": [0.5], "std": [1.0]}}, "tokens are not standardised"),
    "spread": ({"space": {"mean": [0.0], "std": [2.0]}}, "tokens are not standardised"),
    "too few": ({"tokens": 2}, "uint8"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_header_that_does_not_fit_is_refused(stored, tmp_path, case):
    header, says = WRONG[case]
    if case == "too few" and stored.header.precision == "coded":
        header, says = {"codes_shape": [1, 1, 4, 4]}, "uint8"
    with pytest.raises(ArtifactError, match=says):
        load_artifact(forged(stored, tmp_path, **header))


def test_tokens_with_a_scale_are_refused(stored, tmp_path):
    scaled = replace(stored.packed, scale=torch.ones(2, 1))
    with pytest.raises(ArtifactError, match=r"codes.scale does not belong to tokens"):
        load_artifact(forged(stored, tmp_path, packed=scaled))


def test_an_entry_that_the_codebook_lacks_is_refused_when_decoded(tmp_path, stored):
    data = torch.full((200 * 16 // 2,), 255, dtype=torch.uint8)
    packed = Packed(data, None, "tokens", stored.packed.shape, 15)
    with pytest.raises(ArtifactError, match="15 is not an entry of a codebook of 15"):
        _ = load_artifact(forged(stored, tmp_path, packed=packed, tokens=15, precision="tokens")).codes


def test_another_codebook_than_the_codec_has_is_refused(tmp_path):
    data = digits()
    made = distill(data.train.pixels[:], data.train.labels, LEVELS, "random", lpc=1, device="cpu")
    path = forged(made, tmp_path, tokens=15)
    with pytest.raises(
        ArtifactError, match="has tokens of 16 entries, the artifact was made with tokens of 15 entries"
    ):
        load_artifact(path).decode(installed_only=False, distributions=None)
