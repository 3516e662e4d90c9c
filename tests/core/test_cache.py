"""A cache is a convenience: without a home, a name or a folder that can be written, a run goes on and says so once."""

import os
import shutil
import subprocess
import sys

import pytest

from latentdd_plugin.core import cache
from latentdd_plugin.core.errors import RunFailed

RUN = (
    "run --codec dct --algo random --protocol demo.v1 --evaluator convnet_d1 --out run threads=1 device=cpu "
    "--dataset {data}"
)
STRANGER = 54321  # a user that the system has no name for
AS_STRANGER = (  # who may still read the interpreter and the packages, wherever they lie
    *("setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)
VARIABLES = ("DD_BENCH_CACHE", "HF_HOME", "HF_DATASETS_CACHE", "HF_MODULES_CACHE", "XDG_CACHE_HOME", "MPLCONFIGDIR")


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    for name in (*VARIABLES, "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    cache._cache_dir.cache_clear()
    yield
    cache._cache_dir.cache_clear()


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A temporary folder of its own."""
    import tempfile

    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def a_file(tmp_path):
    """A place where no folder can be made, for root too."""
    path = tmp_path / "file"
    path.touch()
    return path / "below"


def test_the_chosen_folder_is_taken_and_nothing_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("DD_BENCH_CACHE", str(tmp_path / "mine"))
    assert cache.cache_dir() == tmp_path / "mine"
    assert not (tmp_path / "mine").exists()
    monkeypatch.delenv("DD_BENCH_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_dir() == tmp_path / ".cache" / "dd-bench"


@pytest.mark.parametrize("variable", ["DD_BENCH_CACHE", "HOME"])
def test_a_folder_that_cannot_be_written_is_replaced_and_named_once(tmp_path, monkeypatch, temporary, caplog, variable):
    monkeypatch.setenv(variable, str(a_file(tmp_path)))
    assert cache.cache_dir() == cache.cache_dir() == temporary / f"dd-bench-{os.getuid()}"
    assert len(caplog.messages) == 1
    assert "DD_BENCH_CACHE" in caplog.text
    assert "HF_HOME" in caplog.text


def test_no_home_and_no_name(monkeypatch, temporary):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(cache.Path, "home", classmethod(lambda cls: (_ for _ in ()).throw(RuntimeError("no home"))))
    monkeypatch.setattr(cache.getpass, "getuser", lambda: (_ for _ in ()).throw(KeyError("uid not found")))
    cache.prepare_caches()
    for name in ("HF_HOME", "MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR"):
        assert os.environ[name].startswith(str(temporary))
        monkeypatch.delenv(name)


def test_a_folder_of_somebody_else_in_the_temporary_folder_is_not_taken(tmp_path, monkeypatch, temporary):
    (tmp_path / "theirs").mkdir()
    (temporary / f"dd-bench-{os.getuid()}").symlink_to(tmp_path / "theirs")
    monkeypatch.setenv("DD_BENCH_CACHE", str(a_file(tmp_path)))
    found = cache.cache_dir()
    assert found.parent == temporary
    assert not found.is_symlink()


def test_nothing_can_be_written_at_all(tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(a_file(tmp_path)))
    monkeypatch.setenv("DD_BENCH_CACHE", str(a_file(tmp_path)))
    with pytest.raises(RunFailed, match=r"DD_BENCH_CACHE.*HF_HOME"):
        cache.prepare_caches()


def test_models_in_a_cache_that_can_only_be_read_stay_visible(tmp_path, monkeypatch, caplog):
    home = tmp_path / "hf"
    home.mkdir()
    monkeypatch.setenv("DD_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(home))
    writable = cache.writable
    monkeypatch.setattr(cache, "writable", lambda path: not path.is_relative_to(home) and writable(path))
    cache.prepare_caches()
    assert os.environ["HF_HOME"] == str(home)
    assert os.environ["HF_DATASETS_CACHE"] == str(tmp_path / "cache" / "huggingface" / "datasets")
    assert caplog.text.count("HF_HOME") == 1
    for name in ("HF_DATASETS_CACHE", "HF_MODULES_CACHE"):
        monkeypatch.delenv(name)


def pictures(folder):
    import numpy as np
    from PIL import Image

    draws = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 2)):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = draws.integers(0, 255, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return folder


WITHOUT = {
    "no home, no name": ({}, STRANGER),
    "HOME=/": ({"HOME": "/"}, STRANGER),
    "a Hugging Face cache that cannot be written": ({"HOME": "{writable}", "HF_HOME": "/proc/hf"}, None),
    "a cache that cannot be written": ({"HOME": "{writable}", "DD_BENCH_CACHE": "/proc/cache"}, None),
}


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="needs root, to run as another user")
@pytest.mark.parametrize("case", WITHOUT)
def test_a_run_without_a_cache(tmp_path, case):
    given, user = WITHOUT[case]
    data, work = pictures(tmp_path / "pictures"), tmp_path / "work"
    work.mkdir()
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    if user is not None:
        os.chown(work, user, user)
    variables = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TMPDIR": str(work)}
    variables |= {name: value.format(writable=work / "home") for name, value in given.items()}
    done = subprocess.run(
        [*(AS_STRANGER if user else ()), sys.executable, "-m", "latentdd_plugin", *RUN.format(data=data).split()],
        cwd=work,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "DD_BENCH_CACHE" in done.stderr or "HF_HOME" in done.stderr
    assert not (work / "~").exists()
