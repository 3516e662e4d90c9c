"""The plug-ins that the tutorials write keep to the contracts; the reference made of docstrings is up to date."""

from pathlib import Path

import doc_blocks
import pytest

from latentdd_plugin.testing import run_contracts
from latentdd_plugin.testing.__main__ import reference
from latentdd_plugin.testing.pytest_plugin import subject_of

DOCS = Path(__file__).parents[1] / "docs"
TUTORIALS = ["add-a-codec.md", "add-a-distiller.md", "add-an-evaluator.md"]
CLASSES = {"knn.py": "KNN"}  # others are called as their files


@pytest.mark.parametrize("name", TUTORIALS)
def test_the_file_of_a_tutorial_keeps_to_every_contract(name, tmp_path):
    files = [block for block in doc_blocks.read(DOCS / "guides" / name) if block.title]
    assert files
    for block in files:
        (tmp_path / block.title).write_text(block.text)
        cls = CLASSES.get(block.title, block.title.removesuffix(".py").capitalize())
        subject, contracts = subject_of(f"{tmp_path / block.title}:{cls}")
        assert "broken" not in {finding.status for finding in run_contracts(subject, contracts)}


def test_the_contract_reference_is_up_to_date():
    assert (DOCS / "reference" / "contracts.md").read_text() == reference(), "run: make docs"
