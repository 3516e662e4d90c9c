"""`dd-bench compare` from the command line: words to a grid, cells in processes of their own."""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from latentdd_plugin.cli import compare as command
from latentdd_plugin.cli import main
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.experiments.compare import cells
from latentdd_plugin.results.record import Record

START = "import sys; from latentdd_plugin.cli.main import main; sys.exit(main())"
PLAIN = "device=cpu amp=off compile=off threads=1"
ODD = """
import os, signal, time
from pathlib import Path
from latentdd_plugin.distillers.base import Distiller
from latentdd_plugin.distillers.loop import Matching

class Killed(Distiller):
    match_spaces = ("code", "pixel")

    def distill(self, task):
        os.kill(os.getpid(), signal.SIGKILL)

class Endless(Matching):
    def __init__(self, iterations=100000, lr=0.0, momentum=0.0, init="real", optimizer="sgd"):
        self.iterations, self.lr, self.momentum, self.init, self.optimizer = iterations, lr, momentum, init, optimizer

    def iteration(self, task, variables, step):
        Path("pid").write_text(str(os.getpid()))
        time.sleep(0.05)
        yield (variables.codes * 0).sum()
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DD_BENCH_CACHE", str(tmp_path / "cache"))


def called(words):
    return main.main(words.split())


def grid(words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.grid_of(parser.parse_intermixed_args(words.split()))


# --- words to a grid --------------------------------------------------------------------------------------------------


def test_the_defaults():
    found = grid(PLAIN)
    assert [codec["name"] for codec in found.codecs] == ["identity", "dct"]
    assert [algo["name"] for algo in found.algos] == ["random", "dm"]
    assert (found.precisions, found.matches, found.ledgers) == ((), ("code",), ("bytes", "count"))
    assert {cell.precision for cell in cells(found)} == {"fp32"}, "that of codecs of real numbers"
    assert found.base.device == "cpu"
    assert found.base.controls is True


def test_options_go_to_those_that_take_them():
    found = grid(
        "--codec dct,pca,sd-vae --algo dm,random,k-center,mtt --match pixel,code --precision int8,fp32 --ledger count "
        "codec.upsample=2 codec.dct.size=3 codec.sd-vae.path=my/weights algo.iterations=7 algo.mtt.iterations=9 "
        "algo.lr_student=0.5 --ipc 5 --evaluator convnet,resnet18 dataset.per_class=10 seed=3 --controls none"
    )
    assert found.codecs == (
        {"name": "dct", "upsample": 2, "size": 3},
        {"name": "pca", "upsample": 2},
        {"name": "sd-vae", "upsample": 2, "path": "my/weights"},
    )
    by_name = {algo["name"]: dict(algo) for algo in found.algos}
    assert by_name["dm"]["iterations"] == 7
    assert by_name["mtt"]["iterations"] == 9
    assert by_name["mtt"]["lr_student"] == 0.5
    assert "iterations" not in by_name["random"]
    assert "lr_student" not in by_name["dm"]
    assert {algo["preset"] for algo in found.algos} <= {"quick", "paper"}
    assert (found.precisions, found.matches, found.ledgers) == (("int8", "fp32"), ("pixel", "code"), ("count",))
    base = found.base
    assert (base.ipc, base.evaluators, base.seed, base.controls) == (5, ("convnet", "resnet18"), 3, False)
    assert base.dataset.per_class == 10


def test_a_class_in_a_file_is_called_by_its_own_name(tmp_path):
    (tmp_path / "odd.py").write_text(ODD)
    found = grid(f"--algo {tmp_path}/odd.py:Endless algo.Endless.iterations=3 algo.preset=quick {PLAIN}")
    assert found.algos == ({"name": f"{tmp_path}/odd.py:Endless", "iterations": 3, "preset": "quick"},)


def test_faults_of_the_words_come_together():
    with pytest.raises(UsageError) as raised:
        grid(
            "--codec dct --algo dm,mtt codec.taesd.path=x algo.iteratons=1 lpc=3 match=pixel dataset=digit ipc=two a=1"
        )
    told = "\n".join(raised.value.faults)
    for fault in (
        "lpc: set the budget of a comparison in images, --ipc",
        "match: set it as a flag, --match",
        "codec.taesd: not among --codec dct",
        "algo.dm: DM has no option 'iteratons' (did you mean iterations",
        "unknown dataset 'digit' (did you mean digits?)",
        "ipc='two': must be a whole number or null",
        "unknown key 'a'",
    ):
        assert fault in told
    assert called("compare --jobs 2 --in-process") == 2


def test_faults_of_the_grid_are_exit_code_2(capsys):
    assert called(f"compare --codec dct --algo dm --precision int3 --evaluator convnt --quiet {PLAIN}") == 2
    told = capsys.readouterr().err
    assert "precision=int3: choose among" in told
    assert "unknown evaluator 'convnt'" in told


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny_protocol")
def test_it_prints_table_and_paths(tmp_path, capsys, monkeypatch):
    words = "compare --codec dct --algo dm --precision int8 --protocol tiny.test --evaluator convnet_d1 --in-process"
    words += f" algo.iterations=3 algo.batch_real=8 --quiet --out {tmp_path}/out {PLAIN}"
    assert called(words) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 120
    assert lines[0].startswith(
        "digits, tiny.test, accuracy on 359 test images in %, mean ± std over 2 seeds, convnet_d1"
    )
    written = [name for name in command.FILES if name != "rate.png"]  # of several budgets
    assert lines[-4:] == [f"{tmp_path}/out/{name}" for name in written]
    assert re.search(r"Highest at equal bytes .*: (identity|dct) [+] (random|dm), (fp32|int8):", lines[-6])
    assert lines[-5].startswith(f"{tmp_path}/out/cells/")
    assert Path(lines[-5]).is_file()
    assert "dd-bench evaluate" not in out, "these are the test images"
    assert "peak MB" not in out
    from latentdd_plugin.experiments import jobs

    monkeypatch.setattr(jobs, "run_precisions", lambda *_a, **_o: pytest.fail("everything is done"))
    assert called(words) == 0
    assert capsys.readouterr().out == out


@pytest.mark.usefixtures("tiny_protocol")
def test_an_interruption_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    from latentdd_plugin.experiments import jobs

    def interrupted(_job):
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "run_job", interrupted)
    words = f"compare --codec dct --protocol tiny.test --in-process {PLAIN} --quiet --out {tmp_path}/out"
    assert called(words) == 130
    assert capsys.readouterr().err == "dd-bench: interrupted; finished cells are kept, the same command continues\n"


@pytest.mark.usefixtures("tiny_protocol")
def test_a_run_may_be_limited_too(tmp_path, capsys):
    words = f"run --protocol tiny.test --evaluator convnet_d1 --controls none --quiet --out {tmp_path}/out {PLAIN}"
    assert called(f"{words} algo.iterations=500 algo.batch_real=8 --limit-hours 0.00001") == 1
    told = capsys.readouterr().err
    assert "the distillation is estimated to take" in told
    assert "the limit is 36 ms; allow more with --limit-hours" in told
    assert not (tmp_path / "out" / "result.json").exists()


def child(words, folder):
    return subprocess.Popen(
        [sys.executable, "-c", START, *words.split()],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_cells_have_processes_of_their_own(tmp_path):
    """One that is killed is a row; the others have a peak memory of their own."""
    (tmp_path / "odd.py").write_text(ODD)
    words = "compare --codec identity --algo random,odd.py:Killed --protocol demo.v1 --evaluator convnet_d1 --out out"
    process = child(f"{words} --controls none --jobs 2 {PLAIN}", tmp_path)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 1, out
    assert "[1] its process was killed by signal 9, out of memory perhaps" in out
    assert "peak MB" in out
    record = Record.load(tmp_path / "out" / "cells" / "identity-random-fp32-bytes").to_json()
    assert record["cost"]["distill_peak_rss_mb"] > 50


def test_cells_are_spread_over_a_launcher(tmp_path):
    """They are run in processes that are not theirs alone, so that no cell has a peak memory."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = "compare --codec dct --algo random --precision fp32,int8 --ledger bytes --protocol demo.v1 --out out"
    spread = "--evaluator convnet_d1 --controls none hydra/launcher=joblib hydra.launcher.n_jobs=2"
    process = child(f"{words} {spread} {PLAIN}", tmp_path)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    assert "peak MB" not in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == ["cells", "launcher"]
    assert len(list((tmp_path / "out" / "cells").glob("*/result.json"))) == 2


def test_a_launcher_and_jobs_are_one_too_many(capsys):
    assert called(f"compare --jobs 2 hydra/launcher=joblib {PLAIN}") == 2
    assert "--jobs does not work with a launcher" in capsys.readouterr().err


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.1)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("sent", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_a_cell_saves_its_progress_and_ends_with_the_command(tmp_path, sent):
    (tmp_path / "odd.py").write_text(ODD)
    words = "compare --codec identity --algo odd.py:Endless --controls none --ledger bytes --limit-hours 9 --out out"
    process = child(f"{words} {PLAIN}", tmp_path)
    try:
        wait_for((tmp_path / "pid").exists)
        wait_for(lambda: (tmp_path / "pid").read_text().isdigit())
        worker = int((tmp_path / "pid").read_text())
        process.send_signal(sent)
        out, _ = process.communicate(timeout=120)
        wait_for(lambda: not alive(worker), 60)
    finally:
        process.kill()
    assert process.returncode == (130 if sent == signal.SIGINT else -9), out
    (cell,) = (tmp_path / "out" / "cells").iterdir()
    assert (cell / "checkpoint" / "distill.safetensors").exists()


@pytest.mark.parametrize("name", ["compare", "evaluate"])
def test_its_help_needs_no_torch(name):
    lines = [
        "import sys",
        "from latentdd_plugin.cli.main import main",
        f"try: main(['{name}', '--help'])",
        "except SystemExit: pass",
        "assert 'torch' not in sys.modules",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"dd-bench {name}" in done.stdout


def test_texts_of_any_compared_codec_arrive_as_typed():
    from latentdd_plugin.cli import overrides

    named = {"codec": ["dct", "diffusers"], "algo": ["dm"]}
    words = ["codec.path=2024_11_26", "codec.diffusers.revision=007", "codec.size=4"]
    kept, faults = overrides.checked(words, sweep=False, named=named)
    assert faults == []
    tree = overrides.composed(kept)["codec"]
    assert (tree["path"], tree["diffusers"], tree["size"]) == ("2024_11_26", {"revision": "007"}, 4)
