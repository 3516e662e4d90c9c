"""Runs from Python, on the real digits: what they leave, continue, refuse, and when they read test images."""

import hashlib
import json
import logging
from dataclasses import replace

import pytest
import tiny
import torch

from latentdd_plugin import RunConfig, load_artifact, run, run_precisions
from latentdd_plugin.artifacts.file import save_artifact
from latentdd_plugin.core.config import DatasetConfig
from latentdd_plugin.core.errors import RunFailed, UsageError
from latentdd_plugin.core.types import Score, SyntheticSet
from latentdd_plugin.data.load import load_dataset
from latentdd_plugin.distillers.random import Random
from latentdd_plugin.experiments import stages
from latentdd_plugin.experiments.build import resolve_run
from latentdd_plugin.experiments.run_folder import RunFolder
from latentdd_plugin.experiments.stage_records import Job
from latentdd_plugin.leaderboard.consistency import inconsistencies
from latentdd_plugin.results.record import Record, thinned
from latentdd_plugin.results.statistics import gains

pytestmark = pytest.mark.usefixtures("tiny_protocol")


@pytest.fixture(autouse=True)
def own_controls(tmp_path, monkeypatch):
    """Controls are kept in the cache; each test makes its own."""
    monkeypatch.setenv("DD_BENCH_CACHE", str(tmp_path / "cache"))


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_run_leaves_its_files_and_a_whole_record(tmp_path):
    config = tiny.config(evaluators=("convnet_d1", "convnet_d6"), controls=True, ipc=1, precision="int8")
    record = run(config, out=tmp_path / "run", command="as typed")
    assert record.folder == tmp_path / "run"
    assert files(record.folder) == [
        ".lock",
        "checksums.json",
        "config.yaml",
        "distilled.safetensors",
        "grid.png",
        "log.txt",
        "report.html",
        "result.json",
    ]
    found = json.loads((record.folder / "result.json").read_text())
    assert found == record.to_json()
    assert found["schema"] == "dd-bench/result.v1"
    assert found["command"] == "as typed"
    assert {"name", "fingerprint", "revision", "classes", "image_shape", "train_size", "test_size"} <= set(
        found["dataset"]
    )
    assert (found["dataset"]["train_size"], found["dataset"]["test_size"]) == (1438, 359)
    assert {"name", "config", "fingerprint", "code_shape", "spatial", "decoder_bytes", "trained_on"} <= set(
        found["codec"]
    )
    assert found["distiller"]["name"] == "dm"
    assert found["distiller"]["match"] == "code"
    assert found["distiller"]["config"]["iterations"] == 4
    budget = found["budget"]
    assert (budget["ipc"], budget["bytes_per_class"], budget["codes_per_class"]) == (1, 256, 16)
    assert budget["precision"] == "int8"
    assert budget["shortfall"] is None
    size = (record.folder / "distilled.safetensors").stat().st_size
    ledger = {"codes": 2560, "labels": 0, "side": 8 + 8 + 8 * 160, "decoder": 0, "file": size}
    assert budget["bytes"] == {**ledger, "total": 2560, "total_with_decoder": 2560}
    assert found["protocol"]["name"] == "tiny.test"
    assert found["protocol"]["steps"] == [[32, 3]]
    assert found["protocol"]["sha256"] == tiny.PROTOCOL.sha256
    assert [(s["evaluator"], s["arch"], s["seed"]) for s in found["scores"]] == [
        ("convnet_d1", "convnet_d1", 0),
        ("convnet_d1", "convnet_d1", 1),
    ]
    assert all(0 <= s["accuracy"] <= 1 for s in found["scores"])
    (skipped,) = found["skipped"]
    assert skipped["evaluator"] == "convnet_d6"
    assert skipped["reason"].startswith("convnet_d6 cannot take 8x8 px")
    assert found["summary"]["convnet_d1"]["n"] == 2
    assert list(found["summary"]) == ["convnet_d1"]
    assert list(found["controls"]) == ["random-codes", "random-pixels", "random-pixels-fp32"]
    assert found["selection"] == "last-iterate"
    assert found["scored_on"] == "test"
    stages = {"load_s", "fit_s", "encode_s", "distill_s", "evaluate_s", "controls_s"}
    assert stages | {"step_ms_median", "peak_rss_mb", "peak_device_mb"} <= set(found["cost"])
    sha256 = hashlib.sha256((record.folder / "distilled.safetensors").read_bytes()).hexdigest()
    assert found["artifact"] == {"path": "distilled.safetensors", "sha256": sha256, "bytes": size}
    assert {"python", "platform", "cpu", "gpu", "packages", "git", "numerics"} <= set(found["environment"])
    assert found["seeds"] == {"run": 0, "evaluation": [0, 1]}
    assert RunConfig.from_json(found["config"]) == replace(config, algo=found["config"]["algo"])
    assert "skipped: convnet_d6" in record.table()
    assert load_artifact(record.folder / "distilled.safetensors").packed.shape == (160, 1, 4, 4)


def test_controls_have_the_same_bytes_and_precision(tmp_path):
    record = run(tiny.config(controls=True, ipc=1, precision="int8"), out=tmp_path / "run")
    ours, beside = record.to_json()["budget"], record.to_json()["controls"]
    for name, precision, codes in (
        ("random-codes", "int8", 16),
        ("random-pixels", "int8", 4),
        ("random-pixels-fp32", "fp32", 1),
    ):
        theirs = beside[name]["budget"]
        assert theirs["precision"] == precision
        assert theirs["codes_per_class"] == codes
        assert theirs["bytes"]["total"] == ours["bytes"]["total"]
        assert len(beside[name]["scores"]) == 2
        scores = [[Score(**s) for s in part["scores"]] for part in (record.to_json(), beside[name])]
        assert beside[name]["gain"] == {key: one.to_json() for key, one in gains(*scores).items()}
    start = load_artifact(tmp_path / "run" / "distilled.safetensors")
    assert beside["random-codes"]["artifact"]["sha256"] != record.to_json()["artifact"]["sha256"]
    drawn = run(tiny.config(algo={"name": "random"}, ipc=1, precision="int8"), out=tmp_path / "random")
    assert drawn.to_json()["artifact"]["sha256"] == beside["random-codes"]["artifact"]["sha256"]
    assert torch.equal(load_artifact(tmp_path / "random" / "distilled.safetensors").labels, start.labels)


def test_controls_are_made_once(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        first = run(tiny.config(controls=True), out=tmp_path / "a")
        made = [m for m in caplog.messages if m.startswith("baseline ")]
        caplog.clear()
        again = run(tiny.config(controls=True, algo={**tiny.DM, "iterations": 3}), out=tmp_path / "b")
        assert made == ["baseline random-codes", "baseline random-pixels"]
        assert [m for m in caplog.messages if m.startswith("baseline ")] == []
    cached = [folder for folder in (tmp_path / "cache" / "controls").iterdir() if (folder / "result.json").exists()]
    assert len(cached) == 2
    assert not [path for folder in cached for path in folder.glob("*") if path.suffix in (".png", ".html")]
    assert {k: v["scores"] for k, v in first.to_json()["controls"].items()} == {
        k: v["scores"] for k, v in again.to_json()["controls"].items()
    }


def test_a_control_that_does_not_fit_says_so(tmp_path):
    record = run(tiny.config(controls=True, lpc=1), out=tmp_path / "run")
    assert record.to_json()["controls"]["random-pixels"] == {"skipped": "64 bytes per class do not hold one fp32 image"}
    assert "random-pixels" in record.table()


def test_random_needs_no_control_of_itself(tmp_path):
    codes = run(tiny.config(algo={"name": "random"}, controls=True), out=tmp_path / "a")
    assert list(codes.to_json()["controls"]) == ["random-pixels"]
    pixels = run(tiny.config(algo={"name": "random"}, codec="identity", controls=True), out=tmp_path / "b")
    assert pixels.to_json()["controls"] == {}


@pytest.mark.parametrize("codec", ["dct", "pca", "identity"])
@pytest.mark.parametrize("match", ["code", "pixel"])
def test_every_codec_can_be_run(tmp_path, codec, match):
    record = run(tiny.config(codec=codec, match=match, lpc=2), out=tmp_path / "run")
    stored = load_artifact(tmp_path / "run" / "distilled.safetensors")
    assert stored.decode().shape == (20, 1, 8, 8)
    assert record.codec.fitted == (codec == "pca") == bool(stored.codec_state)
    spent = record.budget.bytes
    assert spent.total_with_decoder == spent.total + spent.decoder
    assert (spent.decoder > 0) == (codec == "pca")


def test_an_enlarged_identity_is_a_codec_like_any_other(tmp_path):
    for match in ("code", "pixel"):
        record = run(tiny.config(codec={"name": "identity", "upsample": 2}, match=match, lpc=1), out=tmp_path / match)
        assert record.to_json()["codec"]["code_shape"] == [1, 16, 16]


def test_equal_configurations_give_equal_artifacts(tmp_path):
    hashes = [
        run(tiny.config(seed=s), out=tmp_path / n).to_json()["artifact"]["sha256"]
        for n, s in zip("abc", (0, 0, 1), strict=True)
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_finished_run_is_returned_as_it_is(tmp_path, monkeypatch):
    first = run(tiny.config(), out=tmp_path / "run")
    before = {path: path.read_bytes() for path in first.folder.iterdir()}
    monkeypatch.setattr(stages, "load_dataset", lambda *_, **__: pytest.fail("nothing needs to be loaded"))
    again = run(tiny.config(), out=tmp_path / "run")
    assert again.to_json() == first.to_json()
    assert {path: path.read_bytes() for path in first.folder.iterdir()} == before


def test_a_folder_of_another_configuration_is_refused_with_the_keys(tmp_path):
    run(tiny.config(), out=tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(UsageError) as raised:
        run(tiny.config(seed=3, ipc=2, codec={"name": "dct", "size": 3}), out=tmp_path / "run")
    assert str(raised.value).splitlines() == [
        f"{tmp_path / 'run'} belongs to another configuration; choose another --out. It differs in:",
        "  codec.size: null there, 3 asked for",
        "  ipc: 1 there, 2 asked for",
        "  seed: 0 there, 3 asked for",
    ]
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_several_precisions_come_from_one_distillation(tmp_path, monkeypatch):
    calls = []
    distil = stages.checked_synthetic
    monkeypatch.setattr(stages, "checked_synthetic", lambda *a: calls.append(1) or distil(*a))
    records = run_precisions(tiny.config(lpc=2), ["fp32", "int8", "int2"], out=tmp_path / "run")
    assert len(calls) == 1
    assert [r.folder for r in records] == [tmp_path / "run" / p for p in ("fp32", "int8", "int2")]
    assert [r.to_json()["budget"]["bytes"]["codes"] for r in records] == [1280, 320, 80]
    fp32, int8, _ = (load_artifact(r.folder / "distilled.safetensors").codes for r in records)
    assert float((fp32 - int8).abs().max()) <= float(fp32.max() - fp32.min()) / 255 / 2 * 1.01
    with pytest.raises(UsageError, match="give lpc, not ipc"):
        run_precisions(tiny.config(ipc=1), ["fp32", "int8"], out=tmp_path / "other")


def test_an_interrupted_precision_goes_on_from_the_one_distillation(tmp_path, monkeypatch):
    calls, distil, save = [], stages.checked_synthetic, save_artifact
    monkeypatch.setattr(stages, "checked_synthetic", lambda *a: calls.append(1) or distil(*a))

    def full_disk(stored, path):
        if path.parent.name == "int4" and len(calls) == 1 and not (tmp_path / "full").exists():
            (tmp_path / "full").touch()
            raise RunFailed("cannot write: No space left on device")
        return save(stored, path)

    monkeypatch.setattr(stages, "save_artifact", full_disk)
    with pytest.raises(RunFailed, match="No space left"):
        run_precisions(tiny.config(lpc=2), ["fp32", "int4"], out=tmp_path / "run")
    assert (tmp_path / "run" / "fp32" / "result.json").exists(), "what was finished is kept"
    records = run_precisions(tiny.config(lpc=2), ["fp32", "int4"], out=tmp_path / "run")
    assert len(calls) == 1
    assert [r.to_json()["budget"]["precision"] for r in records] == ["fp32", "int4"]
    assert records[1].cost.distill_s >= records[0].cost.distill_s > 0, "both cost the one distillation"
    assert not list((tmp_path / "run").glob("*/checkpoint"))


def test_a_control_made_by_another_process_meanwhile_is_taken_as_it_is(tmp_path, monkeypatch):
    """Two jobs of a sweep want the same control: one waits for the other's lock, then finds it done."""
    run(tiny.config(controls=True), out=tmp_path / "a")
    looked = []
    finished = RunFolder.finished

    def not_yet(self, config, **options):
        looked.append(self.path)
        first = "controls" in self.path.parts and looked.count(self.path) == 1
        return None if first else finished(self, config, **options)

    monkeypatch.setattr(RunFolder, "finished", not_yet)
    monkeypatch.setattr(Random, "distill", lambda *_: pytest.fail("it was made already"))
    record = run(tiny.config(controls=True, algo={**tiny.DM, "iterations": 3}), out=tmp_path / "b")
    assert list(record.to_json()["controls"]) == ["random-codes", "random-pixels"]


def test_validation_images_take_the_place_of_the_test(tmp_path):
    config = tiny.config(dataset=DatasetConfig("digits", validation=0.25), split="validation")
    record = run(config, out=tmp_path / "run")
    assert record.to_json()["scored_on"] == "validation"
    assert record.to_json()["dataset"]["train_size"] + record.to_json()["dataset"]["test_size"] == 1438
    assert record.to_json()["dataset"]["test_size"] == pytest.approx(0.25 * 1438, abs=10)
    with pytest.raises(UsageError, match=r"split=validation: set dataset\.validation to the fraction"):
        run(tiny.config(split="validation"), out=tmp_path / "other")


def test_no_test_image_is_read_before_the_artifact_is_final(tmp_path, monkeypatch):
    read = []
    load = load_dataset

    def watched(*args, **options):
        found = load(*args, **options)

        def held_out(split):
            read.append((split, load_artifact(tmp_path / "run" / "distilled.safetensors").header.content_sha256))
            return found.held_out(split)

        return replace(found, held_out=held_out)

    monkeypatch.setattr(stages, "load_dataset", watched)
    run(tiny.config(), out=tmp_path / "run")
    final = load_artifact(tmp_path / "run" / "distilled.safetensors").header.content_sha256
    assert read == [("test", final)], "once, and the artifact stayed as it was"


def test_a_class_with_too_few_images_is_told(tmp_path):
    config = tiny.config(dataset=DatasetConfig("digits", per_class=3), algo={"name": "random"}, lpc=5)
    record = run(config, out=tmp_path / "run")
    budget = record.to_json()["budget"]
    assert (budget["codes"], budget["codes_per_class"]) == (30, 5)
    assert budget["shortfall"] == "30 codes instead of 50: a class has no more images"
    assert "shortfall: 30 codes instead of 50" in record.table()
    (line,) = [line for line in record.table().splitlines() if line.startswith("dct + random")]
    assert line.split()[-2] == "3", "what the file holds"
    assert {row["codes_per_class"] for row in record.rows()} == {3}
    assert "3 codes per class, fp32" in (tmp_path / "run" / "report.html").read_text()


def test_entropy_coded_sets_hold_as_many_codes_as_a_class_has_images(tmp_path):
    few = tiny.config(dataset=DatasetConfig("digits", per_class=12), precision="coded")
    algos = {"random": {"name": "random"}, "dm": tiny.DM}
    made = {name: run(few.replace(algo=algo), out=tmp_path / name) for name, algo in algos.items()}
    assert {name: (one.budget.codes_per_class, one.budget.codes) for name, one in made.items()} == {
        "random": (12, 120),
        "dm": (12, 120),
    }, "28 by the rule of sqrt(3 bytes)"
    assert made["random"].budget.shortfall is None
    asked = run(few.replace(algo={"name": "random"}, lpc=28), out=tmp_path / "asked")
    assert (asked.budget.codes_per_class, asked.budget.codes) == (28, 120)
    assert inconsistencies(made["random"]) == inconsistencies(asked) == []


def test_a_method_that_returns_nonsense_leaves_no_artifact(tmp_path, monkeypatch):
    monkeypatch.setattr(
        Random, "distill", lambda *_: SyntheticSet(torch.full((20, 1, 4, 4), torch.nan), torch.arange(20) // 2)
    )
    with pytest.raises(RunFailed, match="the method returned codes or labels that are not finite"):
        run(tiny.config(algo={"name": "random"}, lpc=2), out=tmp_path / "run")
    assert "distilled.safetensors" not in files(tmp_path / "run")
    assert "result.json" not in files(tmp_path / "run")


def test_two_runs_never_share_a_folder(tmp_path):
    from latentdd_plugin.core.storage import locked

    with locked(tmp_path / "run"), pytest.raises(RunFailed, match="run is in use by another process"):
        run(tiny.config(), out=tmp_path / "run")


def test_all_faults_are_told_at_once_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "load_dataset", lambda *_, **__: pytest.fail("no work with a faulty configuration"))
    with pytest.raises(UsageError) as raised:
        run(
            tiny.config(codec="dtc", algo="dmm", precision="int3", protocol="fast", evaluators=("resnet",), ipc=0),
            out=tmp_path / "r",
        )
    text = str(raised.value)
    assert len(raised.value.faults) == 6
    for part in ("ipc=0", "precision=int3", "'dtc' (did you mean dct", "'dmm' (did you mean dm", "'fast'", "'resnet'"):
        assert part in text
    assert not (tmp_path / "r").exists()


def test_the_default_folder_names_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = run(tiny.config(algo={"name": "random"}))
    assert record.folder.parent.name == "runs"
    assert record.folder.name == f"digits-dct-random-{RunConfig.from_json(record.to_json()['config']).hash8}"


def test_the_record_keeps_the_learning_curve_and_the_grid_shows_the_start(tmp_path):
    config = tiny.config(codec="dct")
    record = run(config, out=tmp_path / "run")
    steps = [step for step, _ in record.losses]
    assert steps == sorted(steps)
    assert len(steps) >= 2
    assert record.losses == Record.load(tmp_path / "run").losses
    assert "Learning curve" in (tmp_path / "run" / "report.html").read_text()

    job = Job(*resolve_run(config))
    encoded = stages.encode(job, stages.load(job))
    rows = torch.tensor([0, 5, 9])
    drawn = load_artifact(run(config.replace(algo="random"), out=tmp_path / "random").folder / "distilled.safetensors")
    torch.testing.assert_close(stages.start_images(job, encoded, rows), drawn.decode()[rows])
    random = Job(*resolve_run(config.replace(algo="random")))
    assert stages.start_images(random, encoded, rows) is None


def test_a_long_curve_is_thinned_and_keeps_its_ends():
    losses = [(step, 1.0 / (step + 1)) for step in range(5000)] + [(5000, float("nan"))]
    found = thinned(losses)
    assert len(found) == 200
    assert found[0] == (0, 1.0)
    assert found[-1][0] == 4999
    assert thinned([(0, float("inf"))]) is None
