"""A grid to cells, cells to runs, runs to a table, a plot and a page."""

import csv
import json
import logging
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import tiny

from latentdd_plugin.core import checkpoint, plugins
from latentdd_plugin.core.config import DatasetConfig, PartSpec
from latentdd_plugin.core.errors import DataError, RunFailed, UsageError
from latentdd_plugin.core.types import SyntheticSet
from latentdd_plugin.distillers.base import Distiller
from latentdd_plugin.distillers.loop import Matching
from latentdd_plugin.evaluators.train_scratch import TrainingSession
from latentdd_plugin.experiments.baselines import baseline_configs, is_baseline
from latentdd_plugin.experiments.build import resolve_run
from latentdd_plugin.experiments.compare import Grid, cells, compare
from latentdd_plugin.experiments.compare.run import Comparison
from latentdd_plugin.experiments.jobs import OWNER, Job, Outcome, read_outcome
from latentdd_plugin.results.comparison import plot
from latentdd_plugin.results.comparison.plot import Dot, draw, front, panels, regimes
from latentdd_plugin.results.record import Record

pytestmark = pytest.mark.usefixtures("tiny_protocol")
RANDOM, DM = {"name": "random"}, tiny.DM


class CodeOnly(Distiller):
    """A method that has never heard of pixels, and breaks where it gets many codes."""

    def distill(self, task):
        if task.codes_per_class > 3:
            raise RuntimeError("boom <b>")
        return SyntheticSet(*task.init("real"))


class Slow(Matching):
    """Five hundredths of a second a step."""

    def __init__(self, iterations=40, lr=0.0, momentum=0.0, init="real", optimizer="sgd"):
        self.iterations, self.lr, self.momentum, self.init, self.optimizer = iterations, lr, momentum, init, optimizer

    def iteration(self, task, variables, step):
        time.sleep(0.05)
        yield (variables.codes * 0).sum()


class Markup(CodeOnly):
    """Its name is all that counts."""


@pytest.fixture(autouse=True)
def own_cache_of_controls(tmp_path, monkeypatch):
    monkeypatch.setenv("DD_BENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def methods(monkeypatch):
    """The classes above under names of their own."""
    resolve = plugins.resolve
    ours = {"code-only": CodeOnly, "slow": Slow, "<script>": Markup}

    def with_ours(group, name, **options):
        return plugins.Preset(ours[name]) if group == "algos" and name in ours else resolve(group, name, **options)

    monkeypatch.setattr(plugins, "resolve", with_ours)


def grid(codecs=("dct",), algos=(DM,), base=None, **more):
    base = base or tiny.config(controls=True)
    return Grid(base, tuple(map(PartSpec.of, codecs)), tuple(map(PartSpec.of, algos)), **more)


def named(found):
    return {cell.name: cell for cell in found}


def status(comparison):
    return {row["name"]: row["status"] for row in comparison.to_json()["cells"]}


def row_of(comparison, name):
    return next(row for row in comparison.to_json()["cells"] if row["name"] == name)


# --- cells ------------------------------------------------------------------------------------------------------------


def test_every_combination_in_both_ledgers_beside_its_controls():
    found = named(cells(grid(precisions=("int8",), matches=("code", "pixel"))))
    assert list(found) == [
        "identity-random-fp32-bytes",
        "identity-random-fp32-count",
        "identity-random-int8-bytes",
        "identity-random-int8-count",
        "dct-random-int8-bytes",
        "dct-random-int8-count",
        "dct-dm-code-int8-bytes",
        "dct-dm-code-int8-count",
        "dct-dm-pixel-int8-bytes",
        "dct-dm-pixel-int8-count",
    ]
    assert [cell.added for cell in found.values()] == [True] * 6 + [False] * 4
    by_bytes, by_count = found["dct-dm-code-int8-bytes"].config, found["dct-dm-code-int8-count"].config
    assert (by_bytes.ipc, by_bytes.lpc, by_bytes.match) == (1, None, "code")
    assert (by_count.ipc, by_count.lpc, by_count.precision) == (None, 1, "int8")
    assert found["dct-dm-pixel-int8-bytes"].config.match == "pixel"


def test_random_cells_are_the_controls_of_the_others():
    found = named(cells(grid(algos=({**RANDOM, "preset": "quick"}, DM))))
    control = found["dct-random-fp32-bytes"]
    assert not control.added
    assert is_baseline(control.config)
    method = found["dct-dm-code-fp32-bytes"].config
    wanted = baseline_configs(method, bytes_per_class=256, image_shape=(1, 8, 8))
    assert wanted["random-codes"] == control.config
    assert wanted["random-pixels"] == found["identity-random-fp32-bytes"].config


def test_without_controls_only_what_was_asked_for():
    base = tiny.config(controls=False)
    assert list(named(cells(grid(base=base)))) == ["dct-dm-code-fp32-bytes", "dct-dm-code-fp32-count"]
    assert len(cells(grid(algos=(RANDOM,), base=base, ledgers=("bytes",)))) == 1


def test_runs_that_are_one_and_the_same_are_made_once():
    found = named(cells(grid(["identity"], matches=("code", "pixel"), precisions=("fp32", "int8"))))
    assert {cell.name: cell.same_as for cell in found.values() if cell.config is None} == {
        "identity-random-fp32-count": "identity-random-fp32-bytes",
        "identity-dm-code-fp32-count": "identity-dm-code-fp32-bytes",
        "identity-dm-pixel-fp32-bytes": "identity-dm-code-fp32-bytes",
        "identity-dm-pixel-fp32-count": "identity-dm-code-fp32-bytes",
        "identity-dm-pixel-int8-bytes": "identity-dm-code-int8-bytes",
        "identity-dm-pixel-int8-count": "identity-dm-code-int8-count",
    }
    enlarged = cells(grid([{"name": "identity", "upsample": 2}], matches=("code", "pixel")))
    assert not any(cell.same_as for cell in enlarged)
    alone = cells(grid(["identity"], matches=("pixel",), ledgers=("count",)))
    assert not any(cell.same_as for cell in alone)


def test_soft_labels_make_the_ledgers_differ():
    soft = {"name": "mtt", "preset": "quick", "labels": "soft"}
    found = named(cells(grid(["identity"], [soft])))
    assert found["identity-mtt-code-fp32-count"].same_as is None


def test_an_impossible_pair_is_a_cell_with_its_reason():
    found = named(cells(grid(["dct", "identity"], [{"name": "code-only"}], matches=("pixel",))))
    assert found["dct-code-only-pixel-fp32-bytes"].reason == "match=pixel: code-only supports code only"
    assert found["dct-code-only-pixel-fp32-bytes"].config is None
    assert found["identity-code-only-pixel-fp32-bytes"].config is not None


def test_all_faults_come_together():
    with pytest.raises(UsageError) as raised:
        cells(grid(precisions=("fp9",), matches=("codes",), ledgers=(), base=tiny.config(protocol="tony", lpc=3)))
    assert raised.value.faults == (
        "precision=fp9: choose among fp32, fp16, int8, int4, int2, coded, tokens",
        "match=codes: choose among code, pixel",
        "ledger: name at least one",
        "lpc: the budget of a comparison is in images, give ipc",
        "unknown protocol 'tony'; there are: fast.v1, quick.v1, demo.v1, small.v1, dc-bench.v1, rded.v1, kd-quick.v1, "
        "tiny.test",
    )
    with pytest.raises(UsageError) as raised:
        cells(grid(["dct", "dtc"], [{**DM, "iteration": 3}, {"name": "dmm"}]))
    assert [fault.partition(";")[0] for fault in raised.value.faults] == [
        "algo.dm: DM has no option 'iteration' (did you mean iterations?)",
        "unknown algo 'dmm' (did you mean dm, idm, datm?)",
        "unknown codec 'dtc' (did you mean dct, dc-ae?)",
    ]
    with pytest.raises(UsageError, match="codec: dct is named twice"):
        cells(grid(["dct", "dct"]))


def test_cheap_cells_run_first():
    found = cells(grid(algos=(DM, RANDOM, {"name": "herding"}), matches=("code", "pixel"), precisions=("int8", "fp32")))
    order = [cell.name for cell in sorted(found, key=lambda cell: cell.cost) if cell.config]
    kinds = [name.split("-")[1] for name in order]
    assert kinds == sorted(kinds, key=lambda kind: kind == "dm")
    methods = [name for name in order if "-dm-" in name]
    assert [("-pixel-" in name) for name in methods] == [False] * 4 + [True] * 4
    assert methods[0] == "dct-dm-code-fp32-count"


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_comparison_leaves_its_files_and_is_not_made_again(tmp_path, monkeypatch):
    trained = []
    score = TrainingSession.score

    def counted(self, seed):
        trained.append(seed)
        return score(self, seed)

    monkeypatch.setattr(TrainingSession, "score", counted)
    asked = grid(algos=(RANDOM, DM), precisions=("int4",))
    done = compare(asked, out=tmp_path / "out", in_process=True, command="the command")
    assert set(status(done).values()) == {"done"}
    runs = sum(cell.config is not None for cell in cells(asked))
    assert runs == 7
    # Two networks per run. The equal-bytes cells find their controls made; dm's random pixels at the bytes of one code
    # are none of the cells, and 256 bits hold no image.
    assert len(trained) == 2 * runs
    row = row_of(done, "dct-dm-code-int4-bytes")
    record = Record.load(tmp_path / "out" / row["folder"]).to_json()
    assert row["gain"] == record["controls"]["random-codes"]["gain"]
    assert row["control"] == row_of(done, "dct-random-int4-bytes")["summary"]
    assert record["command"] == "cell dct-dm-code-int4-bytes of: the command"
    assert row["budget"]["codes_per_class"] == 32
    assert row_of(done, "dct-dm-code-int4-count")["budget"]["codes_per_class"] == 1
    assert {"compare.json", "compare.csv", "pareto.png", "report.html"} <= {
        p.name for p in (tmp_path / "out").iterdir()
    }
    assert Comparison.load(tmp_path / "out").to_json() == done.to_json()
    again = compare(asked, out=tmp_path / "out", in_process=True)
    assert len(trained) == 2 * runs
    assert again.to_json()["cells"] == done.to_json()["cells"]
    with (tmp_path / "out" / "compare.csv").open() as file:
        lines = {(r["codec"], r["algo"], r["precision"], r["ledger"]): r for r in csv.DictReader(file)}
    assert float(lines["dct", "dm", "int4", "bytes"]["accuracy"]) == row["summary"]["convnet_d1"]["mean"]
    assert lines["dct", "dm", "int4", "bytes"]["bytes"] == "2560"
    assert lines["identity", "random", "fp32", "count"]["same_as"] == "identity-random-fp32-bytes"


def test_each_cell_that_ends_says_how_many_are_to_go(tmp_path, caplog):
    caplog.set_level(logging.INFO, "latentdd_plugin")
    asked = grid(algos=(RANDOM,), base=tiny.config(), ledgers=("bytes",), precisions=("int8", "int4"))
    compare(asked, out=tmp_path, in_process=True)
    told = [text for text in caplog.messages if ": done" in text]
    assert len(told) == 2
    assert re.fullmatch(r"dct-random-int8-bytes: done; 1 to go, [0-9.]+ (ms|s|min) at this pace", told[0])
    assert told[1] == "dct-random-int4-bytes: done"


def test_a_larger_grid_in_the_same_folder_adds_its_cells(tmp_path):
    small = grid(algos=(RANDOM,), base=tiny.config(), ledgers=("bytes",))
    first = compare(small, out=tmp_path, in_process=True)
    more = compare(replace(small, algos=(PartSpec.of(RANDOM), PartSpec.of(DM))), out=tmp_path, in_process=True)
    assert len(more.to_json()["cells"]) == 2
    random, method = row_of(first, "dct-random-fp32-bytes"), row_of(more, "dct-dm-code-fp32-bytes")
    assert row_of(more, "dct-random-fp32-bytes") == random
    assert method["control"] == random["summary"], "without baselines of its own, a cell stands against random codes"
    means = [one["summary"]["convnet_d1"]["mean"] for one in (method, random)]
    assert method["gain"]["convnet_d1"]["mean"] == pytest.approx(means[0] - means[1])
    other = replace(small, base=tiny.config(seed=1))
    with pytest.raises(UsageError, match=r"(?s)dct-random-fp32-bytes belongs to another configuration.*seed: 0 there"):
        compare(other, out=tmp_path, in_process=True)


def test_a_failing_cell_is_a_row_and_the_rest_goes_on(tmp_path, monkeypatch):
    asked = grid(algos=({"name": "code-only"}, DM), matches=("code", "pixel"), base=tiny.config())
    done = compare(asked, out=tmp_path, in_process=True)
    assert status(done) == {
        "dct-code-only-code-fp32-bytes": "failed",
        "dct-code-only-code-fp32-count": "done",
        "dct-code-only-pixel-fp32-bytes": "skipped",
        "dct-code-only-pixel-fp32-count": "skipped",
        "dct-dm-code-fp32-bytes": "done",
        "dct-dm-code-fp32-count": "done",
        "dct-dm-pixel-fp32-bytes": "done",
        "dct-dm-pixel-fp32-count": "done",
    }
    assert done.failed
    assert row_of(done, "dct-code-only-code-fp32-bytes")["reason"].startswith(
        "algo code-only: RuntimeError: boom <b>; "
    )
    text = done.table()
    assert "[1] algo code-only: RuntimeError: boom <b>; dd-bench check algo code-only" in text
    assert "\n[2] match=pixel: code-only supports code only" in text
    assert re.search(r"code-only \(code\) +fp32 +failed \[1\] +1?6?", text)
    monkeypatch.setattr(CodeOnly, "distill", lambda _self, task: SyntheticSet(*task.init("real")))
    mended = compare(asked, out=tmp_path, in_process=True)
    assert row_of(mended, "dct-code-only-code-fp32-bytes")["status"] == "done"
    assert not mended.failed


def test_a_budget_too_small_for_a_code_is_skipped_with_its_reason(tmp_path):
    asked = grid([{"name": "identity", "upsample": 3}], base=tiny.config(), ledgers=("bytes",))
    row = compare(asked, out=tmp_path, in_process=True).to_json()["cells"][0]
    assert row["status"] == "skipped"
    assert row["reason"].startswith("budget too small: ipc=1 is 256 bytes per class")


def test_a_cell_that_would_take_too_long_is_refused_until_it_may(tmp_path, monkeypatch):
    asked = grid(algos=({"name": "slow", "iterations": 40},), base=tiny.config(), ledgers=("bytes",))
    done = compare(asked, out=tmp_path, in_process=True, limit_s=1.0)
    (row,) = done.to_json()["cells"]
    assert row["status"] == "not run"
    assert 1.5 < row["estimate_s"] < 10
    assert row["reason"] == f"estimated {row['estimate_s']:.1f} s"
    assert f"not run: {row['reason']}" in done.table()
    assert not done.failed
    monkeypatch.setattr(Slow, "distill", lambda _self, _task: pytest.fail("estimated already"))
    assert compare(asked, out=tmp_path, in_process=True, limit_s=1.4).to_json()["cells"] == [row]


def test_a_refused_cell_runs_under_a_higher_limit(tmp_path):
    asked = grid(algos=({"name": "slow", "iterations": 20},), base=tiny.config(), ledgers=("bytes",))
    assert status(compare(asked, out=tmp_path, in_process=True, limit_s=0.4)) == {"dct-slow-code-fp32-bytes": "not run"}
    done = compare(asked, out=tmp_path, in_process=True, limit_s=None)
    assert status(done) == {"dct-slow-code-fp32-bytes": "done"}
    assert not (tmp_path / "cells" / "dct-slow-code-fp32-bytes" / "outcome.json").exists()


def test_a_fault_of_the_data_set_ends_the_comparison(tmp_path):
    base = tiny.config(dataset=DatasetConfig("digits", classes=("0", "zebra")))
    with pytest.raises(DataError, match="zebra"):
        compare(grid(base=base), out=tmp_path, in_process=True)


def test_two_comparisons_never_share_a_folder(tmp_path):
    from latentdd_plugin.core.storage import locked

    with locked(tmp_path), pytest.raises(RunFailed, match="in use by another process"):
        compare(grid(base=tiny.config()), out=tmp_path, in_process=True)


@pytest.mark.parametrize("precisions", [(), ("fp32", "int8")])
def test_a_job_survives_its_line(precisions):
    job = Job("a", resolve_run(tiny.config())[0], Path("x"), "c", 3.0, precisions=precisions)
    assert Job.from_json(job.to_json()) == job
    assert job.folders == [Path("x") / precision for precision in precisions] or [Path("x")]


def test_what_a_folder_says(tmp_path):
    assert read_outcome(tmp_path) == Outcome("unfinished")
    (tmp_path / "outcome.json").write_text("{")
    assert read_outcome(tmp_path).status == "unfinished"
    checkpoint.write_json(tmp_path / "outcome.json", {"status": "not run", "reason": "r", "estimate_s": 5.0}, OWNER)
    assert read_outcome(tmp_path).is_final(4.0)
    assert not read_outcome(tmp_path).is_final(6.0)
    assert not read_outcome(tmp_path).is_final(None)
    (tmp_path / "result.json").write_text("{}")
    assert read_outcome(tmp_path).status == "done"


# --- what it shows ----------------------------------------------------------------------------------------------------


def stats(mean, half=0.01):
    return {"mean": mean, "std": half / 2, "n": 3, "ci95": [mean - half, mean + half]}


FIXTURE = json.loads((Path(__file__).parents[1] / "fixtures" / "result.v1.json").read_text())


def shown(**more):
    """A comparison as TAESD on Imagenette would leave it."""

    def cell(codec, algo, precision, ledger, mean, gain=None, **rest):
        total = 1_966_080 if ledger == "bytes" else 40_960
        spent = {"codes": total, "labels": 0, "side": 0, "decoder": 4_915_200, "file": total + 1234}
        spent |= {"total": total, "total_with_decoder": total + 4_915_200}
        budget = {"ipc": 1, "codes_per_class": 192, "codes": 1920, "precision": precision, "bytes": spent}
        row = {
            "name": f"{codec}-{algo}-{precision}-{ledger}-{rest.get('match', 'code')}",
            "ledger": ledger,
            "codec": codec,
            "algo": algo,
            "match": "code",
            "precision": precision,
            "same_as": None,
            "added": False,
            "status": "done",
            "reason": None,
            "estimate_s": None,
            "folder": "cells/x",
            "budget": {**budget, "bytes_per_class": total // 10},
            "summary": {"convnet": stats(mean)},
            "scores": [],
            "skipped": [],
            "control": {"convnet": stats(0.6)},
            "gain": {"convnet": stats(gain, 0.02)} if gain is not None else {},
            "cost": {"distill_s": 734.2, "step_ms_median": 73.42, "distill_peak_rss_mb": 1843.2},
        }
        return {**row, **rest}

    rows = [
        cell(codec, algo, precision, ledger, mean, gain, **rest)
        for codec in ("identity", "taesd")
        for precision in ("fp32", "int8")
        for algo, mean, gain, rest in (
            ("random", 0.521, None, {}),
            ("dm", 0.648, 0.022, {}),
            ("dm", 0.651, 0.122, {"match": "pixel"}),
            ("mtt", 0.5, -0.031, {}),
        )
        for ledger in ("bytes", "count")
    ]
    rows[-1] |= {"status": "not run", "reason": "estimated 3.4 h", "estimate_s": 12240.0, "folder": None}
    rows[-1] = {key: value for key, value in rows[-1].items() if key not in ("summary", "budget", "gain", "cost")}
    return {
        "schema": "dd-bench/compare.v1",
        "created": "2026-11-23T07:40:11+00:00",
        "command": "dd-bench compare",
        "ipc": 1,
        "ledgers": ["bytes", "count"],
        "evaluators": ["convnet"],
        "memory_per_cell": True,
        "dataset": {
            **FIXTURE["dataset"],
            "name": "imagenette",
            "image_shape": [3, 128, 128],
            "classes": list("abcdefghij"),
            "test_size": 3925,
        },
        "protocol": {**FIXTURE["protocol"], "name": "fast.v1", "seeds": 3},
        "scored_on": "test",
        "environment": FIXTURE["environment"],
        "cells": rows,
        **more,
    }


def test_the_table_fits_120_columns_and_shows_both_ledgers(tmp_path):
    text = Comparison.from_json(shown()).table()
    lines = text.splitlines()
    assert max(map(len, lines)) <= 120
    assert "EQUAL BYTES: 196,608 bytes per class" in lines[1]
    assert "EQUAL COUNT: 1 image per class" in lines[1]
    (line,) = [one for one in lines if re.match(r"taesd +dm \(pixel\) +int8 +192 ", one)]
    assert line.split(maxsplit=4)[4] == (
        "192  65.1 ± 0.5  +12.2 [+10.2, +14.2]   4,096  65.1 ± 0.5  +12.2 [+10.2, +14.2]"
    )
    assert any(one.endswith("not run: estimated 3.4 h") for one in lines)
    assert re.search(r"taesd +mtt [(]code[)] +int8 +1.97 MB +4.92 MB +1.97 MB +12.2 min +1,843", text)
    assert "Gain: points above random codes of the same codec" in text


def test_one_ledger_and_one_space_alone(tmp_path):
    data = shown(ledgers=["count"])
    data["cells"] = [row for row in data["cells"] if row["ledger"] == "count" and row["match"] == "code"]
    text = Comparison.from_json(data).table()
    assert "EQUAL BYTES" not in text
    assert "dm (code)" not in text
    assert "Equal bytes" not in text


def test_nothing_scored_is_told(tmp_path):
    data = shown(dataset=None, protocol=None, scored_on=None)
    bare = ("summary", "budget", "gain", "cost", "control", "scores", "skipped")
    data["cells"] = [
        {**{k: v for k, v in row.items() if k not in bare}, "status": "failed", "reason": "no <luck>", "folder": None}
        for row in data["cells"]
    ]
    text = Comparison.from_json(data).table()
    assert text.startswith("nothing has been scored")
    assert "[1] no <luck>" in text
    from latentdd_plugin.results.comparison.page import write_page
    from latentdd_plugin.results.comparison.plot import draw

    write_page(tmp_path / "report.html", Comparison.from_json(data))
    draw(tmp_path / "pareto.png", Comparison.from_json(data))
    assert not (tmp_path / "pareto.png").exists()
    assert "no &lt;luck&gt;" in (tmp_path / "report.html").read_text()


def test_an_evaluator_that_could_not_take_the_job(tmp_path):
    data = shown(evaluators=["convnet", "vgg11"])
    for row in data["cells"]:
        row["skipped"] = [{"evaluator": "vgg11", "reason": "too small"}]
    text = Comparison.from_json(data).table()
    assert "unsuitable [1]" in text
    assert "[1] vgg11: too small" in text


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.addresses, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for key, value in attrs if key in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def page_of(folder, data):
    from latentdd_plugin.results.comparison.page import write_page

    write_page(folder / "report.html", Comparison.from_json(data))
    raw = (folder / "report.html").read_text()
    page = Page()
    page.feed(raw)
    page.text = " ".join(page.text.split())
    return raw, page


def test_the_page_tells_everything_and_needs_nothing_else(tmp_path):
    raw, page = page_of(tmp_path, shown())
    for said in (
        "imagenette · 1 image per class",
        "At equal bytes (196,608 bytes per class) identity + dm leads: convnet reaches 65.1% ± 0.5 with 192 codes",
        "12.2 points above the same number of random codes",
        "31 of 32 cells scored",
        "+12.2[+10.2, +14.2]",
        "not run: estimated 3.4 h",
        "1,966,080",
        "1,967,314",  # of the file
        "1,843",
        "Every line may store the same number of bytes",
    ):
        assert said in page.text, said
    assert raw.count("gain up") > 0
    assert raw.count("gain down") > 0
    linked = {"cells/x/report.html", "cells/x/distilled.safetensors"}
    assert linked < set(page.addresses), "a cell's own page, and the file to take"
    pictures = [address for address in page.addresses if address not in linked]
    assert all(address.startswith("data:image/png;base64,") for address in pictures)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "http:" not in raw and "https:" not in raw and "url(" not in raw
    assert "color-scheme: light dark" in raw


def test_sets_of_one_size_stand_side_by_side_and_one_panel_does_without_decoders(tmp_path):
    data = shown()
    assert panels(Comparison.from_json(data), "convnet") == ["total", "total_with_decoder"]
    for row in data["cells"]:
        if row["status"] == "done":
            row["budget"] = {
                **row["budget"],
                "bytes": {"codes": 100, "labels": 0, "side": 0, "decoder": 0, "file": 0}
                | {"total": 100, "total_with_decoder": 100},
            }
    assert panels(Comparison.from_json(data), "convnet") == ["total"]
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plot, "_on_bytes", lambda *_: drawn.append("bytes"))
        draw(tmp_path / "pareto.png", Comparison.from_json(data))
    assert drawn == []
    assert (tmp_path / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_random_codes_that_lead_are_named_with_the_best_method_beside_them(tmp_path):
    data = shown()
    for row in data["cells"]:
        if row["name"] == "taesd-random-int8-bytes-code":
            row["summary"] = {"convnet": stats(0.7)}
    _, page = page_of(tmp_path, data)
    assert "taesd + random leads: convnet reaches 70.0% ± 0.5 with 192 codes per class at int8" in page.text
    assert "These are random codes; of the methods, identity + dm reaches 65.1% ± 0.5" in page.text
    assert (
        "12.2 points above the same number of random codes, 95% interval [+10.2, +14.2], so the method adds"
        in page.text
    )
    for row in data["cells"]:
        if row["status"] == "done":
            row["summary"] = {"convnet": {"mean": 0.6, "std": 0.01, "n": 2, "ci95": None}}
            row["gain"] = {"convnet": {"mean": 0.02, "std": 0.01, "n": 2, "ci95": None}} if row["gain"] else {}
        if row["name"] == "taesd-dm-int8-bytes-code":
            row["summary"]["convnet"]["mean"] = 0.65
    assert "; it takes three seeds to tell that from chance." in page_of(tmp_path, data)[1].text


def test_a_class_without_enough_images_shows_in_the_numbers(tmp_path):
    short = "320 codes instead of 1920: a class has no more images"
    data = shown()
    for row in data["cells"]:
        if row["name"] == "taesd-random-int8-bytes-code":
            row["budget"] |= {"codes": 320, "shortfall": short}
    comparison = Comparison.from_json(data)
    text = comparison.table()
    assert re.search(r"taesd +random +int8 +32 \[1\] +52.1", text)
    assert f"[1] {short}" in text
    assert "over fewer random codes where a note says" in " ".join(text.split())
    assert [row["codes_per_class"] for row in comparison.rows() if row["ledger"] == "bytes"].count(32) == 1
    _, page = page_of(tmp_path, data)
    assert "32 codes [1], 196,608 bytes per class" in page.text
    assert short in page.text


def test_label_regimes_have_panels_and_fronts_of_their_own(tmp_path):
    data = shown()
    data["cells"] = [
        {**row, "labels": regime, "name": f"{row['name']}-{regime}"}
        for row in data["cells"]
        for regime in ("hard", "soft")
    ]
    comparison = Comparison.from_json(data)
    assert regimes(comparison, "convnet") == ["hard", "soft"]
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plot, "front", lambda found: seen.append({dot.labels for dot in found}) or front(found))
        draw(tmp_path / "pareto.png", comparison)
    assert seen == [{"hard"}, {"hard"}, {"soft"}, {"soft"}], "decoder not counted and counted, regime by regime"
    raw, _ = page_of(tmp_path, data)
    assert 'alt="Accuracy against bytes of the whole set, decoder counted, soft labels"' in raw


def test_labels_and_teacher_have_columns_of_their_own(tmp_path):
    teacher = {"arch": "convnet", "networks": 2, "params": 10, "bytes": 2_560_000, "sha256": "0" * 64,
               "trained_on": ["imagenette"], "accuracy": 0.81}  # fmt: skip
    data = shown()
    for row in data["cells"]:
        if row["status"] == "done":
            spent = row["budget"]["bytes"]
            total = spent["codes"] + 19_200
            spent |= {"labels": 19_200, "teacher": 2_560_000, "total": total}
            spent |= {"total_with_decoder": total + 4_915_200}
            row["parts"] = {"codec": FIXTURE["codec"], "distiller": FIXTURE["distiller"], "teacher": teacher}
    text = Comparison.from_json(data).table()
    assert re.search(r"bytes +of labels +decoder +teacher +in all +file +time", text)
    assert re.search(r"1.99 MB +19.2 kB +4.92 MB +2.56 MB +9.46 MB +1.97 MB", text)
    assert "Teacher: 2 networks of convnet, 2.56 MB, 81.0% on test images." in text


def test_names_cannot_become_markup(tmp_path):
    data = shown(command="<script>alert(1)</script>")
    for row in data["cells"]:
        row["codec"] = row["codec"].replace("taesd", "<script>x</script>")
    raw, page = page_of(tmp_path, data)
    assert "script" not in page.tags
    assert "<script" not in raw


def test_the_front_is_what_nothing_beats():
    def dot(size, accuracy):
        return Dot("c", "m", size, accuracy, None, "fp32", None)

    best = [dot(10, 0.3), dot(20, 0.5), dot(90, 0.6)]
    assert front([dot(10, 0.2), *best, dot(20, 0.4), dot(50, 0.5), dot(90, 0.1)]) == best
