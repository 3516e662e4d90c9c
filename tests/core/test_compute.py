"""The arithmetic of a stage follows from its work and the machine, and falls back once where a compiler fails."""

import functools
import importlib
import json
import logging
from dataclasses import replace

import pytest
import tiny
import torch

from latentdd_plugin.core.compute import (
    PLAIN_BELOW,
    Mode,
    forward_flops,
    resolve_device,
    resolve_numerics,
    try_compiled,
)
from latentdd_plugin.core.config import ComputeConfig
from latentdd_plugin.core.errors import UsageError

ABLE = replace(tiny.plain(), amp="auto", compile="auto", bf16=True, compiler=True)


@pytest.mark.parametrize(
    ("more", "flops", "amp", "compiled"),
    [
        ({}, PLAIN_BELOW * 0.99, False, False),
        ({}, PLAIN_BELOW, True, True),
        ({"bf16": False}, 1e15, False, True),
        ({"compiler": False}, 1e15, True, False),
        ({"amp": "off", "compile": "off"}, 1e15, False, False),
        ({"amp": "bf16", "compile": "on", "bf16": False, "compiler": False}, 0, True, True),
    ],
)
def test_small_work_runs_plain(more, flops, amp, compiled):
    assert replace(ABLE, **more).mode(flops) == Mode(amp, compiled, "cpu")


def test_mixed_precision_is_a_context():
    a = torch.ones(2, 2)
    with Mode(True, False, "cpu").autocast():
        assert (a @ a).dtype == torch.bfloat16
    with Mode(False, False, "cpu").autocast():
        assert (a @ a).dtype == torch.float32


def test_every_network_of_a_long_process_is_compiled(monkeypatch):
    """torch compiles eight variants of a function by default, and runs the ninth as plain Python."""
    counters = importlib.import_module("torch._dynamo.utils").counters
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    counters.clear()
    for size in range(2, 22):
        network = torch.nn.Linear(size, size)
        Mode(False, True, "cpu").compiled(lambda x, network=network: network(x))(torch.zeros(3, size))
    assert counters["frames"]["ok"] == 20


def test_a_failing_compiler_is_told_once_and_then_left_out(monkeypatch, caplog):
    def broken(function, **_):
        def call(*args):
            raise RuntimeError("no g++ here\nand a long story")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    with caplog.at_level(logging.WARNING):
        function, mode = try_compiled(Mode(True, True, "cpu"), torch.neg, torch.ones(1))
    assert function is torch.neg
    assert mode == Mode(True, False, "cpu")
    assert caplog.messages == ["torch.compile failed (no g++ here); going on without it"]


def test_a_compiled_function_is_used_where_it_works(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **_: lambda x: function(x) + 1)
    function, mode = try_compiled(Mode(False, True, "cpu"), torch.neg, torch.ones(1))
    assert float(function(torch.ones(()))) == 0
    assert mode.compile
    assert try_compiled(Mode(False, False, "cpu"), torch.neg, torch.ones(1))[0] is torch.neg


def test_flops_are_those_of_the_formula():
    assert forward_flops(torch.nn.Linear(7, 5, bias=False), (7,)) == 2 * 7 * 5
    assert forward_flops(torch.nn.Conv2d(3, 8, 3, padding=1, bias=False), (3, 6, 4)) == 2 * 8 * 3 * 9 * 24


def test_an_absent_device_is_named():
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") in ("cpu", "cuda")
    for name in ("nonsense", "cuda:77"):
        with pytest.raises(UsageError, match=f"device={name}: not usable here .*; try device=cpu"):
            resolve_device(name)


def test_numerics_are_json_and_set_the_threads(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    how = resolve_numerics(ComputeConfig(device="cpu", threads=3))
    assert asked == [3]
    resolve_numerics(ComputeConfig(device="cpu"))
    assert asked == [3]
    assert json.loads(json.dumps(how.to_json()))["device"] == "cpu"
    assert resolve_numerics(ComputeConfig(device="cpu")) == how
