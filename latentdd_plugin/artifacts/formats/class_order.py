"""Class order of an external set: which class of the dataset each of its labels is.

Names are matched with the dataset's. Bare numbers follow these rules, the first that applies:

- names of the dataset that are whole numbers: label n is class "n";
- labels beyond the number of classes, for a dataset named by ImageNet's synsets: ImageNet-1K's indices;
- otherwise label n is the dataset's n-th class, as long as no other order is plausible for the source.

Another order is plausible if the names sort differently as text (torchvision's ImageFolder) and as numbers, or if the
classes are an ImageNet subset that its authors list in an order of their own. The caller then states the order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from latentdd_plugin.artifacts.formats.base import ExternalSet, ImportOptions
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.data.classes import NUMBER, WNID, imagenet_descriptions

DATASET_ORDER, TEXT_ORDER = "dataset", "sorted"
WORDS = {  # word for --classes -> the order that it names
    DATASET_ORDER: "the dataset's own order",
    TEXT_ORDER: "the dataset's names sorted as text, as torchvision's ImageFolder does",
}
SUBSETS = {  # ImageNet-1K's indices in MTT's and GLaD's order; only subsets whose order is not ascending
    "imagewoof": (193, 182, 258, 162, 155, 167, 159, 273, 207, 229),
    "imagemeow": (281, 282, 283, 284, 285, 291, 292, 290, 289, 287),
    "imagesquawk": (84, 130, 88, 144, 145, 22, 96, 9, 100, 89),
    "imagefruit": (953, 954, 949, 950, 951, 957, 952, 945, 943, 948),
    "imageyellow": (309, 986, 954, 951, 987, 779, 599, 291, 72, 11),
}
SUBSET_SPACES = ("mtt-imagenet", "glad-imagenet")  # value spaces of the projects that use this order
NUMBERED = re.compile(r"(\D*?)(\d+)")  # names such as 00012, new012, class_12
MOST = 12  # names shown in a message


@dataclass(frozen=True)
class ClassOrder:
    """The classes of an artifact, and the class of each label of its source."""

    classes: tuple[str, ...]  # names by the artifact's label
    numbers: dict[int, int]  # the source's label -> the artifact's
    rule: str  # how it was decided, for the user


def find_class_order(external: ExternalSet, options: ImportOptions, source: Path) -> ClassOrder:
    """Return the class order of a set.

    Raises:
        UsageError: names or numbers do not fit the dataset, or the order of the source cannot be known.
    """
    labels = external.labels
    numbers = list(range(labels.shape[1])) if labels.ndim == 2 else labels.unique().tolist()
    dataset = options.dataset.classes if options.dataset else None
    stated = options.classes
    if stated and len(stated) == 1 and stated[0] in WORDS:
        if dataset is None:
            raise UsageError(f"--classes {stated[0]} is {WORDS[stated[0]]}: give --dataset, or the names")
        stated = tuple(sorted(dataset)) if stated[0] == TEXT_ORDER else dataset
    _check_lengths(stated, external.classes, dataset, source)
    if stated is not None:
        order = _by_stated_names(stated, numbers, dataset, source)
    elif external.classes is not None and dataset is not None:
        order = _by_own_names(external, options, dataset, source)
    elif external.classes is not None:
        order = _in_order(external.classes, "by the source's names")
    elif dataset is None:
        order = _without_names(numbers, labels.ndim == 2, len(labels), source)
    else:
        order = _by_number(numbers, dataset, external, options, source)
    _check_labels(labels, order, source)
    return order


def _check_lengths(
    stated: tuple[str, ...] | None, own: tuple[str, ...] | None, dataset: tuple[str, ...] | None, source: Path
) -> None:
    names = stated or own or dataset
    if names is None:
        return
    if len(set(names)) != len(names):
        raise UsageError(f"{source}: a class is named twice in {_listed(names)}")
    for who, there in (("the file", own), ("the dataset", dataset)):
        if there is not None and len(there) != len(names):
            raise UsageError(f"{source}: {len(names)} classes, but {who} has {len(there)}")


def _by_stated_names(
    stated: tuple[str, ...], numbers: Sequence[int], dataset: tuple[str, ...] | None, source: Path
) -> ClassOrder:
    within = all(0 <= number < len(stated) for number in numbers)
    labels = range(len(stated)) if within or len(numbers) != len(stated) else sorted(numbers)
    targets = _matched(stated, dataset, source) if dataset else tuple(range(len(stated)))
    return ClassOrder(dataset or stated, dict(zip(labels, targets, strict=True)), "as given with --classes")


def _in_order(names: tuple[str, ...], rule: str) -> ClassOrder:
    return ClassOrder(names, {index: index for index in range(len(names))}, rule)


def _by_own_names(external: ExternalSet, options: ImportOptions, dataset: tuple[str, ...], source: Path) -> ClassOrder:
    names = external.classes or ()
    if set(names) != set(dataset) and (own := _numbers_in(names)) is not None and _numbers_in(dataset) != own:
        found = _by_number(sorted(own), dataset, external, options, source)
        if set(own) <= set(found.numbers):
            targets = {label: found.numbers[number] for label, number in enumerate(own)}
            return ClassOrder(dataset, targets, f"folder n: {found.rule.replace('label n', 'folder n')}")
    return ClassOrder(dataset, dict(enumerate(_matched(names, dataset, source))), "by name")


def _matched(names: Sequence[str], dataset: tuple[str, ...], source: Path) -> tuple[int, ...]:
    """Return the dataset's number of each name.

    Names are equal as they are, or as whole numbers, or without regard to case and separators; a synset also matches
    ImageNet's description of it.

    Raises:
        UsageError: a name is not among the dataset's.
    """
    for key in (str, _without_leading_zeros, _plain_letters):
        known = {key(name): index for index, name in enumerate(dataset)}
        found = [known.get(key(name)) for name in names]
        if len(known) == len(dataset) and None not in found and len(set(found)) == len(found):
            return tuple(index for index in found if index is not None)
    others = _described(names, dataset) or _equal_numbers(names, dataset)
    if others:
        return others
    strange = [name for name in names if name not in dataset]
    raise UsageError(
        f"{source}: classes {_listed(strange, 5)} are not in the dataset ({_listed(dataset, 5)}); say "
        "with --classes which of its classes the labels 0, 1, … are"
    )


def _described(names: Sequence[str], dataset: Sequence[str]) -> tuple[int, ...] | None:
    """Return the matches of synsets with descriptions, on either side; None if there are not exactly as many."""
    for one, other, forward in ((names, dataset, True), (dataset, names, False)):
        texts = imagenet_descriptions(one)
        if len(texts) != len(one):
            continue
        keys = [_plain_letters(texts[name].split(",")[0]) for name in one]
        others = [_plain_letters(name.split(",")[0]) for name in other]
        if len(set(keys)) == len(keys) and set(keys) == set(others) and len(keys) == len(others):
            return tuple(others.index(key) for key in keys) if forward else tuple(keys.index(key) for key in others)
    return None


def _equal_numbers(names: Sequence[str], dataset: Sequence[str]) -> tuple[int, ...] | None:
    """Return the matches of bare numbers with names such as `class_12`, on either side."""
    theirs, ours = _numbers_in(names), _numbers_in(dataset)
    bare = names[0].isdigit() or dataset[0].isdigit()
    if theirs is None or ours is None or not bare or set(theirs) != set(ours):
        return None
    return tuple(ours.index(number) for number in theirs)


def _without_names(numbers: Sequence[int], soft: bool, images: int, source: Path) -> ClassOrder:
    """Return labels as their own names, counted from 0, or from 1 if no label is 0."""
    start, end = (0 if soft or numbers[0] != 1 else 1), int(numbers[-1]) + 1
    if numbers[0] < 0 or end - start > (max(images, end) if soft else images):
        raise UsageError(f"{source}: labels {numbers[0]} … {numbers[-1]} for {images} images; give --classes")
    found = range(start, end)
    names = tuple(str(number) for number in found)
    return ClassOrder(names, {number: number - start for number in found}, "by number, no dataset was given")


def _by_number(
    numbers: Sequence[int], dataset: tuple[str, ...], external: ExternalSet, options: ImportOptions, source: Path
) -> ClassOrder:
    """Return the order of bare numbers, by the rules of this module."""
    whole = [int(name) for name in dataset] if all(NUMBER.fullmatch(name) for name in dataset) else None
    if whole and len(set(whole)) == len(whole) and set(numbers) <= set(whole):
        return ClassOrder(dataset, {number: index for index, number in enumerate(whole)}, 'label n is class "n"')
    if not set(numbers) <= set(range(len(dataset))):
        indexed = _by_imagenet_index(numbers, dataset)
        if indexed:
            return indexed
    space = external.values or options.values
    subset = _subset_order(dataset)
    if subset and space in SUBSET_SPACES:
        name, order = subset
        return ClassOrder(dataset, dict(enumerate(order)), f"MTT's own order of {name}")
    rival = _rival_order(dataset, subset, external.imagenet_order)
    if rival:
        raise UsageError(
            f"{source}: the order of its classes is not known. The dataset's is {_listed(dataset)}; {rival}. Give "
            f"--classes with the names of the labels 0, 1, …, or --classes {DATASET_ORDER} ({WORDS[DATASET_ORDER]}), "
            f"or --classes {TEXT_ORDER} (sorted as text)"
        )
    own = _numbers_in(dataset)
    if own and set(numbers) <= set(own) and not set(numbers) <= set(range(len(dataset))):
        return ClassOrder(dataset, {number: index for index, number in enumerate(own)}, "label n is the class with n")
    return _in_order(dataset, "label n is the dataset's class n, counted from 0")


def _rival_order(
    dataset: tuple[str, ...], subset: tuple[str, tuple[int, ...]] | None, imagenet_order: str | None
) -> str | None:
    """Return another order that the source may have used, for a message; None if there is none."""
    if imagenet_order and all(WNID.fullmatch(name) for name in dataset):
        return f"the source's is that of {imagenet_order}"
    if subset:
        return f"MTT and GLaD list {subset[0]} as {_listed([dataset[index] for index in subset[1]])}"
    numbers = _numbers_in(dataset)
    text = tuple(sorted(dataset))
    if numbers is None or numbers == sorted(numbers) == [int(n) for n in _numbers_in(text) or ()]:
        return None
    if dataset == text:
        ascending = [name for _, name in sorted(zip(numbers, dataset, strict=True))]
        return f"by their numbers they are {_listed(ascending)}"
    return f"sorted as text, as torchvision's ImageFolder does, they are {_listed(text)}"


def _by_imagenet_index(numbers: Sequence[int], dataset: tuple[str, ...]) -> ClassOrder | None:
    if not all(WNID.fullmatch(name) for name in dataset):
        return None
    synsets = _imagenet_synsets()
    found = {number: synsets[number] for number in numbers if 0 <= number < len(synsets)}
    if len(found) != len(numbers) or not set(found.values()) <= set(dataset):
        return None
    known = {number: dataset.index(name) for number, name in enumerate(synsets) if name in dataset}
    return ClassOrder(dataset, known, "label n is ImageNet-1K's class n")


def _subset_order(dataset: tuple[str, ...]) -> tuple[str, tuple[int, ...]] | None:
    """Return the name of an ImageNet subset and the dataset's number of each of its classes, in MTT's order."""
    synsets = _imagenet_synsets() if len(dataset) == 10 else []
    for name, indices in SUBSETS.items() if synsets else ():
        theirs = [synsets[index] for index in indices]
        if set(theirs) == set(dataset):
            return name, tuple(dataset.index(synset) for synset in theirs)
        if found := _described(theirs, dataset):
            return name, found
    return None


def _imagenet_synsets() -> list[str]:
    """Return ImageNet-1K's synsets by index, from timm; none if this timm has no such table."""
    from timm.data import ImageNetInfo

    try:
        return [str(name) for name in ImageNetInfo().label_names()]
    except (ValueError, OSError):
        return []


def _check_labels(labels: Tensor, order: ClassOrder, source: Path) -> None:
    """Raise UsageError if a label is not a class."""
    if labels.ndim == 2:
        if labels.shape[1] != len(order.classes):
            raise UsageError(f"{source}: soft labels {tuple(labels.shape)} for {len(order.classes)} classes")
        return
    found = labels.unique().tolist()
    if not set(found) <= set(order.numbers):
        raise UsageError(
            f"{source}: labels {found[0]} … {found[-1]} for {len(order.classes)} classes; give --classes with the "
            "names of its labels in ascending order"
        )


def _numbers_in(names: Iterable[str]) -> list[int] | None:
    """Return the number in each name, such as 12 in `00012`, `new012` or `class_12`; None if they do not all have one.

    What comes before the number must be the same in all, and no number may occur twice.
    """
    found = [NUMBERED.fullmatch(name) for name in names]
    if not found or not all(found) or len({match[1] for match in found if match}) > 1:
        return None
    numbers = [int(match[2]) for match in found if match]
    return numbers if len(set(numbers)) == len(numbers) else None


def _without_leading_zeros(name: str) -> str:
    return str(int(name)) if NUMBER.fullmatch(name) else name


def _plain_letters(name: str) -> str:
    return re.sub(r"[\s_\-/]+", " ", name).strip().casefold()


def _listed(names: Sequence[str], most: int = MOST) -> str:
    return ", ".join(names[:most]) + (" …" if len(names) > most else "")
