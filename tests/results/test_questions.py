"""The page of the latent-space papers' questions, from the records that are on file."""

from pathlib import Path

from latentdd_plugin.cli import main

RECORDS = Path(__file__).parents[2] / "docs" / "records"
SUITE = "latentdd-questions.v1"


def test_every_question_has_figures_of_a_record(capsys):
    assert main.main(["suite", "page", SUITE, "--out", str(RECORDS / SUITE)]) == 0
    page = capsys.readouterr().out
    sections = page.split("\n## ")[1:]
    assert len(sections) == 5
    assert all("|---|" in section for section in sections)
    assert "| imagenette128, 32 px | `tiny-vae f=4` | `dm` |" in sections[0]  # a run of the suite
    assert "| cifar10 | `dct + dm` | 16 |" in sections[3]  # a submission
