"""Batches of real and synthetic samples by class that share an augmentation, for methods that compare classes."""

from __future__ import annotations

import torch
from torch import Tensor

from latentdd_plugin.distillers.task import Task


def siamese(task: Task, codes: Tensor, batch_real: int, purpose: str, step: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return a batch of real samples and all synthetic ones per class; both get the class's augmentation.

    The classes are those of this process; what is drawn for the others is drawn and left.

    Args:
        task: gives real samples, view and augmentation.
        codes: (M, c, h, w), class by class.
        batch_real: most real samples per class.
        purpose: names the draws, beside the step.
        step: number of the step.
    """
    draws, picks = task.generator(f"{purpose}/augment", step), task.generator(f"{purpose}/real", step)
    per_class, mine = len(codes) // task.num_classes, task.own_classes
    labels = class_labels(mine, per_class)
    samples = task.view(codes[mine.start * per_class : mine.stop * per_class], labels).split(per_class)
    real, synthetic = [], []
    for label in range(task.num_classes):
        drawn, rows = task.augment.draw(draws), task.real.pick(label, batch_real, picks)
        if label in mine:
            real.append(task.augment.apply(task.real.take(rows), drawn))
            synthetic.append(task.augment.apply(samples[label - mine.start], drawn))
    return real, synthetic


def class_labels(classes: range, per_class: int) -> Tensor:
    """Return the labels int64 (len(classes) * per_class,) of samples that lie class by class."""
    return torch.arange(classes.start, classes.stop).repeat_interleave(per_class)


def class_means(features: Tensor, classes: list[Tensor]) -> Tensor:
    """Return the mean features (classes, F) of features (N, F) that lie class by class, in groups of these sizes."""
    return torch.stack([part.mean(0) for part in features.split([len(samples) for samples in classes])])


def class_cross_entropy(logits: Tensor, classes: list[Tensor], own: range) -> Tensor:
    """Return the cross-entropy of samples that lie class by class: the mean of each class, summed over classes.

    Args:
        logits: (N, classes).
        classes: the samples of each class, whose numbers part the logits.
        own: the labels of these classes, those of this process.
    """
    parts = logits.split([len(samples) for samples in classes])
    return torch.stack([-part.log_softmax(1)[:, label].mean() for label, part in zip(own, parts, strict=True)]).sum()
