"""The working folder is not importable: only what the user named runs, and what its own files import beside them."""

import subprocess
import sys
from pathlib import Path

import pytest
import suite

from latentdd_plugin.core import plugins, user_code
from latentdd_plugin.core.errors import PluginError

PLANTED = ("numexpr", "apex", "hydra_plugins", "bottleneck", "xformers", "ujson", "soundfile")
STARTS = {
    "module": ["-m", "latentdd_plugin"],
    "script": ["-c", "import sys; from latentdd_plugin.cli.main import main; sys.exit(main())"],
}
SMALL = "algo.iterations=1 threads=1 device=cpu --protocol demo.v1 --evaluator convnet_d1"
CODEC = """
import helper_beside
from latentdd_plugin.codecs.dct import DCT

class Mine(DCT):
    def encode(self, images):
        import later_beside
        return super().encode(images)
"""


def plant(folder):
    """Files that note in `executed` that they ran, under names that libraries look for; and an entry point."""
    note = f"open({str(folder / 'executed')!r}, 'a').write(__name__ + '\\n')\n"
    for name in PLANTED:
        (folder / f"{name}.py").write_text(note)
    (folder / "planted_codec.py").write_text(note)
    info = folder / "planted-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: planted\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[dd_bench.codecs]\nplanted = planted_codec:Planted\n")


def executed(folder):
    """Return the names of the planted files that ran."""
    note = folder / "executed"
    return note.read_text().split() if note.exists() else []


def dd_bench(words, folder, start="module"):
    """`dd-bench` as a process of its own in `folder`."""
    command = [sys.executable, *STARTS[start], *words.split()]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=240)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    plant(tmp_path)
    yield tmp_path
    for name in ("my_codec", "helper_beside", "later_beside", "my_package", "my_package.inner", *PLANTED):
        module = sys.modules.get(name)
        if module is not None and str(tmp_path) in str(getattr(module, "__file__", "")):
            del sys.modules[name]


def write_codec(folder):
    (folder / "my_codec.py").write_text(CODEC)
    (folder / "helper_beside.py").write_text("import deep_beside\n")
    (folder / "deep_beside.py").write_text("VALUE = 1\n")
    (folder / "later_beside.py").write_text("VALUE = 2\n")


@pytest.mark.parametrize("start", STARTS)
def test_a_run_executes_nothing_of_the_working_folder(here, start):
    done = dd_bench(f"run --out run --controls none {SMALL}", here, start)
    assert done.returncode == 0, done.stderr
    assert executed(here) == []


COMPARE = f"compare --codec dct --algo dm --ledger bytes --controls none {SMALL} --out out"


@pytest.mark.parametrize(
    "words",
    [
        COMPARE,
        pytest.param(
            f"run --lpc 1,2 --controls none -m --out out {SMALL} hydra/launcher=joblib hydra.launcher.n_jobs=2",
            marks=pytest.mark.slow,
        ),
        pytest.param(f"{COMPARE} hydra/launcher=joblib hydra.launcher.n_jobs=2", marks=pytest.mark.slow),
    ],
)
def test_worker_processes_execute_nothing_of_the_working_folder(here, words):
    done = dd_bench(words, here)
    assert done.returncode == 0, done.stderr
    assert executed(here) == []


@pytest.mark.slow
def test_no_command_executes_anything_of_the_working_folder(here):
    Path("registry/submissions").mkdir(parents=True)
    for words in (
        f"run --out run --controls none {SMALL}",
        "verify run --level static",
        "verify run",
        "evaluate run --protocol demo.v1 --evaluator convnet_d1",
        "leaderboard --registry registry --out site",
        "submit run --name me --contact me@example.org --registry registry",
        "suite list",
        "list --check",
    ):
        done = dd_bench(words, here)
        assert "Traceback" not in done.stderr, done.stderr
        assert executed(here) == [], words


@pytest.mark.slow
def test_a_suite_and_its_workers_execute_nothing_of_the_working_folder(here):
    one = {"protocol": "demo.v1", "codecs": ["dct"], "algos": ["random"], "precisions": ["fp32"]}
    suite.written(here, **one)
    done = dd_bench("suite run tiny.v1.yaml --out out threads=1 device=cpu", here)
    assert done.returncode == 0, done.stderr
    assert executed(here) == []


@pytest.mark.parametrize("name", ["my_codec:Mine", "./my_codec.py:Mine", "my_package.inner:Mine"])
def test_what_the_user_names_runs_with_the_files_beside_it(here, name):
    write_codec(here)
    (here / "my_package").mkdir()
    (here / "my_package" / "__init__.py").write_text("import deep_beside\n")
    (here / "my_package" / "inner.py").write_text(CODEC)
    (here / "later_beside.py").write_text("open('later', 'w').close()\n")
    done = dd_bench(f"run --codec {name} --out run --controls none {SMALL}", here)
    assert done.returncode == 0, done.stderr
    assert (here / "later").exists(), "an import within a function is the file's own too"
    assert executed(here) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["my_codec:Mine", "./my_codec.py:Mine"])
def test_worker_processes_know_what_the_user_names(here, name):
    write_codec(here)
    done = dd_bench(COMPARE.replace("dct", name), here)
    assert done.returncode == 0, done.stderr
    assert executed(here) == []


def test_others_import_nothing_from_a_plug_ins_folder(here, monkeypatch):
    write_codec(here)
    other = here / "elsewhere"
    other.mkdir()
    (other / "library.py").write_text("import helper_beside\n")
    monkeypatch.syspath_prepend(str(other))
    before = list(sys.path)
    assert plugins.resolve("codecs", "./my_codec.py:Mine").cls.__name__ == "Mine"
    assert sys.path == before
    sys.modules.pop("helper_beside")
    with pytest.raises(ModuleNotFoundError, match="helper_beside"):
        import library  # noqa: F401
    with pytest.raises(ModuleNotFoundError, match="numexpr"):
        user_code.importlib.import_module("numexpr")
    with pytest.raises(PluginError, match="no_such_module"):
        plugins.resolve("codecs", "no_such_module:Mine")
