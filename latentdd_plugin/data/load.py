"""From a dataset's name to images and labels. Held-out images stay undecoded until they are asked for."""

from __future__ import annotations

import difflib
import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from latentdd_plugin.core.config import DatasetConfig
from latentdd_plugin.core.errors import DataError
from latentdd_plugin.core.parts import LATER
from latentdd_plugin.core.types import ImageData, Images, Json, Shape, canonical_json, hash_json
from latentdd_plugin.data.classes import imagenet_descriptions
from latentdd_plugin.data.columns import Ints, find_columns, has_labels, read_labels
from latentdd_plugin.data.depth import Depth
from latentdd_plugin.data.draws import SEED, capped, stratified
from latentdd_plugin.data.images import DeepImages, file_hashes, first_shape, measure_depth, read_pixels
from latentdd_plugin.data.quality import warn_of_flat_pixels
from latentdd_plugin.data.rows import MAX_PIXELS, ImageRows
from latentdd_plugin.data.shapes import known_shape
from latentdd_plugin.data.sources import Source, find
from latentdd_plugin.data.splits import LOOKED_FOR, split_of
from latentdd_plugin.data.store import PartStore, RowStore, choose, on_disk, summary_of
from latentdd_plugin.data.walk import printable

log = logging.getLogger(__name__)

TEST_NAMES = ("test", "validation", "val")
TEST_FRACTION = 0.2  # held out of the training split if there is no test split
IN_MEMORY = 3  # times the pixels' bytes that memory must have room for: pixels, and codes made of them
MANY_TWINS = 0.01  # share of test images that are training images as well, above which a warning is given


def load_dataset(
    config: DatasetConfig, *, progress: bool = False, again: bool = False, identify: bool = True
) -> ImageData:
    """Find a dataset, choose its rows and decode the training images, unless they are to be streamed.

    Args:
        config: which dataset, and which part of it.
        progress: show bars on stderr.
        again: training pixels will be read again and again; if they do not fit into memory, they go to the disk.
        identify: take the fingerprint of a stream now, by reading all of it unless an earlier process did. Without it
            the fingerprint is empty, and `with_fingerprint` takes it after the caller has read the stream.

    Returns:
        Training images as uint8 (N, C, H, W), C = 1 only if every one is grey. No test image is decoded
        before `held_out("test")`, except to find the depth of a set with more than 8 bits per value. `source` holds
        splits, sizes, revision, options and, for a local folder, the account of its files.

    Raises:
        DataError: no such dataset, column, class or split; an unlabelled row; a corrupt image; several image sizes.
        PluginError: the dataset's entry cannot be imported, or raises.
        RunFailed: the datasets library cannot write its cache.
    """
    source = find(config, progress=progress)
    chosen = choose_rows(source, config)
    account = tell_files(source, chosen, config)
    if (stored := _stored(source, chosen, config, account, progress, again=again)) is not None:
        return with_fingerprint(stored) if identify else stored
    parts = [part for part in (chosen.train, chosen.test, chosen.validation) if part is not None]
    hashes = [file_hashes(part.images) for part in parts]
    twins = _tell_twins(hashes[0], hashes[1], f"dataset {config.name}")
    reader = _Reader(config, [part.images for part in parts], progress)
    train, pixels_sha256 = reader.read(chosen.train, None, hashes[0])
    shape = (int(train.pixels.shape[1]), int(train.pixels.shape[2]), int(train.pixels.shape[3]))

    def held_out(split: str) -> Images:
        return reader.read(_held_out_part(chosen, split, config), shape)[0]

    return ImageData(
        name=source.name,
        classes=chosen.classes,
        train=train,
        held_out=held_out,
        fingerprint=_fingerprint(pixels_sha256, shape, chosen.classes, train),
        flip=_may_flip(source, config),
        source=_record(source, chosen, config) | ({"files": account | {"twins": twins}} if account else {}),
    )


def _held_out_part(chosen: Chosen, split: str, config: DatasetConfig) -> _Part:
    part = {"test": chosen.test, "validation": chosen.validation}.get(split)
    if part is not None:
        return part
    known = split in ("test", "validation")
    raise DataError(
        f"dataset {config.name}: no validation images; set dataset.validation to a fraction, for example 0.1"
        if known
        else f"dataset {config.name}: no held-out split {split!r}; ask for test or validation"
    )


def _may_flip(source: Source, config: DatasetConfig) -> bool:
    flip = config.flip if config.flip is not None else source.flip
    return True if flip is None else flip


def _stored(
    source: Source,
    chosen: Chosen,
    config: DatasetConfig,
    account: dict[str, Json] | None,
    progress: bool,
    *,
    again: bool,
) -> ImageData | None:
    """Return the dataset with pixels that stay on disk or are streamed; None if it goes into memory."""
    train, size = chosen.train, config.image_size
    shape = None
    if config.store == "auto":
        shape = first_shape(train.images, size)  # a guess, of the first image alone
        need = IN_MEMORY * len(train.labels) * math.prod(shape)
        kind = choose("auto", need, train.images.where, again=again)
    else:
        kind = choose(config.store, 0, train.images.where, again=again)
    if kind == "memory":
        return None
    shape = known_shape(train.images, size, source.stamp)
    stamp = source.stamp or hash_json([one.hex() for one in file_hashes(train.images)])
    rows = RowStore(train.images, size, shape, stamp)
    pixels = on_disk(rows, progress) if kind == "disk" else rows

    def held_out(split: str) -> Images:
        part = _held_out_part(chosen, split, config)
        mine = source.stamp or hash_json([one.hex() for one in file_hashes(part.images)])
        return Images(on_disk(RowStore(part.images, size, shape, mine), progress), torch.from_numpy(part.labels.copy()))

    images = Images(pixels, torch.from_numpy(train.labels.copy()))
    data = ImageData(
        name=source.name,
        classes=chosen.classes,
        train=images,
        held_out=held_out,
        fingerprint="",
        flip=_may_flip(source, config),
        source=_record(source, chosen, config) | ({"files": account} if account else {}),
        key=_fingerprint(rows.key, shape, chosen.classes, images),
    )
    return with_fingerprint(data) if kind == "disk" else data


def with_fingerprint(data: ImageData) -> ImageData:
    """Return the dataset with its fingerprint; a stream's becomes known when all of it was read once."""
    if data.fingerprint or not isinstance(data.train.pixels, PartStore):
        return data
    sha256 = summary_of(data.train.pixels).sha256
    return replace(data, fingerprint=_fingerprint(sha256, data.image_shape, data.classes, data.train))


def _fingerprint(pixels_sha256: str, shape: Shape, classes: tuple[str, ...], train: Images) -> str:
    """Return the sha256 over the training pixels, their shape, the class names and the labels."""
    digest = hashlib.sha256(f"{pixels_sha256}\n{shape}\n{canonical_json(classes)}\n".encode())
    digest.update(train.labels.numpy().astype("<i8").tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Part:
    """The rows of one split that are used."""

    images: ImageRows  # N rows
    labels: Ints  # (N,) numbers in the chosen classes

    def pick(self, positions: Ints) -> _Part:
        return _Part(replace(self.images, rows=self.images.rows[positions]), self.labels[positions])


@dataclass(frozen=True)
class Chosen:
    """The parts of a dataset that are used, and the splits they come from."""

    classes: tuple[str, ...]
    train: _Part
    test: _Part
    validation: _Part | None
    splits: Mapping[str, str]  # train and test: the splits they are, in words
    unused: tuple[str, ...]  # splits that are not used


def choose_rows(source: Source, config: DatasetConfig) -> Chosen:
    """Choose rows and labels of every part: test split, classes, validation fraction, cap; in this order."""
    where = f"dataset {config.name}"
    splits = source.splits
    train_name = _train_name(splits, where)
    image, label = find_columns(splits[train_name], config, f"{where}, split {train_name}")
    everything, names = _part(source, train_name, (image, label), config)
    test_name = _test_name(splits, train_name, label)
    if test_name is None:
        kept, removed = stratified(everything.labels, TEST_FRACTION, "test")
        train, test, test_names = everything.pick(kept), everything.pick(removed), names
        log.info(
            "%s: no test split with labels (looked for: %s); 20%% of the split %s, %d images drawn with seed %d, is "
            "held out as the test split", where, LOOKED_FOR, train_name, len(removed), SEED,
        )  # fmt: skip
        used = {"train": f"{train_name}, less its test part", "test": f"stratified 20% of {train_name}, seed {SEED}"}
    else:
        given = replace(config, image_column=image, label_column=label)
        find_columns(splits[test_name], given, f"{where}, split {test_name}")
        train, (test, test_names) = everything, _part(source, test_name, (image, label), config, names)
        used = {"train": train_name, "test": test_name}
    classes = _classes(config.classes, names, where)
    train, test = _relabel(train, names, classes, config), _relabel(test, test_names, classes, config)
    validation = None
    if config.validation:
        kept, removed = stratified(train.labels, config.validation, "validation")
        train, validation = train.pick(kept), train.pick(removed)
    if config.per_class is not None:
        train = train.pick(capped(train.labels, config.per_class))
    _refuse_empty(train, test, validation, classes, where)
    return Chosen(classes, train, test, validation, used, tuple(n for n in splits if n not in (train_name, test_name)))


def _train_name(splits: Mapping[str, Any], where: str) -> str:
    named = [name for name in splits if split_of(name) == "train"]
    if "train" in splits or len(splits) == 1:
        return "train" if "train" in splits else next(iter(splits))
    if len(named) != 1:
        raise DataError(f"{where}: no split named train; there are {', '.join(splits)}")
    return named[0]


def _test_name(splits: Mapping[str, Any], train_name: str, label: str) -> str | None:
    """Return the first labelled split that may serve as the test split; a test split before a validation split."""
    others = [name for name in splits if name != train_name]
    meaning = [name for split in ("test", "validation") for name in others if split_of(name) == split]
    order = dict.fromkeys([*(name for name in TEST_NAMES if name in others), *meaning])
    return next((name for name in order if has_labels(splits[name], label)), None)


def tell_files(source: Source, chosen: Chosen, config: DatasetConfig) -> dict[str, Json] | None:
    """Log how a folder's files are used and in which order its classes are numbered; return the account."""
    where = f"dataset {config.name}"
    for text in source.warnings:
        log.warning("%s: %s", where, text)
    for text in source.notes:
        log.info("%s: %s", where, text)
    if len(chosen.classes) == 1:
        log.warning("%s: there is one class only, %s", where, chosen.classes[0])
    absent = [name for i, name in enumerate(chosen.classes) if not (chosen.test.labels == i).any()]
    if absent:
        log.warning("%s: no test images of %d class(es): %s", where, len(absent), printable(absent, 5))
    if source.account is None:
        return None
    unused = dict.fromkeys(chosen.unused, "not used, or without labels")
    account = source.account.without(unused)
    log.info("%s: %s", where, account.line())
    told = imagenet_descriptions(chosen.classes)
    shown = [f"{i} {name}" + (f" ({told[name]})" if name in told else "") for i, name in enumerate(chosen.classes)]
    log.info("%s: %d classes: %s", where, len(shown), printable(shown, 12))
    return account.to_json()


def _tell_twins(train: Sequence[bytes], test: Sequence[bytes], where: str) -> int:
    """Return how many test images are training images as well, to the byte; log it if there are any."""
    known = set(train)
    count = sum(one in known for one in test)
    if count:
        level = logging.WARNING if count > MANY_TWINS * len(test) else logging.INFO
        log.log(level, "%s: %d of %d test images are training images as well (the same bytes)", where, count, len(test))
    return count


@dataclass
class _Reader:
    """Reads the parts of a dataset, with one depth for all if some images have more than 8 bits per value."""

    config: DatasetConfig
    parts: Sequence[ImageRows]
    progress: bool
    depth: Depth | None = None

    def read(self, part: _Part, like: Shape | None, hashes: Sequence[bytes] | None = None) -> tuple[Images, str]:
        """Return the part's images, and the sha256 of their pixels."""
        size, images = self.config.image_size, part.images
        try:
            found = read_pixels(
                images, size=size, like=like, depth=self.depth, hashes=hashes, progress=self.progress
            )  # fmt: skip
        except DeepImages:
            self.depth, span = measure_depth(self.parts, self.progress)
            log.info("dataset %s: %s", self.config.name, self.depth.describe(span))
            found = read_pixels(images, size=size, like=like, depth=self.depth, progress=self.progress)
        warn_of_flat_pixels(found[0], images.where)
        return Images(found[0], torch.from_numpy(part.labels.copy())), found[1]


def _record(source: Source, chosen: Chosen, config: DatasetConfig) -> dict[str, Json]:
    options = {key: value for key, value in asdict(config).items() if key not in ("name", "subset", "revision", *LATER)}
    return {
        "origin": source.origin,
        **chosen.splits,
        "train_size": len(chosen.train.labels),
        "test_size": len(chosen.test.labels),
        "validation_size": len(chosen.validation.labels) if chosen.validation else 0,
        "revision": source.revision,
        "subset": config.subset,
        "options": options | {"classes": list(config.classes) if config.classes else None},
    }


def _part(
    source: Source, split: str, columns: tuple[str, str], config: DatasetConfig, names: tuple[str, ...] | None = None
) -> tuple[_Part, tuple[str, ...]]:
    """Return all rows of a split with their labels, and the names that these are numbers of."""
    where, dataset = f"dataset {config.name}, split {split}", source.splits[split]
    asked = config.label_column is not None or names is not None
    rows = np.arange(len(dataset), dtype=np.int64)
    limit = MAX_PIXELS if config.max_pixels is None else config.max_pixels
    images = ImageRows(dataset, columns[0], rows, where, source.roots, limit)
    labels, found = read_labels(dataset, columns[1], where, asked=asked, name=images.name)
    return _Part(images, labels), found


def _classes(asked: Sequence[Any] | None, names: tuple[str, ...], where: str) -> tuple[str, ...]:
    """Return the classes to keep, in the order asked for, by name or else by number."""
    if asked is None:
        return names
    found = []
    for one in map(str, asked):
        if one not in names and not (one.isdecimal() and int(one) < len(names)):
            near = difflib.get_close_matches(one, names, n=5, cutoff=0.5) or names[:20]
            raise DataError(f"{where}: no class {one!r} among {len(names)}; did you mean {', '.join(near)}")
        found.append(one if one in names else names[int(one)])
    if len(set(found)) < len(found):
        raise DataError(f"{where}: dataset.classes names a class twice: {', '.join(found)}")
    return tuple(found)


def _relabel(part: _Part, names: tuple[str, ...], classes: tuple[str, ...], config: DatasetConfig) -> _Part:
    """Return labels as numbers in `classes`; other rows are dropped if classes were asked for, else refused."""
    number = {name: i for i, name in enumerate(classes)}
    labels = np.asarray([number.get(name, -1) for name in names], dtype=np.int64)[part.labels]
    if config.classes is None and (labels < 0).any():
        row = int(np.argmax(labels < 0))
        name = names[part.labels[row]]
        raise DataError(
            f"{part.images.where}, {part.images.name(row)}: class {name!r} is not among the training classes; "
            "list the classes to use in dataset.classes"
        )
    kept = replace(part, labels=labels)
    return kept.pick(np.flatnonzero(labels >= 0))


def _refuse_empty(train: _Part, test: _Part, validation: _Part | None, classes: tuple[str, ...], where: str) -> None:
    missing = [name for i, name in enumerate(classes) if not (train.labels == i).any()]
    if missing:
        raise DataError(
            f"{where}: no training images of {len(missing)} class(es): {', '.join(missing[:5])}; "
            "list the classes to use in dataset.classes"
        )
    for name, part in (("test", test), ("validation", validation)):
        if part is not None and not len(part.labels):
            raise DataError(f"{where}: no {name} images are left")
