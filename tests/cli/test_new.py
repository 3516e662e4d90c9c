"""`dd-bench new`: what it writes is installed as it is, is found by its name, keeps to its contracts, and runs."""

import fresh
import pytest

from latentdd_plugin.cli import main, new
from latentdd_plugin.testing import contracts
from latentdd_plugin.testing.pytest_plugin import subject_of

KINDS = list(new.KINDS)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def called(*words):
    return main.main(["new", *words])


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_writes_keeps_to_every_contract(kind, tmp_path, capsys):
    assert called(kind, f"my-{kind}", "--dir", "some/where") == 0
    folder = tmp_path / "some" / "where" / f"my-{kind}"
    files = sorted(path.name for path in folder.iterdir())
    assert files == ["README.md", f"my_{kind}.py", "pyproject.toml", f"test_my_{kind}.py"]
    assert f"some/where/my-{kind}/my_{kind}.py" in capsys.readouterr().out
    subject, suite = subject_of(f"{folder}/my_{kind}.py:My{kind.capitalize()}")
    findings = contracts.run_contracts(subject, suite)
    others = {finding.contract for finding in findings if finding.status != contracts.PASSED}
    assert others == {"codec": {"tokens"}, "algo": {"codes_kept"}}.get(kind, set()), "what it does not claim to be"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_installed_it_is_listed_tested_and_run_with_no_edit(kind, tmp_path):
    variables = fresh.environment(tmp_path / "environment")
    flag, listed = new.KINDS[kind]["flag"], new.KINDS[kind]["listed"]
    quick = "--lpc 2 --protocol demo.v1 --controls none --out run --quiet"
    quick += "" if kind == "algo" else " --algo random"
    for command, says in [
        (f"dd-bench new {kind} my-part", "my_part.py"),
        ("pip install -e my-part", "Successfully installed my-part-0.1.0"),
        (f"dd-bench list {listed} --check", "my-part"),
        ("pytest my-part", " passed"),
        (f"dd-bench run --{flag} my-part {quick}", "my-part"),
    ]:
        code, said = fresh.shell(command, tmp_path, variables)
        assert code == 0, f"{command}\n{said}"
        assert says in said, f"{command}\n{said}"


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        ("codec", "dct", "codec 'dct' is taken by latentdd-plugin"),
        ("algo", "My_Algo", "'My_Algo': a name is made of lower-case letters, digits and single dashes"),
        ("evaluator", "../x", "'../x': a name is made of"),
        ("codec", "class", "'class': a name is made of"),
        ("codec", "json", "there is a module 'json' already"),
    ],
)
def test_a_name_that_cannot_be_is_refused(kind, name, says, tmp_path, capsys):
    assert called(kind, name) == 2
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "other-codec").mkdir()
    assert called("codec", "other-codec") == 2
    assert "other-codec exists: choose another name" in capsys.readouterr().err
    assert list((tmp_path / "other-codec").iterdir()) == []


def test_a_folder_that_cannot_be_written_fails(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert called("codec", "other-codec", "--dir", "file") == 1
    assert "cannot write file/other-codec" in capsys.readouterr().err
