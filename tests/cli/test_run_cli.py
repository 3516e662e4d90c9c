"""`dd-bench run` as a process: what it leaves and prints; killed or interrupted at any moment, it goes on."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import children
import pytest

from latentdd_plugin.core import checkpoint

STEPS = 8
RUN = (
    f"run --codec dct --algo dm --evaluator convnet_d1 --protocol tiny.test --controls none --device cpu "
    f"algo.iterations={STEPS} algo.batch_real=8 threads=1 amp=off compile=off --out run"
)
FILES = {"checksums.json", "config.yaml", "distilled.safetensors", "grid.png", "log.txt", "report.html", "result.json"}


def dd_bench(folder, sabotage=None, words=RUN):
    """(exit code, stdout, stderr) of a process of its own."""
    code = children.ended(children.start(children.command, words, str(folder), sabotage))
    return code, (folder / "out").read_text(), (folder / "err").read_text()


def sha256(folder):
    return hashlib.sha256((folder / "run" / "distilled.safetensors").read_bytes()).hexdigest()


def scores(folder):
    return json.loads((folder / "run" / "result.json").read_text())["scores"]


def cost(folder):
    return json.loads((folder / "run" / "result.json").read_text())["cost"]


def kept_costs(folder):
    """The costs of a killed run's stages at the last save."""
    return json.loads((folder / "run" / "checkpoint" / "costs.json").read_text())["content"]


def step_reached(folder):
    return checkpoint.load(folder / "run" / "checkpoint" / "distill.safetensors").content["step"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    code, out, err = dd_bench(folder)
    assert code == 0, err
    assert "Traceback" not in err
    assert {path.name for path in (folder / "run").iterdir()} == FILES | {".lock"}
    assert out.splitlines()[-4:] == [
        f"run/{n}" for n in ("result.json", "distilled.safetensors", "report.html", "grid.png")
    ]
    return folder


def test_the_installed_command_does_it_all(tmp_path):
    """No shortcut: the console script, an own process, the shipped recipe for demonstrations."""
    words = (
        "run --algo random --evaluator convnet_d1 --protocol demo.v1 --controls none --device cpu --out run threads=1"
    )
    script = Path(sys.executable).with_name("dd-bench")
    done = subprocess.run([script, *words.split()], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table = done.stdout.splitlines()
    assert table[0].split()[0] == "convnet_d1"
    accuracy = re.match(r"dct \+ random  (\d+\.\d)% ± \d+\.\d  4 +2,560$", table[2])
    assert accuracy, table
    assert float(accuracy[1]) > 40, "real digits, so far above chance"
    assert "digits, demo.v1, accuracy on test (mean ± std over seeds)" in table
    assert {path.name for path in (tmp_path / "run").iterdir()} >= FILES
    assert "\r" not in done.stderr, "no progress bars without a terminal"
    assert re.search(r"^convnet_d1, seed 0: accuracy 0\.\d{4}$", done.stderr, re.M)
    assert "dd-bench " + words == json.loads((tmp_path / "run" / "result.json").read_text())["command"]


@pytest.mark.parametrize("sabotage", [children.killed_in_distillation, children.killed_while_saving])
def test_killed_while_it_distils_it_goes_on_to_the_same_bits(tmp_path, uninterrupted, sabotage):
    assert dd_bench(tmp_path, sabotage)[0] == -9
    assert 0 < step_reached(tmp_path) < STEPS
    assert not (tmp_path / "run" / "distilled.safetensors").exists()
    before = kept_costs(tmp_path)["distill_s"]
    code, _, err = dd_bench(tmp_path)
    assert code == 0, err
    assert cost(tmp_path)["distill_s"] > before["seconds"] > 0
    assert sha256(tmp_path) == sha256(uninterrupted)
    assert scores(tmp_path) == scores(uninterrupted)
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES | {".lock"}


def test_killed_while_it_evaluates_it_trains_only_what_is_missing(tmp_path, uninterrupted):
    assert dd_bench(tmp_path, children.killed_in_evaluation)[0] == -9
    before, spent = sha256(tmp_path), kept_costs(tmp_path)
    code, _, err = dd_bench(tmp_path)
    assert code == 0, err
    assert before == sha256(tmp_path) == sha256(uninterrupted)
    found = cost(tmp_path)
    assert found["distill_s"] >= round(spent["distill_s"]["seconds"], 3) > 0, "all of it was done before the kill"
    assert found["step_ms_median"] == spent["distill_s"]["step_ms"] > 0
    assert scores(tmp_path) == scores(uninterrupted)
    assert "convnet_d1, seed 1: accuracy" in err
    assert "convnet_d1, seed 0: accuracy" not in err, "was trained before the kill"


def test_killed_before_the_record_is_written_it_only_writes_it(tmp_path, uninterrupted):
    assert dd_bench(tmp_path, children.killed_at_the_end)[0] == -9
    assert not (tmp_path / "run" / "result.json").exists()
    spent = kept_costs(tmp_path)["evaluate_s"]
    code, _, err = dd_bench(tmp_path, words=f"{RUN} --resume")
    assert code == 0, err
    assert "accuracy" not in err
    assert scores(tmp_path) == scores(uninterrupted)
    assert cost(tmp_path)["evaluate_s"] > spent["seconds"] > 0


@pytest.mark.parametrize(
    ("sabotage", "step"),
    [
        (children.interrupted_in_distillation, 5),
        (children.interrupted_in_the_last_step, STEPS),
        (children.interrupted_in_evaluation, STEPS),
    ],
)
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path, uninterrupted, sabotage, step):
    code, out, err = dd_bench(tmp_path, sabotage)
    assert code == 130
    assert out == ""
    last = err.splitlines()[-1]
    assert (
        last == f"dd-bench: interrupted; what was finished is kept, the same command goes on from there: dd-bench {RUN}"
    )
    assert "Traceback" not in err
    assert step_reached(tmp_path) == step
    assert dd_bench(tmp_path)[0] == 0
    assert sha256(tmp_path) == sha256(uninterrupted)


def test_other_numerics_do_not_go_on(tmp_path):
    assert dd_bench(tmp_path, children.killed_in_distillation)[0] == -9
    kept = tmp_path / "run" / "checkpoint" / "distill.safetensors"
    stored = checkpoint.load(kept)
    checkpoint.write(kept, stored.content, {**stored.owner, "numerics": {**stored.owner["numerics"], "threads": 64}})
    code, _, err = dd_bench(tmp_path)
    assert code == 2
    assert "this run was begun with other numerics and would not give the same bits" in err
    assert "threads: 64 there, 1 asked for" in err


def test_done_is_done(uninterrupted):
    before = {path: path.stat().st_mtime_ns for path in (uninterrupted / "run").iterdir()}
    code, out, err = dd_bench(uninterrupted)
    assert code == 0
    assert out.splitlines()[2].startswith("dct + dm")
    assert "run is finished" in err
    assert {path: path.stat().st_mtime_ns for path in (uninterrupted / "run").iterdir()} == before


def test_another_configuration_is_refused_with_the_keys(uninterrupted):
    code, out, err = dd_bench(uninterrupted, words=f"{RUN} seed=4")
    assert code == 2
    assert out == ""
    assert "dd-bench:   seed: 0 there, 4 asked for" in err.splitlines()
    assert "Traceback" not in err


def test_a_folder_that_cannot_be_made_is_one_message_before_any_work(tmp_path):
    (tmp_path / "run").write_text("a file")
    code, out, err = dd_bench(tmp_path)
    assert code == 2
    assert out == ""
    assert [line for line in err.splitlines() if line.startswith("dd-bench")] == [
        f"dd-bench: cannot write run: {tmp_path / 'run'} is a file; choose another --out"
    ]
    assert "images" not in err, "nothing was loaded"
    assert (tmp_path / "run").read_text() == "a file"
