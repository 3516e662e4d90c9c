"""The rule for folders of pictures: random trees of known truth, and the table of docs/guides/your-own-data.md."""

import os
import tempfile
from pathlib import Path

import pytest
from data_places import Place
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.class_folders import assign
from latentdd_plugin.data.splits import split_of
from latentdd_plugin.data.walk import list_folder

NAMES = [
    "train",
    "test",
    "val 2",
    "train_station",
    "Ümlaut",
    "猫",
    "a b",
    "dev.x",
    "images",
    "0",
    "10",
    "2",
    "cat",
    "Test",
]
SPLITS = {
    "train": ["train", "Training", "TRAIN", "train_set", "Train Set"],
    "test": ["test", "Testing", "test-set", "TEST"],
    "validation": ["val", "valid", "Validation", "dev", "eval"],
}
JUNK = [".DS_Store", "cat.txt", "notes.json", "Thumbs.db", "labels.xml", "__MACOSX/x.png", ".hidden/y.png"]


@st.composite
def trees(draw):
    """Return (top folders by split or {"": None}, class paths, extras)."""
    names = st.sampled_from(NAMES)
    paths = draw(st.lists(st.lists(names, min_size=1, max_size=2).map(tuple), min_size=2, max_size=5, unique=True))
    folded = {tuple(part for part in path) for path in paths}
    wanted = draw(st.sets(st.sampled_from(["test", "validation"]))) | {"train"} if draw(st.booleans()) else set()
    tops = {split: draw(st.sampled_from(SPLITS[split])) for split in sorted(wanted)}
    extras = draw(st.lists(st.sampled_from(JUNK), max_size=3, unique=True))
    links = draw(st.sets(st.sampled_from(["inside", "outside", "broken", "loop", "folder outside"])))
    return tops, sorted(folded), extras, links, draw(st.booleans()), draw(st.booleans())


def shared_parts(paths):
    """Return how many folders all class paths share at their start, and at their end, by the rule of the docs."""
    start = 0
    while all(len(path) > start + 1 for path in paths) and len({path[start] for path in paths}) == 1:
        start += 1
    deep = all(len(path) > start + 1 for path in paths)
    end = int(deep and len({path[-1] for path in paths}) == 1 and len({path[:-1] for path in paths}) > 1)
    return start, end


def make(root, tree):
    """Write the tree; return the expected {name: (split, class)} and the number of entries that are not folders."""
    tops, paths, extras, links, metadata, duplicate = tree
    place, expected = Place(root), {}
    start, end = shared_parts(paths)
    for split, top in tops.items() or {"train": ""}.items():
        for path in paths:
            for number in range(2):
                name = "/".join([*([top] if top else []), *path, f"test {number}.png"])
                place.picture(name)
                expected[name] = (split, "/".join(path[start : len(path) - end]))
    first = next(iter(expected))
    folder = (root / first).parent
    for name in extras:
        place.text(name, "x")
    if metadata:
        place.text("metadata.csv", "file_name,site\n" + "".join(f"{name},a\n" for name in expected))
    if duplicate:
        (folder / "copy.png").write_bytes((root / first).read_bytes())
        expected[f"{first.rpartition('/')[0]}/copy.png"] = expected[first]
    makers = {
        "inside": lambda: (folder / "zz-link.png").symlink_to(root / first),
        "outside": lambda: (folder / "zz-out.png").symlink_to("/etc/hostname"),
        "broken": lambda: (folder / "zz-broken.png").symlink_to("nowhere.png"),
        "loop": lambda: (folder / "zz-loop").symlink_to(folder),
        "folder outside": lambda: (folder / "zz-folder").symlink_to("/etc"),
    }
    for link in links:
        makers[link]()
    found = sum(len(files) + sum((Path(at) / f).is_symlink() for f in folders) for at, folders, files in os.walk(root))
    return place, expected, found


def ambiguous(tree):
    """Return whether the rule may refuse the tree: class folders named as splits, which splits do not contradict."""
    tops, paths = tree[:2]
    return (not tops and any(split_of(part) for path in paths for part in path)) or (
        len(tops) == 1 and sum(bool(split_of(path[0])) for path in paths) > 1
    )


def wrapped(tree):
    """Return whether a top folder has a name that may wrap the others."""
    return not tree[0] and any(path[0] == "images" for path in tree[1])


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(trees())
def test_random_trees(tree):
    with tempfile.TemporaryDirectory() as folder:
        _, expected, found = make(Path(folder) / "set", tree)
        listing = list_folder(Path(folder) / "set")
        pictures = [f.name for f in listing.files if f.suffix == ".png"]
        try:
            assignment = assign(pictures, "dataset x")
        except DataError:
            assert ambiguous(tree) or _says_nothing(tree)
            return
        assert set(assignment.used) | set(assignment.left_out) == set(pictures)
        assert not set(assignment.used) & set(assignment.left_out)
        assert len(listing.files) + len(listing.left_out) == found
        if not ambiguous(tree) and not wrapped(tree):
            links = {name for name in assignment.used if "zz-link" in name}
            assert {name: pair for name, pair in assignment.used.items() if name not in links} == expected


def _says_nothing(tree):
    """Return whether all class names that remain are words such as `images`."""
    start, end = shared_parts(tree[1])
    return {"/".join(path[start : len(path) - end]) for path in tree[1]} <= {"images"}


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(trees())
def test_random_trees_are_loaded_with_every_file_accounted_for(tree):
    with tempfile.TemporaryDirectory() as folder:
        place, expected, found = make(Path(folder) / "set", tree)
        if ambiguous(tree) or wrapped(tree):
            return
        try:
            data = place.load()
        except DataError as error:
            assert _says_nothing(tree), error
            return
        files = data.source["files"]
        assert files["found"] == found == sum(files["used"].values()) + sum(files["left_out"].values())
        used = set(tree[0]) or {"train"}
        if "test" in used:
            used -= {"validation"}
        for split in used:
            assert files["used"][split] == sum(pair[0] == split for pair in expected.values())
        assert set(data.classes) == {label for _, label in expected.values()}


DECISIONS = [  # the table of docs/guides/your-own-data.md: folders -> splits and classes, or the words of the refusal
    (["cat", "dog"], {("train", "cat"), ("train", "dog")}),
    (["train", "cat"], {("train", "train"), ("train", "cat")}),
    (["train/cat", "train/dog"], {("train", "cat"), ("train", "dog")}),
    (["train/cat", "train/dog", "val/cat", "val/dog"],
     {(s, c) for s in ("train", "validation") for c in ("cat", "dog")}),
    (["train/cat", "train/train", "test/cat", "test/train"],
     {(s, c) for s in ("train", "test") for c in ("cat", "train")}),
    (["train/cat", "train/dog", "test"], {("train", "cat"), ("train", "dog")}),
    (["train/cat", "train/dog", "test/cat", "test/dog", "pool"],
     {(s, c) for s in ("train", "test") for c in ("cat", "dog")}),
    (["pets/train/cat", "pets/train/dog", "pets/test/cat"], {("train", "cat"), ("train", "dog"), ("test", "cat")}),
    (["Dataset/0", "Dataset/1", "Examples"], {("train", "0"), ("train", "1")}),
    (["images/cat", "images/dog", "masks/cat", "masks/dog"], {("train", "cat"), ("train", "dog")}),
    (["images/images", "val 2"], {("train", "images/images"), ("train", "val 2")}),
    (["seg_train/sea", "seg_train/ice", "seg_test/sea", "seg_pred"],
     {("train", "sea"), ("train", "ice"), ("test", "sea")}),
    (["train2017", "val2017"], "no training class folders"),
    (["train_station", "test_site"], {("train", "train_station"), ("train", "test_site")}),
    (["animals/cat", "animals/dog"], {("train", "cat"), ("train", "dog")}),
    (["train/images/cat", "train/images/dog", "test/images/cat"],
     {("train", "cat"), ("train", "dog"), ("test", "cat")}),
    (["cat/images", "dog/images"], {("train", "cat"), ("train", "dog")}),
    (["cat/indoor", "cat/outdoor", "dog/indoor"],
     {("train", "cat/indoor"), ("train", "cat/outdoor"), ("train", "dog/indoor")}),
    (["train/steam", "train/diesel", "car", "plane"], "may be a split or a class beside"),
    (["train/steam", "train/diesel", "car/suv"], "may be a split or a class beside"),
    (["test/cat", "test/dog"], {("test", "cat"), ("test", "dog")}),
    (["test/cat", "cat", "dog"], "no training class folders"),
    (["train", "test"], "no training class folders"),
    (["train/cat", "train/dog", "training/cat", "training/dog"], "two folders for one split"),
    (["images"], "no class folders"),
    (["train/images", "val/images"], "no class folders"),
    ([""], "no class folders"),
]  # fmt: skip


@pytest.mark.parametrize(("folders", "outcome"), DECISIONS, ids=[" ".join(case[0]) or "flat" for case in DECISIONS])
def test_the_table_of_the_docs(folders, outcome):
    names = [f"{folder}/{i}.png".lstrip("/") for folder in folders for i in range(3)]
    if isinstance(outcome, str):
        with pytest.raises(DataError, match=outcome):
            assign(names, "dataset x")
        return
    found = assign(names, "dataset x")
    assert set(found.used.values()) == outcome
    assert len(found.used) + len(found.left_out) == len(names)


@pytest.mark.parametrize(
    ("name", "split"),
    [("Train Set", "train"), ("test-set", "test"), ("TESTING", "test"), ("valid", "validation"), ("dev", "validation"),
     ("trainset", "train"), ("Validation_Data", "validation"), ("train_station", None), ("val 2", None),
     ("contest", None),     ("test2", None), ("", None), ("latest", None)],
)  # fmt: skip
def test_names_of_splits(name, split):
    assert split_of(name) == split
