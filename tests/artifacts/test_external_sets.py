"""Distilled sets as people have them: numeric classes, deep pictures, grids, shards, arrays in pickles, damage."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latentdd_plugin.artifacts.exchange import import_set
from latentdd_plugin.artifacts.file import ARTIFACT, load_artifact
from latentdd_plugin.artifacts.formats import class_order, idc
from latentdd_plugin.artifacts.formats.base import ExternalSet, ImportOptions
from latentdd_plugin.artifacts.formats.incoming import to_artifact
from latentdd_plugin.cli import main
from latentdd_plugin.core.errors import DataError, UsageError
from latentdd_plugin.core.types import ImageData, Images

FIELD = Path(__file__).parents[3] / "shared" / "field"
NUMERIC = tuple(map(str, range(12)))
WOOF = (
    "n02086240", "n02087394", "n02088364", "n02089973", "n02093754", "n02096294", "n02099601", "n02105641", "n02111889",
    "n02115641",
)  # fmt: skip


def dataset(classes, shape=(1, 4, 4)):
    empty = Images(torch.empty((0, *shape), dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
    return ImageData("made", tuple(classes), empty, lambda _: empty, "", flip=False, source={})


def brought(labels, there, *, names=None, kind="hard", **options):
    """The labels of an import, by the dataset's classes: image i has the value i / 100."""
    labels = torch.as_tensor(labels)
    images = (torch.arange(len(labels)) / 100).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    external = ExternalSet(images, labels, kind, classes=names)
    options = {"values": "none", **options}
    made = to_artifact(external, ImportOptions(dataset=dataset(there), **options), Path("set"), "test")
    if kind != "hard":
        return made
    return {round(float(v) * 100): made.classes[k] for v, k in zip(made.codes[:, 0, 0, 0], made.labels, strict=True)}


# --- the order of classes ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(not FIELD.is_dir(), reason="no ../shared/field beside the checkout")
def test_the_shared_numeric_case(tmp_path, capsys):
    words = ["import", "mtt", FIELD / "distilled" / "mtt_numeric", "--values", "mtt-cifar10", "--out", tmp_path / "out"]
    words += ["--dataset", FIELD / "18_numeric", "dataset.image_size=16"]
    assert main.main([str(word) for word in words]) == 0
    shown = capsys.readouterr().out
    assert 'label n is class "n"; 0 = 0, 1 = 1, 2 = 2, 3 = 3' in shown
    made = load_artifact(tmp_path / "out" / ARTIFACT)
    assert made.classes == NUMERIC
    assert made.labels.tolist() == list(range(12)), "label 2 is class 2, not 10"
    assert made.header.origin.labels["10"] == "10"
    assert made.header.origin.class_order


def test_whole_numbers_are_matched_by_value_whatever_the_datasets_order():
    for classes in (NUMERIC, tuple(sorted(NUMERIC))):
        assert brought(range(12), classes) == {n: str(n) for n in range(12)}
    assert brought([3, 7, 11], ("11", "3", "7")) == {0: "3", 1: "7", 2: "11"}
    assert brought(range(3), ("00", "01", "02")) == {0: "00", 1: "01", 2: "02"}


def test_soft_labels_move_with_their_classes():
    made = brought(torch.eye(12), tuple(sorted(NUMERIC)), kind="probabilities")
    assert [made.classes[int(row.argmax())] for row in made.labels] == list(NUMERIC)


def test_an_order_that_cannot_be_known_is_asked_for():
    for classes in (tuple(map(str, range(1, 13))), [f"class_{n}" for n in range(12)]):
        with pytest.raises(
            UsageError, match=r"order of its classes is not known.* --classes dataset .* --classes sort"
        ):
            brought(range(12), sorted(classes))
        assert brought(range(12), sorted(classes), classes=("sorted",))[1] == sorted(classes)[1]
        assert brought(range(12), classes, classes=("dataset",))[2] == classes[2]
    assert brought(range(3), ("1", "2", "3")) == {0: "1", 1: "2", 2: "3"}, "as text and by value alike"


def test_labels_that_count_from_one():
    assert brought([1, 2, 3], ("1", "2", "3")) == {0: "1", 1: "2", 2: "3"}
    with pytest.raises(UsageError, match=r"labels 1 … 3 for 3 classes; give --classes"):
        brought([1, 2, 3], ("ant", "bee", "cat"))
    assert brought([1, 2, 3], ("ant", "bee", "cat"), classes=("cat", "ant", "bee")) == {0: "cat", 1: "ant", 2: "bee"}


def test_a_missing_class_is_named_and_nothing_shifts():
    with pytest.raises(UsageError, match="'3' has 0"):
        brought([0, 1, 2, 4], ("0", "1", "2", "3", "4"))


def test_imagenet_indices_and_synsets():
    classes = ("n01440764", "n02102040", "n02979186")
    assert brought([0, 217, 482], classes) == dict(enumerate(classes))
    assert brought([0, 1, 2], classes) == dict(enumerate(classes))
    names = ("n02102040", "n01440764", "n02979186")
    found = brought([0, 1, 2], ("cassette player", "English springer", "tench, Tinca tinca"), names=names)
    assert found == {0: "English springer", 1: "tench, Tinca tinca", 2: "cassette player"}


def test_a_subset_with_an_order_of_its_own():
    with pytest.raises(UsageError, match="MTT and GLaD list imagewoof as n02096294"):
        brought(range(10), WOOF)
    images = torch.rand(10, 3, 4, 4)
    options = ImportOptions("mtt-imagenet", dataset=dataset(WOOF, (3, 4, 4)))
    made = to_artifact(ExternalSet(images, torch.arange(10)), options, Path("set"), "mtt")
    assert made.classes[int(made.labels[0])] == "n02096294", "the Australian terrier is MTT's first"
    assert "imagewoof" in made.header.origin.class_order
    assert sorted(WOOF) == list(WOOF)


@pytest.mark.parametrize("pattern", ["{:05d}", "new{:03d}", "{}"])
def test_folders_of_numbers_for_named_classes(tmp_path, pattern):
    """RDED, SRe2L and others name the folders by the label."""
    for label in range(12):
        write(tmp_path / "in" / pattern.format(label) / "a.png", np.full((4, 4), label * 10, np.uint8))
    external = class_folders(tmp_path / "in")
    classes = [f"n{10_000_000 + n}" for n in range(12)]
    made = to_artifact(external, ImportOptions(dataset=dataset(classes)), Path("set"), "imagefolder")
    levels = (made.codes[:, 0, 0, 0] * 255).round().long()
    assert [made.classes[label] for label in made.labels] == [classes[level // 10] for level in levels]


def test_names_that_differ_in_case_and_separators():
    assert brought([0, 1], ("Golden Retriever", "tabby"), names=("tabby", "golden_retriever")) == {
        0: "tabby",
        1: "Golden Retriever",
    }
    with pytest.raises(UsageError, match=r"classes lynx are not in the dataset .* --classes"):
        brought([0, 1], ("Golden Retriever", "tabby"), names=("tabby", "lynx"))


def test_without_a_dataset_labels_are_their_own_names(tmp_path):
    for labels, names in (([0, 1, 2], ("0", "1", "2")), ([1, 2, 3], ("1", "2", "3"))):
        external = ExternalSet(torch.rand(3, 1, 4, 4), torch.tensor(labels))
        assert to_artifact(external, ImportOptions("none"), tmp_path, "x").classes == names
    with pytest.raises(UsageError, match="give --dataset, or the names"):
        to_artifact(external, ImportOptions("none", classes=("sorted",)), tmp_path, "x")


def test_every_subset_is_ten_different_classes():
    for indices in class_order.SUBSETS.values():
        assert len(set(indices)) == 10
        assert list(indices) != sorted(indices)


# --- pictures ---------------------------------------------------------------------------------------------------------


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def class_folders(path):
    from latentdd_plugin.artifacts.formats.imagefolder import ImageFolder

    return ImageFolder().read(path, ImportOptions())


@pytest.mark.parametrize(
    ("suffix", "kind", "top", "white"),
    [("png", np.uint16, 65535, 65535), ("png", np.uint16, 4095, 4095), ("tif", np.float32, 1.0, 1.0)],
    ids=["16 bits", "12 bits in 16", "float TIFF"],
)
def test_deep_pictures_keep_their_levels(tmp_path, suffix, kind, top, white):
    ramp = (np.arange(64) / 63 * top).astype(kind).reshape(8, 8)
    for name in ("a", "b"):
        write(tmp_path / name / f"0.{suffix}", ramp)
    images = class_folders(tmp_path).images
    assert images.shape == (2, 1, 8, 8)
    assert float((images[0, 0] - torch.from_numpy(ramp.astype(np.float32) / white)).abs().max()) < 1 / 255
    assert len(images.unique()) == 64


def test_deep_pictures_within_a_table(tmp_path):
    datasets = pytest.importorskip("datasets")
    ramp = (np.arange(64) * 1000).astype(np.uint16).reshape(8, 8)
    write(tmp_path / "a.png", ramp)
    cells = [{"bytes": (tmp_path / "a.png").read_bytes(), "path": None}] * 2
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y"])})
    made = datasets.Dataset.from_dict({"image": cells, "label": [0, 1]}, features=features)
    made.to_parquet(str(tmp_path / "t.parquet"))
    images = import_set("huggingface", tmp_path / "t.parquet", tmp_path / "out").decode()
    assert len(images.unique()) > 60, "not white"
    assert float(images.max()) == pytest.approx(63000 / 65535, abs=1 / 255)


def test_files_that_are_left_out_are_counted_and_named(tmp_path, caplog):
    for name in ("a", "b"):
        write(tmp_path / name / "0.png", np.full((4, 4), 90, np.uint8))
    for number in range(25):
        (tmp_path / "a" / f"note{number:02}.txt").write_text("x")
    write(tmp_path / "stray.png", np.zeros((4, 4), np.uint8))
    assert len(class_folders(tmp_path).images) == 2
    (line,) = [record.getMessage() for record in caplog.records]
    assert "2 pictures used, 26 files left out (25 not a picture (.txt); 1 a picture outside" in line
    assert "note18.txt" in line
    assert "note24.txt" not in line


def test_folders_within_class_folders_are_not_guessed(tmp_path):
    for name in ("train/a", "train/b", "val/a", "val/b"):
        write(tmp_path / name / "0.png", np.full((4, 4), 90, np.uint8))
    with pytest.raises(UsageError, match=r"class folders within folders .* for example .*train"):
        class_folders(tmp_path)
    assert class_folders(tmp_path / "train").classes == ("a", "b")
    (tmp_path / "outer").mkdir()
    (tmp_path / "train").rename(tmp_path / "outer" / "train")
    assert class_folders(tmp_path / "outer").classes == ("a", "b"), "one folder that only wraps the others"


def test_a_pointer_among_pictures_is_named(tmp_path):
    write(tmp_path / "a" / "0.png", np.full((4, 4), 90, np.uint8))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(DataError, match=r"1\.png: a git-lfs pointer"):
        class_folders(tmp_path)


# --- IDC --------------------------------------------------------------------------------------------------------------


def idc_decoded(images, labels, factor):
    """IDC's own decoding, slowly: cut into a grid, padded with 0.5, and enlarge each cell bilinearly."""
    size = images.shape[-1]
    side = -(-size // factor)
    cells, targets = [], []
    for row in range(factor):
        for column in range(factor):
            for image, label in zip(images, labels.tolist(), strict=True):
                whole = torch.full((image.shape[0], side * factor, side * factor), 0.5)
                whole[:, :size, :size] = image
                cell = whole[:, row * side : (row + 1) * side, column * side : (column + 1) * side]
                cells.append(torch.nn.Upsample(size=(size, size), mode="bilinear")(cell[None])[0])
                targets.append(label)
    return torch.stack(cells), targets


@pytest.mark.parametrize(("size", "factor"), [(8, 2), (9, 3), (8, 3), (7, 2)])
def test_idcs_grids_are_cut_and_enlarged_as_it_does(tmp_path, size, factor):
    images, labels = torch.rand(4, 3, size, size), torch.arange(2).repeat_interleave(2)
    torch.save([images, labels], tmp_path / "data.pt")
    made = import_set("idc", tmp_path, tmp_path / "out", ImportOptions(factor=factor))
    decoded, targets = idc_decoded(images, labels, factor)
    torch.testing.assert_close(made.decode(), decoded, atol=1e-6, rtol=0)
    assert made.labels.tolist() == targets
    assert made.header.codec.name == "downscale"
    if size % factor == 0:
        assert made.packed.nbytes == images.numel() * 4, "the bytes of the file, not of what it decodes to"
        assert torch.equal(made.codes, idc.grid_cells(images, factor))


def test_the_factor_is_read_or_asked_for(tmp_path):
    folder = tmp_path / "conv3in_grad_mse_nd2000_cut_niter2000_factor2_lr0.005_mix_ipc1"
    folder.mkdir()
    torch.save([torch.rand(2, 3, 8, 8), torch.arange(2)], folder / "data.pt")
    assert len(import_set("idc", folder, tmp_path / "a").labels) == 8
    with pytest.raises(UsageError, match="says factor 2, not 3"):
        import_set("idc", folder, tmp_path / "b", ImportOptions(factor=3))
    torch.save([torch.rand(2, 3, 8, 8), torch.arange(2)], tmp_path / "data.pt")
    with pytest.raises(UsageError, match=r"multi-formation factor: give --factor \(1 for IDC-I"):
        import_set("idc", tmp_path / "data.pt", tmp_path / "b")
    assert len(import_set("idc", tmp_path / "data.pt", tmp_path / "c", ImportOptions(factor=1)).labels) == 2
    with pytest.raises(UsageError, match="--factor 2: only idc"):
        import_set("mtt", tmp_path, tmp_path / "d", ImportOptions(factor=2))


def test_the_phases_of_idc_are_joined(tmp_path):
    for phase in (0, 1, 2):
        folder = tmp_path / f"run_factor1_ipc1_2_phase{phase}"
        folder.mkdir()
        torch.save([torch.rand(2, 3, 8, 8), torch.arange(2) + 2 * phase], folder / "data.pt")
    assert import_set("idc", tmp_path, tmp_path / "a").labels.tolist() == [0, 1, 2, 3, 4, 5]
    (tmp_path / "run_factor1_ipc1_2_phase1" / "data.pt").unlink()
    with pytest.raises(UsageError, match=r"phases \[1\] are missing"):
        import_set("idc", tmp_path, tmp_path / "b")


# --- tensors of any project -------------------------------------------------------------------------------------------

IMAGES, LABELS = torch.rand(6, 3, 8, 8), torch.arange(3).repeat_interleave(2)


def save_pair(folder):
    torch.save((IMAGES, LABELS), folder / "set.pt")


def save_mapping(folder):
    torch.save({"image_syn": IMAGES, "label_syn": LABELS, "syn_lr": 0.01}, folder / "set.pth")


def save_apart(folder):
    torch.save(IMAGES, folder / "images.pt")
    torch.save(LABELS, folder / "labels.pt")


def save_shards(folder):
    for number, (images, labels) in enumerate(zip(IMAGES.split(1), LABELS.split(1), strict=True)):
        torch.save({"x": images.clone(), "y": labels.clone()}, folder / f"part-{number}.pt")


def save_shards_apart(folder):
    for number, (images, labels) in enumerate(zip(IMAGES.split(2), LABELS.split(2), strict=True)):
        torch.save(images.clone(), folder / f"images_{number}.pt")
        torch.save(labels.clone(), folder / f"labels_{number}.pt")


def save_arrays_in_a_pickle(folder):
    torch.save({"images": IMAGES.numpy(), "labels": LABELS.numpy()}, folder / "set.pt")


def save_npz(folder):
    np.savez(folder / "set.npz", x_train=IMAGES.permute(0, 2, 3, 1).contiguous().numpy(), y_train=LABELS.numpy())


def save_npy(folder):
    np.save(folder / "images.npy", IMAGES.numpy())
    np.save(folder / "labels.npy", np.eye(3, dtype=np.float32)[LABELS.numpy()])


def save_safetensors(folder):
    from safetensors.torch import save_file

    save_file({"images": IMAGES, "labels": LABELS}, folder / "set.safetensors")


@pytest.mark.parametrize(
    "save",
    [save_pair, save_mapping, save_apart, save_shards, save_shards_apart, save_arrays_in_a_pickle, save_npz, save_npy,
     save_safetensors],
)  # fmt: skip
def test_tensors_of_any_project(tmp_path, save):
    (tmp_path / "in").mkdir()
    save(tmp_path / "in")
    made = import_set("tensors", tmp_path / "in", tmp_path / "out", ImportOptions("none"))
    torch.testing.assert_close(made.codes, IMAGES, atol=0, rtol=0)
    assert made.labels.tolist() == LABELS.tolist()
    assert made.header.label_kind == "hard"
    assert (made.lr is not None) == (save is save_mapping)


def test_a_missing_shard_is_named(tmp_path):
    save_shards(tmp_path)
    (tmp_path / "part-3.pt").unlink()
    with pytest.raises(UsageError, match=r"shards \[3\] are missing"):
        import_set("tensors", tmp_path, tmp_path / "out", ImportOptions("none"))


def test_bytes_are_pixels(tmp_path):
    torch.save({"images": (IMAGES * 255).byte(), "labels": LABELS}, tmp_path / "set.pt")
    made = import_set("tensors", tmp_path / "set.pt", tmp_path / "out")
    assert torch.equal(made.decode(), (IMAGES * 255).byte().float() / 255)
    torch.save({"images": IMAGES.long(), "labels": LABELS, "y": LABELS}, tmp_path / "set.pt")
    with pytest.raises(UsageError, match="one entry for images"):
        import_set("tensors", tmp_path / "set.pt", tmp_path / "b")


def test_arrays_within_pickles_are_checked(tmp_path):
    for wrong, reason in (
        (np.array([{"a": 1}, None], dtype=object), "does not hold plain numbers"),
        (IMAGES.numpy().astype(">f4"), "not little-endian"),
        (np.array(["a", "b"]), "does not hold plain numbers"),
    ):
        torch.save({"data": [[wrong, LABELS]]}, tmp_path / "res_x.pt")
        with pytest.raises(UsageError, match=reason):
            import_set("dc", tmp_path / "res_x.pt", tmp_path / "out", ImportOptions("none"))
    torch.save({"data": [[np.asfortranarray(IMAGES.numpy()), LABELS.numpy()]]}, tmp_path / "res_x.pt")
    made = import_set("dc", tmp_path / "res_x.pt", tmp_path / "out", ImportOptions("none"))
    assert torch.equal(made.codes, IMAGES)


# --- files that are something else ------------------------------------------------------------------------------------


def truncated(path):
    save_pair(path.parent)
    data = (path.parent / "set.pt").read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (truncated, "truncated: the archive's end is missing"),
        (lambda path: path.write_bytes(b""), r"an empty file \(0 bytes\)"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid x\n"), "git-lfs pointer"),
        (lambda path: path.write_text("<!DOCTYPE html><html>sign in</html>"), "an HTML page"),
        (lambda path: path.write_bytes(pickle.dumps([1, 2])), r"a plain pickle.* convert it: python -c"),
        (lambda path: torch.save([IMAGES], path, _use_new_zipfile_serialization=False), "torch before 1.6"),
        (lambda path: torch.save(torch.nn.Linear(2, 2).state_dict(), path), "a state of a network or optimiser"),
        (lambda path: torch.save({"state_dict": {}, "epoch": 3}, path), "a state of a network or optimiser"),
    ],
    ids=["truncated", "empty", "lfs", "html", "pickle", "legacy", "state", "checkpoint"],
)
@pytest.mark.parametrize("name", ["tensors", "dc", "mtt"])
def test_files_that_are_something_else_are_recognised(tmp_path, name, make, reason):
    path = tmp_path / {"tensors": "set.pt", "dc": "res_x.pt", "mtt": "images_best.pt"}[name]
    make(path)
    torch.save(LABELS, tmp_path / "labels_best.pt")
    with pytest.raises(UsageError, match=reason):
        import_set(name, path, tmp_path / "out", ImportOptions("none"))
    assert not (tmp_path / "out").exists()


def test_the_conversion_line_works(tmp_path):
    """A plain pickle of arrays, converted as the message says, is read."""
    import shlex
    import subprocess
    import sys

    (tmp_path / "old.pt").write_bytes(pickle.dumps((IMAGES.numpy(), LABELS.numpy())))
    with pytest.raises(UsageError) as refused:
        import_set("tensors", tmp_path / "old.pt", tmp_path / "out", ImportOptions("none"))
    command = shlex.split(str(refused.value).partition("convert it: ")[2])
    subprocess.run([sys.executable, *command[1:]], check=True)
    made = import_set("tensors", tmp_path / "old_new.pt", tmp_path / "out", ImportOptions("none"))
    assert torch.equal(made.codes, IMAGES)


def test_pixels_far_outside_their_range_are_told(tmp_path, caplog):
    to_artifact(ExternalSet(IMAGES * 255, LABELS), ImportOptions("none"), tmp_path, "x")
    to_artifact(ExternalSet(IMAGES * 0 + 0.3, LABELS), ImportOptions("none"), tmp_path, "x")
    to_artifact(ExternalSet(IMAGES * 1.2 - 0.1, LABELS), ImportOptions("none"), tmp_path, "x")
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert "check --values" in told[0]
    assert "every pixel of every image has the same value" in told[1]
