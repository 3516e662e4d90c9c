"""Sets that are larger than the disk, and tars with a broken member: one message each, before any work."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from latentdd_plugin.core.config import DatasetConfig
from latentdd_plugin.core.errors import DataError, RunFailed
from latentdd_plugin.core.storage import require_space
from latentdd_plugin.data.load import load_dataset
from latentdd_plugin.data.rows import ImageRows
from latentdd_plugin.data.store import RowStore, on_disk

PETABYTE = 10**15


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DD_BENCH_CACHE", str(tmp_path / "cache"))


def png(seed):
    data = io.BytesIO()
    Image.fromarray(np.random.RandomState(seed).randint(0, 255, (8, 8, 3), dtype=np.uint8)).save(data, "png")
    return data.getvalue()


def tar(path, broken=None):
    """A WebDataset tar of 12 pictures in two classes; the file of one may be broken."""
    with tarfile.open(path, "w") as archive:
        for number in range(12):
            for ending, data in ((".png", png(number)), (".cls", str(number % 2).encode())):
                data = data[: len(data) // 2] if number == broken and ending == ".png" else data
                member = tarfile.TarInfo(f"{number:04d}{ending}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def test_images_that_the_disk_does_not_hold_are_refused_before_one_is_decoded(tmp_path):
    rows = ImageRows(None, "image", np.arange(3000), "dataset huge")  # no dataset: nothing may be read
    store = RowStore(rows, 60_000, (3, 60_000, 60_000), "stamp")
    with pytest.raises(RunFailed, match=r"the decoded images need 33177\.6 GB.*nothing was written.*store=stream"):
        on_disk(store, False)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_disk_with_room_is_not_refused(tmp_path):
    require_space(tmp_path / "not" / "there", 1, "the codes", "less")
    with pytest.raises(RunFailed, match="DD_BENCH_CACHE"):
        require_space(tmp_path, PETABYTE, "the codes", "less")


def test_a_broken_picture_in_a_tar_is_named_by_tar_and_member(tmp_path):
    (tmp_path / "set").mkdir()
    tar(tmp_path / "set" / "train.tar", broken=5)
    with pytest.raises(DataError, match=r"train\.tar/0005\.png"):
        load_dataset(DatasetConfig(str(tmp_path / "set"))).held_out("test")  # it may be among those held out


@pytest.mark.parametrize("left", [0, 3000])
def test_a_tar_that_disappears_or_shrinks_during_the_run_is_named(tmp_path, left):
    (tmp_path / "set").mkdir()
    path = tmp_path / "set" / "train.tar"
    tar(path)
    config = DatasetConfig(str(tmp_path / "set"), store="stream")
    data, kept = load_dataset(config), path.read_bytes()
    whole = data.train.pixels[:]
    path.unlink()
    if left:
        path.write_bytes(kept[:left])
    with pytest.raises(DataError, match=r"(?s)cannot be read.*row 11 \(train\.tar/0011\.png\): .*(No such|shorter)"):
        data.train.pixels[:]
    path.write_bytes(kept)
    assert torch.equal(load_dataset(config).train.pixels[:], whole)


def test_a_tar_whose_end_is_missing_is_named(tmp_path):
    (tmp_path / "set").mkdir()
    path = tmp_path / "set" / "train.tar"
    tar(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"train\.tar: a damaged tar"):
        load_dataset(DatasetConfig(str(tmp_path / "set")))
