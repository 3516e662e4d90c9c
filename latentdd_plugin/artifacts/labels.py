"""Labels of a teacher, stored beside the codes: a distribution per sample, or per augmented view of a sample (FKD).

A distribution is stored as log-probabilities, of all classes or of the most probable ones; what is left then spreads
evenly over the rest. `int8` counts sixteenths of a nat down from 0, to -15.9.

Views: Shen & Xing, "A Fast Knowledge Distillation Framework for Visual Recognition", arXiv 2112.01528.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentdd_plugin.core.errors import ArtifactError, RunFailed, UsageError
from latentdd_plugin.core.json_record import JsonRecord, json_field
from latentdd_plugin.core.json_schema import COUNT, FRACTION, POSITIVE, SHA256, word
from latentdd_plugin.core.parts import LabelConfig
from latentdd_plugin.core.random import generator
from latentdd_plugin.core.types import LABEL_PRECISIONS, LABEL_REGIMES, Json
from latentdd_plugin.nn.teacher import Teacher
from latentdd_plugin.nn.views import LARGEST_PARTNER, VIEW_BYTES, Views, draw_views, see

AREA = (0.35, 1.0)  # share of a sample that a view shows
CHUNK = 1000  # views that exist at once
STEPS_PER_NAT = 16  # of int8
DTYPES: dict[str, np.dtype[Any]] = {"fp32": np.dtype("<f4"), "fp16": np.dtype("<f2"), "int8": np.dtype("u1")}


@dataclass(frozen=True, kw_only=True)
class LabelForm(JsonRecord):
    """The labels of an artifact that a teacher gave: their regime and how they are stored."""

    regime: str = json_field(word(*LABEL_REGIMES[2:]), "`soft`, `views` or `teacher`")
    temperature: float = json_field(POSITIVE, "the teacher's logits were divided by it")
    teacher: str = json_field(SHA256, "hash of the teacher's weights")
    truth: float | None = json_field(
        FRACTION.or_missing(omit=True), "weight of the class itself in the targets; missing: 0", default=None
    )
    precision: str | None = json_field(
        word(*LABEL_PRECISIONS).or_missing(omit=True), "of stored log-probabilities", default=None
    )
    top_k: int | None = json_field(
        COUNT.or_missing(omit=True), "classes stored per distribution; missing: all", default=None
    )
    views: int | None = json_field(COUNT.or_missing(omit=True), "views per sample", default=None)

    @classmethod
    def of(cls, config: LabelConfig, teacher: str) -> LabelForm:
        """Return the form that a run's options ask for, with the hash of its teacher."""
        return cls(
            regime=config.regime,
            temperature=config.temperature,
            truth=config.truth or None,
            teacher=teacher,
            precision=config.precision if config.stored else None,
            top_k=config.top_k if config.stored else None,
            views=config.views if config.regime == "views" else None,
        )

    def options(self) -> dict[str, Json]:
        """Return everything but the teacher's hash."""
        return {key: value for key, value in self.to_json().items() if key != "teacher"}


def label_bits(config: LabelConfig, classes: int) -> int:
    """Return the bits per sample that a teacher's stored labels cost in the budget.

    Raises:
        UsageError: `top_k` is larger than the number of classes.
    """
    if not config.stored:
        return 0
    if config.top_k is not None and config.top_k > classes:
        raise UsageError(f"labels.top_k={config.top_k}: there are only {classes} classes")
    bits = _bits(config.precision, config.top_k, classes)
    return bits if config.regime == "soft" else config.views * (bits + 8 * VIEW_BYTES)


def _bits(precision: str, top_k: int | None, classes: int) -> int:
    value = LABEL_PRECISIONS[precision]
    return classes * value if top_k is None else top_k * (value + _index_bits(classes))


def _index_bits(classes: int) -> int:
    return max(1, math.ceil(math.log2(classes)))


@dataclass(frozen=True)
class StoredLabels:
    """Packed distributions, and the views that they belong to."""

    form: LabelForm
    data: Tensor  # uint8 (bytes,): the packed distributions
    views: Tensor | None = None  # uint8 (M, V, VIEW_BYTES)

    @property
    def nbytes(self) -> int:
        """Bytes of the distributions and the views, which count in the budget."""
        return self.data.numel() + (0 if self.views is None else self.views.numel())

    def log_probabilities(self, samples: int, classes: int) -> Tensor:
        """Return float32 (M, classes), or (M, V, classes) of views."""
        form = self.form
        count = samples * (form.views or 1)
        found = unpack_labels(self.data, count, classes, str(form.precision), form.top_k)
        return found if form.views is None else found.view(samples, form.views, classes)

    def to_views(self) -> Views | None:
        """Return the views of all samples, or None if there are none."""
        return None if self.views is None else Views.from_bytes(self.views)


def stored_labels(form: LabelForm, images: Tensor, teacher: Teacher, seed: int) -> StoredLabels:
    """Return the teacher's distributions for images (M, C, H, W) in [0, 1] units, or for views of them, packed.

    Args:
        form: how they are stored.
        images: decoded, on the teacher's device.
        teacher: gives the distributions.
        seed: draws the views.
    """
    precision, top_k = str(form.precision), form.top_k
    if form.views is None:
        return StoredLabels(form, pack_labels(teacher.classify(images) / form.temperature, precision, top_k))
    if len(images) > LARGEST_PARTNER:
        raise RunFailed(f"{len(images)} samples are too many for views; at most {LARGEST_PARTNER:,}")
    draws = generator(seed, "labels/views")
    views = draw_views(len(images), form.views, draws, area=AREA, mix=True, flip=True)
    rows, found = torch.arange(len(images)), []
    for number in range(form.views):
        numbers = torch.full_like(rows, number)
        chunks = zip(rows.split(CHUNK), numbers.split(CHUNK), strict=True)
        found.append(torch.cat([teacher.classify(see(images, *chunk, views)) for chunk in chunks]))
    logits = torch.stack(found, 1).flatten(0, 1) / form.temperature
    return StoredLabels(form, pack_labels(logits, precision, top_k), views.to_bytes())


def pack_labels(logits: Tensor, precision: str, top_k: int | None) -> Tensor:
    """Return packed log-probabilities uint8 (bytes,) of logits (N, classes).

    Raises:
        RunFailed: a logit is not finite.
    """
    if not bool(torch.isfinite(logits).all()):
        raise RunFailed("the teacher gave logits that are not finite; its weights or its normalisation are wrong")
    found = logits.double().log_softmax(1).cpu()
    if top_k is None:
        return torch.from_numpy(np.frombuffer(_values(found.numpy(), precision), np.uint8).copy())
    values, classes = found.topk(top_k, dim=1)
    bits = (classes.numpy()[..., None] >> np.arange(_index_bits(logits.shape[1]))[::-1]) & 1
    packed = np.packbits(bits.astype(np.uint8).ravel()).tobytes() + _values(values.numpy(), precision)
    return torch.from_numpy(np.frombuffer(packed, np.uint8).copy())


def unpack_labels(data: Tensor, count: int, classes: int, precision: str, top_k: int | None) -> Tensor:
    """Return log-probabilities float32 (count, classes).

    Raises:
        ArtifactError: the data has another length, names a class twice or one that does not exist, or holds a value
            that is not finite.
    """
    if top_k is not None and top_k > classes:
        raise ArtifactError(f"labels: the {top_k} most probable of {classes} classes")
    width = classes if top_k is None else top_k
    head = 0 if top_k is None else math.ceil(count * top_k * _index_bits(classes) / 8)
    wanted = head + count * width * DTYPES[precision].itemsize
    if data.dtype != torch.uint8 or tuple(data.shape) != (wanted,):
        raise ArtifactError(f"labels.soft: {data.dtype} {tuple(data.shape)}; uint8 ({wanted},) is needed")
    stored = data.numpy().tobytes()
    values = np.frombuffer(stored[head:], DTYPES[precision]).reshape(count, width).astype(np.float64)
    values = -values / STEPS_PER_NAT if precision == "int8" else values
    if not np.isfinite(values).all() or (values > 1e-3).any():
        raise ArtifactError("labels.soft: a log-probability is not finite or above 0")
    if top_k is None:
        return torch.from_numpy(values).log_softmax(1).float()
    return _spread(values, _indices(stored[:head], count, top_k, classes), classes)


def _values(found: np.ndarray, precision: str) -> bytes:
    if precision == "int8":
        found = np.rint(-found * STEPS_PER_NAT).clip(0, 255)
    return bytes(np.maximum(found, -6e4).astype(DTYPES[precision]).tobytes())


def _indices(stored: bytes, count: int, top_k: int, classes: int) -> np.ndarray:
    width = _index_bits(classes)
    bits = np.unpackbits(np.frombuffer(stored, np.uint8))[: count * top_k * width].reshape(count, top_k, width)
    found: np.ndarray = (bits.astype(np.int64) << np.arange(width)[::-1]).sum(-1)
    ordered = np.sort(found, axis=1)
    if (found >= classes).any() or (ordered[:, 1:] == ordered[:, :-1]).any():
        raise ArtifactError("labels.soft: a class is named twice, or does not exist")
    return found


def _spread(values: np.ndarray, indices: np.ndarray, classes: int) -> Tensor:
    """Return full distributions: what the stored classes leave is spread evenly over the others."""
    known = np.exp(np.minimum(values, 0))
    known /= np.maximum(known.sum(1, keepdims=True), 1)
    rest = (1 - known.sum(1, keepdims=True)).clip(1e-7) / max(1, classes - values.shape[1])
    full = np.broadcast_to(rest, (len(values), classes)).copy()
    np.put_along_axis(full, indices, known.clip(1e-12), 1)
    return torch.from_numpy(full).log().log_softmax(1).float()
