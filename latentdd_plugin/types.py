"""The dataclasses that cross stages. They hold data and check it; they do no work.

`torch` is imported for annotations only, so that reading a configuration stays cheap.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from latentdd_plugin.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

Json = Any  # what json.dumps takes
Shape = tuple[int, int, int]  # (C, H, W) of one image, or (c, h, w) of one code

PRECISIONS = {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4, "int2": 2}  # name -> bits a value
MATCH_SPACES = ("code", "pixel")


def canonical_json(value: Json) -> str:
    """One text for one value: sorted keys, no spaces. What every hash of ours is taken over."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def hash_json(value: Json) -> str:
    """sha256 (hex) of a JSON value's canonical text."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


@dataclass(frozen=True)
class Images:
    """A labelled set of real images, resident as bytes."""

    pixels: Tensor  # uint8 (N, C, H, W); the image in [0, 1] is pixels / 255
    labels: Tensor  # int64 (N,), values 0 … classes-1

    def __len__(self) -> int:
        return int(self.labels.shape[0])


@dataclass(frozen=True)
class ImageData:
    """A data set ready for the road: training images in memory, held-out images not yet read."""

    name: str
    classes: tuple[str, ...]  # class names by label
    train: Images  # after subset, cap and removal of the validation part
    held_out: Callable[[str], Images]  # "test" or "validation" -> images, read at the call, not before
    fingerprint: str  # sha256 over the training pixels, labels and class names
    flip: bool  # whether a mirrored image keeps its label
    source: Mapping[str, Json]  # revision, splits and options, for the record

    @property
    def image_shape(self) -> Shape:
        """(C, H, W) of every image."""
        c, h, w = self.train.pixels.shape[1:]
        return int(c), int(h), int(w)


@dataclass(frozen=True)
class DatasetConfig:
    """Which data set, and which part of it.

    Attributes:
        name: a `dd_bench.datasets` entry, a local folder or file, or a Hugging Face id.
        subset: the Hugging Face configuration name of a data set that has several.
        revision: hub revision (commit, tag or branch); None means `main`.
        image_size: side in pixels every image is resized to (antialiased bicubic, squashed); None keeps the size.
        image_column, label_column: None finds the only Image / ClassLabel column.
        classes: keep only these class names (or label numbers), in this order; None keeps all.
        per_class: at most so many training images a class (the first drawn with seed 0); None keeps all.
        flip: whether a horizontal flip keeps the label; None asks the data set's entry, else True.
        validation: stratified fraction (seed 0) removed from the training split, for tuning.
    """

    name: str = "digits"
    subset: str | None = None
    revision: str | None = None
    image_size: int | None = None
    image_column: str | None = None
    label_column: str | None = None
    classes: tuple[str, ...] | None = None
    per_class: int | None = None
    flip: bool | None = None
    validation: float = 0.0


def _named(value: str | Mapping[str, Json]) -> dict[str, Json]:
    return {"name": value} if isinstance(value, str) else dict(value)


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's numbers. Two equal configurations give the same artifact on one platform.

    Attributes:
        dataset, codec, algo: a name, or a mapping with `name` and the part's own options.
        match: the space the matching networks look at, `code` or `pixel`.
        ipc: budget in images a class, `ipc * C*H*W * 4` bytes each class. Exclusive with `lpc`.
        lpc: budget as a number of codes a class, at any precision.
        precision: how a code is stored, one of `fp32 fp16 int8 int4 int2`.
        evaluators: evaluator names or timm architectures.
        protocol: name of the evaluation recipe.
        controls: run `random-codes` and `random-pixels` at the same bytes beside the method.
        split: the held-out images that score: `test`, or `validation` (needs `dataset.validation`).
        seed: the only source of randomness.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        amp: mixed precision, `auto`, `bf16` or `off`.
        compile: `auto`, `on` or `off`.
        threads: CPU threads; None keeps torch's choice.
        code: sha256 of the code of each plug-in that is not this package's, by part. Filled in when the configuration
            is resolved, so that a run made with other code is another run.
    """

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    codec: Mapping[str, Json] = field(default_factory=lambda: {"name": "dct"})
    algo: Mapping[str, Json] = field(default_factory=lambda: {"name": "dm", "preset": "quick"})
    match: str = "code"
    ipc: int | None = None
    lpc: int | None = None
    precision: str = "fp32"
    evaluators: tuple[str, ...] = ("convnet",)
    protocol: str = "fast.v1"
    controls: bool = True
    split: str = "test"
    seed: int = 0
    device: str = "auto"
    amp: str = "auto"
    compile: str = "auto"
    threads: int | None = None
    code: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        dataset = self.dataset
        if isinstance(dataset, str):
            dataset = DatasetConfig(name=dataset)
        elif isinstance(dataset, Mapping):
            dataset = DatasetConfig(**dataset)
        fixed: dict[str, Json] = {
            "dataset": dataset,
            "codec": _named(self.codec),
            "algo": _named(self.algo),
            "evaluators": (self.evaluators,) if isinstance(self.evaluators, str) else tuple(self.evaluators),
        }
        if self.ipc is None and self.lpc is None:
            fixed["ipc"] = 1
        for key, value in fixed.items():
            object.__setattr__(self, key, value)

    def faults(self) -> list[str]:
        """Every fault that can be seen without loading anything; empty when there is none."""
        found = []
        if self.ipc is not None and self.lpc is not None:
            found.append(f"budget: give ipc or lpc, not both (ipc={self.ipc}, lpc={self.lpc})")
        for key in ("ipc", "lpc", "threads"):
            value = getattr(self, key)
            if value is not None and value < 1:
                found.append(f"{key}={value}: must be at least 1")
        allowed = {
            "precision": tuple(PRECISIONS),
            "match": MATCH_SPACES,
            "split": ("test", "validation"),
            "amp": ("auto", "bf16", "off"),
            "compile": ("auto", "on", "off"),
        }
        for key, values in allowed.items():
            if getattr(self, key) not in values:
                found.append(f"{key}={getattr(self, key)}: choose one of {', '.join(values)}")
        if not 0.0 <= self.dataset.validation < 1.0:
            found.append(f"dataset.validation={self.dataset.validation}: a fraction in [0, 1)")
        if self.split == "validation" and self.dataset.validation == 0.0:
            found.append("split=validation: set dataset.validation to the fraction to hold out, for example 0.1")
        if self.dataset.image_size is not None and self.dataset.image_size < 1:
            found.append(f"dataset.image_size={self.dataset.image_size}: must be at least 1")
        if self.dataset.per_class is not None and self.dataset.per_class < 1:
            found.append(f"dataset.per_class={self.dataset.per_class}: must be at least 1")
        if not self.evaluators:
            found.append("evaluator: name at least one, for example convnet")
        return found

    def check(self) -> RunConfig:
        """This configuration, or UsageError with all its faults."""
        found = self.faults()
        if found:
            raise UsageError(found)
        return self

    def to_json(self) -> dict[str, Json]:
        """The configuration as plain JSON; `from_json` gives an equal one back."""
        value: dict[str, Json] = json.loads(json.dumps(asdict(self)))
        if not self.code:
            del value["code"]
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> RunConfig:
        """The configuration a `to_json` value describes."""
        known = dict(value)
        dataset = dict(known.get("dataset", {}))
        if dataset.get("classes") is not None:
            dataset["classes"] = tuple(str(c) for c in dataset["classes"])
        known["dataset"] = DatasetConfig(**dataset)
        known["evaluators"] = tuple(known.get("evaluators", ("convnet",)))
        return cls(**known)

    @property
    def hash8(self) -> str:
        """Eight hex digits that name this configuration."""
        return hash_json(self.to_json())[:8]


@dataclass(frozen=True)
class SyntheticSet:
    """What a distiller returns: standardised codes and their labels."""

    codes: Tensor  # float32 (M, c, h, w), standardised
    labels: Tensor  # int64 (M,) hard, or float32 (M, classes) soft
    label_kind: str = "hard"  # hard | probabilities | logits
    lr: float | None = None  # learned student learning rate, where the method learns one
    losses: tuple[tuple[int, float], ...] = ()  # (step, loss) along the way, for the report


@dataclass(frozen=True)
class Score:
    """One trained network, tested once."""

    evaluator: str  # as asked for: "convnet", "resnet18"
    arch: str  # the timm name that was built
    kwargs: Mapping[str, Json]  # what it was built with
    params: int
    seed: int
    accuracy: float  # fraction in [0, 1]


@dataclass(frozen=True)
class Skipped:
    """An evaluator that could not take the job, and why."""

    evaluator: str
    reason: str
