"""Artifacts to external sets."""

from __future__ import annotations

import torch
from torch import Tensor

from latentdd_plugin.artifacts.artifact import Artifact
from latentdd_plugin.artifacts.formats.base import ExternalSet
from latentdd_plugin.artifacts.formats.values import ValueSpace, Whitening
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import ImageData


def from_artifact(stored: Artifact, images: Tensor, space: ValueSpace, dataset: ImageData | None = None) -> ExternalSet:
    """Return an artifact's decoded images in another value space, converted in float64.

    Args:
        stored: the artifact.
        images: its decoded images, float32 (N, C, H, W), in [0, 1] units.
        space: the value space to write.
        dataset: the training images, which ZCA is fitted on.

    Raises:
        UsageError: the value space has another number of channels, or needs the dataset.
    """
    if space.zca:
        if dataset is None:
            raise UsageError("values=zca has to be fitted on the training images: give --dataset")
        written = Whitening.fitted(dataset).whiten(images)
    else:
        mean, std = space.sides(images.shape[1])
        written = ((images.double() - mean.double()) / std.double()).float()
    kind = stored.header.label_kind
    return ExternalSet(written, stored.labels, kind, stored.lr, stored.classes, _ipc(stored), space.name)


def _ipc(stored: Artifact) -> int | None:
    """Return the images per class; None if classes differ in it."""
    labels, classes = stored.labels, len(stored.classes)
    if labels.ndim == 2:
        return len(labels) // classes if len(labels) % classes == 0 else None
    counts = torch.bincount(labels, minlength=classes)
    return int(counts[0]) if bool((counts == counts[0]).all()) else None
