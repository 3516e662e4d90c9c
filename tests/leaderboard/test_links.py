"""Links in a registry or in a site lead nowhere: nothing outside is read, written or removed."""

import shutil

import pytest
import suite as tiny_suite

from latentdd_plugin.cli import main
from latentdd_plugin.leaderboard.site import build

ME = ["--name", "A. Person", "--contact", "a@example.org"]


def called(*words):
    return main.main([str(word) for word in words])


def tree(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def registry(run, tmp_path):
    """A registry with one entry, whose suite folder lies elsewhere and is linked."""
    folder = tmp_path / "registry"
    assert called("submit", run, *ME, "--registry", folder) == 0
    suite = folder / "submissions" / "tiny.v1"
    suite.rename(tmp_path / "elsewhere")
    suite.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    return folder


@pytest.fixture(params=["sound", "broken"])
def elsewhere(request, registry, tmp_path):
    folder = tmp_path / "elsewhere"
    if request.param == "broken":
        for path in folder.glob("*.json"):
            path.write_text("{}")
    return folder


@pytest.mark.parametrize("level", ["static", "full"])
def test_verify_writes_nothing_through_a_linked_suite_folder(registry, elsewhere, capsys, level):
    before = tree(elsewhere)
    assert called("verify", "--all", "--registry", registry, "--level", level, "--quiet") == 2
    assert "is a link" in capsys.readouterr().out
    assert tree(elsewhere) == before


def test_verify_writes_nothing_through_a_link_to_a_run(registry, run, tmp_path, capsys):
    suite = registry / "submissions" / "tiny.v1"
    suite.unlink()
    suite.mkdir()
    (suite / "a-run.json").symlink_to(run, target_is_directory=True)
    before = tree(run)
    assert called("verify", "--all", "--registry", registry, "--level", "static", "--quiet") == 2
    assert "is a link" in capsys.readouterr().out
    assert tree(run) == before


def test_submit_writes_nothing_through_a_linked_suite_folder(registry, run, elsewhere, capsys):
    before = tree(elsewhere)
    assert called("submit", run, *ME, "--registry", registry) == 2
    assert "is a link" in capsys.readouterr().err
    assert tree(elsewhere) == before


def test_a_site_removes_and_writes_nothing_through_a_link(filled, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    build(filled, site)
    (site / "suites").rename(elsewhere)
    (site / "suites").symlink_to(elsewhere, target_is_directory=True)
    before = tree(elsewhere)
    empty = tmp_path / "empty"
    (empty / "submissions").mkdir(parents=True)
    for source in (filled, empty):
        assert called("leaderboard", "--registry", source, "--out", site) == 2
    assert tree(elsewhere) == before


def test_a_registry_may_itself_be_reached_through_a_link(run, tmp_path):
    real = tmp_path / "real"
    assert called("submit", run, *ME, "--registry", real) == 0
    (tmp_path / "linked").symlink_to(real, target_is_directory=True)
    assert called("verify", "--all", "--registry", tmp_path / "linked", "--level", "static", "--quiet") == 0
    assert tiny_suite.TREE["name"] in {path.name for path in real.glob("submissions/*")}
    shutil.rmtree(real)
