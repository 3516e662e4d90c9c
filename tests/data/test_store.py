"""Images that do not stay in memory give the same pixels, codes, statistics and identity as those that do."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from latentdd_plugin.cli.main import main
from latentdd_plugin.core import monitor
from latentdd_plugin.core.compute import resolve_numerics
from latentdd_plugin.core.config import ComputeConfig, DatasetConfig, RunConfig, TeacherConfig
from latentdd_plugin.core.errors import DataError, RunFailed, UsageError
from latentdd_plugin.core.types import hash_json
from latentdd_plugin.data import listing, shapes, sources
from latentdd_plugin.data import store as stores
from latentdd_plugin.data.load import load_dataset, with_fingerprint
from latentdd_plugin.data.store import MappedStore, RowStore, read_ahead, summary_of
from latentdd_plugin.evaluators import trial as trials
from latentdd_plugin.experiments.codec_training.config import TrainingConfig
from latentdd_plugin.experiments.codec_training.crops import Crops
from latentdd_plugin.experiments.run import run
from latentdd_plugin.experiments.teachers import obtain_teacher
from latentdd_plugin.latent import encode as encoding
from latentdd_plugin.latent.encode import code_set
from latentdd_plugin.latent.sized_codec import build_codec
from latentdd_plugin.latent.space import pixel_set

PER_CLASS, CLASSES, SIDE = 40, ("cat", "dog", "emu"), 8


@pytest.fixture(autouse=True)
def small_parts(monkeypatch, tmp_path):
    monkeypatch.setenv("DD_BENCH_CACHE", str(tmp_path / "cache"))
    for module in (stores, encoding):
        monkeypatch.setattr(module, "PART", 16)


@pytest.fixture
def folder(tmp_path):
    """Real digits in colour, as a folder of class folders."""
    from sklearn.datasets import load_digits

    found, draws = load_digits(), np.random.RandomState(0)
    for split, count in (("train", PER_CLASS), ("test", 10)):
        for label, name in enumerate(CLASSES):
            place = tmp_path / "set" / split / name
            place.mkdir(parents=True)
            rows = np.flatnonzero(found.target == label)
            for number, row in enumerate(draws.permutation(rows)[:count]):
                grey = (found.images[row] * 15).astype(np.uint8)
                Image.fromarray(np.stack([grey, grey // 2, 255 - grey], -1)).save(place / f"{number}.png")
    return tmp_path / "set"


def loaded(folder, store, *, identify=False, **options):
    """The set as a run loads it, or with a stream's fingerprint from the start."""
    return load_dataset(DatasetConfig(str(folder), store=store, **options), identify=identify)


def numerics():
    return resolve_numerics(ComputeConfig(device="cpu", amp="off", compile="off", threads=1))


def encoded(data, name="dct", **options):
    space, codes = code_set(data, build_codec({"name": name}, data.image_shape), numerics(), **options)
    return with_fingerprint(data), space, codes


@pytest.mark.parametrize("store", ["disk", "stream"])
@pytest.mark.parametrize("codec", ["dct", "pca", "tiny-vae", "identity"])
def test_every_store_gives_the_same_bits(folder, store, codec):
    memory, space, codes = encoded(loaded(folder, "memory"), codec)
    other, theirs, found = encoded(loaded(folder, store), codec)
    assert isinstance(other.train.pixels, MappedStore if store == "disk" else RowStore)
    assert other.fingerprint == memory.fingerprint
    assert torch.equal(found.all()[0], codes.all()[0])
    assert torch.equal(theirs.mean, space.mean)
    assert torch.equal(theirs.std, space.std)
    pixels, same = pixel_set(other, "cpu"), pixel_set(memory, "cpu")
    assert torch.equal(pixels.mean, same.mean)
    assert torch.equal(pixels.std, same.std)
    rows = torch.tensor([118, 3, 3, 17, 90])
    assert torch.equal(pixels.take(rows), same.take(rows))
    assert torch.equal(other.held_out("test").pixels[:], memory.held_out("test").pixels)


def test_mapped_codes_equal_those_in_memory(folder):
    memory = encoded(loaded(folder, "memory"))[2]
    mapped = encoded(loaded(folder, "stream"))[2]
    assert isinstance(memory.store, torch.Tensor)
    assert isinstance(mapped.store, MappedStore)
    assert torch.equal(mapped.all()[0], memory.all()[0])
    assert torch.equal(mapped.std, memory.std)
    halves = encoded(loaded(folder, "stream", codes="fp16"), precision="fp16")[2]
    assert halves.store.dtype == torch.float16
    assert torch.equal(halves.store[:].float(), mapped.store[:].half().float())
    assert halves.all()[0].dtype == torch.float32


def test_streamed_pixels_are_never_stored_and_read_once(folder, monkeypatch, tmp_path):
    seen = []
    decode = stores.decode_rows
    monkeypatch.setattr(stores, "decode_rows", lambda rows, *a: (seen.append(len(rows.rows)), decode(rows, *a))[1])
    data, _, _ = encoded(loaded(folder, "stream"))
    pixel_set(data, "cpu")
    total = PER_CLASS * len(CLASSES)
    assert sum(seen) == total + 8, "every image once, and eight of them for the round trip"
    assert not list((tmp_path / "cache").rglob("images/**/*.safetensors"))
    seen.clear()
    data, _, _ = encoded(loaded(folder, "stream"))
    assert data.fingerprint
    assert sum(seen) == 8, "codes, hash and histogram come from the first time"


def test_a_set_above_the_limit_is_hashed_by_parts(folder, monkeypatch):
    ordinary = loaded(folder, "disk").fingerprint
    summary = loaded(folder, "disk").train.pixels.folder / "summary.json"
    summary.unlink()
    monkeypatch.setattr(stores, "LARGE", 100)
    by_parts = loaded(folder, "disk").fingerprint
    assert by_parts != ordinary
    assert encoded(loaded(folder, "stream"))[0].fingerprint == by_parts


def test_a_killed_encoding_loses_one_part(folder, monkeypatch):
    made = []
    write = stores.checkpoint.write_tensors

    def failing(path, tensors, owner):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(path.name)
        write(path, tensors, owner)

    monkeypatch.setattr(stores.checkpoint, "write_tensors", failing)
    with pytest.raises(KeyboardInterrupt):
        encoded(loaded(folder, "stream"))
    monkeypatch.setattr(stores.checkpoint, "write_tensors", lambda *a: (made.append(a[0].name), write(*a)))
    codes = encoded(loaded(folder, "stream"))[2]
    assert made == [f"part-{number:05d}.safetensors" for number in range(8)], "no part is made twice"
    assert torch.equal(codes.all()[0], encoded(loaded(folder, "memory"))[2].all()[0])


def test_a_damaged_part_is_made_anew_or_named(folder):
    data = loaded(folder, "disk")
    path = data.train.pixels.folder / "part-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(RunFailed, match=r"part-00002.safetensors is damaged or gone; run the same command again"):
        loaded(folder, "disk").train.pixels[:]
    assert loaded(folder, "disk").train.pixels[:].shape == (120, 3, SIDE, SIDE)


def test_a_changed_image_is_another_set(folder):
    before = encoded(loaded(folder, "stream"))[0]
    Image.new("RGB", (SIDE, SIDE), "red").save(folder / "train" / "dog" / "7.png")
    after = encoded(loaded(folder, "stream"))[0]
    assert after.key != before.key
    assert after.fingerprint != before.fingerprint
    assert after.fingerprint == loaded(folder, "memory").fingerprint


def test_a_file_that_disappears_is_named(folder):
    data = loaded(folder, "stream")
    (folder / "train" / "dog" / "7.png").unlink()
    with pytest.raises(DataError, match=r"split train, .*dog/7.png: .*No such file"):
        encoded(data)


def test_a_disk_that_fills_up_loses_no_finished_part(folder, disk, monkeypatch):
    monkeypatch.setenv("DD_BENCH_CACHE", str(disk / "cache"))
    made, write = [], stores.checkpoint.write_tensors

    def filling(path, tensors, owner):
        if len(made) == 3:
            room = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            (disk / "filler").write_bytes(bytes(room))
        made.append(path.name)
        write(path, tensors, owner)

    monkeypatch.setattr(stores.checkpoint, "write_tensors", filling)
    with pytest.raises(RunFailed, match=r"cannot write .*part-00003.*: No space left .*what was finished is kept"):
        encoded(loaded(folder, "stream"))
    (disk / "filler").unlink()
    codes = encoded(loaded(folder, "stream"))[2]
    assert sorted(made) == sorted(
        [*(f"part-{number:05d}.safetensors" for number in range(8)), "part-00003.safetensors"]
    )
    assert torch.equal(codes.all()[0], encoded(loaded(folder, "memory"))[2].all()[0])


def test_pictures_that_disappear_during_the_run_lose_no_finished_part(folder, monkeypatch):
    made, write = [], stores.checkpoint.write_tensors
    monkeypatch.setattr(stores.checkpoint, "write_tensors", lambda *a: (made.append(a[0].name), write(*a)))
    data = loaded(folder, "stream")
    (folder / "train" / "emu").rename(folder.parent / "away")
    with pytest.raises(DataError, match=r"(?s)split train: 16 images cannot be read.*emu/.*: .*No such file"):
        encoded(data)
    (folder.parent / "away").rename(folder / "train" / "emu")
    before = len(made)
    assert before >= 3
    codes = encoded(loaded(folder, "stream"))[2]
    assert len(set(made)) == len(made) == 8, "no part is made twice"
    assert torch.equal(codes.all()[0], encoded(loaded(folder, "memory"))[2].all()[0])


def test_a_second_start_lists_and_measures_nothing_again(folder, monkeypatch, caplog):
    monkeypatch.setattr(listing, "MANY", 100)
    for name in ("cat", "dog", "emu"):
        for path in (folder / "train" / name).iterdir():
            Image.open(path).convert("L").save(path)
    first = encoded(loaded(folder, "stream"))
    with monkeypatch.context() as patched:
        for module, name in ((sources, "read_tree"), (shapes, "shape_of"), (encoding, "statistics")):
            patched.delattr(module, name)
        again = encoded(loaded(folder, "stream"))
    assert again[0].fingerprint == first[0].fingerprint
    assert again[0].source["files"] == first[0].source["files"]
    assert torch.equal(again[2].std, first[2].std)
    assert torch.equal(again[2].all()[0], first[2].all()[0])
    Image.new("L", (SIDE, SIDE)).save(folder / "train" / "dog" / "7.png")
    caplog.set_level("INFO", "latentdd_plugin")
    after = encoded(loaded(folder, "stream"))
    assert caplog.text.count("files have changed since the last start; they are read and encoded anew") == 1
    assert after[0].fingerprint != first[0].fingerprint


def test_auto_takes_memory_if_the_images_fit(folder, monkeypatch, caplog):
    assert isinstance(loaded(folder, "auto").train.pixels, torch.Tensor)
    monkeypatch.setattr(stores, "available_memory", lambda: 50_000)
    caplog.set_level("INFO", "latentdd_plugin")
    assert isinstance(loaded(folder, "auto").train.pixels, RowStore)
    assert "images are decoded whenever they are read (dataset.store=stream: 0.0 GB needed" in caplog.text
    again = load_dataset(DatasetConfig(str(folder)), again=True)
    assert isinstance(again.train.pixels, MappedStore), "pixels that are matched are decoded once"


def test_the_options_leave_published_hashes_alone():
    plain = DatasetConfig("digits").to_json()
    assert not {"store", "codes"} & plain.keys()
    assert DatasetConfig("digits", store="disk").to_json() == {**plain, "store": "disk"}
    assert hash_json(DatasetConfig("digits", store="auto", codes="fp32").to_json()) == hash_json(plain)
    assert DatasetConfig(store="ram").faults() == ["dataset.store=ram: choose one of auto, memory, disk, stream"]


@pytest.mark.parametrize("store", ["disk", "stream"])
def test_a_run_scores_the_same(folder, store, tmp_path):
    def record(kind):
        config = RunConfig(
            DatasetConfig(str(folder), store=kind),
            algo={"name": "dm", "preset": "quick", "iterations": 3, "batch_real": 8},
            evaluators=("convnet_d1",),
            protocol="demo.v1",
            controls=False,
            device="cpu",
            amp="off",
            compile="off",
            threads=1,
        )
        return run(config, out=tmp_path / kind)

    memory, other = record("memory"), record(store)
    assert other.artifact.sha256 == memory.artifact.sha256
    assert [score.accuracy for score in other.scores] == [score.accuracy for score in memory.scores]
    assert other.nearest == memory.nearest


def test_a_matched_set_of_pixels_does_not_stay_in_memory(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "available_memory", lambda: 0)
    config = RunConfig(
        DatasetConfig(str(folder)),
        algo={"name": "dm", "preset": "quick", "iterations": 2, "batch_real": 8},
        match="pixel",
        evaluators=("convnet_d1",),
        protocol="demo.v1",
        device="cpu",
        amp="off",
        compile="off",
        threads=1,
    )
    record = run(config, out=tmp_path / "run")
    assert set(record.scored_baselines) >= {"random-codes"}


def test_reading_ahead_stops_with_its_reader():
    read = []
    for number in read_ahead(lambda n: read.append(n) or n, range(1000)):
        if number == 3:
            break
    assert len(read) < 10


def test_available_memory_respects_limits(monkeypatch, tmp_path):
    free = monitor.available_memory()
    assert 2**20 < free < 2**50
    group = tmp_path / "memory" / "job"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text("3000000\n")
    (group / "memory.usage_in_bytes").write_text("2500000\n")
    (group / "memory.stat").write_text("total_inactive_file 1000000\n")
    monkeypatch.setattr(monitor, "CGROUPS", tmp_path)
    monkeypatch.setattr(monitor, "_cgroup_lines", lambda: ["4:memory:/job", "0::/"])
    assert monitor.available_memory() == 1_500_000


def test_grey_and_colour_make_colour(folder):
    Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(folder / "train" / "cat" / "0.png")
    memory = loaded(folder, "memory")
    assert loaded(folder, "disk").fingerprint == memory.fingerprint
    assert memory.image_shape == (3, SIDE, SIDE)


def test_images_of_several_sizes_are_named(folder):
    Image.new("RGB", (9, 9)).save(folder / "train" / "dog" / "7.png")
    with pytest.raises(UsageError, match=r"images of several sizes \(8x8 and, at .*dog/7.png, 9x9\)"):
        loaded(folder, "disk")


def test_summaries_are_kept(folder):
    data = loaded(folder, "disk")
    kept = json.loads((data.train.pixels.folder / "summary.json").read_text())
    assert kept["content"]["sha256"] == summary_of(data.train.pixels).sha256


def taught(folder, store, cache, monkeypatch):
    """The card of a teacher that is trained on a folder, with a cache of its own."""
    monkeypatch.setenv("DD_BENCH_CACHE", str(cache))
    teacher = obtain_teacher(TeacherConfig("convnet_d1"), loaded(folder, store, identify=True), numerics())
    return teacher.card


def test_a_teacher_learns_the_same_from_any_store_without_holding_the_images(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "as_tensor", lambda *_: pytest.fail("all images were brought into memory"))
    cards = {kind: taught(folder, kind, tmp_path / kind, monkeypatch) for kind in ("memory", "disk", "stream")}
    assert cards["memory"] == cards["disk"] == cards["stream"]
    assert cards["stream"].data == loaded(folder, "memory").fingerprint


def test_two_streams_do_not_share_a_teacher(folder, tmp_path, monkeypatch):
    first = taught(folder, "stream", tmp_path / "one", monkeypatch)
    for path in (folder / "train" / "cat").iterdir():
        Image.open(path).transpose(Image.Transpose.ROTATE_90).save(path)
    assert taught(folder, "stream", tmp_path / "one", monkeypatch).sha256 != first.sha256


@pytest.mark.parametrize("store", ["memory", "stream"])
def test_a_run_on_a_folder_is_evaluated_and_verified(store, folder, tmp_path, capsys):
    run_dir, scored = tmp_path / "run", ["--evaluator", "convnet_d1", "--protocol", "demo.v1", "--quiet"]
    words = ["--dataset", str(folder), f"dataset.store={store}", "--codec", "dct", "--algo", "random"]
    assert main(["run", *words, *scored, "--controls", "none", "--out", str(run_dir)]) == 0
    assert main(["evaluate", str(run_dir), "--dataset", str(folder), f"dataset.store={store}", *scored]) == 0
    accuracy = [json.loads(path.read_text())["summary"] for path in tmp_path.rglob("evaluation.json")]
    assert accuracy == [json.loads((run_dir / "result.json").read_text())["summary"]]
    assert main(["verify", str(run_dir), f"dataset.path={folder}", "--quiet"]) == 0, capsys.readouterr().out


def test_a_codec_is_trained_on_the_same_crops_from_any_store(folder):
    config = TrainingConfig((DatasetConfig(str(folder), validation=0.1),), crop=8)
    sets = {kind: [loaded(folder, kind, validation=0.1)] for kind in ("memory", "disk", "stream")}
    crops = {kind: Crops(images, config) for kind, images in sets.items()}
    for kind in ("disk", "stream"):
        assert torch.equal(crops[kind].held_out[0], crops["memory"].held_out[0])
        for step in range(3):
            assert torch.equal(crops[kind].batch(step), crops["memory"].batch(step))
