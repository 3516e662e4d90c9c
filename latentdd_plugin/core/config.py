"""The configuration of a run, of its parts, and of an evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import MATCH_SPACES, PRECISIONS, Json, hash_json


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


REFERENCES = ("none", "full")


@dataclass(frozen=True)
class EvaluationConfig:
    """How an artifact shall be scored.

    Attributes:
        dataset: what the caller says of the data set: a name, or any options of DatasetConfig. What is left out comes
            from the configuration of the run that the artifact lies in, where there is one. Without a name the
            artifact's own is taken, if it is that of an installed data set.
        evaluators: evaluator names or timm architectures.
        protocol: name of the evaluation recipe.
        split: `test` or `validation`. None takes the run's own; `validation` where the caller sets its fraction.
        metrics: of `lrs` and `ars`, DD-Ranking's scores; their parts are measured under the same protocol.
        reference: `full` also trains on the whole real training set under the same protocol.
        seed: networks are trained under 1000 * seed + 0, 1, …
        networks: at least so many of them an evaluator; None leaves it to the protocol.
        device, amp, compile, threads: as for a run.
    """

    dataset: Mapping[str, Json] | str = field(default_factory=dict)
    evaluators: tuple[str, ...] = ("convnet",)
    protocol: str = "fast.v1"
    split: str | None = None
    reference: str = "none"
    metrics: tuple[str, ...] = ()
    seed: int = 0
    networks: int | None = None
    device: str = "auto"
    amp: str = "auto"
    compile: str = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class Settled:
    """An evaluation with nothing left open: what its folder belongs to."""

    content: str  # the artifact's content_sha256
    run: RunConfig  # data set, evaluators, protocol, split, seed, device and arithmetic
    reference: str
    metrics: tuple[str, ...] = ()
    networks: int | None = None
    code: Mapping[str, str] = field(default_factory=dict)  # of a codec that is not this package's

    def to_json(self) -> dict[str, Json]:
        """Everything that decides the scores."""
        kept = {f.name for f in fields(EvaluationConfig)}
        known = {key: value for key, value in self.run.to_json().items() if key in kept}
        asked: dict[str, Json] = {"metrics": list(self.metrics)} if self.metrics else {}
        asked |= {"networks": self.networks} if self.networks else {}
        code = {**self.run.code, **self.code}
        asked |= {"code": code} if code else {}
        return {**known, "artifact": self.content, "reference": self.reference, **asked}
