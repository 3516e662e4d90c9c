"""Encoding, distillation, evaluation and resuming on a GPU. `pytest -m gpu tests/gpu` runs them.

Kernels add in another order than the CPU, so results are compared within a tolerance.
"""

import pytest
import tiny
import torch

from latentdd_plugin import run
from latentdd_plugin.core.compute import resolve_numerics
from latentdd_plugin.core.config import ComputeConfig
from latentdd_plugin.core.errors import RunFailed
from latentdd_plugin.experiments.run_folder import DiskCheckpoint
from latentdd_plugin.latent.encode import code_set
from latentdd_plugin.latent.sized_codec import build_codec

DEVICE = "cuda"
COMPUTE = {"device": DEVICE, "amp": "off", "compile": "off"}
SETTINGS = {
    "plain": COMPUTE,
    "compiled": {**COMPUTE, "compile": "on"},
    "bfloat16": {**COMPUTE, "amp": "bf16"},
}

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
    pytest.mark.usefixtures("tiny_protocol"),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DD_BENCH_CACHE", str(tmp_path / "cache"))


def near(a, b, tolerance):
    return float((a.cpu().float() - b.cpu().float()).abs().max()) <= tolerance * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize("codec", ["identity", "dct", "pca", "downscale", "fred", "tiny-vae"])
def test_codes_are_those_of_the_cpu(codec):
    spec = {"name": codec, **({"upsample": 2} if codec == "tiny-vae" else {})}
    found = {}
    for device in ("cpu", DEVICE):
        numerics = resolve_numerics(ComputeConfig(device=device, amp="off", compile="off"))
        space, real = code_set(tiny.digits(), build_codec(spec, tiny.digits().image_shape), numerics)
        assert real.store.device.type == torch.device(device).type
        rows = torch.arange(8, device=real.store.device)
        found[device] = real.take(rows), space.decode(real.take(rows))
    for there, here in zip(found[DEVICE], found["cpu"], strict=True):
        assert near(there, here, 1e-3)


@pytest.mark.parametrize("match", ["code", "pixel"])
@pytest.mark.parametrize("name", ["dm", "dc", "dsa", "mtt"])
def test_a_step_of_each_method(name, match, tmp_path):
    distiller = {"name": name, "preset": "quick", "iterations": 1, "batch_real": 8}
    if name == "mtt":
        distiller = {"name": name, "preset": "quick", "iterations": 1, "experts": 1, "syn_steps": 2}
    config = tiny.config(algo=distiller, match=match, lpc=2, ipc=None, threads=None, **COMPUTE)
    record = run(config, out=tmp_path / "run")
    assert (record.folder / "distilled.safetensors").is_file()


@pytest.mark.parametrize("name", ["random", "herding", "kmeans", "k-center"])
def test_each_selection(name, tmp_path):
    config = tiny.config(algo={"name": name}, lpc=2, ipc=None, threads=None, **COMPUTE)
    run(config, out=tmp_path / "run")


@pytest.mark.parametrize("setting", SETTINGS)
def test_evaluation(setting, tmp_path):
    config = tiny.config(
        algo={"name": "random"}, evaluators=("convnet_d1", "resnet10t"), lpc=2, ipc=None, threads=None,
        **SETTINGS[setting],
    )  # fmt: skip
    run(config, out=tmp_path / "run")


@pytest.mark.parametrize("setting", SETTINGS)
def test_an_interrupted_run_goes_on(setting, tmp_path, monkeypatch):
    config = tiny.config(threads=None, **SETTINGS[setting])
    whole = run(config, out=tmp_path / "whole")
    seen = []

    def stop(checkpoint, payload, save=DiskCheckpoint.save):
        save(checkpoint, payload)
        seen.append(payload["step"])
        if payload["step"] == 2:
            raise RunFailed("stopped by the test")

    monkeypatch.setattr("latentdd_plugin.experiments.run_folder.SAVE_EVERY_S", -1.0)
    with monkeypatch.context() as patched:
        patched.setattr(DiskCheckpoint, "save", stop)
        with pytest.raises(RunFailed, match="stopped by the test"):
            run(config, out=tmp_path / "stopped")
    resumed = run(config, out=tmp_path / "stopped")
    assert seen[-1] == 2
    codes = [tiny_codes(record.folder) for record in (whole, resumed)]
    assert near(codes[1], codes[0], 1e-2 if setting == "bfloat16" else 1e-4)


def tiny_codes(folder):
    """Return the stored codes of a run's artifact."""
    from latentdd_plugin import load_artifact

    return load_artifact(folder / "distilled.safetensors").codes
