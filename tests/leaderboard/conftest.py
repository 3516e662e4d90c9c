"""A suite of seconds, runs of it, and a registry with an entry of every status."""

import json
import shutil
from pathlib import Path

import pytest
import suite as tiny_suite
import tiny

from latentdd_plugin.cli import main
from latentdd_plugin.evaluators import protocols
from latentdd_plugin.experiments import suites

MARKUP = "<img src=x onerror=alert(1)>\"'{{7*7}}</script>"


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


@pytest.fixture
def claim(run, tmp_path):
    """The file of an honest submission."""
    words = ["--name", "A", "--contact", "a@b.org", "--registry", str(tmp_path / "registry")]
    assert main.main(["submit", str(run), *words]) == 0
    (path,) = (tmp_path / "registry").glob("submissions/*/*.json")
    return path


@pytest.fixture(scope="module")
def filled(made, tmp_path_factory):
    """Registry of four runs and a second submission of the first: verified, checked, failed, stale and not checked."""
    folder = tmp_path_factory.mktemp("filled") / "registry"
    runs = {"dct-dm": made}
    single = tiny_suite.RUN.replace("int8", "fp32")
    for name, command in {
        "identity": single.replace("dct", "identity").replace("dm algo.iterations=2 algo.batch_real=8", "random"),
        "pca": single.replace("dct", "pca"),
        "dct-dm-fp32": single,
    }.items():
        runs[name] = made.parent / name
        assert main.main([*command.split(), "--out", str(runs[name])]) == 0
    claims = {name: submitted(run, folder, "A. Person") for name, run in runs.items()}
    claims["markup"] = submitted(made, folder, MARKUP, "--notes", MARKUP, "--code", "https://example.org/<b>")
    claims["liar"], claims["changed"] = (submitted(made, folder, name) for name in ("A. Liar", "A. Changed"))
    of_another_suite(claims["liar"])
    for name, level in {"dct-dm": "full", "identity": "static", "liar": "static", "changed": "static"}.items():
        code = main.main(["verify", str(claims[name]), "--level", level, "--quiet"])
        assert code == (1 if name == "liar" else 0)
    claims["changed"].write_text(claims["changed"].read_text().replace('"notes": null', '"notes": "later"'))
    card = Path(__file__).parents[2] / "registry" / "codecs" / "dct"
    shutil.copytree(card, folder / "codecs" / "dct")
    return folder


def submitted(run, registry, name, *more):
    """Submit a run; the claim's path."""
    before = set(registry.glob("submissions/*/*.json"))
    words = ["submit", run, "--name", name, "--contact", "a@example.org", "--registry", registry, *more]
    assert main.main([str(word) for word in words]) == 0
    (path,) = {p for p in registry.glob("submissions/*/*.json") if "verification" not in p.name} - before
    return path


def of_another_suite(claim):
    """Say that the suite held something else, which only a check against the suite can tell."""
    tree = json.loads(claim.read_text())
    tree["suite_sha256"] = "0" * 64
    claim.write_text(json.dumps(tree, indent=2, sort_keys=True))
