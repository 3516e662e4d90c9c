"""Files that the package writes for itself: what goes in comes out, and nothing else is ever taken for it."""

import math
import random

import pytest
import torch

from latentdd_plugin.core import checkpoint
from latentdd_plugin.core.errors import RunFailed

OWNER = {"config": "a" * 64, "numerics": {"threads": 1}, "version": "0.1.0"}


def payload():
    g = torch.Generator().manual_seed(0)
    weights = torch.randn(3, 4, 5, 5, generator=g)
    parameter = torch.nn.Parameter(weights.clone())
    optimizer = torch.optim.Adam([parameter], lr=0.1, betas=(0.5, 0.99))
    parameter.square().sum().backward()
    optimizer.step()
    return {
        "step": 7,
        "variables": {"codes": weights, "last": weights.contiguous(memory_format=torch.channels_last)},
        "optimizer": optimizer.state_dict(),
        "losses": [(0, 0.1), (1, 1e-300), (2, math.inf)],
        "nested": {"empty": torch.zeros(0, 3), "scalar": torch.tensor(3.5), "half": weights.half(), "none": None},
        "flag": True,
        5: "five",
    }


def same(a, b):
    if isinstance(a, torch.Tensor):
        strided = a.is_contiguous() == b.is_contiguous()
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b) and strided
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def test_what_is_written_comes_back(tmp_path):
    path = tmp_path / "folder" / "file.safetensors"
    checkpoint.write(path, payload(), OWNER)
    assert same(checkpoint.read(path, OWNER).content, payload())
    assert same(checkpoint.round_trip(payload()), payload())
    first = path.read_bytes()
    checkpoint.write(path, payload(), OWNER)
    assert path.read_bytes() == first


def test_shared_memory_is_written_twice(tmp_path):
    whole = torch.arange(6.0)
    checkpoint.write(tmp_path / "file", {"a": whole, "b": whole[:3]}, OWNER)
    assert torch.equal(checkpoint.read(tmp_path / "file", OWNER).content["b"], whole[:3])


@pytest.mark.parametrize("value", [{"x": object()}, {1.5: 2}, {"x": {1, 2}}, {"x": b"bytes"}])
def test_what_a_file_cannot_hold_is_refused(tmp_path, value):
    with pytest.raises(TypeError, match="checkpoint"):
        checkpoint.write(tmp_path / "file", value, OWNER)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", OWNER)
def test_another_owner_gets_nothing(tmp_path, caplog, key):
    path = tmp_path / "file"
    checkpoint.write(path, payload(), OWNER)
    assert checkpoint.read(path, {**OWNER, key: "other"}) is None
    assert f"was made with another {key}" in caplog.text
    checkpoint.write_json(path, [1, 2], OWNER)
    assert checkpoint.read_json(path, {**OWNER, "more": 1}) is None


def test_a_missing_file_is_no_news(tmp_path, caplog):
    assert checkpoint.read(tmp_path / "none", OWNER) is None
    assert checkpoint.read_json(tmp_path / "none", OWNER) is None
    assert caplog.text == ""


def test_a_folder_or_a_pipe_in_its_place_is_damage(tmp_path, caplog):
    import os

    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        assert checkpoint.read(path, OWNER) is None
        assert checkpoint.read_json(path, OWNER) is None
    assert caplog.text.count("is damaged (it is not a file) and is made anew") == 4
    with pytest.raises(RunFailed, match="cannot write"):
        checkpoint.write(tmp_path / "pipe" / "file", {}, OWNER)


def damaged(data, draws):
    """The bytes with one thing wrong: flipped, cut, lengthened, zeroed, swapped, or replaced by garbage."""
    data, at = bytearray(data), draws.randrange(len(data))
    kind = draws.randrange(7)
    if kind == 0:
        data[at] ^= 1 << draws.randrange(8)
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        data += draws.randbytes(draws.randrange(1, 20))
    elif kind == 3:
        data[at : at + 16] = bytes(len(data[at : at + 16]))
    elif kind == 4:
        data = bytearray(draws.randbytes(draws.randrange(200)))
    elif kind == 5:
        del data[at : at + draws.randrange(1, 9)]
    else:
        data[at:at] = data[: draws.randrange(1, 30)]
    return bytes(data)


@pytest.mark.parametrize("count", [300, pytest.param(5000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["tensors", "json"])
def test_damage_is_never_read_as_content(tmp_path, kind, count):
    path, draws = tmp_path / "file", random.Random(0)
    if kind == "tensors":
        checkpoint.write(path, payload(), OWNER)
    else:
        checkpoint.write_json(path, [{"accuracy": 0.5, "seed": 1}] * 3, OWNER)
    read = checkpoint.read if kind == "tensors" else checkpoint.read_json
    whole = path.read_bytes()
    intact = read(path, OWNER).content
    for _ in range(count):
        path.write_bytes(damaged(whole, draws))
        found = read(path, OWNER)
        assert found is None or same(found.content, intact), "padding may differ, content never"
