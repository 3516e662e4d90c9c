"""A data set by name to images and labels. Held-out images stay undecoded until they are asked for."""

from __future__ import annotations

import difflib
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from latentdd_plugin.core.config import DatasetConfig
from latentdd_plugin.core.errors import DataError
from latentdd_plugin.core.types import ImageData, Images, Json, Shape, canonical_json
from latentdd_plugin.data.columns import Ints, find_columns, has_labels, read_labels
from latentdd_plugin.data.draws import SEED, capped, stratified
from latentdd_plugin.data.images import ImageRows, read_pixels
from latentdd_plugin.data.sources import Source, find

log = logging.getLogger(__name__)

TEST_NAMES = ("test", "validation", "val")
TEST_FRACTION = 0.2  # cut out of train where no test split exists


def load_dataset(config: DatasetConfig, *, progress: bool = False) -> ImageData:
    """Find a data set, choose its rows and decode the training images.

    Args:
        config: which data set, and which part of it.
        progress: show bars on stderr.

    Returns:
        Training images as uint8 (N, C, H, W) in memory, C = 1 only if every one is grey. No test image is read before
        `held_out("test")`; labels of both splits are. `source` holds splits, sizes, revision, options for the record.

    Raises:
        DataError: no such data set, column, class or split; an unlabelled row; a corrupt image; several image sizes.
        PluginError: the data set's entry cannot be imported, or raises.
        RunFailed: the data sets library cannot write its cache.
    """
    source = find(config, progress=progress)
    chosen = _choose(source, config)
    train, shape, pixels_sha256 = _read(chosen.train, config, None, progress)

    def held_out(split: str) -> Images:
        part = {"test": chosen.test, "validation": chosen.validation}.get(split)
        if part is None:
            known = split in ("test", "validation")
            raise DataError(
                f"dataset {config.name}: no validation images; set dataset.validation to a fraction, for example 0.1"
                if known
                else f"dataset {config.name}: no held-out split {split!r}; ask for test or validation"
            )
        return _read(part, config, shape, progress)[0]

    digest = hashlib.sha256(f"{pixels_sha256}\n{shape}\n{canonical_json(chosen.classes)}\n".encode())
    digest.update(train.labels.numpy().astype("<i8").tobytes())
    flip = config.flip if config.flip is not None else source.flip
    return ImageData(
        name=source.name,
        classes=chosen.classes,
        train=train,
        held_out=held_out,
        fingerprint=digest.hexdigest(),
        flip=True if flip is None else flip,
        source=_record(source, chosen, config),
    )


@dataclass(frozen=True)
class _Part:
    """The rows of one split that are used."""

    images: ImageRows  # N rows
    labels: Ints  # (N,) numbers in the chosen classes

    def pick(self, positions: Ints) -> _Part:
        return _Part(replace(self.images, rows=self.images.rows[positions]), self.labels[positions])


@dataclass(frozen=True)
class _Chosen:
    """What is used of a data set, and where it came from."""

    classes: tuple[str, ...]
    train: _Part
    test: _Part
    validation: _Part | None
    splits: Mapping[str, str]  # train and test: the splits they are, in words


def _choose(source: Source, config: DatasetConfig) -> _Chosen:
    """Rows and labels of every part: test split, classes, validation fraction, cap; in this order. Reads no image."""
    where = f"dataset {config.name}"
    splits = source.splits
    if "train" not in splits and len(splits) > 1:
        raise DataError(f"{where}: no split named train; there are {', '.join(splits)}")
    train_name = "train" if "train" in splits else next(iter(splits))
    image, label = find_columns(splits[train_name], config, f"{where}, split {train_name}")
    everything, names = _part(splits[train_name], image, label, f"{where}, split {train_name}")
    test_name = next((n for n in TEST_NAMES if n in splits and n != train_name and has_labels(splits[n], label)), None)
    if test_name is None:
        kept, removed = stratified(everything.labels, TEST_FRACTION, "test")
        train, test, test_names = everything.pick(kept), everything.pick(removed), names
        log.info(
            "%s: no test split with labels: a fifth of %s (%d images, seed 0) is it", where, train_name, len(removed)
        )
        told = {"train": f"{train_name}, less its test part", "test": f"stratified 20% of {train_name}, seed {SEED}"}
    else:
        test_where = f"{where}, split {test_name}"
        find_columns(splits[test_name], replace(config, image_column=image, label_column=label), test_where)
        train, (test, test_names) = everything, _part(splits[test_name], image, label, test_where)
        told = {"train": train_name, "test": test_name}
    classes = _classes(config.classes, names, where)
    train, test = _relabel(train, names, classes, config), _relabel(test, test_names, classes, config)
    validation = None
    if config.validation:
        kept, removed = stratified(train.labels, config.validation, "validation")
        train, validation = train.pick(kept), train.pick(removed)
    if config.per_class is not None:
        train = train.pick(capped(train.labels, config.per_class))
    _refuse_empty(train, test, validation, classes, where)
    return _Chosen(classes, train, test, validation, told)


def _read(part: _Part, config: DatasetConfig, like: Shape | None, progress: bool) -> tuple[Images, Shape, str]:
    """The part's images, their (C, H, W), and the sha256 of the pixels."""
    pixels, sha256 = read_pixels(part.images, size=config.image_size, like=like, progress=progress)
    c, h, w = (int(n) for n in pixels.shape[1:])
    return Images(pixels, torch.from_numpy(part.labels.copy())), (c, h, w), sha256


def _record(source: Source, chosen: _Chosen, config: DatasetConfig) -> dict[str, Json]:
    options = {key: value for key, value in asdict(config).items() if key not in ("name", "subset", "revision")}
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


def _part(dataset: Any, image: str, label: str, where: str) -> tuple[_Part, tuple[str, ...]]:
    """All rows of a split with their labels, and the names these are numbers of."""
    labels, names = read_labels(dataset, label, where)
    return _Part(ImageRows(dataset, image, np.arange(len(labels), dtype=np.int64), where), labels), names


def _classes(asked: Sequence[Any] | None, names: tuple[str, ...], where: str) -> tuple[str, ...]:
    """The classes to keep, in the order asked for, by name or else by number."""
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
    """Labels as numbers in `classes`; rows of other classes go where a choice was asked for, else are an error."""
    number = {name: i for i, name in enumerate(classes)}
    labels = np.asarray([number.get(name, -1) for name in names], dtype=np.int64)[part.labels]
    if config.classes is None and (labels < 0).any():
        row = int(np.argmax(labels < 0))
        name = names[part.labels[row]]
        raise DataError(
            f"{part.images.where}, row {part.images.rows[row]}: class {name!r} is not among the training classes"
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
