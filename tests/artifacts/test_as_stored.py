"""Codes as methods may see them: rounded as in the file, differentiable, with an estimate of their bytes."""

import json
import math

import pytest
import tiny
import torch

from latentdd_plugin import run
from latentdd_plugin.artifacts.as_stored import AsStored, estimated_bits, estimated_bytes
from latentdd_plugin.artifacts.packing import pack, pack_coded, unpack
from latentdd_plugin.core.errors import UsageError

pytestmark = pytest.mark.usefixtures("tiny_protocol")
WEIGHTS = torch.tensor([1.0, 2.0, 2.0])


def codes(n=40, side=8):
    draw = torch.randn((n, 3, side, side), generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.avg_pool2d(draw, 5, 1, 2) * 3


def test_coded_codes_are_seen_as_the_file_gives_them_back():
    seen = AsStored("coded", WEIGHTS, 1000).fitted(codes()).view(codes())
    assert torch.allclose(seen, unpack(pack_coded(codes(), WEIGHTS, 1000)), atol=1e-5)
    assert not torch.allclose(seen, codes(), atol=0.1)


def test_packed_codes_are_seen_as_the_file_gives_them_back_and_floats_as_they_are():
    seen = AsStored("int4", WEIGHTS, 0).fitted(codes()).view(codes())
    assert torch.allclose(seen, unpack(pack(codes(), "int4")), atol=1e-6)
    assert AsStored("fp32", WEIGHTS, 0).fitted(codes()) is None


@pytest.mark.parametrize("precision", ["coded", "int4"])
def test_the_gradient_passes_as_if_nothing_were_rounded(precision):
    values = codes().requires_grad_()
    direction = torch.randn(values.shape, generator=torch.Generator().manual_seed(1))
    (AsStored(precision, WEIGHTS, 1000).fitted(values.detach()).view(values) * direction).sum().backward()
    assert torch.equal(values.grad, direction)


def test_the_bits_are_the_entropy_of_the_distribution_with_this_mean():
    s = 0.6  # P(0) = 1 - s, P(k) = s^(2|k|) (1/s - s) / 2
    probabilities = {0: 1 - s, **{k: s ** (2 * abs(k)) * (1 / s - s) / 2 for k in range(-60, 61) if k}}
    assert sum(probabilities.values()) == pytest.approx(1)
    entropy = -sum(p * math.log2(p) for p in probabilities.values())
    mean = sum(abs(k) * p for k, p in probabilities.items())
    symbols = torch.full((5, 1, 1, 1), mean, dtype=torch.float64)
    assert float(estimated_bits(symbols)) == pytest.approx(5 * entropy)


@pytest.mark.parametrize("limit", [1000, 3000])
def test_the_estimate_is_near_the_real_stream(limit):
    packed = pack_coded(codes(400), WEIGHTS, 10 * limit)
    assert estimated_bytes(packed) == pytest.approx(packed.nbytes, rel=0.1)
    share = float(AsStored("coded", WEIGHTS, 10 * limit).fitted(codes(400)).rate(codes(400)))
    assert share == pytest.approx(packed.nbytes / (10 * limit), rel=0.1)


def test_the_rate_falls_along_its_gradient():
    values = codes().requires_grad_()
    rounding = AsStored("coded", WEIGHTS, 1000).fitted(values.detach())
    before = rounding.rate(values)
    before.backward()
    with torch.no_grad():
        after = rounding.rate(values - 20 * values.grad / values.grad.abs().max() * 0.05)
    assert float(after) < float(before.detach())


def test_a_run_pays_for_its_bits_where_it_is_asked_to(tmp_path):
    spent = {}
    for name, options in {"plain": {}, "rounded": {"rate": 0.0}, "paid": {"rate": 300.0}}.items():
        algo = {**tiny.DM, "iterations": 12, "lr": 0.1, **options}
        run(tiny.config(algo=algo, precision="coded", lpc=9), out=tmp_path / name)
        data = json.loads((tmp_path / name / "result.json").read_text())
        assert ("rate" in data["distiller"]["config"]) == (name != "plain")
        assert data["budget"]["estimated_bytes"] == pytest.approx(data["budget"]["bytes"]["codes"], rel=0.25)
        spent[name] = data["artifact"]["sha256"]
    assert len(set(spent.values())) == 3


def test_a_negative_rate_is_a_fault():
    assert tiny.distiller(rate=0.5).faults() == []
    with pytest.raises(UsageError, match="rate=-1: must be null, 0 or a positive number"):
        tiny.distiller(rate=-1.0)
