"""External sets to artifacts."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from latentdd_plugin.artifacts.artifact import Artifact, make_artifact
from latentdd_plugin.artifacts.formats import values
from latentdd_plugin.artifacts.formats.base import ExternalSet, ImportOptions
from latentdd_plugin.artifacts.formats.class_order import ClassOrder, find_class_order
from latentdd_plugin.artifacts.formats.values import ValueSpace, Whitening
from latentdd_plugin.artifacts.header import LARGEST_TENSOR, Origin
from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.codecs.downscale import Downscale
from latentdd_plugin.codecs.identity import Identity
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import ImageData, Images, Shape, SyntheticSet
from latentdd_plugin.latent.sized_codec import SizedCodec
from latentdd_plugin.latent.space import CodeSpace

log = logging.getLogger(__name__)

USUAL = (-0.5, 1.5)  # distilled pixels leave [0, 1], but hardly this range
UNUSUAL_SHARE = 0.5  # of all values outside it: the value space is probably not the source's


def to_artifact(external: ExternalSet, options: ImportOptions, source: Path, format_name: str) -> Artifact:
    """Return an ordinary artifact with codec `identity`, or `downscale` for images that are enlarged, in fp32.

    Its codes are the source's own values and its standardisation is the source's mean and deviation, so that importing
    rounds nothing; only ZCA-whitened values are turned into pixels first, in float64.

    Args:
        external: the set as a format read it.
        options: the caller's statements.
        source: the file or folder, for messages.
        format_name: the format, for the header.

    Raises:
        UsageError: no value space, unequal numbers of images per class, classes or a size unlike the dataset's, or
            values that are not finite.
    """
    space = _value_space(external, options, source)
    _check_numbers(external, source)
    order = find_class_order(external, options, source)
    external = _relabelled(external, order)
    _check_counts(external, order, options, source)
    height, width = external.size or external.images.shape[2:]
    shape = (int(external.images.shape[1]), int(height), int(width))
    data = options.dataset or _unnamed_dataset(order.classes, shape)
    if shape != data.image_shape:
        raise UsageError(f"{source}: images {shape}, dataset {data.name} has {data.image_shape}; dataset.image_size=…?")
    images = (
        Whitening.fitted(_dataset_for_zca(options, source)).restore(external.images) if space.zca else (external.images)
    )
    mean, std = space.sides(data.image_shape[0])
    _warn_of_odd_pixels(images, mean, std, source)
    codec, name = _codec(external, data.image_shape)
    synthetic = SyntheticSet(images.contiguous(), external.labels.contiguous(), external.label_kind, external.lr)
    codes = CodeSpace(SizedCodec(codec, data.image_shape), mean, std)
    made = make_artifact(synthetic, codes, "fp32", data, name)
    labels = {str(number): order.classes[index] for number, index in sorted(order.numbers.items())}
    origin = Origin(format_name, space.name, "unknown", order.rule, labels)
    return replace(made, header=replace(made.header, origin=origin))


def _codec(external: ExternalSet, image_shape: Shape) -> tuple[Codec, str]:
    if external.size is None:
        return Identity(), "identity"
    return Downscale(external.factor, image_shape), "downscale"


def _value_space(external: ExternalSet, options: ImportOptions, source: Path) -> ValueSpace:
    if external.values and options.values and external.values != options.values:
        raise UsageError(f"{source}: its values are {external.values!r} by its own account, not {options.values!r}")
    return values.find(external.values or options.values, str(source))


def _check_numbers(external: ExternalSet, source: Path) -> None:
    images, labels = external.images, external.labels
    if images.dtype != torch.float32 or images.ndim != 4 or images.shape[1] not in (1, 3) or not images.numel():
        raise UsageError(f"{source}: images of shape {tuple(images.shape)}; (N, 1 or 3, H, W) is needed")
    if images.numel() > LARGEST_TENSOR:
        raise UsageError(f"{source}: {images.numel()} pixel values; at most {LARGEST_TENSOR} are taken")
    if len(labels) != len(images):
        raise UsageError(f"{source}: {len(images)} images, but {len(labels)} labels")
    for what, numbers in (("image", images), ("label", labels)):
        if not bool(torch.isfinite(numbers).all()):
            raise UsageError(f"{source}: {what} values that are not finite")


def _relabelled(external: ExternalSet, order: ClassOrder) -> ExternalSet:
    """Return the set with labels in the artifact's order of classes."""
    labels = external.labels
    if all(number == index for number, index in order.numbers.items()):
        return external
    numbers = torch.tensor(sorted(order.numbers))
    targets = torch.tensor([order.numbers[number] for number in sorted(order.numbers)])
    if labels.ndim == 2:
        return replace(external, labels=torch.empty_like(labels).index_copy_(1, targets, labels))
    return replace(external, labels=targets[torch.searchsorted(numbers, labels)])


def _check_counts(external: ExternalSet, order: ClassOrder, options: ImportOptions, source: Path) -> None:
    """Raise UsageError, naming the class, unless every class has exactly as many images as it should."""
    stated = external.ipc
    if stated and options.ipc and stated != options.ipc:
        raise UsageError(f"{source}: {stated} images per class by its own account, not {options.ipc}")
    classes, labels, ipc = len(order.classes), external.labels, options.ipc or stated
    if labels.ndim == 2:  # a soft label does not tell the class of its image
        needed = (ipc or max(1, len(labels) // classes)) * classes
        if labels.shape[1] != classes or len(labels) != needed:
            raise UsageError(
                f"{source}: soft labels {tuple(labels.shape)} for {classes} classes; {needed} of {classes} are needed"
            )
        return
    counts = torch.bincount(labels, minlength=classes)
    needed = ipc or int(counts.max())
    wrong = (counts != needed).nonzero().flatten().tolist()
    if wrong:
        listed = ", ".join(f"{order.classes[label]!r} has {int(counts[label])}" for label in wrong[:5])
        raise UsageError(f"{source}: {needed} images per class are needed; {listed}")


def _warn_of_odd_pixels(images: Tensor, mean: Tensor, std: Tensor, source: Path) -> None:
    """Warn of a constant set, and of pixels that the value space puts far outside [0, 1]."""
    low, high = USUAL
    outside = total = 0
    for part in images.split(1024):
        pixels = part * std + mean
        outside += int(((pixels < low) | (pixels > high)).sum())
        total += pixels.numel()
    if bool((images == images.flatten()[0]).all()):
        log.warning("%s: every pixel of every image has the same value", source)
    elif outside > UNUSUAL_SHARE * total:
        log.warning(
            "%s: %.0f%% of the pixels lie outside %g … %g, though pixels should lie around 0 … 1; check --values",
            source, 100 * outside / total, low, high,
        )  # fmt: skip


def _dataset_for_zca(options: ImportOptions, source: Path) -> ImageData:
    if options.dataset is None:
        raise UsageError(f"{source}: values=zca has to be fitted on the training images: give --dataset")
    return options.dataset


def _unnamed_dataset(classes: tuple[str, ...], shape: Shape) -> ImageData:
    """Return all that is known of a dataset that was not named: its classes and the size of its images."""
    empty = Images(torch.empty((0, *shape), dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
    return ImageData("unknown", classes, empty, lambda _: empty, "", flip=False, source={})
