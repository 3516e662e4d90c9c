"""The source tree is found without Git, and an installed package has none."""

import shutil
from pathlib import Path

from latentdd_plugin.core.checkout import checkout
from latentdd_plugin.experiments import suites
from latentdd_plugin.leaderboard import registry

TREE = Path(__file__).parents[2]


def test_this_tree_is_found():
    assert checkout() == TREE
    assert (suites.folder(), registry.default()) == (TREE / "benchmarks", TREE / "registry")


def test_an_unpacked_archive_is_a_checkout(tmp_path):
    shutil.copy(TREE / "pyproject.toml", tmp_path)
    assert checkout(tmp_path / "latentdd_plugin") == tmp_path


def test_an_installed_package_is_not(tmp_path):
    assert checkout(tmp_path / "latentdd_plugin") is None
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\n')
    assert checkout(tmp_path / "latentdd_plugin") is None
