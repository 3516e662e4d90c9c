"""Further situations that users meet: each is read as expected, or refused with the cause and the way out."""

import json
import logging
import os

import datasets
import numpy as np
import pytest
from data_places import DIGITS, Place, encoded, per_split
from PIL import Image

from latentdd_plugin.core import plugins
from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.images import decode_files

PAIR = ({"a": 16, "b": 16}, {"a": 4, "b": 4})  # of 20 pictures of two classes each, without a test split


def two_classes(place, names=("a", "b"), count=20):
    for name in names:
        place.pictures(name, count)


# --- situations: a function that fills a folder, what comes out (rows, or words of the refusal), words of the log ----


def linked_class(place):
    """A class folder is a link to a folder kept elsewhere inside the dataset's folder."""
    place.pictures(".store/b", 20)
    place.pictures("pool/b", 20)
    place.pictures("train/a", 20)
    place.pictures("test/a", 5)
    place.pictures("test/b", 5)
    (place.root / "train/b").symlink_to("../pool/b")


def class_outside(place):
    """Class folders are links to another disk; nothing outside the folder is read."""
    outside = Place(place.root.parent / "elsewhere")
    two_classes(outside)
    for name in ("a", "b"):
        (place.root / name).symlink_to(outside.root / name)


def in_two_splits(place):
    """A test picture is a link to a training picture."""
    two_classes(place, ("train/a", "train/b", "test/a", "test/b"))
    (place.root / "test/a/zz.png").symlink_to("../../train/a/000.png")


def fifo_and_newline(place):
    """A FIFO, and a name with a line break, among the pictures."""
    two_classes(place)
    os.mkfifo(place.root / "a/pipe.png")
    (place.root / "a/000.png").rename(place.root / "a/new\nline.png")


def not_utf8(place):
    """A file name that is not UTF-8."""
    two_classes(place)
    (place.root / "a/000.png").rename(place.root / "a" / os.fsdecode(b"\xff.png"))


def flat_unlabelled_test(place):
    """Labelled training folders, and a test folder of pictures without labels."""
    two_classes(place, ("train/a", "train/b"))
    place.pictures("test", 7)


def twins(place):
    """Half of the test pictures are training pictures as well."""
    two_classes(place, ("train/a", "train/b"))
    for name in ("a", "b"):
        for i in range(5):
            place.text(f"test/{name}/{i}.png", (place.root / f"train/{name}/{i:03}.png").read_bytes())


def flat_without_labels(place):
    """Pictures in one folder, and nothing that says what they show."""
    place.pictures("", 20)


def yolo_detection(place):
    """A detection dataset: pictures in images/train, boxes in labels/train."""
    for split in ("train", "val"):
        place.pictures(f"images/{split}", 10)
        for i in range(10):
            place.text(f"labels/{split}/{i:03}.txt", "0 0.5 0.5 1 1")


def yolo_beside(place):
    """Class folders with boxes, XML and JSON beside each picture."""
    two_classes(place)
    for i in range(20):
        for suffix in ("txt", "xml", "json"):
            place.text(f"a/{i:03}.{suffix}", "{}")


def no_suffix(place):
    """Pictures without a suffix, as web crawlers write them."""
    two_classes(place)
    for path in [*place.root.rglob("*.png")]:
        path.rename(path.with_suffix(""))


def upper_suffix(place):
    """Suffixes in capitals."""
    two_classes(place)
    for path in [*place.root.rglob("*.png")]:
        path.rename(path.with_suffix(".PNG"))


def heic(place):
    """A phone's HEIC pictures among JPEGs."""
    two_classes(place)
    place.text("a/IMG_1.HEIC", b"\x00\x00\x00\x18ftypheic")


def pointers(place):
    """A repository cloned without git-lfs: pictures are pointers, 25 of them."""
    two_classes(place)
    for i in range(15):
        place.text(f"a/{i:03}.png", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
        place.text(f"b/{i:03}.png", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")


def broken_ones(place):
    """An empty file, a cut one and an HTML page among the pictures."""
    two_classes(place)
    place.text("a/000.png", b"")
    place.text("a/001.png", encoded(DIGITS[1])[:40])
    place.text("b/002.png", "<!DOCTYPE html><html>404</html>")


def kaggle(place):
    """A CSV with ids without suffix, several columns, and a second CSV without labels."""
    place.pictures("images", 40)
    lines = [f"{i:03},{'ab'[i % 2]},{i}" for i in range(40)]
    place.text("train.csv", "image_id,label,patient\n" + "\n".join(lines))
    place.text("sample_submission.csv", "image_id\n001\n")


def csv_with_splits(place):
    """A CSV with a split column."""
    place.pictures("img", 50)
    lines = [f"img/{i:03}.png\t{'ab'[i % 2]}\t{'test' if i < 10 else 'train'}" for i in range(50)]
    place.text("all.tsv", "path\tclass\tsplit\n" + "\n".join(lines))


def csv_leads_outside(place):
    """A CSV that names a picture outside the folder."""
    place.pictures("img", 20)
    Place(place.root.parent).picture("secret.png")
    lines = [f"img/{i:03}.png,{'ab'[i % 2]}" for i in range(20)]
    place.text("labels.csv", "path,label\n" + "\n".join([*lines, "../secret.png,a"]))


def csv_with_holes(place):
    """A CSV that names pictures which are not there, and does not name some that are."""
    place.pictures("img", 44)
    lines = [f"img/{i:03}.png,{'ab'[i % 2]}" for i in range(40)]
    place.text("labels.csv", "path,label\n" + "\n".join([*lines, "img/999.png,a"]))


def csv_uneven(place):
    """A CSV in which one line has more values than the header."""
    place.pictures("img", 4)
    place.text("labels.csv", "path;label\nimg/000.png;a\nimg/001.png;b\nimg/002.png;b;x\nimg/003.png;a\n")


def utf16_table(place):
    """A spreadsheet's 'Unicode text': UTF-16, tabs."""
    place.pictures("img", 40)
    lines = [f"{i:03}.png\t{'ab'[i % 2]}" for i in range(40)]
    place.text("labels.tsv", ("file\tclass\n" + "\n".join(lines)).encode("utf-16"))


def captions_only(place):
    """Flat pictures whose table holds captions, all different."""
    place.pictures("", 20)
    rows = [json.dumps({"file_name": f"{i:03}.png", "text": f"picture {i}"}) for i in range(20)]
    place.text("metadata.jsonl", "\n".join(rows))


def one_folder_and_table(place):
    """All pictures in one folder with a name of its own, labels in a CSV."""
    place.pictures("scans", 40)
    place.text("labels.csv", "file,label\n" + "\n".join(f"{i:03}.png,{'ab'[i % 2]}" for i in range(40)))


def padded_numbers(place):
    """Class folders 00 … 11."""
    two_classes(place, [f"{i:02}" for i in range(12)], 10)


def minus_one(place):
    """Labels -1 and 1 in a table."""
    place.pictures("img", 40)
    place.text("labels.csv", "file,label\n" + "\n".join(f"img/{i:03}.png,{1 - i % 2 * 2}" for i in range(40)))


def fractions(place):
    """Labels that are measurements."""
    place.pictures("img", 20)
    place.text("labels.csv", "file,label\n" + "\n".join(f"img/{i:03}.png,{i % 3 / 2}" for i in range(20)))


def split_twice(place):
    """Two folders for one split."""
    two_classes(place, ("train/a", "train/b", "val/a", "val/b", "dev/a", "dev/b"), 5)


def test_class_unknown(place):
    """A class of the test split that the training split does not have."""
    two_classes(place, ("train/a", "train/b", "test/a", "test/c"), 5)


test_class_unknown.__test__ = False


def numpy_in_folders(place):
    """Class folders of .npy files."""
    for name in ("a", "b"):
        for i in range(5):
            (place.root / name).mkdir(exist_ok=True)
            np.save(place.root / name / f"{i}.npy", DIGITS[i])


def masks(place):
    """Masks saved with the values 0 and 1: black to the eye."""
    for name in ("a", "b"):
        for i in range(20):
            place.picture(f"{name}/{i}.png", (DIGITS[i] > 99).astype(np.uint8))


def blank(place):
    """All pictures black."""
    for name in ("a", "b"):
        for i in range(20):
            place.picture(f"{name}/{i}.png", np.zeros((8, 8), np.uint8))


def readme_pictures(place):
    """A parquet dataset whose card has a picture."""
    part = {"image": [{"bytes": encoded(DIGITS[i]), "path": None} for i in range(40)], "label": [*"ab" * 20]}
    (place.root / "data").mkdir()
    datasets.Dataset.from_dict(part).to_parquet(place.root / "data/train-00000-of-00001.parquet")
    place.picture("assets/logo.png")


def boxes(place):
    """Tables of boxes: several rows per picture, one table per split and one of everything."""
    place.pictures("images", 30)
    rows = [f"{i:03}.png,{'ab'[i % 2]},{box}" for i in range(30) for box in (1, 2)]
    for name, part in (("all", rows), ("train_labels", rows[:40]), ("test_labels", rows[40:])):
        place.text(f"data/{name}.csv", "filename,class,xmin\n" + "\n".join(part))


def two_annotators(place):
    """A table in which two people disagree about a picture."""
    place.pictures("images", 20)
    rows = [f"{i:03}.png,{'ab'[i % 2]},me" for i in range(20)]
    place.text("labels.csv", "file,label,who\n" + "\n".join([*rows, "003.png,a,you", "004.png,a,you"]))


def no_header(place):
    """A CSV whose first line is a row already, beside one with a header."""
    place.pictures("images", 40)
    rows = [f"{i:03}.png,{'ab'[i % 2]}" for i in range(40)]
    place.text("first.csv", "\n".join(rows[:10]))
    place.text("labels.csv", "file,label\n" + "\n".join(rows))


def two_frames(place):
    """Animations: only their first frame is used."""
    for name in ("a", "b"):
        (place.root / name).mkdir()
        for i in range(20):
            more = [Image.fromarray(255 - DIGITS[i])]
            Image.fromarray(DIGITS[i]).save(place.root / name / f"{i}.gif", save_all=True, append_images=more)


def examples_beside(place):
    """A repository's top folder: examples beside the folder of classes."""
    two_classes(place, ("Dataset/a", "Dataset/b"))
    place.pictures("Examples", 5)


def parts_of_a_set(place):
    """The same classes in two numbered parts."""
    two_classes(place, ("part1/a", "part1/b", "part2/a", "part2/b"), 5)


def rar(place):
    """A packed download."""
    place.text("pets.7z", b"7z")


SITUATIONS = [
    (linked_class, ({"a": 20, "b": 20}, {"a": 5, "b": 5}), ["not in a split, and not read: pool", "20 hidden"]),
    (class_outside, "2 a link that leads outside the folder", []),
    (in_two_splits, "one file, in the splits (test and train|train and test); keep it in one", []),
    (fifo_and_newline, ({"a": 15, "b": 16}, {"a": 4, "b": 4}), ["1 a device, FIFO or socket", "1 a name that holds"]),
    (not_utf8, ({"a": 15, "b": 16}, {"a": 4, "b": 4}), ["1 a name that holds control characters or is not UTF-8"]),
    (flat_unlabelled_test, PAIR, ["7 a picture outside the class folders (test/000.png", "no test split with labels"]),
    (twins, ({"a": 20, "b": 20}, {"a": 5, "b": 5}), ["10 of 10 test images are training images as well"]),
    (flat_without_labels, "20 pictures .*, but no class folders and no table that names them", []),
    (yolo_detection, "no training class folders", []),
    (yolo_beside, PAIR, ["20 not a picture (.txt)", "20 not a picture (.xml)", "20 not a picture (.json)"]),
    (no_suffix, PAIR, ["40 files, read as class folders: train 40; left out none"]),
    (upper_suffix, PAIR, ["train 40; left out none"]),
    (heic, PAIR, ["1 in a picture format that is not read (.heic); convert to PNG or JPEG (a/IMG_1.HEIC)"]),
    (pointers, r"20 or more images cannot be read; [^\n]*\n  a/00\d.png: a git-lfs pointer", []),
    (broken_ones, "(?s)3 images.*a/000.png: an empty file.*a/001.png: corrupt.*b/002.png: an HTML page", []),
    (kaggle, PAIR, ["labels are read from train.csv"]),
    (csv_with_splits, ({"a": 20, "b": 20}, {"a": 5, "b": 5}), ["read as pictures named in tables: train 40, test 10"]),
    (csv_leads_outside, r"labels.csv: '../secret.png' lies outside the dataset's folder", []),
    (csv_with_holes, PAIR, ["1 rows name no picture in the folder", "4 of 44 pictures are named in no table"]),
    (csv_uneven, "labels.csv, line 4: 3 values for the 2 columns of its first line, separated by semicolons", []),
    (utf16_table, PAIR, ["labels are read from labels.tsv"]),
    (captions_only, "20 different values in 20 rows, too many for labels; set dataset.label_column", []),
    (one_folder_and_table, PAIR, ["labels are read from labels.csv"]),
    (
        padded_numbers,
        ({f"{i:02}": 8 for i in range(12)}, {f"{i:02}": 2 for i in range(12)}),
        ["12 classes: 0 00, 1 01"],
    ),
    (minus_one, ({"-1": 16, "1": 16}, {"-1": 4, "1": 4}), ["the labels of label are -1 and 1"]),
    (fractions, "img/001.png: the label 0.5 is not a whole number", []),
    (split_twice, "two folders for one split among dev, train, val", []),
    (test_class_unknown, r"no training images of 1 class\(es\): c; list the classes", []),
    (numpy_in_folders, "no arrays of images with labels", []),
    (masks, PAIR, ["all pixels lie between 0 and 1 of 0 … 255"]),
    (blank, PAIR, ["every pixel is 0; the images are empty"]),
    (readme_pictures, PAIR, ["2 files, read as parquet files: train 1; left out 1"]),
    (boxes, ({"a": 10, "b": 10}, {"a": 5, "b": 5}), ["30 rows name a picture again", "they differ in xmin (30)"]),
    (two_annotators, r"1 picture\(s\) with several rows that differ in label: images/003.png", []),
    (no_header, PAIR, ["1 a table without a header line (first.csv)"]),
    (two_frames, PAIR, ["images of several frames, the first of each is used: a/"]),
    (examples_beside, PAIR, ["not in Dataset/, and not read: Examples"]),
    (
        parts_of_a_set,
        ({f"part{i}/{c}": 4 for i in (1, 2) for c in "ab"}, {f"part{i}/{c}": 1 for i in (1, 2) for c in "ab"}),
        ["part1, part2 hold the same class folders; if they are parts of one set, merge them"],
    ),
    (rar, "pets.7z is an archive, which has to be unpacked first: 7z x pets.7z", []),
]


@pytest.mark.parametrize(("fill", "outcome", "words"), SITUATIONS, ids=[case[0].__name__ for case in SITUATIONS])
def test_situation(fill, outcome, words, tmp_path, caplog):
    place = Place(tmp_path / "set")
    fill(place)
    with caplog.at_level(logging.INFO):
        if isinstance(outcome, str):
            with pytest.raises(DataError, match=outcome):
                place.load()
            return
        data = place.load()
        rows = per_split(data)
    assert rows == outcome
    assert list(data.classes) == list(outcome[0])
    for text in words:
        assert text in caplog.text
    files = data.source["files"]
    assert files["found"] == sum(files["used"].values()) + sum(files["left_out"].values())


def test_a_name_that_is_an_entry_and_a_folder_is_told(tmp_path, monkeypatch, caplog):
    from latentdd_plugin.core.config import DatasetConfig
    from latentdd_plugin.data.load import load_dataset

    monkeypatch.chdir(tmp_path)
    two_classes(Place(tmp_path / "digits"))
    assert "digits" in plugins.entries("datasets")
    assert load_dataset(DatasetConfig(name="digits")).source["origin"] == "entry"
    assert "digits is a dataset of that name and a folder" in caplog.text
    assert load_dataset(DatasetConfig(name="./digits")).classes == ("a", "b")


# --- depth -----------------------------------------------------------------------------------------------------------


def deep(place, change, suffix="png", **options):
    for name in ("a", "b"):
        for i in range(10):
            place.picture(f"{name}/{i}.{suffix}", change(DIGITS[i + 10 * (name == "b")]), **options)
    return place


GREYS = [
    ("16 bits, full", lambda x: x.astype(np.uint16) * 257, "png"),
    ("8 bits in 16", lambda x: x.astype(np.uint16), "png"),
    ("16-bit TIFF", lambda x: x.astype(np.uint16) * 257, "tif"),
    ("32-bit TIFF", lambda x: x.astype(np.int32) * 257, "tif"),
    ("float of [0, 1]", lambda x: (x / 255).astype(np.float32), "tif"),
    ("float of 0 … 255", lambda x: x.astype(np.float32), "tif"),
    ("float of 0 … 65535", lambda x: x.astype(np.float32) * 257, "tif"),
    ("8 bits", lambda x: x, "tif"),
]


@pytest.mark.parametrize(("change", "suffix"), [case[1:] for case in GREYS], ids=[case[0] for case in GREYS])
def test_every_depth_gives_the_same_levels(tmp_path, change, suffix):
    data = deep(Place(tmp_path / "set"), change, suffix).load()
    known = {pixels.tobytes() for pixels in DIGITS[:20]}
    assert {pixels.tobytes() for pixels in data.train.pixels.numpy()} < known
    assert {pixels.tobytes() for pixels in data.held_out("test").pixels.numpy()} < known


@pytest.mark.parametrize(
    ("change", "words"),
    [(lambda x: x.astype(np.float32) - 300, "holds the value -300"), (lambda x: x / np.float32(0.3), "holds the value"),
     (lambda x: np.full((8, 8), np.nan, np.float32), "not finite"),
     (lambda x: x.astype(np.int32) * 70000, "holds the value")],
    ids=["Hounsfield units", "fractions beyond 255", "NaN", "beyond 16 bits"],
)  # fmt: skip
def test_depths_that_are_refused(tmp_path, change, words):
    with pytest.raises(DataError, match=words) as caught:
        deep(Place(tmp_path / "set"), change, "tif").load()
    assert ".tif" in str(caught.value)


def test_the_depth_is_that_of_the_whole_set(tmp_path, caplog):
    place = Place(tmp_path / "set")
    for split, factor in (("train", 4), ("test", 16)):  # the test pictures alone need 12 bits
        for name in ("a", "b"):
            for i in range(5):
                place.picture(f"{split}/{name}/{i}.png", DIGITS[i].astype(np.uint16) * factor)
    with caplog.at_level(logging.INFO):
        data = place.load()
    assert "read as 12 bits" in caplog.text
    assert data.held_out("test").pixels.max() > 200 > 100 > data.train.pixels.max()


def test_modes_of_colour(tmp_path):
    grey = DIGITS[0]
    colour = np.stack([DIGITS[0], DIGITS[1], DIGITS[2]], -1)
    place = Place(tmp_path / "set")
    images = {
        "palette.png": Image.fromarray(colour).convert("P"), "grey.png": Image.fromarray(grey),
        "bit.png": Image.fromarray(grey > 99), "la.png": Image.fromarray(grey).convert("LA"),
        "rgba.png": Image.fromarray(colour).convert("RGBA"), "cmyk.jpg": Image.fromarray(colour).convert("CMYK"),
        "ycbcr.jpg": Image.fromarray(colour).convert("YCbCr"), "plain.png": Image.fromarray(colour),
    }  # fmt: skip
    for name in ("a", "b"):
        (place.root / name).mkdir()
        for file, image in images.items():
            image.save(place.root / name / file, **({"quality": 100} if file.endswith("jpg") else {}))
    data = place.load()
    assert data.image_shape == (3, 8, 8)
    everything = np.concatenate([data.train.pixels.numpy(), data.held_out("test").pixels.numpy()])
    means = everything.mean((1, 2, 3))
    assert (abs(means - colour.mean()) < 25).all()


def test_files_of_an_import_share_one_depth(tmp_path):
    place = Place(tmp_path / "set")
    files = [place.picture(f"{i}.png", DIGITS[i].astype(np.uint16) * 16) for i in range(3)]
    levels = [np.asarray(image) for image in decode_files(files)]
    assert all(np.array_equal(found, np.rint(DIGITS[i] * 16.0 / (4095 / 255))) for i, found in enumerate(levels))
    place.text("4.png", b"")
    place.text("5.png", "version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match=r"(?s)2 images.*4.png: an empty file.*5.png: a git-lfs pointer"):
        list(decode_files([*files, tmp_path / "set/4.png", tmp_path / "set/5.png"]))
