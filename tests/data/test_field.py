"""Datasets as users have them: rows per split, classes and the account of every file."""

import logging
from pathlib import Path

import pytest
from data_places import counts

from latentdd_plugin.core.config import DatasetConfig
from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.load import load_dataset

FIELD = Path(__file__).parents[3] / "shared" / "field"
pytestmark = pytest.mark.skipif(not FIELD.is_dir(), reason="no ../shared/field beside the checkout")

CATS = ({"cat": 16, "dog": 16}, {"cat": 4, "dog": 4})  # of 20 each, without a test split
SPLIT = ({"cat": 20, "dog": 20}, {"cat": 6, "dog": 6})
NONE = "left out none"

CASES = [  # folder, (training rows, test rows) per class, the account, other words of the log
    ("01_class_train", ({"airplane": 16, "car": 16, "train": 16}, {"airplane": 4, "car": 4, "train": 4}),
     f"60 files, read as class folders: train 60; {NONE}", ["train/ taken for a class"]),
    ("01b_split_and_class_train", ({"airplane": 20, "car": 20, "train": 20}, {"airplane": 8, "car": 8, "train": 8}),
     f"84 files, read as class folders: train 60, test 24; {NONE}", []),
    ("01c_station", ({"airport": 20, "train_station": 20}, {"airport": 8, "train_station": 8}),
     f"56 files, read as class folders: train 40, test 16; {NONE}", []),
    ("02_names_with_test", ({"cat": 18, "dog": 18}, {"cat": 5, "dog": 5}),
     f"46 files, read as class folders: train 46; {NONE}", ["no test split with labels (looked for: test, testing,"]),
    ("03_capital_splits", SPLIT, f"52 files, read as class folders: train 40, test 12; {NONE}", []),
    ("06_folders_and_captions", CATS,
     "41 files, read as class folders: train 40; left out 1: 1 not a picture (.csv) (metadata.csv)",
     ["the folders are the classes", "dataset.label_column=NAME reads a column of it: caption"]),
    ("06b_folders_and_site", SPLIT,
     "54 files, read as class folders: train 40, test 12; left out 2: 2 not a picture (.csv) "
     "(test/metadata.csv, train/metadata.csv)", ["dataset.label_column=NAME reads a column of it: photographer"]),
    ("07_excel_metadata", CATS,
     "41 files, read as pictures named in tables: train 40; left out 1: 1 a table, read for the labels (metadata.csv)",
     ["metadata.csv is separated by semicolons"]),
    ("08_sidecars", CATS,
     "80 files, read as class folders: train 40; left out 40: 40 not a picture (.txt) "
     "(cat/0000.txt, cat/0001.txt, cat/0002.txt, …)", []),
    ("09_junk", CATS,
     "46 files, read as class folders: train 40; left out 6: 5 hidden, or left by the operating system "
     "(.DS_Store, __MACOSX/cat/._0001.png, cat/._0001.png, …); 1 not a picture (.txt) (classes.txt)", []),
    ("09b_depths", CATS,
     "41 files, read as class folders: train 40; left out 1: 1 a picture outside the class folders (cover.png)", []),
    ("11_float_tiff", CATS, f"40 files, read as class folders: train 40; {NONE}", ["are read as [0, 1]"]),
    ("11b_twelve_bits", CATS, f"40 files, read as class folders: train 40; {NONE}",
     ["values from 256 to 2704 are read as 12 bits (4095 is white)"]),
    ("14_pandas_parquet", CATS, f"1 file, read as parquet files: train 1; {NONE}",
     ["the column image holds {bytes, path} without the library's note"]),
    ("14b_binary_parquet", CATS, f"1 file, read as parquet files: train 1; {NONE}",
     ["the column image holds bytes without the library's note"]),
    ("15_csv_of_paths", CATS,
     "41 files, read as pictures named in tables: train 40; left out 1: 1 a table, read for the labels (train.csv)",
     []),
    ("16_float", ({"0": 16, "1": 16}, {"0": 4, "1": 4}), f"1 file, read as parquet files: train 1; {NONE}",
     ["the labels of label are floating-point numbers, all whole"]),
    ("18_numeric", ({str(i): 8 for i in range(12)}, {str(i): 4 for i in range(12)}),
     f"144 files, read as class folders: train 96, test 48; {NONE}", ["12 classes: 0 0, 1 1, 2 2, 3 3"]),
    ("20_tiny_imagenet_200",
     ({"n01443537": 20, "n01629819": 20, "n02124075": 20}, {"n01443537": 5, "n01629819": 5, "n02124075": 5}),
     "86 files, read as Tiny ImageNet: train 60, validation 15; left out 11: ",
     ["5 a picture without a label", "0 n01443537 (goldfish"]),
]  # fmt: skip


@pytest.mark.parametrize(("case", "rows", "account", "words"), CASES, ids=[case[0] for case in CASES])
def test_case(case, rows, account, words, caplog):
    with caplog.at_level(logging.INFO):
        data = load_dataset(DatasetConfig(name=str(FIELD / case), image_size=16))
        test = data.held_out("test")
    assert (counts(data, data.train), counts(data, test)) == rows
    assert data.classes == tuple(rows[0])
    for text in (account, *words):
        assert text in caplog.text
    assert 55 < data.train.pixels.float().mean() < 80  # neither black nor white: 8-bit originals lie here
    files = data.source["files"]
    assert files["found"] == sum(files["used"].values()) + sum(files["left_out"].values())


def test_a_column_is_read_instead_of_the_folders_if_asked_for():
    name = str(FIELD / "06b_folders_and_site")
    data = load_dataset(DatasetConfig(name=name, image_size=16, label_column="photographer"))
    assert data.classes == ("Ana", "Ben")
    assert (data.source["train_size"], data.source["test_size"]) == (40, 12)
    with pytest.raises(DataError, match=r"no table in the folder has the column dataset.label_column=site; there are"):
        load_dataset(DatasetConfig(name=name, image_size=16, label_column="site"))


def test_a_zip_is_to_be_unpacked():
    with pytest.raises(DataError, match=r"pets.zip is an archive, which has to be unpacked first: unzip pets.zip"):
        load_dataset(DatasetConfig(name=str(FIELD / "18d_zip")))


def test_too_large_is_not_corrupt():
    name = str(FIELD / "12_bomb")
    message = (
        r"cat/scan.png: too large \(189,000,000 pixels, the limit is 178,956,970\); .*dataset.max_pixels=189000000"
    )
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(DatasetConfig(name=name, image_size=16))
    assert "corrupt" not in str(caught.value)
    data = load_dataset(DatasetConfig(name=name, image_size=16, max_pixels=189_000_000))
    assert data.source["files"]["used"] == {"train": 13}
