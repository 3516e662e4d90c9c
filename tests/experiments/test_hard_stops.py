"""Every command that writes: killed at random moments it goes on to the same bytes, on a full disk it says so once."""

import json
import os
import random
import signal
from pathlib import Path

import children
import numpy as np
import pytest
import suite as tiny_suite
from PIL import Image

PLAIN = "--quiet device=cpu amp=off compile=off threads=1"
SMALL = f"--protocol tiny.test --evaluator convnet_d1 {PLAIN}"
DM = "algo.iterations=6 algo.batch_real=8"
ME = "--name me --contact me@example.org --registry {place}/registry"
COMMANDS = {
    "run": f"run --codec dct --algo dm {DM} --controls none {SMALL} --out {{place}}/run",
    "baselines": f"run --codec dct --algo herding {SMALL} --out {{place}}/run",
    "mtt": (
        "run --codec dct --algo mtt algo.iterations=3 algo.experts=2 algo.expert_epochs=1 algo.max_start_epoch=1 "
        f"algo.syn_steps=2 --controls none {SMALL} --out {{place}}/run"
    ),
    "compare": (
        f"compare --codec identity,dct --algo random,dm algo.dm.iterations=4 algo.dm.batch_real=8 --ledger bytes "
        f"--in-process {SMALL} --out {{place}}/compare"
    ),
    "suite": f"suite run {{here}}/tiny.v1.yaml {PLAIN} --out {{place}}/suite",
    "codec": (
        "codec train --dataset digits --f 2 --steps 8 --batch 4 --width 8 --quiet --device cpu threads=1 "
        "--out {place}/codec"
    ),
    "import": "import imagefolder {here}/pictures --dataset digits --out {place}/import",
    "submit": f"submit {{here}}/made {ME} --suite {{here}}/tiny.v1.yaml",
    "leaderboard": "leaderboard --registry {here}/registry --out {place}/site",
}
DONE = "already"  # as submit and import say of what is there
TIMED = ("created", "seconds", "cost", "command", "submitted", "environment", "duration_s")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Inputs of the commands: a finished run, a registry with it, a suite, pictures of another project."""
    here = tmp_path_factory.mktemp("inputs")
    tiny_suite.written(
        here, protocol="demo.v1", evaluators=["convnet_d1"], codecs=["dct"], algos=["random"], precisions=["fp32"]
    )
    words = f"run --codec dct --algo random --protocol demo.v1 --evaluator convnet_d1 {PLAIN} --out {here}/made"
    assert children.ended(children.start(children.dd_bench_at, words, here, here)) == 0
    words = (
        f"submit {here}/made --name x --contact x@example.org --suite {here}/tiny.v1.yaml --registry {here}/registry"
    )
    assert children.ended(children.start(children.dd_bench_at, words, here, here)) == 0, (here / "err").read_text()
    draws = np.random.default_rng(0)
    for label in range(10):
        folder = here / "pictures" / str(label)
        folder.mkdir(parents=True)
        Image.fromarray(draws.integers(0, 255, (8, 8), dtype=np.uint8)).save(folder / "0.png")
    return here


def dd_bench(name, inputs, folder, place, killed_after=None):
    """(exit code, what it said on stderr)."""
    folder.mkdir(exist_ok=True)
    words = COMMANDS[name].format(place=place, here=inputs)
    code = children.ended(children.start(children.dd_bench_at, words, folder, place, killed_after), 280)
    return code, (folder / "err").read_text()


def plain(value):
    """A JSON value without what is different each time."""
    if isinstance(value, dict):
        return {key: plain(member) for key, member in value.items() if key not in TIMED}
    return [plain(member) for member in value] if isinstance(value, list) else value


def left(place):
    """Return what a command has left: bytes, and JSON without times; no log, lock, page with times, nor the cache."""
    found = {}
    for path in sorted(Path(place).rglob("*")):
        name = str(path.relative_to(place))
        if path.is_dir() or name.startswith("cache/") or path.name in (".lock", "log.txt", "checksums.json"):
            continue
        if path.suffix == ".json":
            found[name] = plain(json.loads(path.read_text().replace(str(place), "PLACE")))
        elif path.suffix in (".safetensors", ".png", ".yaml") or "site/" in name:
            found[name] = path.read_bytes() if path.name != "pareto.png" else True
    assert found
    return found


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    """Results of each command without a disturbance, and its seconds; made at the first request."""
    known = {}

    def undisturbed(name):
        if name not in known:
            folder = tmp_path_factory.mktemp(name)
            code, err = dd_bench(name, inputs, folder, folder / "place")
            assert code == 0, err
            known[name] = left(folder / "place"), float((folder / "seconds").read_text())
        return known[name]

    return undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(10))
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_a_random_moment_it_goes_on_to_the_same_bytes(inputs, whole, tmp_path, name, moment):
    expected, seconds = whole(name)
    draws, place = random.Random(f"{name} {moment}"), tmp_path / "place"
    for _ in range(2):  # the second attempt is killed as well
        code, err = dd_bench(name, inputs, tmp_path / "cut", place, max(0.01, draws.random() * seconds))
        assert code in (-signal.SIGKILL, 0) or DONE in err, err
    code, err = dd_bench(name, inputs, tmp_path / "again", place)
    assert code == 0 or DONE in err, err
    assert "Traceback" not in err
    assert left(place) == expected
    assert not list(place.rglob("*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("free_kb", [0, 4, 12, 40, 100, 300])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_one_message_and_loses_nothing(inputs, whole, tmp_path, disk, name, free_kb):
    expected, _ = whole(name)
    filler = disk / "filler"
    room = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    filler.write_bytes(bytes(room - 1024 * free_kb))
    code, err = dd_bench(name, inputs, tmp_path / "full", disk)
    assert "Traceback" not in err
    assert "Logging error" not in err
    if code:
        assert code == 1, err
        assert "No space left" in err
        last = [line for line in err.splitlines() if line.startswith("dd-bench:")]
        assert len(last) <= 1, err
    filler.unlink()
    code, err = dd_bench(name, inputs, tmp_path / "again", disk)
    assert code == 0 or DONE in err, err
    assert left(disk) == expected
