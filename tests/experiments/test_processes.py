"""One run on several processes, started by torchrun: the same bits, one message for a failure, and it goes on."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from latentdd_plugin.core.processes import ALONE, Group
from latentdd_plugin.experiments.run_folder import RunFolder

SMALL = ["--evaluator", "convnet_d1,convnet_d2", "--protocol", "demo.v1", "--controls", "none", "--device", "cpu"]
PLAIN = ["threads=1", "amp=off", "compile=off"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def started(folder, *words, processes=2):
    """Start a run in `folder` and return its process."""
    launcher = [*TORCHRUN, "-m"] if processes == 2 else [sys.executable, "-m"]
    command = [*launcher, "latentdd_plugin", "run", *SMALL, *PLAIN, *words]
    env = {**os.environ, "DD_BENCH_CACHE": str(folder / f"cache-{processes}"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def finished(folder, *words, processes=2):
    process = started(folder, *words, processes=processes)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err[-3000:]
    return out


def scores(folder):
    record = json.loads((folder / "result.json").read_text())
    return [(row["evaluator"], row["seed"], row["accuracy"]) for row in record["scores"]]


def test_work_is_shared_without_a_gap():
    items = list(range(11))
    groups = [Group(rank, 3) for rank in range(3)]
    assert sorted(one for each in groups for one in each.share(items)) == items
    assert [label for each in groups for label in each.block(11)] == items
    assert list(ALONE.block(7)) == list(range(7))
    assert ALONE.gather("x") == ["x"]
    assert ALONE.any(True, False) == (True, False)


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["dm", "dsa", "herding", "mtt"])
def test_two_processes_give_what_one_gives(tmp_path, algo):
    few = ["--algo", algo, *([] if algo == "herding" else ["algo.iterations=5"])]
    out = finished(tmp_path, *few, "--out", "two")
    finished(tmp_path, *few, "--out", "one", processes=1)
    assert out.count("convnet_d1") == 1, "one process prints"
    ours, theirs = (load_file(tmp_path / name / "distilled.safetensors") for name in ("two", "one"))
    for name, tensor in theirs.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(ours[name], tensor, atol=1e-5, rtol=0)
    if algo in ("herding", "mtt"):
        assert scores(tmp_path / "two") == scores(tmp_path / "one")


@pytest.mark.slow
def test_two_processes_share_a_stream(tmp_path):
    words = ["--algo", "herding", "dataset.store=stream"]
    finished(tmp_path, *words, "--out", "two")
    finished(tmp_path, *words, "--out", "one", processes=1)
    records = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("two", "one")]
    assert records[0]["dataset"] == records[1]["dataset"], "the same hash of all pixels"
    assert records[0]["artifact"]["sha256"] == records[1]["artifact"]["sha256"]
    assert not list(tmp_path.rglob("aside-*"))


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_and_either_number_resumes_it(tmp_path):
    words = ["--algo", "dm", "algo.iterations=100000", "--out", "run"]
    process = started(tmp_path, *words)
    deadline, checkpoint = time.monotonic() + 200, tmp_path / "run" / "checkpoint" / "distill.safetensors"
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    second = next(pid for pid in children if b"RANK=1" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    os.kill(int(second), signal.SIGKILL)
    _, err = process.communicate(timeout=100)
    assert process.returncode != 0
    assert err.count("another process of this run ended; what was finished is kept") <= 1
    assert "Traceback" not in err.partition("torch/distributed")[0]
    for processes in (1, 2):
        kept, deadline = checkpoint.read_bytes(), time.monotonic() + 200
        again = started(tmp_path, *words, processes=processes)
        while checkpoint.read_bytes() == kept:  # until it has gone on from there
            assert again.poll() is None, again.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        os.killpg(again.pid, signal.SIGINT)
        _, err = again.communicate(timeout=100)
        assert "starts over" not in err
        assert RunFolder(tmp_path / "run").checkpoints.is_dir()


@pytest.mark.slow
def test_a_fault_is_told_once(tmp_path):
    process = started(tmp_path, "--dataset", str(tmp_path / "nothing"))
    _, err = process.communicate(timeout=100)
    assert process.returncode != 0
    assert err.count("no such file or folder") == 1


@pytest.mark.slow
def test_tasks_of_slurm_with_different_configurations_are_refused_with_one_message(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    found = []
    for rank, seed in ((0, "3"), (1, "4")):
        slurm = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}
        env = {**os.environ, **slurm, "MASTER_PORT": port, "OMP_NUM_THREADS": "1", "DD_BENCH_CACHE": str(tmp_path)}
        command = [sys.executable, "-m", "latentdd_plugin", "run", *SMALL, *PLAIN, "--algo", "random", "--seed", seed]
        found.append(subprocess.Popen(command, cwd=tmp_path, env=env, text=True, stderr=subprocess.PIPE))
    errors = "".join(process.communicate(timeout=200)[1] for process in found)
    assert [process.returncode for process in found] == [2, 2], errors
    assert errors.count("process 1 of this run has another configuration:") == 1, errors
    assert errors.count("seed: 4 there, 3 asked for") == 1, errors
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.slow
def test_only_a_run_is_shared(tmp_path):
    env = {**os.environ, "WORLD_SIZE": "2", "RANK": "0"}
    command = [sys.executable, "-m", "latentdd_plugin", "evaluate", "x"]
    found = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert (
        found.stderr == "dd-bench: dd-bench evaluate runs in one process; only dd-bench run is shared among several\n"
    )


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two devices")
def test_two_devices_share_a_run_through_nccl(tmp_path):
    command = [*TORCHRUN, "-m", "latentdd_plugin", "run", *SMALL[:-1], "cuda", "--algo", "dm", "algo.iterations=5"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=400)
