"""The page of the latent-space papers' questions, from the records that are on file."""

from pathlib import Path

from PIL import Image

from latentdd_plugin.cli import main
from latentdd_plugin.results.questions_plots import draw

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


def test_every_section_has_a_plot_beside_the_page(capsys, tmp_path):
    plots = tmp_path / "plots"
    assert main.main(["suite", "page", SUITE, "--out", str(RECORDS / SUITE), "--plots", str(plots)]) == 0
    page, drawn = capsys.readouterr().out, sorted(plots.iterdir())
    assert [path.stem for path in drawn] == ["cost", "fidelity", "gains", "properties", "spaces"]
    for path in drawn:
        assert f"(plots/{path.name})" in page
        with Image.open(path) as picture:
            assert picture.size[0] > 1000
            assert picture.getchannel("A").getextrema() == (0, 255), "ink on a transparent ground"


def test_a_section_without_records_has_no_plot():
    assert draw([], [], []) == {}
