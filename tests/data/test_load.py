"""Datasets from entries, folders and the hub's cache: what comes out, what is read when, and what bad input says."""

import io
import logging
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from latentdd_plugin.core import plugins
from latentdd_plugin.core.config import DatasetConfig
from latentdd_plugin.core.errors import DataError, PluginError, RunFailed
from latentdd_plugin.core.hub import reachable
from latentdd_plugin.core.storage import atomic_write, locked
from latentdd_plugin.data import images as decode
from latentdd_plugin.data.images import _one
from latentdd_plugin.data.load import load_dataset

SHARED = Path(__file__).parents[3] / "shared"
DIGITS, LABELS = load_digits(return_X_y=True)
DIGITS = np.rint(DIGITS.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)


@pytest.fixture(autouse=True)
def own_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("DD_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")


def encoded(pixels, kind="png", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=kind, **options)
    return file.getvalue()


def table(images, labels, names=tuple("0123456789"), **more):
    """A Dataset of image files (bytes) and labels."""
    label = datasets.ClassLabel(names=list(names)) if names else datasets.Value("int64")
    if labels and isinstance(labels[0], str):
        label = datasets.Value("string")
    features = {"image": datasets.Image(), "label": label, **{k: datasets.Value("int64") for k in more}}
    cells = [{"bytes": b, "path": None} for b in images]
    return datasets.Dataset.from_dict({"image": cells, "label": labels, **more}, features=datasets.Features(features))


def digit_table(rows, **more):
    return table([encoded(DIGITS[i]) for i in rows], LABELS[list(rows)].tolist(), **more)


def parquet(folder, **splits):
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in splits.items():
        part.to_parquet(folder / f"{name}-00000-of-00001.parquet")
    return str(folder)


def saved(folder, **splits):
    datasets.DatasetDict(splits).save_to_disk(folder)
    return str(folder)


def imagefolder(folder, **splits):
    for name, rows in splits.items():
        for i in rows:
            path = folder / name / f"digit {LABELS[i]}" / f"{i:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(DIGITS[i]))
    return str(folder)


def refused(message, error=DataError, **config):
    with pytest.raises(error, match=message) as caught:
        load_dataset(DatasetConfig(**config))
    return str(caught.value)


# --- the embedded default ---------------------------------------------------------------------------------------------


def test_digits_are_the_real_ones():
    found = load_dataset(DatasetConfig())
    test = found.held_out("test")
    assert found.image_shape == (1, 8, 8)
    assert found.train.pixels.dtype == torch.uint8
    assert found.train.labels.dtype == torch.int64
    assert found.classes == tuple("0123456789")
    assert not found.flip
    both = {p.tobytes() for p in torch.cat([found.train.pixels, test.pixels]).numpy()}
    assert len(found.train) + len(test) == 1797
    assert both == {p.tobytes() for p in DIGITS}
    share = torch.bincount(test.labels) / torch.bincount(torch.cat([found.train.labels, test.labels]))
    assert share.sub(0.2).abs().max() < 0.005
    assert found.source["origin"] == "entry"
    assert (found.source["train_size"], found.source["test_size"]) == (len(found.train), len(test))


def test_options_choose_rows_and_nest():
    everything = load_dataset(DatasetConfig())
    some = load_dataset(DatasetConfig(classes=("7", "3"), per_class=20, validation=0.25, flip=True, image_size=16))
    smaller = load_dataset(DatasetConfig(classes=("7", "3"), per_class=5, validation=0.25, image_size=16))
    assert some.flip
    assert some.classes == ("7", "3")
    assert some.image_shape == (1, 16, 16)
    assert torch.bincount(some.train.labels).tolist() == [20, 20]
    validation, test = some.held_out("validation"), some.held_out("test")
    assert test.pixels.shape[1:] == (1, 16, 16)
    assert set(test.labels.tolist()) == {0, 1}
    for new, old in ((0, 7), (1, 3)):
        assert (validation.labels == new).sum() == round(0.25 * int((everything.train.labels == old).sum()))
    kept = {p.tobytes() for p in some.train.pixels.numpy()}
    assert {p.tobytes() for p in smaller.train.pixels.numpy()} < kept
    assert not kept & {p.tobytes() for p in validation.pixels.numpy()}
    assert some.source["validation_size"] == len(validation)
    assert some.source["options"]["classes"] == ["7", "3"]


def test_fingerprint_follows_content():
    first = load_dataset(DatasetConfig(per_class=4))
    assert first.fingerprint == load_dataset(DatasetConfig(per_class=4)).fingerprint
    others = [DatasetConfig(per_class=5), DatasetConfig(per_class=4, classes=tuple("1234567890"))]
    assert len({first.fingerprint, *(load_dataset(c).fingerprint for c in others)}) == 3


# --- local data -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["parquet", "imagefolder", "save_to_disk", "parquet file", "arrow file"])
def test_local_forms_give_the_same_images(form, tmp_path):
    train, test = range(60), range(60, 90)
    splits = {"train": digit_table(train), "test": digit_table(test)}
    folder = tmp_path / "mine"
    if form == "imagefolder":
        name = imagefolder(folder, train=train, test=test)
    elif form == "save_to_disk":
        name = saved(folder, **splits)
    else:
        name = parquet(folder, **splits)
    if form == "parquet file":
        name = str(folder / "train-00000-of-00001.parquet")
    if form == "arrow file":
        name = next(str(p) for p in Path(saved(tmp_path / "disk", **splits)).rglob("train/*.arrow"))
    found = load_dataset(DatasetConfig(name=name))
    held = found.held_out("test")
    if "file" in form:  # no test split there
        assert len(held) + len(found.train) == 60
        assert found.source["test"] == "stratified 20% of train, seed 0"
        return
    assert found.name == "mine"
    assert (found.source["train"], found.source["test"]) == ("train", "test")
    for images, rows in ((found.train, train), (held, test)):
        got = sorted((p.tobytes(), n) for p, n in zip(images.pixels.numpy(), images.labels.tolist(), strict=True))
        assert got == sorted((DIGITS[i].tobytes(), int(LABELS[i])) for i in rows)


def test_validation_stands_in_for_a_test_split_without_labels(tmp_path):
    hidden = table([encoded(DIGITS[i]) for i in range(5)], [-1] * 5)
    name = saved(tmp_path / "d", train=digit_table(range(40)), validation=digit_table(range(40, 60)), test=hidden)
    found = load_dataset(DatasetConfig(name=name))
    assert found.source["test"] == "validation"
    assert len(found.held_out("test")) == 20


def test_no_test_image_is_read_before_it_is_asked_for(tmp_path):
    broken = table([b"not an image"] * 20, LABELS[:20].tolist())
    found = load_dataset(DatasetConfig(name=saved(tmp_path / "d", train=digit_table(range(40)), test=broken)))
    with pytest.raises(DataError, match=r"split test: 20 or more images cannot be read; .*\n  row 0: corrupt image"):
        found.held_out("test")


def test_a_test_part_cut_from_train_stays_undecoded(tmp_path, monkeypatch):
    name = saved(tmp_path / "d", train=digit_table(range(100)))
    decoded = []
    one = _one
    monkeypatch.setattr(decode, "_one", lambda rows, i, *rest: decoded.append(rows.rows[i]) or one(rows, i, *rest))
    found = load_dataset(DatasetConfig(name=name))
    before = set(decoded)
    decoded.clear()
    found.held_out("test")
    assert before and decoded
    assert not before & set(decoded)
    assert before | set(decoded) == set(range(100))


def test_labels_of_plain_values(tmp_path):
    images = [encoded(DIGITS[i]) for i in range(20)]
    words = load_dataset(DatasetConfig(name=saved(tmp_path / "a", train=table(images, [*["cat", "ant"] * 10], None))))
    assert words.classes == ("ant", "cat")
    numbers = load_dataset(DatasetConfig(name=saved(tmp_path / "b", train=table(images, [*[12, 5] * 10], None))))
    assert numbers.classes == ("5", "12")
    order = DatasetConfig(name=str(tmp_path / "b"), classes=("12", "5"))
    assert load_dataset(order).classes == ("12", "5")


def test_one_entry_may_return_a_single_dataset(monkeypatch):
    monkeypatch.setattr(plugins, "entries", lambda group: {"mine": None})
    monkeypatch.setattr(plugins, "load", lambda group, name: lambda: digit_table(range(100)).shuffle(seed=1))
    found = load_dataset(DatasetConfig(name="mine"))
    assert found.flip
    assert {p.tobytes() for p in found.train.pixels.numpy()} < {p.tobytes() for p in DIGITS[:100]}

    def raising():
        raise ValueError("no licence file")

    monkeypatch.setattr(plugins, "load", lambda group, name: raising)
    refused("dataset mine: its plug-in raises ValueError: no licence file", PluginError, name="mine")


# --- pixels -----------------------------------------------------------------------------------------------------------


def pixels_of(tmp_path, files, **config):
    """The images of these files, in their order; labels 0 and 1 in turn, and a test split of one more file each."""
    part = table(files, [i % 2 for i in range(len(files))], "ab")
    name = saved(tmp_path / f"p{time.monotonic_ns()}", train=part, test=part)
    found = load_dataset(DatasetConfig(name=name, **config))
    assert torch.equal(found.held_out("test").pixels, found.train.pixels)
    return found.train.pixels


def test_channels(tmp_path):
    grey = DIGITS[0]
    colour = np.stack([DIGITS[0], DIGITS[1], DIGITS[2]], -1)
    assert pixels_of(tmp_path, [encoded(grey)] * 2).shape == (2, 1, 8, 8)
    mixed = pixels_of(tmp_path, [encoded(grey), encoded(colour)])
    assert torch.equal(mixed[0], torch.from_numpy(grey).expand(3, 8, 8))
    assert torch.equal(mixed[1], torch.from_numpy(colour).permute(2, 0, 1))
    clear = np.zeros((8, 8, 4), np.uint8)
    assert pixels_of(tmp_path, [encoded(clear)] * 2).eq(255).all()
    wide = encoded(grey.astype(np.uint16) * 257)
    assert torch.equal(pixels_of(tmp_path, [wide] * 2)[0, 0], torch.from_numpy(grey))
    palette = io.BytesIO()
    Image.fromarray(colour).convert("P").save(palette, format="png")
    assert pixels_of(tmp_path, [palette.getvalue()] * 2).shape == (2, 3, 8, 8)
    bits = io.BytesIO()
    Image.fromarray(grey > 99).save(bits, format="png")
    assert pixels_of(tmp_path, [bits.getvalue()] * 2).unique().tolist() == [0, 255]


def test_a_held_out_image_takes_the_form_of_the_training_images(tmp_path):
    colour = table([encoded(np.repeat(DIGITS[i][..., None], 3, -1)) for i in range(10)], LABELS[:10].tolist())
    found = load_dataset(DatasetConfig(name=saved(tmp_path / "d", train=digit_table(range(40)), test=colour)))
    assert found.held_out("test").pixels.shape == (10, 1, 8, 8)
    wide = table([encoded(np.repeat(DIGITS[0], 2, 0))], [0])
    found = load_dataset(DatasetConfig(name=saved(tmp_path / "e", train=digit_table(range(40)), test=wide)))
    with pytest.raises(DataError, match=r"split test: images of several sizes \(8x8 and, at row 0, 16x8\)"):
        found.held_out("test")


def test_resizing_is_antialiased_and_square(tmp_path):
    board = np.indices((64, 32)).sum(0) % 2 * 255
    small = pixels_of(tmp_path, [encoded(board.astype(np.uint8)), encoded(DIGITS[0])], image_size=8)
    assert small.shape == (2, 1, 8, 8)
    assert (small[0].float() - 127.5).abs().max() < 12  # a point sampler would give 0 or 255
    assert torch.equal(small[1, 0], torch.from_numpy(DIGITS[0]))


def test_photos_are_turned_upright(tmp_path):
    wide = np.repeat(DIGITS[0], 2, 1)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = pixels_of(tmp_path, [encoded(wide, exif=exif)] * 2)
    assert torch.equal(turned[0, 0], torch.from_numpy(np.rot90(wide, -1).copy()))


# --- the decoded cache ------------------------------------------------------------------------------------------------


def never(*_):
    raise AssertionError("decoded again")


def test_decoded_once_and_again_when_damaged_or_changed(tmp_path, monkeypatch, caplog):
    config = DatasetConfig(name=imagefolder(tmp_path / "mine", train=range(40), test=range(40, 50)))
    first = load_dataset(config)
    (kept,) = (tmp_path / "cache" / "images").glob("*/pixels.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(decode, "_decode_all", never)
        again = load_dataset(config)
    assert torch.equal(first.train.pixels, again.train.pixels)
    assert first.fingerprint == again.fingerprint

    whole = kept.read_bytes()
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:50], b""):
        kept.write_bytes(damaged)
        assert torch.equal(load_dataset(config).train.pixels, first.train.pixels)
        assert kept.read_bytes() == whole
    assert "is made anew" in caplog.text

    path = next(p for p in (tmp_path / "mine" / "train").rglob("*.png"))
    path.write_bytes(encoded(255 - DIGITS[0]))
    changed = load_dataset(config)
    assert not torch.equal(changed.train.pixels, first.train.pixels)
    assert changed.fingerprint != first.fingerprint


def test_a_second_process_reads_what_the_first_decoded(tmp_path):
    load_dataset(DatasetConfig())
    code = (
        "import sys\nfrom latentdd_plugin.data import images as decode\n"
        "from latentdd_plugin.data.load import load_dataset\nfrom latentdd_plugin.core.config import DatasetConfig\n"
        "print({'datasets', 'sklearn', 'diffusers', 'timm'} & set(sys.modules))\n"
        "decode._decode_all = None\nprint(load_dataset(DatasetConfig()).fingerprint)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["set()", load_dataset(DatasetConfig()).fingerprint]  # nothing heavy at import


def test_without_a_writable_cache_it_works_and_says_so(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DD_BENCH_CACHE", str(tmp_path / "file" / "cache"))
    with caplog.at_level(logging.WARNING):
        assert len(load_dataset(DatasetConfig(per_class=3)).train) == 30
    assert "is used instead; set DD_BENCH_CACHE" in caplog.text


def test_atomic_write_keeps_the_old_file_and_names_the_fault(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("old")
    full = r"cannot write .*a\.txt: No space left on device\. Free some space"
    with pytest.raises(RunFailed, match=full), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise OSError(28, os.strerror(28))
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_a_lock_excludes_and_is_freed(tmp_path):
    used = pytest.raises(RunFailed, match="in use by another process")
    with locked(tmp_path), used, locked(tmp_path, wait=False):
        pass
    with locked(tmp_path, wait=False):
        pass


# --- the hub ----------------------------------------------------------------------------------------------------------


def flags():
    from huggingface_hub import constants

    return datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE, datasets.are_progress_bars_disabled()


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_without_network_the_answer_comes_at_once(no_network):
    before, start = flags(), time.monotonic()
    said = refused("hub cannot be reached", name="some/where")
    assert "name its folder" in said
    assert "dataset some/where: no built-in or plug-in dataset (digits" in said
    assert time.monotonic() - start < 5
    assert flags() == before


def test_a_silent_network_is_given_up(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, never answers
        start = time.monotonic()
        assert not reachable(f"http://127.0.0.1:{server.getsockname()[1]}", seconds=0.3)
        assert time.monotonic() - start < 3
        assert not reachable("http://127.0.0.1:1")


def test_without_network_the_cached_copy_is_used(no_network, tmp_path):
    from datasets.packaged_modules.parquet.parquet import Parquet

    parquet(tmp_path / "src", train=digit_table(range(40)), test=digit_table(range(40, 60)))
    files = {s: [str(tmp_path / "src" / f"{s}-00000-of-00001.parquet")] for s in ("train", "test")}
    Parquet(
        cache_dir=str(tmp_path / "hf"), dataset_name="where", hash="0" * 40, data_files=files
    ).download_and_prepare()
    (made,) = (tmp_path / "hf" / "where").iterdir()  # as the hub's own builder names it
    (tmp_path / "hf" / "some___where").mkdir()
    made.rename(tmp_path / "hf" / "some___where" / "default")
    before = flags()
    found = load_dataset(DatasetConfig(name="some/where"))
    assert flags() == before
    assert (len(found.train), len(found.held_out("test")), found.source["origin"]) == (40, 20, "hub")
    assert found.source["revision"] == "0" * 40
    refused(f"cached copy is of revision 0+, asked for {'1' * 40}", name="some/where", revision="1" * 40)


# --- bad input --------------------------------------------------------------------------------------------------------


def test_paths_that_are_not_there(tmp_path):
    refused("dataset ./nowhere: no such file or folder", name="./nowhere")
    (tmp_path / "empty").mkdir()
    refused("empty: no files in the folder; supported are", name=str(tmp_path / "empty"))
    (tmp_path / "a.zip").write_bytes(b"")
    refused(r"a.zip is an archive, which has to be unpacked first: unzip", name=str(tmp_path / "a.zip"))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 this is not parquet PAR1")
    refused(r"bad.parquet: cannot be read", name=str(tmp_path / "bad.parquet"))


def test_columns(tmp_path):
    name = saved(tmp_path / "d", train=digit_table(range(40), other=[*range(40)]))
    assert load_dataset(DatasetConfig(name=name, label_column="label")).classes == tuple("0123456789")
    there = r"the columns are image \(Image\), label \(ClassLabel\), other \(integer\)"
    refused(f"no column 'fine' for dataset.label_column; {there}", name=name, label_column="fine")
    refused(f"no column 'img' for dataset.image_column; {there}", name=name, image_column="img")
    refused("dataset.image_column=label holds ClassLabel, allowed are Image", name=name, image_column="label")
    bare = saved(tmp_path / "e", train=digit_table(range(40)).remove_columns("label"))
    refused(
        r"no column of ClassLabel or integer or text or float for dataset.label_column; .* image \(Image\)", name=bare
    )
    two = digit_table(range(40), a=[0] * 40, b=[1] * 40).remove_columns("label")
    refused("several columns may be meant: a, b; set dataset.label_column", name=saved(tmp_path / "f", train=two))


def test_rows(tmp_path):
    files = [encoded(DIGITS[i]) for i in range(40)]
    labels = LABELS[:40].tolist()
    corrupt = [*files[:17], files[17][:60], *files[18:]]
    name = saved(tmp_path / "a", train=table(corrupt, labels), test=digit_table(range(10)))
    refused("split train, row 17: corrupt image .*; repair or remove it", name=name)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    name = saved(tmp_path / "b", train=table(files, [*labels[:5], -1, *labels[6:]]))
    refused(r"split train, row 5: unlabelled \(label is -1\)", name=name)
    sizes = [*files[:39], encoded(np.repeat(DIGITS[0], 2, 0))]
    name = saved(tmp_path / "c", train=table(sizes, labels), test=digit_table(range(10)))
    refused(r"several sizes \(8x8 and, at row 39, 16x8\); set dataset.image_size", name=name)
    assert load_dataset(DatasetConfig(name=name, image_size=8)).image_shape == (1, 8, 8)
    empty = digit_table(range(40)).map(lambda row: {"image": None} if row["label"] == 3 else row)
    refused(
        r"split train: 3 images cannot be read; .*\n  row 3: no image",
        name=saved(tmp_path / "d", train=empty, test=digit_table(range(10))),
    )


def test_classes(tmp_path):
    assert load_dataset(DatasetConfig(classes=(1, 2))).classes == ("1", "2")
    refused("no class 'nine' among 10; did you mean 0, 1", classes=("nine", "1"))
    refused("names a class twice: 1, 1", classes=("1", "1"))
    some = digit_table([i for i in range(100) if LABELS[i] < 2])
    refused(r"no training images of 8 class\(es\): 2, 3, 4, 5, 6; list", name=saved(tmp_path / "d", train=some))
    part = saved(tmp_path / "e", train=table([encoded(DIGITS[0])] * 9, ["a"] * 9), test=table([b""], ["b"]))
    refused("split test, row 0: class 'b' is not among the training classes", name=part)


def test_splits(tmp_path):
    name = saved(tmp_path / "d", left=digit_table(range(20)), right=digit_table(range(20)))
    refused("no split named train; there are left, right", name=name)
    with pytest.raises(DataError, match=r"no validation images; set dataset\.validation"):
        load_dataset(DatasetConfig()).held_out("validation")
    with pytest.raises(DataError, match="no held-out split 'train'; ask for test or validation"):
        load_dataset(DatasetConfig()).held_out("train")


# --- real data --------------------------------------------------------------------------------------------------------


@pytest.mark.realdata
@pytest.mark.skipif(not (SHARED / "data/imagenette128").is_dir(), reason="../shared/data/imagenette128 is not there")
def test_imagenette():
    found = load_dataset(DatasetConfig(name=str(SHARED / "data/imagenette128"), per_class=20, image_size=64))
    assert found.classes[0] == "tench"
    assert found.flip
    assert found.train.pixels.shape == (200, 3, 64, 64)
    assert found.source["test_size"] == 3925
    assert 90 < found.train.pixels.float().mean() < 140
