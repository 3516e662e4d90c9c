"""A suite of seconds, a run of it, and a registry to submit it to."""

import shutil

import pytest
import suite as tiny_suite
import tiny

from latentdd_plugin import protocols, suites
from latentdd_plugin.cli import main


@pytest.fixture(scope="module", autouse=True)
def tiny_suites(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suites")
    tiny_suite.written(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(protocols.PROTOCOLS, tiny.PROTOCOL.name, tiny.PROTOCOL)
        patch.setattr(suites, "folder", lambda: folder)
        yield folder


@pytest.fixture(scope="module")
def made(tiny_suites, tmp_path_factory):
    """The folder of a run that meets the suite's conditions."""
    out = tmp_path_factory.mktemp("run") / "dct-dm"
    assert main.main([*tiny_suite.RUN.split(), "--out", str(out)]) == 0
    return out


@pytest.fixture
def run(made, tmp_path):
    """A copy of it."""
    return shutil.copytree(made, tmp_path / "dct-dm")
