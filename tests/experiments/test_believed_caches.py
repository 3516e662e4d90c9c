"""Damaged and edited checkpoints, cached baselines and finished folders are never believed."""

import json
import random
import shutil
import signal

import children
import pytest
import tiny

from latentdd_plugin import run
from latentdd_plugin.core import checkpoint
from latentdd_plugin.core.errors import DDBenchError, UsageError
from latentdd_plugin.experiments import run as running
from latentdd_plugin.experiments.run_folder import DiskCheckpoint, RunFolder
from latentdd_plugin.results.record import Record

EXTRA = {"controls": True}
GARBAGE = {"nothing": b"", "noise": b"\xff\x00garbage" * 20, "list": b"[]", "null": b"null", "number": b"5"}


@pytest.fixture
def cache(tmp_path, monkeypatch, tiny_protocol):
    monkeypatch.setenv("DD_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def whole(cache, tmp_path):
    """A run with baselines, whose cache the tests spoil."""
    return run(tiny.config(**EXTRA), out=tmp_path / "whole")


def facts(record):
    """Return a record's content without times."""
    kept = {key: record.to_json()[key] for key in ("scores", "summary", "artifact", "budget")}
    controls = {
        name: {key: entry[key] for key in ("scores", "artifact", "gain")}
        for name, entry in record.to_json()["controls"].items()
    }
    return json.loads(json.dumps({**kept, "controls": controls}))


def edit(path):
    tree = json.loads(path.read_text())
    for row in tree["scores"]:
        row["accuracy"] = 1.0
    path.write_text(json.dumps(tree))


SPOILED = {
    "record cut": lambda f: (f / "result.json").write_bytes((f / "result.json").read_bytes()[:100]),
    "record edited": lambda f: edit(f / "result.json"),
    "record empty": lambda f: (f / "result.json").write_bytes(b""),
    "artifact cut": lambda f: (f / "distilled.safetensors").write_bytes(b"x"),
    "artifact gone": lambda f: (f / "distilled.safetensors").unlink(),
    "configuration garbage": lambda f: (f / "config.yaml").write_bytes(b"\xff: [a"),
    "configuration a list": lambda f: (f / "config.yaml").write_text("[1, 2]"),
    "checksums gone": lambda f: ((f / "checksums.json").unlink(), edit(f / "result.json")),
    "checksums garbage": lambda f: (f / "checksums.json").write_text("{}"),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_spoiled_baseline_is_made_anew(whole, cache, tmp_path, caplog, spoil):
    baselines = sorted((cache / "controls").iterdir())
    assert len(baselines) == 2
    for folder in baselines:
        spoil(folder)
    again = run(tiny.config(**EXTRA, algo={**tiny.DM, "iterations": 4}), out=tmp_path / "again")
    assert facts(again) == facts(whole)
    assert caplog.text.count("made anew") >= 2
    assert str(tmp_path) not in json.dumps(again.to_json()["controls"])
    caplog.clear()
    assert facts(run(tiny.config(**EXTRA), out=tmp_path / "third")) == facts(whole)
    assert "made anew" not in caplog.text, "what was made anew is sound"


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_spoiled_finished_run_is_refused(cache, tmp_path, tiny_protocol, spoil):
    done = run(tiny.config(), out=tmp_path / "run")
    spoil(done.folder)
    if not (done.folder / "checksums.json").exists():
        return  # as a run of an earlier version: its record is the user's own
    with pytest.raises(UsageError, match="choose another --out"):
        run(tiny.config(), out=tmp_path / "run")


def interrupted(folder, sabotage):
    """A run that was killed, with its checkpoint."""
    assert children.ended(children.start(children.command, WORDS, folder, sabotage)) == -signal.SIGKILL
    return folder / "run" / "checkpoint"


WORDS = (
    "run --codec dct --algo dm --evaluator convnet_d1 --protocol tiny.test --controls none --device cpu "
    "algo.iterations=8 algo.batch_real=8 threads=1 amp=off compile=off --out run"
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert children.ended(children.start(children.command, WORDS, folder)) == 0
    return Record.load(folder / "run").to_json()


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Folders of runs killed in the distillation and in the evaluation."""
    places = {}
    for name in ("killed_in_distillation", "killed_in_evaluation"):
        places[name] = tmp_path_factory.mktemp(name)
        interrupted(places[name], getattr(children, name))
    return places


FILES = {
    "distill.safetensors": "killed_in_distillation",
    "synthetic.safetensors": "killed_in_evaluation",
    "scores.json": "killed_in_evaluation",
    "../config.yaml": "killed_in_evaluation",
}


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("file", FILES)
def test_garbage_in_a_checkpoint_is_made_anew(killed, undisturbed, tmp_path, file, garbage):
    shutil.copytree(killed[FILES[file]], tmp_path, dirs_exist_ok=True)
    (tmp_path / "run" / "checkpoint" / file).write_bytes(GARBAGE[garbage])
    assert children.ended(children.start(children.command, WORDS, tmp_path)) == 0
    told = (tmp_path / "err").read_text()
    assert "Traceback" not in told
    assert "anew" in told
    found = Record.load(tmp_path / "run").to_json()
    assert (found["scores"], found["artifact"]) == (undisturbed["scores"], undisturbed["artifact"])


@pytest.mark.parametrize("file", ["synthetic.safetensors", "scores.json", "distill.safetensors"])
def test_a_checkpoint_of_another_run_is_not_taken(killed, undisturbed, tmp_path, file):
    other = tmp_path / "other"
    other.mkdir()
    sabotage = getattr(children, FILES[file])
    words = WORDS.replace("algo.batch_real=8", "algo.batch_real=16 seed=5")
    assert children.ended(children.start(children.command, words, other, sabotage)) == -signal.SIGKILL
    shutil.copytree(killed[FILES[file]], tmp_path, dirs_exist_ok=True)
    shutil.copy(other / "run" / "checkpoint" / file, tmp_path / "run" / "checkpoint" / file)
    assert children.ended(children.start(children.command, WORDS, tmp_path)) == 0
    assert "with another" in (tmp_path / "err").read_text()
    found = Record.load(tmp_path / "run").to_json()
    assert (found["scores"], found["artifact"]) == (undisturbed["scores"], undisturbed["artifact"])


def test_scores_that_were_edited_are_not_taken(killed, undisturbed, tmp_path):
    shutil.copytree(killed["killed_in_evaluation"], tmp_path, dirs_exist_ok=True)
    path = tmp_path / "run" / "checkpoint" / "scores.json"
    tree = json.loads(path.read_text())
    tree["content"][0]["accuracy"] = 1.0
    path.write_text(json.dumps(tree))
    assert children.ended(children.start(children.command, WORDS, tmp_path)) == 0
    assert Record.load(tmp_path / "run").to_json()["scores"] == undisturbed["scores"]


def test_a_checkpoint_of_an_older_version_starts_over(killed, undisturbed, tmp_path):
    shutil.copytree(killed["killed_in_distillation"], tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "run" / "checkpoint"
    for path in folder.iterdir():
        path.rename(path.with_suffix(".pt"))
    (folder / "scores.json").write_text('[{"evaluator": "convnet_d1", "accuracy": 1.0}]')
    assert children.ended(children.start(children.command, WORDS, tmp_path)) == 0
    assert "a checkpoint of an older version is not read; the run starts over" in (tmp_path / "err").read_text()
    assert Record.load(tmp_path / "run").to_json()["scores"] == undisturbed["scores"]


def test_another_data_set_under_the_same_name_starts_over(cache, tmp_path, monkeypatch, caplog):
    """The checkpoint belongs to the images, not to the name of the folder they lie in."""
    job = running.Job(*running.resolve_run(tiny.config()))
    encoded = running.encode(job, running.load(job))
    mine, other = encoded.owner(tiny.config()), {**encoded.owner(tiny.config()), "data": "0" * 64}
    folder = RunFolder(tmp_path / "run")
    checkpoint.write(folder.checkpoints / "distill.safetensors", {"step": 3}, other)
    assert DiskCheckpoint(folder, mine).load() is None
    assert "was made with another data; the run starts over" in caplog.text


@pytest.mark.parametrize("count", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_fuzzed_caches_give_the_same_result_or_the_packages_own_error(cache, tmp_path, tiny_protocol, count):
    draws, spoilt = random.Random(1), 0
    config = tiny.config(controls=True, algo={"name": "random"}, codec="identity")
    base = facts(run(config, out=tmp_path / "base"))
    finished = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]
    finished = [path for path in finished if path.suffix in (".json", ".yaml", ".safetensors")]
    for _ in range(count):
        path = draws.choice(finished)
        whole = path.read_bytes()
        data = bytearray(whole)
        for _ in range(draws.randrange(1, 6)):
            data[draws.randrange(len(data))] = draws.randrange(256)
        path.write_bytes(bytes(data[: draws.randrange(len(data) + 1)]) if draws.random() < 0.4 else bytes(data))
        try:
            assert facts(run(config, out=tmp_path / "base")) == base
        except DDBenchError as error:
            spoilt += 1
            assert str(error)
        path.write_bytes(whole)
    assert spoilt
