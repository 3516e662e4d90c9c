"""Shared fixtures: a cache per test, one thread, real digits, and recipes of a few steps."""

import logging
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import tiny
import torch

from latentdd_plugin.evaluators import protocols

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """No test reads or fills the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DD_BENCH_CACHE", str(folder))
        patch.delenv("PYTHONWARNINGS", raising=False)
        yield folder


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tensors this small only lose time to a second thread; child processes inherit it."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_is_heard():
    """A job in the background ignores Ctrl-C, and so would the processes that tests start and interrupt."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_log_level():
    """A command with --quiet, in a test or in a fixture of several, says no more to the tests after it."""
    logging.getLogger("latentdd_plugin").setLevel(logging.NOTSET)


@pytest.fixture
def disk(tmp_path):
    """A file system of 4 MB, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="session")
def shared():
    """The folder of real data and weights beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"no folder of real data at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def digits(own_cache):
    """scikit-learn's real digits as ImageData."""
    return tiny.digits()


@pytest.fixture
def tiny_protocol(monkeypatch):
    """The recipe `tiny.test`: two networks, three steps each."""
    monkeypatch.setitem(protocols.PROTOCOLS, tiny.PROTOCOL.name, tiny.PROTOCOL)
    return tiny.PROTOCOL
