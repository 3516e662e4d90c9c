"""Every result under a folder, as a data frame and as a paper's table."""

import csv
import io
import json
import re
import shutil

import pytest
import tiny

from latentdd_plugin import results_frame, run
from latentdd_plugin.cli import main
from latentdd_plugin.core.config import LabelConfig
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.evaluators import protocols


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs beside each other, one with baselines."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(protocols.PROTOCOLS, tiny.PROTOCOL.name, tiny.PROTOCOL)
        patch.setenv("DD_BENCH_CACHE", str(folder.parent / "cache"))
        yield (
            folder,
            [
                run(tiny.config(codec="dct", controls=True), out=folder / "dct"),
                run(tiny.config(codec="identity", precision="int8"), out=folder / "deeper" / "identity"),
            ],
        )


def test_the_frame_holds_every_network_with_what_identifies_it(runs):
    folder, records = runs
    frame = results_frame(folder)
    mine = frame[frame.baseline == ""]
    assert list(mine.codec) == [r.codec.name for r in records for _ in r.scores]
    assert list(mine.accuracy) == [score.accuracy for r in records for score in r.scores]
    assert set(frame[frame.baseline != ""].baseline) == set(records[0].scored_baselines)
    means = mine.groupby("codec").accuracy.mean()
    assert means["dct"] == pytest.approx(records[0].summary["convnet_d1"].mean)
    assert set(frame.folder) == {str(r.folder) for r in records}
    assert list(frame.columns)[:5] == ["dataset", "codec", "distiller", "match", "precision"]


def test_csv_is_the_frame(runs, capsys):
    assert main.main(["results", str(runs[0]), "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    frame = results_frame(runs[0])
    assert [float(row["accuracy"]) for row in rows] == list(frame.accuracy)
    assert list(rows[0]) == list(frame.columns)


def test_markdown_has_a_line_per_method_and_baseline(runs, capsys):
    folder, (first, second) = runs
    assert main.main(["results", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| dataset | method | precision | codes/class | bytes | protocol | convnet_d1, % | gain |"
    methods = [line.split(" | ")[1] for line in lines[2:]]
    assert methods[0] == "dct + dm"
    assert "random-codes (dct)" in methods
    assert "identity + dm" in methods
    assert len(methods) == 2 + len(first.scored_baselines)
    found = first.summary["convnet_d1"]
    assert f"| {100 * found.mean:.1f} ± {100 * found.std:.1f} | {100 * first.gain('convnet_d1').mean:+.1f}" in lines[2]
    assert f"{second.budget.bytes.total:,}" in next(line for line in lines if "identity + dm" in line)


def test_latex_is_escaped_and_whole(runs, capsys):
    assert main.main(["results", str(runs[0]), "--format", "latex"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("\\begin{tabular}{lllrrrrr}\n\\toprule\ndataset & method")
    assert text.endswith("\\bottomrule\n\\end{tabular}\n")
    assert r"convnet\_d1, \%" in text
    assert r"$\pm$" in text
    assert not re.search(r"(?<!\\)[_%]", text)


def test_a_broken_record_is_named_and_the_rest_is_there(runs, tmp_path, capsys):
    folder = shutil.copytree(runs[0], tmp_path / "runs")
    broken = folder / "dct" / "result.json"
    broken.write_text(json.dumps({"schema": "other"}))
    assert main.main(["results", str(folder)]) == 0
    told = capsys.readouterr()
    assert "identity + dm" in told.out
    assert "dct + dm" not in told.out
    assert "left out" in told.err


def test_a_folder_without_results_is_refused(tmp_path, capsys):
    with pytest.raises(UsageError, match=r"there is no result\.json"):
        results_frame(tmp_path)
    assert main.main(["results", str(tmp_path)]) == 2
    assert "there is no result.json" in capsys.readouterr().err


def test_label_regimes_are_a_column_and_baselines_that_are_runs_stand_there_once(
    tmp_path, capsys, tiny_protocol, monkeypatch
):
    monkeypatch.setenv("DD_BENCH_CACHE", str(tmp_path / "cache"))
    for regime in ("own", "hard"):
        labels = LabelConfig(regime)
        for name in ("dm", "random"):
            algo = tiny.DM if name == "dm" else {"name": "random"}
            run(
                tiny.config(algo=algo, labels=labels, controls=name == "dm"), out=tmp_path / "runs" / f"{name}-{regime}"
            )
    assert main.main(["results", str(tmp_path / "runs")]) == 0
    lines = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:4] == ["dataset", "method", "precision", "labels"]
    assert [line[1] for line in lines[2:]].count("dct + random") == 2
    assert not [line for line in lines[2:] if line[1].startswith("random-codes")], "they are the runs of `random`"
    assert {(line[1], line[3]) for line in lines[2:]} >= {("dct + dm", "own"), ("dct + dm", "hard")}
    assert main.main(["results", str(tmp_path / "runs"), "--format", "latex"]) == 0
    assert capsys.readouterr().out.startswith("\\begin{tabular}{llllrrrrr}")
