"""The contract of a bridge, and the two ways over it: a foreign set to an artifact, an artifact to a foreign set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from latentdd_plugin.artifacts.artifact import Artifact, make_artifact
from latentdd_plugin.artifacts.formats import values
from latentdd_plugin.artifacts.formats.values import ValueSpace, Whitening
from latentdd_plugin.artifacts.header import LARGEST_TENSOR, Origin
from latentdd_plugin.codecs.identity import Identity
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import ImageData, Images, SyntheticSet
from latentdd_plugin.latent.sized_codec import SizedCodec
from latentdd_plugin.latent.space import CodeSpace

FILE = "distilled.safetensors"


@dataclass(frozen=True)
class Foreign:
    """A distilled set as another project holds it."""

    images: Tensor  # float32 (N, C, H, W), in the source's value space
    labels: Tensor  # int64 (N,), or float32 (N, classes)
    label_kind: str = "hard"  # hard | probabilities | logits
    lr: float | None = None  # learned learning rate, where the source keeps one
    classes: tuple[str, ...] | None = None  # names by label, where the source has them
    ipc: int | None = None  # images a class that the source says it has
    values: str | None = None  # name of the value space, where the source says it


class Format(ABC):
    """One project's files. A format that cannot be written leaves `write` alone and `writable` false."""

    name: ClassVar[str]  # on the command line
    writable: ClassVar[bool] = True
    several: ClassVar[bool] = False  # whether one file may hold several sets
    out: ClassVar[str | None] = None  # value space of what is written, where the format has one of its own

    @abstractmethod
    def read(self, path: Path, experiment: int | None = None) -> Foreign:
        """The set at `path`.

        Args:
            path: a file or folder of this format.
            experiment: which of several sets, from 0, where one file holds several.

        Raises:
            UsageError: it is not there, damaged, not of this format, or does not say which set is meant.
        """

    def space_of(self, stored: Artifact) -> str | None:
        """Name of the value space that this artifact is written in, where format and data set settle it."""
        return self.out

    def write(self, foreign: Foreign, folder: Path) -> None:
        """Write the set into a folder that is there and empty.

        Raises:
            UsageError: the format cannot hold such a set.
        """
        raise UsageError(f"{self.name} is read only: a {FILE} cannot be written as it")


# --- in ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """What the caller says of a foreign set; where its files say something too, both have to agree."""

    values: str | None = None  # name of its value space
    classes: tuple[str, ...] | None = None  # its class names by label, in its own order
    ipc: int | None = None  # images a class it must have
    dataset: ImageData | None = None  # the data set it was distilled from


def to_artifact(foreign: Foreign, told: Told, source: Path, format_name: str) -> Artifact:
    """An ordinary artifact with codec `identity`, fp32.

    Its codes are the source's own values and its standardisation is the source's mean and deviation, so that importing
    rounds nothing; ZCA-whitened values alone are turned into pixels first, in float64.

    Args:
        foreign: what a format read.
        told: what the caller says of it.
        source: for messages.
        format_name: for the header.

    Raises:
        UsageError: no value space, a wrong number of images of a class, classes or a size unlike the data set's,
            values that are not finite.
    """
    space = _agreed(foreign, told, source)
    _check_numbers(foreign, source)
    names = _names(foreign, told, source)
    counted = _counted(foreign, names, told, source)
    data = told.dataset or _nameless(names, foreign.images)
    if tuple(foreign.images.shape[1:]) != data.image_shape:
        raise UsageError(
            f"{source}: images {tuple(foreign.images.shape[1:])}, data set {data.name} has {data.image_shape}; "
            "dataset.image_size=…?"
        )
    foreign = _relabelled(counted, names, data.classes, source)
    images = Whitening.fitted(_needed(told, source)).restore(foreign.images) if space.zca else foreign.images
    mean, std = space.sides(data.image_shape[0])
    codes = CodeSpace(SizedCodec(Identity(), data.image_shape), mean, std)
    synthetic = SyntheticSet(images.contiguous(), foreign.labels.contiguous(), foreign.label_kind, foreign.lr)
    made = make_artifact(synthetic, codes, "fp32", data, "identity")
    origin = Origin(format_name, space.name, "unknown")
    return replace(made, header=replace(made.header, origin=origin))


def _agreed(foreign: Foreign, told: Told, source: Path) -> ValueSpace:
    if foreign.values and told.values and foreign.values != told.values:
        raise UsageError(f"{source}: its values are {foreign.values!r} by its own account, not {told.values!r}")
    return values.find(foreign.values or told.values, str(source))


def _check_numbers(foreign: Foreign, source: Path) -> None:
    images, labels = foreign.images, foreign.labels
    if images.dtype != torch.float32 or images.ndim != 4 or images.shape[1] not in (1, 3) or not images.numel():
        raise UsageError(f"{source}: images of shape {tuple(images.shape)}; (N, 1 or 3, H, W) is needed")
    if images.numel() > LARGEST_TENSOR:
        raise UsageError(f"{source}: {images.numel()} pixel values; at most {LARGEST_TENSOR} are taken")
    if len(labels) != len(images):
        raise UsageError(f"{source}: {len(images)} images, but {len(labels)} labels")
    for what, numbers in (("image", images), ("label", labels)):
        if not bool(torch.isfinite(numbers).all()):
            raise UsageError(f"{source}: {what} values that are not finite")


def _names(foreign: Foreign, told: Told, source: Path) -> tuple[str, ...]:
    """The source's class names by its own labels: the caller's word, else the source's, else the data set's order."""
    theirs = told.classes or foreign.classes or (told.dataset.classes if told.dataset else None)
    if theirs is None:
        number = foreign.labels.shape[1] if foreign.labels.ndim == 2 else int(foreign.labels.max()) + 1
        theirs = tuple(str(label) for label in range(number if 0 < number <= len(foreign.labels) else 0))
    if len(set(theirs)) != len(theirs):
        raise UsageError(f"{source}: a class is named twice in {', '.join(theirs)}")
    known = (("the file", foreign.classes), ("data set", told.dataset.classes if told.dataset else None))
    for who, there in known:
        if there is not None and len(there) != len(theirs):
            raise UsageError(f"{source}: {len(theirs)} classes, but {who} has {len(there)}")
    return tuple(theirs)


def _counted(foreign: Foreign, names: tuple[str, ...], told: Told, source: Path) -> Foreign:
    """The set as it is, once every class has exactly as many images as it should; UsageError names one that has not."""
    if foreign.ipc and told.ipc and foreign.ipc != told.ipc:
        raise UsageError(f"{source}: {foreign.ipc} images a class by its own account, not {told.ipc}")
    classes, labels, ipc = len(names), foreign.labels, told.ipc or foreign.ipc
    if labels.ndim == 2:  # a soft label does not say which class its image belongs to
        wanted = (ipc or max(1, len(labels) // classes)) * classes if classes else 0
        if labels.shape[1] != classes or len(labels) != wanted:
            raise UsageError(
                f"{source}: soft labels {tuple(labels.shape)} for {classes} classes; {wanted} of {classes} are needed"
            )
        return foreign
    if not classes or int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise UsageError(f"{source}: labels {int(labels.min())} … {int(labels.max())} for {classes} classes")
    counts = torch.bincount(labels, minlength=classes)
    wanted = ipc or int(counts.max())
    wrong = (counts != wanted).nonzero().flatten().tolist()
    if wrong:
        told_of = ", ".join(f"{names[label]!r} has {int(counts[label])}" for label in wrong[:5])
        raise UsageError(f"{source}: {wanted} images a class are needed; {told_of}")
    return foreign


def _relabelled(foreign: Foreign, names: tuple[str, ...], wanted: tuple[str, ...], source: Path) -> Foreign:
    """The set with labels in the data set's order of classes."""
    if names == wanted:
        return foreign
    strange = [name for name in names if name not in wanted]
    if strange:
        raise UsageError(
            f"{source}: classes {', '.join(strange[:5])} are not in the data set ({', '.join(wanted[:5])} …); say "
            "with --classes which of its classes the labels 0, 1, … are"
        )
    number = torch.tensor([wanted.index(name) for name in names])
    labels = foreign.labels
    moved = number[labels] if labels.ndim == 1 else torch.empty_like(labels).index_copy_(1, number, labels)
    return replace(foreign, labels=moved)


def _needed(told: Told, source: Path) -> ImageData:
    if told.dataset is None:
        raise UsageError(f"{source}: values=zca has to be fitted on the training images: give --dataset")
    return told.dataset


def _nameless(classes: tuple[str, ...], images: Tensor) -> ImageData:
    """What is known of a data set that nobody named: the classes and the size of its images."""
    empty = Images(torch.empty((0, *images.shape[1:]), dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
    return ImageData("unknown", classes, empty, lambda _: empty, "", flip=False, source={})


# --- out --------------------------------------------------------------------------------------------------------------


def from_artifact(stored: Artifact, images: Tensor, space: ValueSpace, dataset: ImageData | None = None) -> Foreign:
    """An artifact's decoded images in another value space, in float64 on the way.

    Args:
        stored: the artifact.
        images: its decoded images, float32 (N, C, H, W), in [0, 1] units.
        space: the value space wanted.
        dataset: the training images, which ZCA is fitted on.

    Raises:
        UsageError: the value space is of another number of channels, or needs the data set.
    """
    if space.zca:
        if dataset is None:
            raise UsageError("values=zca has to be fitted on the training images: give --dataset")
        written = Whitening.fitted(dataset).whiten(images)
    else:
        mean, std = space.sides(images.shape[1])
        written = ((images.double() - mean.double()) / std.double()).float()
    kind = stored.header.label_kind
    return Foreign(written, stored.labels, kind, stored.lr, stored.classes, _ipc(stored), space.name)


def _ipc(stored: Artifact) -> int | None:
    """Images a class, where every class has as many."""
    labels, classes = stored.labels, len(stored.classes)
    if labels.ndim == 2:
        return len(labels) // classes if len(labels) % classes == 0 else None
    counts = torch.bincount(labels, minlength=classes)
    return int(counts[0]) if bool((counts == counts[0]).all()) else None


def sorted_by_class(foreign: Foreign, format_name: str) -> Foreign:
    """The set class by class, for formats in which the order alone tells the class.

    Raises:
        UsageError: a class has more or fewer images than another.
    """
    if foreign.ipc is None:
        raise UsageError(f"{format_name} holds equally many images a class; this set does not")
    if foreign.labels.ndim == 2:
        return foreign  # soft labels travel beside their images
    order = foreign.labels.argsort(stable=True)
    return replace(foreign, images=foreign.images[order], labels=foreign.labels[order])
