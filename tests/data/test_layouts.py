"""Layouts of well-known datasets and files, made small with the authors' own byte order."""

import gzip
import io
import json
import logging
import pickle
import tarfile

import datasets
import numpy as np
import pytest
import torch
from data_places import DIGITS, Place, encoded, per_split

from latentdd_plugin.core.config import DatasetConfig
from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.layouts import LAYOUTS
from latentdd_plugin.data.load import load_dataset

TRAIN, TEST = 20, 10
LABELS = [i % 2 for i in range(TRAIN + TEST)]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0"
HALF = ({"0": 10, "1": 10}, {"0": 5, "1": 5})


def colour(side, count=TRAIN + TEST):
    """Return uint8 (N, side, side, 3), every image another one, no two channels alike."""
    return np.random.RandomState(0).randint(0, 256, (count, side, side, 3)).astype(np.uint8)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "set")


def rows_of(data):
    return torch.cat([data.train.pixels, data.held_out("test").pixels]).permute(0, 2, 3, 1).numpy()


def cifar_python(place, ten=True):
    images = colour(32)
    planes = images.transpose(0, 3, 1, 2).reshape(-1, 3072)
    folder = "cifar-10-batches-py" if ten else "cifar-100-python"
    key = b"labels" if ten else b"fine_labels"

    def batch(rows):
        extra = {} if ten else {b"coarse_labels": [0] * len(rows)}
        return pickle.dumps({b"data": planes[rows], key: [LABELS[i] for i in rows], **extra}, protocol=2)

    first, second, last = range(10), range(10, TRAIN), range(TRAIN, TRAIN + TEST)
    if ten:
        place.text(f"{folder}/data_batch_1", batch(first))
        place.text(f"{folder}/data_batch_2", batch(second))
        place.text(f"{folder}/test_batch", batch(last))
        place.text(f"{folder}/batches.meta", pickle.dumps({"label_names": ["plane", "car"]}))
    else:
        place.text(f"{folder}/train", batch(range(TRAIN)))
        place.text(f"{folder}/test", batch(last))
        names = {"fine_label_names": ["plane", "car"], "coarse_label_names": ["vehicle"]}
        place.text(f"{folder}/meta", pickle.dumps(names))
    place.text("cifar.tar.gz", b"packed")
    return images


@pytest.mark.parametrize("ten", [True, False])
def test_cifar_python(place, ten):
    images = cifar_python(place, ten)
    data = place.load()
    assert data.classes == ("plane", "car")
    assert per_split(data) == ({"plane": 10, "car": 10}, {"plane": 5, "car": 5})
    assert np.array_equal(rows_of(data), images)
    assert sum(data.source["files"]["left_out"].values()) == 2
    if not ten:
        with pytest.raises(
            DataError, match=r"train: no labels named nowhere; it holds coarse_labels, data, fine_labels"
        ):
            place.load(label_column="nowhere")
        assert place.load(label_column="coarse_labels").classes == ("vehicle",)


def test_a_batch_that_would_run_code_is_not_loaded(place):
    cifar_python(place)
    place.text("cifar-10-batches-py/data_batch_2", pickle.dumps({b"data": print, b"labels": [0]}))
    with pytest.raises(DataError, match=r"data_batch_2: not a CIFAR batch \(asks for builtins.print"):
        place.load()


@pytest.mark.parametrize("ten", [True, False])
def test_cifar_binary(place, ten):
    images = colour(32)
    planes = images.transpose(0, 3, 1, 2).reshape(-1, 3072)
    heads = np.array(LABELS, dtype=np.uint8)[:, None]
    heads = heads if ten else np.hstack([heads * 0, heads])
    records = np.hstack([heads, planes]).astype(np.uint8)
    train, test = ("data_batch_1.bin", "test_batch.bin") if ten else ("train.bin", "test.bin")
    place.text(f"cifar/{train}", records[:TRAIN].tobytes())
    place.text(f"cifar/{test}", records[TRAIN:].tobytes())
    place.text("cifar/batches.meta.txt" if ten else "cifar/fine_label_names.txt", "plane\ncar\n")
    data = place.load()
    assert per_split(data) == ({"plane": 10, "car": 10}, {"plane": 5, "car": 5})
    assert np.array_equal(rows_of(data), images)
    place.text(f"cifar/{test}", records[TRAIN:].tobytes()[:-5])
    with pytest.raises(DataError, match="not whole records"):
        place.load()


def idx(values):
    return (
        bytes([0, 0, 8, values.ndim])
        + np.array(values.shape, dtype=">u4").tobytes()
        + values.astype(np.uint8).tobytes()
    )


@pytest.mark.parametrize("packed", [True, False])
def test_mnist(place, packed):
    for split, rows in (("train", slice(0, TRAIN)), ("t10k", slice(TRAIN, TRAIN + TEST))):
        for kind, values in (("images-idx3", DIGITS[rows]), ("labels-idx1", np.array(LABELS[rows]))):
            name, data = f"MNIST/raw/{split}-{kind}-ubyte", idx(values)
            place.text(name + ".gz", gzip.compress(data))
            if not packed:
                place.text(name, data)
    data = place.load()
    assert per_split(data) == HALF
    assert np.array_equal(rows_of(data)[..., 0], DIGITS[: TRAIN + TEST])
    assert data.source["files"]["left_out"] == {"labels, read": 2} | (
        {} if packed else {"a packed copy, or another part": 4}
    )
    place.text("MNIST/raw/train-images-idx3-ubyte", idx(DIGITS[:TRAIN])[:-1])
    with pytest.raises(DataError, match="claim the shape"):
        place.load()


def test_parts_of_emnist_are_asked_for(place):
    for part in ("letters", "digits"):
        for split in ("train", "test"):
            place.text(f"emnist-{part}-{split}-images-idx3-ubyte", idx(DIGITS[:TRAIN]))
            place.text(f"emnist-{part}-{split}-labels-idx1-ubyte", idx(np.array(LABELS[:TRAIN])))
    with pytest.raises(DataError, match=r"several parts, emnist-digits, emnist-letters; set dataset.subset"):
        place.load()
    assert place.load(subset="letters").source["files"]["used"] == {"train": 1, "test": 1}


def test_stl10(place):
    images = colour(96, 6)
    for split, rows in (("train", slice(0, 4)), ("test", slice(4, 6))):
        place.text(f"stl10_binary/{split}_X.bin", images[rows].transpose(0, 3, 2, 1).tobytes())
        place.text(f"stl10_binary/{split}_y.bin", bytes([1, 2] * 2 if split == "train" else [1, 2]))
    place.text("stl10_binary/class_names.txt", "airplane\nbird\n")
    place.text("stl10_binary/unlabeled_X.bin", b"much")
    data = place.load()
    assert per_split(data) == ({"airplane": 2, "bird": 2}, {"airplane": 1, "bird": 1})
    assert np.array_equal(rows_of(data), images)
    assert data.source["files"]["left_out"]["images without labels"] == 1


def test_svhn(place):
    from scipy.io import savemat

    images = colour(32)
    for split, rows in (("train", slice(0, TRAIN)), ("test", slice(TRAIN, TRAIN + TEST))):
        labels = np.array([[10 if label == 0 else label] for label in LABELS[rows]])
        savemat(place.root / f"{split}_32x32.mat", {"X": images[rows].transpose(1, 2, 3, 0), "y": labels})
    data = place.load()
    assert per_split(data) == HALF
    assert np.array_equal(rows_of(data), images)


ARRAYS = {
    "MedMNIST": ({"train_images": 0, "train_labels": 0, "test_images": 1, "test_labels": 1}, lambda y: y[:, None]),
    "Keras": ({"x_train": 0, "y_train": 0, "x_test": 1, "y_test": 1}, lambda y: y),
    "one-hot": ({"train_images": 0, "train_labels": 0, "test_images": 1, "test_labels": 1}, lambda y: np.eye(2)[y]),
    "whole floats": ({"X_train": 0, "Y_train": 0, "X_test": 1, "Y_test": 1}, lambda y: y.astype(float)),
}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("files", ["npz", "npy"])
def test_numpy_arrays(place, kind, files):
    names, labels = ARRAYS[kind]
    halves = slice(0, TRAIN), slice(TRAIN, TRAIN + TEST)
    arrays = {
        name: labels(np.array(LABELS)[halves[half]])
        if "label" in name or name.lower().startswith("y")
        else DIGITS[halves[half]]
        for name, half in names.items()
    }
    if files == "npz":
        np.savez(place.root / "mine.npz", **arrays)
    for name, values in arrays.items() if files == "npy" else ():
        np.save(place.root / f"{name}.npy", values)
    data = place.load()
    assert per_split(data) == HALF
    assert np.array_equal(rows_of(data)[..., 0], DIGITS[: TRAIN + TEST])


@pytest.mark.parametrize(
    ("change", "shape"),
    [(lambda x: x.astype(np.float32) / 255, (1, 8, 8)), (lambda x: x.astype(np.uint16) * 257, (1, 8, 8)),
     (lambda x: x.astype(np.int64), (1, 8, 8)), (lambda x: x.reshape(len(x), 64), (1, 8, 8)),
     (lambda x: x[:, None], (1, 8, 8)), (lambda x: np.stack([x] * 3, 1), (3, 8, 8)),
     (lambda x: np.stack([x] * 3, -1), (3, 8, 8))],
    ids=["float of [0, 1]", "16 bits", "int64", "flat rows", "N1HW", "N3HW", "NHW3"],
)  # fmt: skip
def test_axes_and_depths_of_arrays(place, change, shape):
    np.savez(place.root / "mine.npz", images=change(DIGITS[:TRAIN]), labels=np.array(LABELS[:TRAIN]))
    data = place.load()
    assert data.image_shape == shape
    assert {pixels.tobytes() for pixels in data.train.pixels[:, 0].numpy()} < {
        pixels.tobytes() for pixels in DIGITS[:TRAIN]
    }


def test_arrays_that_are_refused(place):
    np.savez(place.root / "mine.npz", images=DIGITS[:TRAIN], labels=np.array([{}] * TRAIN))
    with pytest.raises(DataError, match="pickled objects, which are never loaded"):
        place.load()
    np.savez(place.root / "mine.npz", images=DIGITS[:TRAIN], labels=np.eye(2)[LABELS[:TRAIN]] + 1)
    with pytest.raises(DataError, match="several per image"):
        place.load()
    np.savez(place.root / "mine.npz", pictures=DIGITS[:TRAIN])
    with pytest.raises(DataError, match=r"name them train_images .* pictures \(20, 8, 8\)"):
        place.load()


def tar(path, files, **special):
    with tarfile.open(path, "w") as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for key, value in special.get(name.replace(".", "_"), {}).items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("label", ["cls", "json"])
def test_webdataset(place, label, caplog):
    def files(rows):
        for i in rows:
            yield f"{i:04}.png", encoded(DIGITS[i])
            yield (
                f"{i:04}.{label}",
                str(LABELS[i]).encode() if label == "cls" else json.dumps({"label": LABELS[i]}).encode(),
            )

    tar(place.root / "train-0000.tar", [*files(range(10)), ("../evil.png", encoded(DIGITS[0])), ("alone.png", b"")])
    tar(place.root / "train-0001.tar", files(range(10, TRAIN)))
    tar(place.root / "test-0000.tar", files(range(TRAIN, TRAIN + TEST)))
    data = place.load()
    assert per_split(data) == HALF
    assert np.array_equal(rows_of(data)[..., 0], DIGITS[: TRAIN + TEST])
    assert data.source["files"]["used"] == {"train": 2, "test": 1}
    assert "2 files or samples in tars are not read" in caplog.text


def test_a_tar_of_class_folders_is_to_be_unpacked(place):
    tar(place.root / "pets.tar", [(f"cat/{i}.png", encoded(DIGITS[i])) for i in range(5)])
    with pytest.raises(DataError, match="unpacked first: tar -xf"):
        place.load()


def picture_parquet(path, cells, labels):
    part = datasets.Dataset.from_dict({"image": cells, "label": labels})
    path.parent.mkdir(parents=True, exist_ok=True)
    part.to_parquet(path)


def test_paths_in_cells_are_read_inside_the_folder_only(place, tmp_path):
    place.pictures("img", TRAIN)
    cells = [{"bytes": None, "path": f"img/{i:03}.png"} for i in range(TRAIN)]
    picture_parquet(place.root / "train.parquet", cells, LABELS[:TRAIN])
    assert place.load().source["train_size"] == 16
    secret = Place(tmp_path).picture("secret.png")
    for attack in (str(secret), "../secret.png"):
        cells[3] = {"bytes": None, "path": attack}
        picture_parquet(place.root / "train.parquet", cells, LABELS[:TRAIN])
        with pytest.raises(DataError, match=r"secret.png: lies outside the dataset's folder, where nothing is read"):
            place.load()


def test_saved_data_names_files_inside_the_folder_only(place, tmp_path):
    cells = [{"bytes": encoded(DIGITS[i]), "path": None} for i in range(TRAIN)]
    part = datasets.Dataset.from_dict({"image": cells, "label": LABELS[:TRAIN]}).cast_column("image", datasets.Image())
    part.save_to_disk(place.root)
    assert place.load().source["files"]["layout"] == "save_to_disk"
    state = json.loads((place.root / "state.json").read_text())
    (place.root / state["_data_files"][0]["filename"]).rename(tmp_path / "x.arrow")
    state["_data_files"][0]["filename"] = "../x.arrow"
    place.text("state.json", json.dumps(state))
    with pytest.raises(DataError, match=r"names '\.\./x\.arrow', which is not a file of the folder"):
        place.load()


@pytest.mark.parametrize("name", ["train.parquet", "train.tar", "mine.npz", "train.arrow", "train_32x32.mat"])
@pytest.mark.parametrize(("data", "words"), [(POINTER, "git lfs pull"), (b"", "empty file")], ids=["pointer", "empty"])
def test_pointers_and_empty_files(place, name, data, words):
    place.text(name, data)
    with pytest.raises(DataError, match=words):
        place.load()


def test_layouts_have_names_of_their_own():
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)


def test_the_account_is_logged_for_one_file_alone(tmp_path, caplog):
    place = Place(tmp_path / "set")
    place.pictures("pool", TRAIN)
    place.text("a.csv", "path,label\n" + "".join(f"pool/{i:03}.png,{'ab'[i % 2]}\n" for i in range(TRAIN)))
    place.text("b.csv", "path,label\npool/000.png,c\npool/001.png,c\n")
    with caplog.at_level(logging.INFO):
        found = load_dataset(DatasetConfig(name=str(place.root / "a.csv")))
    assert found.classes == ("a", "b")
    assert "22 files, read as pictures named in tables: train 20; left out 2: " in caplog.text
    assert "1 another table (b.csv)" in caplog.text


def test_several_datasets_in_one_folder_are_refused(place):
    cifar_python(place)
    place.text("MNIST/raw/train-images-idx3-ubyte", idx(DIGITS[:TRAIN]))
    with pytest.raises(DataError, match="several datasets, CIFAR, Python version, MNIST idx files; name one's folder"):
        place.load()


def test_pictures_beside_parquet_are_told(place, caplog):
    cells = [{"bytes": encoded(DIGITS[i]), "path": None} for i in range(TRAIN)]
    picture_parquet(place.root / "cache.parquet", cells, LABELS[:TRAIN])
    place.pictures("cat", 5)
    place.load()
    assert "read as parquet files; 5 picture(s) in folders beside are not read: cat/000.png" in caplog.text


def test_a_damaged_arrow_file_is_refused_and_does_not_end_the_process(place):
    cells = [{"bytes": encoded(DIGITS[i]), "path": None} for i in range(TRAIN)]
    part = datasets.Dataset.from_dict({"image": cells, "label": LABELS[:TRAIN]}).cast_column("image", datasets.Image())
    offsets = np.cumsum([0, *(len(cell["bytes"]) for cell in cells)], dtype="<i4").tobytes()
    part.save_to_disk(place.root)
    path = next(place.root.glob("*.arrow"))
    data = path.read_bytes()
    assert offsets in data
    path.write_bytes(data.replace(offsets, offsets[:8] + np.int32(2**30).tobytes() + offsets[12:]))
    with pytest.raises(DataError, match="damaged arrow file"):
        place.load()
