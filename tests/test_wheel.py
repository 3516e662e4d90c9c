"""The wheel carries the package, the suites, the figures of cards and papers, and not the registry's submissions."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from latentdd_plugin.leaderboard import registry

ROOT = Path(__file__).parents[1]
LARGEST = 3_000_000  # bytes


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    words = ["-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_it_is_small(wheel):
    assert wheel.stat().st_size < LARGEST


def test_it_carries_every_file_of_the_package(names):
    tracked = subprocess.run(
        ["git", "ls-files", "latentdd_plugin"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert set(tracked.stdout.split()) <= names


def test_it_carries_the_suites(names):
    expected = {f"latentdd_plugin/_suites/{path.name}" for path in (ROOT / "benchmarks").glob("*.yaml")}
    assert expected
    assert expected == {name for name in names if "/_suites/" in name}


def test_it_carries_the_figures_of_cards_and_papers_and_nothing_else_of_the_registry(names):
    figures = [*(ROOT / "registry").glob("codecs/*/*.json"), *(ROOT / "registry").glob("literature/*.json")]
    expected = {f"latentdd_plugin/_registry/{path.relative_to(ROOT / 'registry')}" for path in figures}
    assert expected
    assert expected == {name for name in names if "/_registry/" in name}


def test_installed_the_leaderboard_shows_the_cards(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    bundled = tmp_path / "installed" / "latentdd_plugin" / "_registry"
    found = registry.read(bundled)
    assert (len(found.submissions), found.faults) == (0, ())
    assert len(found.literature) == len(list(bundled.glob("literature/*.json"))) > 0
    assert len(found.cards) == len(list(bundled.glob("codecs/*/*.json")))
