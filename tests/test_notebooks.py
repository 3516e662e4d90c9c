"""The notebooks: kept with their outputs, and run again from top to bottom."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
AGAIN = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""


def code_cells(path):
    nbformat = pytest.importorskip("nbformat")
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


def shown(cells):
    """Return the kinds of what each cell shows; a repetition may differ in numbers and pictures."""
    return [
        [sorted(out.get("data", {"stream": ""})) for out in cell.outputs if out.get("name") != "stderr"]
        for cell in cells
    ]


def test_every_main_guide_has_one():
    guides = {path.stem for folder in ("start", "guides") for path in (DOCS / folder).glob("*.md")}
    names = {path.stem for path in NOTEBOOKS}
    assert names == {"first-run", "your-own-data", "add-a-codec", "choose-a-pair", "load-a-distilled-set"}
    assert names <= guides
    for name in names:
        (page,) = [path for folder in ("start", "guides") for path in (DOCS / folder).glob(f"{name}.md")]
        assert f"(../notebooks/{name}.ipynb)" in page.read_text()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_with_its_outputs_and_without_places_of_a_machine(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(cell.outputs for cell in cells)
    assert not [out for cell in cells for out in cell.outputs if out.output_type == "error"]
    assert not re.findall(r"(?:^|[\"' ])/(?:home|tmp|root|work|Users)/", path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_from_top_to_bottom_and_shows_the_same(path, tmp_path):
    pytest.importorskip("nbclient")
    again = tmp_path / "again.ipynb"
    env = {**os.environ, "DD_BENCH_CACHE": str(tmp_path / "cache")}
    words = [sys.executable, "-c", AGAIN, str(path), str(again)]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert shown(code_cells(again)) == shown(code_cells(path))
