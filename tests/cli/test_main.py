"""`dd-bench` itself: dispatch, exit codes, the run command's output, and what `list` shows."""

import subprocess
import sys
import types
from pathlib import Path

import pytest

from latentdd_plugin import __version__
from latentdd_plugin.cli import listing, main
from latentdd_plugin.core.entry_points import Entry
from latentdd_plugin.core.errors import RunFailed, UsageError
from latentdd_plugin.experiments import jobs
from latentdd_plugin.experiments import run as runs
from latentdd_plugin.results.record import Record
from latentdd_plugin.results.statistics import Accuracy


class FakeRecord:
    """The part of a run's result that the command line reads."""

    def __init__(self, config, folder, precision):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_text("{}")
        self.budget = types.SimpleNamespace(precision=precision)
        self.summary = {e: Accuracy(0.5 + config.seed / 100, 0.01, 3, None) for e in config.evaluators}
        self.skipped = ()

    def table(self):
        return f"the table at {self.budget.precision}"


@pytest.fixture
def fake_run(tmp_path, monkeypatch):
    """`run`, which only records its calls and fails for seeds 13 and 14."""
    module, made = types.SimpleNamespace(calls=[]), {}

    def run_precisions(config, precisions, *, out=None, progress=False, command=None, limit_s=None):
        module.calls.append((config, out, progress, command))
        if config.seed == 13:
            raise RunFailed("seed 13:\nnon-finite loss")
        if config.seed == 14:
            raise ZeroDivisionError("a bug")
        base = out or tmp_path / "default"
        folders = {p: base / p if len(precisions) > 1 else base for p in precisions}
        records = [FakeRecord(config, folder, p) for p, folder in folders.items()]
        made.update({record.folder: record for record in records})
        return records

    def run(config, **options):
        return run_precisions(config, (config.precision,), **options)[0]

    monkeypatch.setattr(runs, "run", run)
    monkeypatch.setattr(runs, "run_precisions", run_precisions)
    monkeypatch.setattr(jobs, "run_precisions", run_precisions)
    monkeypatch.setattr(Record, "load", made.__getitem__)
    monkeypatch.chdir(tmp_path)
    return module


def called(*words):
    return main.main([*words])


@pytest.mark.parametrize(
    "words",
    [["--help"], ["--version"], ["run", "--help"], ["list", "codecs"], ["list", "evaluators"], ["list", "--help"]],
)
def test_looking_imports_no_torch(words):
    code = (
        "import sys\nfrom latentdd_plugin.cli.main import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'timm', 'diffusers', 'datasets'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_help_names_every_command(capsys):
    assert called("--help") == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name}" in out for name in main.COMMANDS)
    assert called() == 2
    assert called("--version") == 0
    assert capsys.readouterr().out.endswith(f"dd-bench {__version__}\n")


def test_every_command_is_a_module_with_two_functions():
    import importlib

    for module, text in main.COMMANDS.values():
        command = importlib.import_module(module)
        assert callable(command.add_arguments)
        assert callable(command.execute)
        assert text


def test_an_unknown_command_names_the_nearest(capsys):
    assert called("runn") == 2
    assert capsys.readouterr().err == (
        f"dd-bench: unknown command 'runn' (did you mean run?); there are: {', '.join(main.COMMANDS)}\n"
    )


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (UsageError(["one", "two"]), 2, "dd-bench: one\ndd-bench: two\n"),
        (RunFailed("disk full"), 1, "dd-bench: disk full\n"),
        (KeyboardInterrupt(), 130, "dd-bench: interrupted\n"),
        (KeyboardInterrupt("saved; run it again"), 130, "dd-bench: saved; run it again\n"),
    ],
)
def test_errors_become_exit_codes_without_a_traceback(monkeypatch, capsys, error, code, text):
    def fails(_words):
        raise error

    monkeypatch.setattr(main, "_dispatch", fails)
    assert called("run") == code
    assert capsys.readouterr().err == text


def test_run_prints_the_table_and_the_paths(fake_run, capsys):
    assert called("run", "seed=3", "--device", "cpu", "--out", "my out", "--quiet", "codec.upsample=2") == 0
    config, out, progress, command = fake_run.calls[0]
    assert (config.seed, config.codec) == (3, {"name": "dct", "upsample": 2})
    assert out == Path("my out")
    assert progress is False
    assert command == "dd-bench run seed=3 --device cpu --out 'my out' --quiet codec.upsample=2"
    captured = capsys.readouterr()
    assert captured.out == f"the table at fp32\n{Path('my out') / 'result.json'}\n"
    assert captured.err == ""


def test_run_alone_takes_the_defaults(fake_run):
    assert called("run", "--device", "cpu") == 0
    config, out, _, _ = fake_run.calls[0]
    assert (config.dataset.name, config.codec, config.algo["name"], out) == ("digits", {"name": "dct"}, "dm", None)
    assert config.algo["preset"] == "quick"


def test_several_precisions_are_one_distillation(fake_run, capsys):
    assert called("run", "--lpc", "2", "--precision", "fp32,int4", "--device", "cpu") == 0
    assert len(fake_run.calls) == 1
    assert "the table at int4" in capsys.readouterr().out


def test_faults_of_words_and_values_come_together_before_any_work(fake_run, tmp_path, capsys):
    assert called("run", "sead=1", "--codec", "dtc", "--ipc", "x", "--out", "o") == 2
    err = capsys.readouterr().err
    assert [line.split("'")[0] for line in err.splitlines()] == [
        "dd-bench: unknown key ",
        "dd-bench: ipc=",
        "dd-bench: unknown codec ",
    ]
    assert fake_run.calls == []
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_ends_with_one_table(fake_run, tmp_path, capsys):
    code = called(
        "run",
        "--algo",
        "dm,random",
        "seed=0,1",
        "-m",
        "--device",
        "cpu",
        "--out",
        "sw",
        "ipc=2",
        "--evaluator",
        "convnet",
    )
    out = capsys.readouterr().out
    assert code == 0
    assert out.splitlines()[0].split() == ["job", "evaluator", "accuracy", "folder"]
    assert "algo.name=random seed=1  convnet fp32  51.0% ± 1.0" in out
    assert "ipc=2" not in out
    folders = {call[1] for call in fake_run.calls}
    assert len(folders) == 4
    assert all(folder.parent == Path("sw") and folder.exists() for folder in folders)
    assert not (tmp_path / "runs").exists()


def test_a_failed_job_is_a_row_and_exit_1(fake_run, capsys):
    assert called("run", "seed=0,13,14", "-m", "--device", "cpu", "--evaluator", "convnet") == 1
    captured = capsys.readouterr()
    assert "seed=13  -             failed: seed 13: non-finite loss" in captured.out
    assert "failed: ZeroDivisionError: a bug" in captured.out
    assert "50.0%" in captured.out
    assert "Traceback" in captured.err
    assert {call[1].parent.name for call in fake_run.calls} == {"runs"}


def test_every_job_of_a_sweep_is_checked_before_the_first_runs(fake_run, tmp_path, capsys):
    assert called("run", "--codec", "dct,dtc", "match=code,both", "-m", "--device", "cpu") == 2
    err = capsys.readouterr().err
    assert "unknown codec 'dtc'" in err
    assert "match=both: choose one of" in err
    assert fake_run.calls == []
    assert list(tmp_path.iterdir()) == []


def test_an_absent_launcher_is_one_message(fake_run, capsys):
    assert called("run", "seed=0,1", "-m", "hydra/launcher=absent", "--device", "cpu") == 2
    assert "install 'latentdd-plugin[joblib]'" in capsys.readouterr().err


def test_list_shows_origin_and_what_is_missing(capsys):
    assert called("list", "codecs") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["dct"].endswith("-")
    assert f"latentdd-plugin {__version__}" in lines["dct"]
    assert "codec.path=FOLDER" in lines["sd-vae"]
    called("list", "evaluators")
    assert "Any timm architecture" in capsys.readouterr().out


def test_missing_requirements_of_an_extra_are_named():
    assert listing.absent_requirements("latentdd-plugin", "hub") == []
    assert listing.absent_requirements("latentdd-plugin", "dev") == []
    assert "pip" in listing.missing(Entry("a", "codecs", "m:A", "latentdd-plugin", "1", ("slurm",))) or not (
        listing.absent_requirements("latentdd-plugin", "slurm")
    )
    rival = Entry("a", "codecs", "n:A", "other", "2")
    assert "claimed twice (m:A; n:A)" in listing.missing(Entry("a", "codecs", "m:A", "one", "1", (), (rival,)))
