"""Budgets in bytes, and comparisons at several of them: rate curves."""

import csv
import json

import pytest
import tiny

from latentdd_plugin import RunConfig
from latentdd_plugin.artifacts.budget import budget_for
from latentdd_plugin.cli import main
from latentdd_plugin.cli.overrides import byte_count
from latentdd_plugin.core.config import PartSpec
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.experiments import suites
from latentdd_plugin.experiments.compare import Comparison, Grid, cells
from latentdd_plugin.results.comparison.rate_plot import PublishedPoint, curves, picture

pytestmark = pytest.mark.usefixtures("tiny_protocol")
PUBLISHED = {
    "schema": "dd-bench/literature.v1",
    "source": {"title": "A paper", "arxiv": None, "url": "https://example.org"},
    "numbers": [
        {
            **dict.fromkeys(("paper", "resolution", "ipc", "counted", "evaluator", "protocol", "labels", "deviation")),
            **dict.fromkeys(("reported_by", "place", "flag", "note")),
            "method": "Theirs",
            "dataset": "digits",
            "bytes_per_class": 300,
            "accuracy": 0.7,
        }
    ],
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DD_BENCH_CACHE", str(tmp_path / "cache"))


def test_a_budget_in_bytes_holds_what_those_bytes_hold():
    budget = budget_for((3, 32, 32), (3, 16, 16), "int4", bytes_per_class=4000)
    assert (budget.ipc, budget.bytes_per_class, budget.codes_per_class) == (None, 4000, 4000 // 384)
    assert budget_for((3, 32, 32), (3, 16, 16), "coded", bytes_per_class=4000).codes_per_class == 110  # sqrt(12000)
    with pytest.raises(UsageError, match="budget too small: 100 bytes per class, but one int4 code"):
        budget_for((3, 32, 32), (3, 16, 16), "int4", bytes_per_class=100)


def test_bytes_are_part_of_a_configuration_only_where_they_are_given():
    assert "bytes" not in RunConfig(ipc=1).to_json()
    config = RunConfig(bytes=500, precision="coded")
    assert (config.ipc, config.to_json()["bytes"]) == (None, 500)
    assert RunConfig.from_json(config.to_json()) == config
    assert RunConfig(bytes=5, ipc=2).faults() == ["budget: give bytes or ipc, not both (bytes=5, ipc=2)"]
    assert RunConfig(bytes=5, lpc=2).faults() == ["budget: give bytes or lpc, not both (bytes=5, lpc=2)"]


@pytest.mark.parametrize(
    ("text", "size"), [("12288", 12288), ("4k", 4000), ("1.5kB", 1500), ("2M", 2_000_000), ("4q", "4q"), ("1.5", "1.5")]
)
def test_sizes_are_read_as_people_write_them(text, size):
    assert byte_count(text) == size


def test_every_line_of_the_grid_has_a_cell_for_each_rate():
    parts = (PartSpec("dct"),), (PartSpec.of(tiny.DM),)
    grid = Grid(tiny.config(controls=True), *parts, precisions=("coded",), rates=(200, 400))
    found = {cell.name: cell for cell in cells(grid)}
    assert list(found) == [
        "identity-random-fp32-200b", "identity-random-fp32-400b",
        "identity-random-coded-200b", "identity-random-coded-400b",
        "dct-random-coded-200b", "dct-random-coded-400b",
        "dct-dm-code-coded-200b", "dct-dm-code-coded-400b",
    ]  # fmt: skip
    config = found["dct-dm-code-coded-400b"].config
    assert (config.bytes, config.ipc, config.lpc) == (400, None, None)


def test_faults_of_rates():
    base = tiny.config()
    assert Grid(base, (PartSpec("dct"),), (PartSpec.of(tiny.DM),), rates=(0, 3, 3)).faults() == [
        "bytes=0: must be at least 1",
        "bytes: 3 is named twice",
    ]
    assert Grid(base.replace(ipc=2), (PartSpec("dct"),), (PartSpec.of(tiny.DM),), rates=(9,)).faults() == [
        "budget: give bytes or ipc, not both (ipc=2)"
    ]


def test_a_rate_curve_from_the_command_line(tmp_path, capsys):
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "one.json").write_text(json.dumps(PUBLISHED))
    words = "compare --codec dct --algo random --precision int4,coded --bytes 100,0.4k --controls none --in-process"
    more = ["--protocol", "tiny.test", "--evaluator", "convnet_d1", "--quiet", "threads=1"]
    out = tmp_path / "out"
    paths = ["--out", str(out), "--published", str(tmp_path / "papers")]
    assert main.main([*words.split(), *more, *paths]) == 0
    shown = capsys.readouterr().out
    assert "100 bytes per class" in shown
    assert "400 bytes per class" in shown
    assert str(out / "rate.png") in shown
    with (out / "compare.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["precision"], row["bytes_allowed"], row["codes_per_class"]) for row in rows] == [
        ("int4", "100", "12"),
        ("int4", "400", "50"),
        ("coded", "100", "17"),
        ("coded", "400", "35"),
    ]
    found = Comparison.load(out)
    assert found.rates == (100, 400)
    coded = next(curve for curve in curves(found, "convnet_d1", "total") if curve.precision == "coded")
    assert [10 * size for size, _ in coded.points] == [int(row["bytes"]) for row in rows[2:]]
    assert all(0.8 * limit < size <= limit for (size, _), limit in zip(coded.points, (100, 400), strict=True))
    assert (out / "rate.png").read_bytes() == picture(found, "convnet_d1", [PublishedPoint("Theirs", 300, 0.7)])
    assert (out / "rate.png").read_bytes() != picture(found, "convnet_d1")


def test_a_size_that_is_no_number_is_refused(capsys):
    assert main.main(["compare", "--bytes", "4q"]) == 2
    assert "bytes=4q: must be a whole number of bytes, as 12288 or 12k" in capsys.readouterr().err


def test_the_rate_suite_has_every_budget():
    suite = suites.get("cifar10-rate.v1")
    places = {place for place, _ in suite.grids()}
    assert places == {"cifar10-4000b", "cifar10-12288b", "cifar10-40000b", "cifar10-120000b"}
    names = [name for name, _ in suite.cells()]
    assert "cifar10-4000b-dct-dm-coded" in names
    assert {cell.config.bytes for _, cell in suite.cells() if cell.config} == {4000, 12288, 40000, 120000}
