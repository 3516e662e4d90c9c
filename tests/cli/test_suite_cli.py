"""`dd-bench suite` from the command line: in this process, and on Hydra's launchers."""

import importlib.util
import subprocess
import sys

import pytest
import suite as tiny_suite

from latentdd_plugin.cli import main
from latentdd_plugin.experiments import suites
from latentdd_plugin.results.record import Record

START = "import sys; from latentdd_plugin.cli.main import main; sys.exit(main())"
PLAIN = "--quiet device=cpu amp=off compile=off threads=1"


def called(words):
    return main.main(words.split())


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a suite of two datasets, of which one has to be given."""
    monkeypatch.chdir(tmp_path)
    sets = [*tiny_suite.TREE["datasets"], {"name": "others", "test_size": 359}]
    small = {"evaluators": ["convnet_d1"], "codecs": ["dct"], "precisions": ["fp32"]}
    tiny_suite.written(tmp_path, protocol="demo.v1", datasets=sets, **small)
    return tmp_path


def test_list_and_show(capsys):
    assert called("suite list") == 0
    told = capsys.readouterr().out
    assert [line.split()[0] for line in told.splitlines()] == suites.names()
    assert called("suite show cpu-digits.v1") == 0
    told = capsys.readouterr().out
    assert f"sha256 {suites.get('cpu-digits.v1').sha256}" in told
    assert "  digits-ipc1-dct-dm-int8\n" in told


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("suite run", "name one; there are: cifar10-field.v1, cifar10-ipc.v1, cifar10-labels.v1, cifar10-rate.v1"),
        ("suite run tiny.v2", "unknown suite 'tiny.v2'"),
        ("suite run tiny.v1.yaml", "dataset.others.path: give the location of others"),
        ("suite run tiny.v1.yaml dataset.other.path=x", "dataset.other.path: tiny.v1 has the datasets digits, others"),
        ("suite run tiny.v1.yaml algo.lr=3", "algo.lr: has no meaning for a suite"),
        ("suite run tiny.v1.yaml codec.dct.size=4", "codec.dct.size: has no meaning for a suite"),
        ("suite run tiny.v1.yaml dataset.others.path=digits --only nothing*", "--only nothing*: no run of tiny.v1 has"),
    ],
)
def test_faults_are_told_before_anything_starts(here, words, says, capsys):
    assert called(words) == 2
    assert says in capsys.readouterr().err
    assert not (here / "runs").exists()


def test_what_is_missing_is_run_and_nothing_twice(here, capsys):
    words = f"suite run tiny.v1.yaml dataset.others.path=digits --only *-random-* {PLAIN}"
    assert called(words) == 0
    told = capsys.readouterr().out
    assert told.count("other cells were not asked for") == 2
    assert "dd-bench submit runs/tiny.v1/digits-ipc1/cells/" in told
    made = sorted((here / "runs" / "tiny.v1").glob("*/cells/*/result.json"))
    assert [path.parent.parent.parent.name for path in made] == ["digits-ipc1"] * 2 + ["others-ipc1"] * 2
    stamps = [path.stat().st_mtime_ns for path in made]
    assert called(words) == 0
    assert [path.stat().st_mtime_ns for path in made] == stamps
    record = Record.load(made[0].parent)
    assert record.command.startswith("cell ")
    assert suites.get("tiny.v1.yaml").place_of(record)[0] == "digits-ipc1"


@pytest.mark.parametrize(
    ("launcher", "module"), [("joblib", "hydra_joblib_launcher"), ("submitit_local", "hydra_submitit_launcher")]
)
def test_runs_are_spread_over_a_launcher(here, launcher, module):
    if importlib.util.find_spec(f"hydra_plugins.{module}") is None:
        pytest.skip(f"{module} is not installed")
    words = (
        f"suite run tiny.v1.yaml dataset.others.path=digits --only digits-*-random-* {PLAIN} hydra/launcher={launcher}"
    )
    done = subprocess.run(
        [sys.executable, "-c", START, *words.split()], cwd=here, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(list((here / "runs" / "tiny.v1" / "digits-ipc1" / "cells").glob("*/result.json"))) == 2


def test_an_unknown_launcher_is_bad_usage(here, capsys):
    words = f"suite run tiny.v1.yaml dataset.others.path=digits --only digits-*-random-* {PLAIN} hydra/launcher=moon"
    assert called(words) == 2
    assert "latentdd-plugin[joblib]' or [slurm]" in capsys.readouterr().err
