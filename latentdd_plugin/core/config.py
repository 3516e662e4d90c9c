"""Configuration of a run and of an evaluation, made of parts that are useful alone.

A configuration has one flat JSON layout, which is stored in `config.yaml` and `result.json` and hashed. `RunConfig`
takes the same flat names as keywords: `RunConfig(codec="dct", algo="dm", ipc=1, precision="int8", device="cpu")`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.parts import (
    DEFAULT_PRECISION,
    BudgetConfig,
    ComputeConfig,
    DatasetConfig,
    LabelConfig,
    PartSpec,
    ScoringConfig,
    TeacherConfig,
    dataset_config,
    default_scoring,
    label_config,
    label_faults,
    labels_json,
    names,
    not_among,
    teacher_config,
)
from latentdd_plugin.core.types import MATCH_SPACES, Json, hash_json

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "REFERENCES",
    "BudgetConfig",
    "ComputeConfig",
    "DatasetConfig",
    "EvaluationConfig",
    "LabelConfig",
    "PartSpec",
    "ResolvedEvaluation",
    "RunConfig",
    "ScoringConfig",
    "TeacherConfig",
    "default_scoring",
]

Part = TypeVar("Part")
DISTILLER = PartSpec("dm", {"preset": "quick"})


class FlatOptions(TypedDict, total=False):
    """Options of `BudgetConfig`, `ScoringConfig` and `ComputeConfig`, as `RunConfig` takes them directly."""

    ipc: int | None
    lpc: int | None
    precision: str | None
    bytes: int | None
    evaluators: Sequence[str] | str | None
    protocol: str | None
    split: str
    device: str
    amp: str
    compile: str
    threads: int | None


class RunOptions(FlatOptions, total=False):
    """Flat options and two synonyms."""

    distiller: str | Mapping[str, Json]  # algo
    baselines: bool  # controls


@dataclass(frozen=True, init=False)
class RunConfig:
    """Everything that decides a run's numbers. Two equal configurations give the same artifact on one platform.

    Attributes:
        dataset: the dataset, a name or its options.
        codec, algo: codec and distiller: a name, or a mapping with `name` and options. `algo.preset` is `quick` unless
            `paper` is asked for, on every device.
        match: the space the matching networks look at, `code` or `pixel`.
        budget: bytes or codes per class, and precision.
        scoring: evaluators, protocol and split; by default those that suit the dataset.
        controls: run the baselines `random-codes` and `random-pixels` at the same bytes beside the distiller.
        seed: the only source of randomness.
        compute: device, mixed precision, compilation, threads.
        labels: labels that networks are trained with, a regime's name or its options; the baselines get the same.
        teacher: the classifier that gives them, a name or its options. It is dropped if nothing asks for it.
        code: sha256 of the code of each plug-in that is not this package's, by part. Filled in when the configuration
            is resolved, so that a run made with other code is another run.

    Options of `budget`, `scoring` and `compute` can be given, and read, by their own names: `ipc`, `lpc`, `bytes`,
    `precision`, `evaluators`, `protocol`, `split`, `device`, `amp`, `compile`, `threads`. They win over the part they
    belong to.
    """

    dataset: DatasetConfig
    codec: PartSpec
    algo: PartSpec
    match: str
    budget: BudgetConfig
    scoring: ScoringConfig
    controls: bool
    seed: int
    compute: ComputeConfig
    labels: LabelConfig
    teacher: TeacherConfig
    code: Mapping[str, str]

    def __init__(
        self,
        dataset: DatasetConfig | str | Mapping[str, Json] = DatasetConfig(),  # noqa: B008 - frozen
        codec: str | Mapping[str, Json] = "dct",
        algo: str | Mapping[str, Json] = DISTILLER,
        *,
        match: str = "code",
        budget: BudgetConfig | None = None,
        scoring: ScoringConfig | None = None,
        controls: bool = True,
        seed: int = 0,
        compute: ComputeConfig | None = None,
        labels: LabelConfig | str | Mapping[str, Json] | None = None,
        teacher: TeacherConfig | str | Mapping[str, Json] | None = None,
        code: Mapping[str, str] | None = None,
        **options: Unpack[RunOptions],
    ) -> None:
        given: dict[str, Any] = {
            key: value for key, value in options.items() if key not in SCORING or value is not None
        }
        data = dataset_config(dataset)
        values: dict[str, Any] = {
            "dataset": data,
            "codec": PartSpec.of(codec),
            "algo": PartSpec.of(given.pop("distiller", algo)),
            "match": match,
            "budget": _part(BudgetConfig, budget, given),
            "scoring": _part(ScoringConfig, scoring or default_scoring(data.name), given),
            "controls": given.pop("baselines", controls),
            "seed": seed,
            "compute": _part(ComputeConfig, compute, given),
            "labels": label_config(labels),
            "teacher": teacher_config(teacher),
            "code": dict(code or {}),
        }
        if given:
            raise TypeError(f"RunConfig() got an unexpected keyword argument {next(iter(given))!r}")
        for key, value in values.items():
            object.__setattr__(self, key, value)

    def replace(self, **changes: Any) -> RunConfig:
        """Return this configuration with other values; options of the parts can be given by their own names."""
        return replace(self, **changes)

    def faults(self) -> list[str]:
        """Return every fault that can be seen without loading anything."""
        found = [
            *self.dataset.faults(),
            *self.budget.faults(),
            *self.scoring.faults(),
            *self.compute.faults(),
            *label_faults(self.labels, self.teacher),
            *not_among("match", self.match, MATCH_SPACES),
        ]
        if type(self.seed) is not int:
            found.append(f"seed={self.seed!r}: must be a whole number")
        return found + _unset_split(self.dataset, self.scoring)

    def check(self) -> RunConfig:
        """Return this configuration, or raise UsageError with all its faults."""
        found = self.faults()
        if found:
            raise UsageError(found)
        return self

    def to_json(self) -> dict[str, Json]:
        """Return the configuration as plain JSON, in the flat published layout; `from_json` gives an equal one back."""
        value = {
            "dataset": self.dataset.to_json(),
            "codec": dict(self.codec),
            "algo": dict(self.algo),
            "match": self.match,
            **self.budget.to_json(),
            "evaluators": self.evaluators,
            "protocol": self.protocol,
            "controls": self.controls,
            "split": self.split,
            "seed": self.seed,
            **asdict(self.compute),
            **labels_json(self.labels, self.teacher),
            **({"code": dict(self.code)} if self.code else {}),
        }
        plain: dict[str, Json] = json.loads(json.dumps(value))
        return plain

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> RunConfig:
        """Return the configuration that a `to_json` value describes."""
        return cls(**value)

    @property
    def hash8(self) -> str:
        """Eight hex digits that name this configuration."""
        return hash_json(self.to_json())[:8]

    @property
    def ipc(self) -> int | None:
        """`budget.ipc`."""
        return self.budget.ipc

    @property
    def lpc(self) -> int | None:
        """`budget.lpc`."""
        return self.budget.lpc

    @property
    def precision(self) -> str:
        """`budget.precision`; fp32 if it is not given and the configuration is not resolved."""
        return self.budget.precision or DEFAULT_PRECISION

    @property
    def bytes(self) -> int | None:
        """`budget.bytes`."""
        return self.budget.bytes

    @property
    def evaluators(self) -> tuple[str, ...]:
        """`scoring.evaluators`."""
        return self.scoring.evaluators

    @property
    def protocol(self) -> str:
        """`scoring.protocol`."""
        return self.scoring.protocol

    @property
    def split(self) -> str:
        """`scoring.split`."""
        return self.scoring.split

    @property
    def device(self) -> str:
        """`compute.device`."""
        return self.compute.device

    @property
    def amp(self) -> str:
        """`compute.amp`."""
        return self.compute.amp

    @property
    def compile(self) -> str:
        """`compute.compile`."""
        return self.compute.compile

    @property
    def threads(self) -> int | None:
        """`compute.threads`."""
        return self.compute.threads


def _unset_split(dataset: DatasetConfig, scoring: ScoringConfig) -> list[str]:
    if scoring.split != "validation" or dataset.validation != 0.0:
        return []
    return ["split=validation: set dataset.validation to the fraction to hold out, for example 0.1"]


def _part(kind: type[Part], given: Part | None, options: dict[str, Any]) -> Part:
    """Return the part with the flat options that belong to it, which are taken out of `options`."""
    names = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    own = {key: options.pop(key) for key in list(options) if key in names}
    return kind(**own) if given is None else replace(given, **own)  # type: ignore[type-var]


REFERENCES = ("none", "full")
SCORING = ("evaluators", "protocol")  # None takes the dataset's default


@dataclass(frozen=True, init=False)
class EvaluationConfig:
    """A request to score an artifact.

    Attributes:
        dataset: a name, or any options of DatasetConfig. What is left out comes from the configuration of the run that
            the artifact lies in, if there is one. Without a name the artifact's own is taken, if it is that of an
            installed dataset.
        evaluators: evaluator names or timm architectures; None takes the dataset's default.
        protocol: name of the evaluation recipe; None takes the dataset's default.
        split: `test` or `validation`. None takes the run's own, or `validation` if `dataset` sets its fraction.
        reference: `full` also trains on the whole real training set under the same protocol.
        metrics: of `lrs` and `ars`, DD-Ranking's scores; their parts are measured under the same protocol.
        seed: networks are trained under 1000 * seed + 0, 1, …
        networks: at least so many of them per evaluator; None leaves it to the protocol.
        labels: the regime to train under: `own` takes what the artifact holds, `hard` its class numbers, `soft` and
            `teacher` what the teacher says now.
        teacher: the classifier, a name or its options.
        compute: as for a run; `device`, `amp`, `compile` and `threads` can be given by their own names.
    """

    dataset: Mapping[str, Json] | str
    evaluators: tuple[str, ...] | None
    protocol: str | None
    split: str | None
    reference: str
    metrics: tuple[str, ...]
    seed: int
    networks: int | None
    labels: LabelConfig
    teacher: TeacherConfig
    compute: ComputeConfig

    def __init__(
        self,
        dataset: Mapping[str, Json] | str | DatasetConfig | None = None,
        *,
        evaluators: Sequence[str] | str | None = None,
        protocol: str | None = None,
        split: str | None = None,
        reference: str = "none",
        metrics: Sequence[str] | str = (),
        seed: int = 0,
        networks: int | None = None,
        labels: LabelConfig | str | Mapping[str, Json] | None = None,
        teacher: TeacherConfig | str | Mapping[str, Json] | None = None,
        compute: ComputeConfig | None = None,
        **options: Any,
    ) -> None:
        values: dict[str, Any] = {
            "dataset": asdict(dataset) if isinstance(dataset, DatasetConfig) else dataset or {},
            "evaluators": None if evaluators is None else names(evaluators),
            "protocol": protocol,
            "split": split,
            "reference": reference,
            "metrics": names(metrics),
            "seed": seed,
            "networks": networks,
            "labels": label_config(labels),
            "teacher": teacher_config(teacher),
            "compute": _part(ComputeConfig, compute, options),
        }
        if options:
            raise TypeError(f"EvaluationConfig() got an unexpected keyword argument {next(iter(options))!r}")
        for key, value in values.items():
            object.__setattr__(self, key, value)


@dataclass(frozen=True)
class ResolvedEvaluation:
    """An evaluation with nothing left open: what its folder belongs to."""

    content: str  # the artifact's content_sha256
    dataset: DatasetConfig
    scoring: ScoringConfig
    compute: ComputeConfig
    seed: int = 0
    reference: str = "none"
    metrics: tuple[str, ...] = ()
    networks: int | None = None
    labels: LabelConfig = field(default_factory=LabelConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    code: Mapping[str, str] = field(default_factory=dict)  # of each plug-in that is not this package's, by part

    def faults(self) -> list[str]:
        """Return every fault that can be seen without loading anything."""
        return [
            *self.dataset.faults(),
            *self.scoring.faults(),
            *self.compute.faults(),
            *label_faults(self.labels, self.teacher),
            *_unset_split(self.dataset, self.scoring),
            *not_among("reference", self.reference, REFERENCES),
        ]

    def to_json(self) -> dict[str, Json]:
        """Return everything that decides the scores, in the flat published layout."""
        value: dict[str, Json] = {
            "dataset": self.dataset.to_json(),
            **asdict(self.scoring),
            "seed": self.seed,
            **asdict(self.compute),
            **({"metrics": self.metrics} if self.metrics else {}),
            **({"networks": self.networks} if self.networks else {}),
            **labels_json(self.labels, self.teacher),
            **({"code": dict(self.code)} if self.code else {}),
            "artifact": self.content,
            "reference": self.reference,
        }
        plain: dict[str, Json] = json.loads(json.dumps(value))
        return plain
