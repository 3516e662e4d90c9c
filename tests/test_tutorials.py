"""The tutorials, line by line, in a fresh environment; and the reference that is made of docstrings."""

import re
from pathlib import Path

import fresh
import pytest

from latentdd_plugin.testing import run_contracts
from latentdd_plugin.testing.__main__ import reference
from latentdd_plugin.testing.pytest_plugin import subject_of

DOCS = Path(__file__).parents[1] / "docs"
TUTORIALS = ["add-a-codec.md", "add-a-distiller.md", "add-an-evaluator.md"]
CLASSES = {"knn.py": "KNN"}  # others are called as their files


def blocks(text):
    """(language, title, content) of each fenced block."""
    return re.findall(r'^```(\w+)(?: title="(\S+)")?\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)


def steps(console):
    """(command, the lines that its output has to hold) of a console block."""
    found = []
    for line in console.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line.strip())
    return found


def test_the_tutorials_hold_what_is_executed():
    for name in TUTORIALS:
        kinds = [kind for kind, _, _ in blocks((DOCS / "guides" / name).read_text())]
        assert kinds.count("python") >= 1
        assert kinds.count("console") >= 1


@pytest.mark.parametrize("name", TUTORIALS)
def test_the_file_of_a_tutorial_keeps_to_every_contract(name, tmp_path):
    for kind, title, content in blocks((DOCS / "guides" / name).read_text()):
        if kind == "python" and title:
            (tmp_path / title).write_text(content)
            cls = CLASSES.get(title, title.removesuffix(".py").capitalize())
            subject, contracts = subject_of(f"{tmp_path / title}:{cls}")
            assert "broken" not in {finding.status for finding in run_contracts(subject, contracts)}


@pytest.mark.slow
@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_works_line_by_line(name, tmp_path):
    variables = fresh.environment(tmp_path / "environment")
    work = tmp_path / "work"
    work.mkdir()
    for kind, title, content in blocks((DOCS / "guides" / name).read_text()):
        if kind == "python":
            (work / (title or "untitled.py")).write_text(content)
            if not title:
                code, said = fresh.shell("python untitled.py", work, variables)
                assert code == 0, f"{content}\n{said}"
            continue
        for command, shown in steps(content):
            code, said = fresh.shell(command, work, variables)
            assert code == 0, f"{command}\n{said}"
            for line in shown:
                assert line in said, f"{command}\n{said}"


def test_the_contract_reference_is_up_to_date():
    assert (DOCS / "reference" / "contracts.md").read_text() == reference(), "run: make docs"
