"""The dataclasses that cross stages. They hold data and check it; they do no work.

`torch` is imported for annotations only, so that reading a configuration stays cheap.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from latentdd_plugin.core.json_record import JsonRecord, json_field
from latentdd_plugin.core.json_schema import FRACTION, LINE, MISTAKE, OBJECT, TEXT, WHOLE, ListOf

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Json = Any  # any value that json.dumps takes
Shape = tuple[int, int, int]  # (C, H, W) of one image, or (c, h, w) of one code

PRECISIONS = {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4, "int2": 2}  # name -> bits per value
CODED = "coded"  # as many bits as the codes carry, within a number of bytes
TOKENS = "tokens"  # numbers of the entries of a codebook, at ceil(log2 K) bits each
STORAGE = (*PRECISIONS, CODED, TOKENS)  # every way to store codes
LARGEST_CODEBOOK = 1 << 20  # entries; more than any published codec has
LABEL_REGIMES = ("own", "hard", "soft", "views", "teacher")
LABEL_PRECISIONS = {"fp32": 32, "fp16": 16, "int8": 8}  # of a stored log-probability -> bits
MATCH_SPACES = ("code", "pixel")
JOINT_OPTIONS = ("joint", "share", "decoder_precision", "decoder_lr")  # of every codec whose decoder can be trained


def canonical_json(value: Json) -> str:
    """Return one text for one value: sorted keys, no spaces. Every hash of this package is taken over it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def hash_json(value: Json) -> str:
    """Return the sha256 (hex) of a JSON value's canonical text."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def token_bits(tokens: int) -> int:
    """Return ceil(log2 K), the bits of one number of a codebook of K entries."""
    return (tokens - 1).bit_length()


class SampleStore(Protocol):
    """Samples by position, in memory or not: the part of a tensor's interface that needs no more than a chunk.

    A tensor is a store; `data/store.py` has those that read from disk.
    """

    @property
    def shape(self) -> Sequence[int]:
        """(N, *shape of one sample)."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the values."""

    @property
    def device(self) -> torch.device:
        """Device of the samples that `[]` returns."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Tensor:
        """Return the samples at these positions: an index tensor, or a slice."""

    def split(self, size: int, /) -> Iterable[Tensor]:
        """Yield all samples in order, `size` at a time."""


def as_tensor(store: SampleStore) -> Tensor:
    """Return all samples of a store as one tensor in memory."""
    return store[:]


@dataclass(frozen=True)
class Images:
    """A labelled set of real images, as bytes."""

    pixels: SampleStore  # uint8 (N, C, H, W); the image in [0, 1] is pixels / 255
    labels: Tensor  # int64 (N,), values 0 … classes-1

    def __len__(self) -> int:
        return int(self.labels.shape[0])


@dataclass(frozen=True)
class ImageData:
    """A dataset ready for a run: training images, and held-out images that are not yet read."""

    name: str
    classes: tuple[str, ...]  # class names by label
    train: Images  # after subset, cap and removal of the validation part
    held_out: Callable[[str], Images]  # "test" or "validation" -> images, read at the call, not before
    fingerprint: str  # sha256 over the training pixels, labels and class names; "" until a stream was read once
    flip: bool  # True if a mirrored image keeps its label
    source: Mapping[str, Json]  # revision, splits and options, for the record
    key: str = ""  # identifies a stream's files, labels and classes before its pixels were read

    @property
    def image_shape(self) -> Shape:
        """(C, H, W) of every image."""
        c, h, w = self.train.pixels.shape[1:]
        return int(c), int(h), int(w)


@dataclass(frozen=True)
class SyntheticSet:
    """Standardised codes and their labels, as a distiller returns them."""

    codes: Tensor  # float32 (M, c, h, w), standardised
    labels: Tensor  # int64 (M,) hard, or float32 (M, classes) soft
    label_kind: str = "hard"  # hard | probabilities | logits
    lr: float | None = None  # learned student learning rate, if the distiller learns one
    losses: tuple[tuple[int, float], ...] = ()  # (step, loss) along the way, for the report
    decoder: Mapping[str, Tensor] | None = None  # float32 tensors of the decoder that were trained with the codes


@dataclass(frozen=True)
class Score(JsonRecord):
    """One trained network, tested once."""

    evaluator: str = json_field(LINE, "evaluator as it was asked for: `convnet`, `resnet18`")
    arch: str = json_field(LINE, "timm name of the network")
    kwargs: Mapping[str, Json] = json_field(OBJECT, "arguments that the network was built with")
    params: int = json_field(WHOLE, "trained parameters")
    seed: int = json_field(WHOLE, "seed of the network")
    accuracy: float = json_field(
        FRACTION, "fraction of the scored images that are right, measured once, after training"
    )
    top5: float | None = json_field(
        FRACTION.or_missing(omit=True),
        "fraction whose class is among the five largest logits, from 50 classes on",
        default=None,
    )
    by_class: tuple[float | None, ...] | None = json_field(
        ListOf(FRACTION.or_null()).or_missing(omit=True),
        "fraction of each class that is right, to four digits; null without images of it",
        default=None,
    )
    confused: tuple[tuple[int, int, int], ...] | None = json_field(
        ListOf(MISTAKE).or_missing(omit=True),
        "the 20 most frequent mistakes: class, class given instead, images",
        default=None,
    )


@dataclass(frozen=True)
class Skipped(JsonRecord):
    """An evaluator that could not take the job, and why."""

    evaluator: str = json_field(LINE, "evaluator that cannot judge this set")
    reason: str = json_field(TEXT, "why")
