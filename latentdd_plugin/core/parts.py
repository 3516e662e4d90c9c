"""Parts of a configuration: dataset, codec or distiller, budget, scoring, arithmetic. Each checks itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from latentdd_plugin.core.annotations import annotations_of, fit_all
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import CODED, LABEL_PRECISIONS, LABEL_REGIMES, STORAGE, Json

STORES = ("auto", "memory", "disk", "stream")
CODES = ("fp32", "fp16")
DEFAULT_PRECISION = "fp32"  # of stored codes, except of a codec of tokens
LATER = ("max_pixels", "store", "codes")  # options of a dataset that published configurations do not have


@dataclass(frozen=True)
class DatasetConfig:
    """A dataset and the part of it that is used.

    Attributes:
        name: a `dd_bench.datasets` entry, a local folder or file, or a Hugging Face id.
        subset: the Hugging Face configuration name of a dataset that has several.
        revision: hub revision (commit, tag or branch); None means `main`.
        image_size: side in pixels every image is resized to (antialiased bicubic, squashed); None keeps the size.
        image_column, label_column: None finds the only Image / ClassLabel column.
        classes: keep only these class names (or label numbers), in this order; None keeps all.
        per_class: at most so many training images per class (the first drawn with seed 0); None keeps all.
        flip: True if a horizontal flip keeps the label; None takes the dataset entry's word, else True.
        validation: stratified fraction (seed 0) removed from the training split, for tuning.
        max_pixels: largest number of pixels that one image file may hold; None takes Pillow's own limit. It changes no
            result, only what is refused.
        store: `memory`, `disk` (decoded once, memory-mapped), `stream` (decoded whenever it is read) or `auto`, which
            takes memory if the images fit. It changes no result.
        codes: precision of codes that do not stay in memory, `fp32` or `fp16`.
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
    max_pixels: int | None = None
    store: str = "auto"
    codes: str = "fp32"

    def to_json(self) -> dict[str, Json]:
        """Return the options as published; those that came later only if they are set."""
        value = asdict(self)
        for name in LATER:
            if value[name] == getattr(DatasetConfig, name):
                del value[name]
        return value

    def faults(self) -> list[str]:
        """Return every fault that can be seen without reading the dataset."""
        found = _type_faults(self, "dataset.")
        if found:
            return found
        if not 0.0 <= self.validation < 1.0:
            found.append(f"dataset.validation={self.validation}: must be a fraction in [0, 1)")
        found += not_among("dataset.store", self.store, STORES) + not_among("dataset.codes", self.codes, CODES)
        return found + _too_small(self, ("image_size", "per_class", "max_pixels"), "dataset.")


@dataclass(frozen=True, eq=False)
class PartSpec(Mapping[str, Json]):
    """A codec or distiller by name, with its constructor's options; reads as the mapping `{"name": …, **options}`."""

    name: str
    options: Mapping[str, Json] = field(default_factory=dict)

    @classmethod
    def of(cls, value: str | Mapping[str, Json]) -> PartSpec:
        """Return the specification that a name, or a mapping with `name` and options, describes.

        Raises:
            UsageError: a mapping without `name`.
        """
        if isinstance(value, PartSpec):
            return value
        if isinstance(value, str):
            return cls(value)
        options = {str(key): _plain(option) for key, option in value.items()}
        if "name" not in options:
            raise UsageError(f"{dict(value)}: name is missing; give {{'name': 'dct', …}} or the name alone")
        return cls(str(options.pop("name")), options)

    def with_options(self, options: Mapping[str, Json]) -> PartSpec:
        """Return the same part with these options, which replace its own of the same names."""
        return replace(self, options={**self.options, **options})

    def __getitem__(self, key: str) -> Json:
        return self.name if key == "name" else self.options[key]

    def __iter__(self) -> Iterator[str]:
        return iter(("name", *self.options))

    def __len__(self) -> int:
        return 1 + len(self.options)


@dataclass(frozen=True)
class BudgetConfig:
    """Budget per class, and the precision of a stored code.

    Attributes:
        ipc: budget in images per class, `ipc * C*H*W * 4` bytes each class; 1 if neither is given.
            Exclusive with `bytes`, and with `lpc`, except for `coded`.
        lpc: budget as a number of codes per class, at any precision. With `coded`, how many codes share the bytes.
        precision: one of `fp32 fp16 int8 int4 int2`, `coded` (entropy-coded, as fine as the bytes allow), or `tokens`
            (numbers of a codebook's entries, for codecs of tokens, which take `coded` too). None is `tokens` for a
            codec of tokens and `fp32` for others; it is filled in when the configuration is resolved.
        bytes: budget in bytes per class, instead of `ipc`.
    """

    ipc: int | None = None
    lpc: int | None = None
    precision: str | None = None
    bytes: int | None = None

    def __post_init__(self) -> None:
        if self.ipc is None and self.bytes is None and (self.lpc is None or self.precision == CODED):
            object.__setattr__(self, "ipc", 1)

    def to_json(self) -> dict[str, Json]:
        """Return the options as published: `bytes` only if it is set, and fp32 for a precision that is not."""
        value = {**asdict(self), "precision": self.precision or DEFAULT_PRECISION}
        if self.bytes is None:
            del value["bytes"]
        return value

    def faults(self) -> list[str]:
        """Return every fault."""
        found = _type_faults(self)
        if self.ipc is not None and self.lpc is not None and self.precision != CODED:
            found.append(f"budget: give ipc or lpc, not both (ipc={self.ipc}, lpc={self.lpc})")
        if self.bytes is not None and self.ipc is not None:
            found.append(f"budget: give bytes or ipc, not both (bytes={self.bytes}, ipc={self.ipc})")
        if self.bytes is not None and self.lpc is not None and self.precision != CODED:
            found.append(f"budget: give bytes or lpc, not both (bytes={self.bytes}, lpc={self.lpc})")
        found += _too_small(self, ("ipc", "lpc", "bytes"))
        return found if self.precision is None else found + not_among("precision", self.precision, STORAGE)


@dataclass(frozen=True)
class ComputeConfig:
    """Device and arithmetic.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        amp: mixed precision, `auto`, `bf16` or `off`.
        compile: `auto`, `on` or `off`.
        threads: CPU threads; None keeps torch's choice.
    """

    device: str = "auto"
    amp: str = "auto"
    compile: str = "auto"
    threads: int | None = None

    def faults(self) -> list[str]:
        """Return every fault that can be seen without asking the machine."""
        return [
            *_type_faults(self),
            *_too_small(self, ("threads",)),
            *not_among("amp", self.amp, ("auto", "bf16", "off")),
            *not_among("compile", self.compile, ("auto", "on", "off")),
        ]


@dataclass(frozen=True)
class ScoringConfig:
    """Evaluators, protocol and split that score a distilled set.

    Attributes:
        evaluators: evaluator names or timm architectures.
        protocol: name of the evaluation recipe.
        split: the held-out images that score: `test`, or `validation` (needs `dataset.validation`).
    """

    evaluators: tuple[str, ...] = ("convnet",)
    protocol: str = "fast.v1"
    split: str = "test"

    def __post_init__(self) -> None:
        object.__setattr__(self, "evaluators", names(self.evaluators))

    def faults(self) -> list[str]:
        """Return every fault that can be seen without looking the names up."""
        found = [*_type_faults(self), *not_among("split", self.split, ("test", "validation"))]
        return found if self.evaluators else [*found, "evaluator: name at least one, for example convnet"]


def default_scoring(dataset: str) -> ScoringConfig:
    """Return the evaluators and the protocol of a dataset for which none are named.

    The bundled digits have 8 x 8 pixels: `fast.v1`, whose cutouts are made for larger images, hurts them, and
    a second architecture costs seconds.
    """
    if dataset == DatasetConfig.name:
        return ScoringConfig(evaluators=("convnet", "convnext_atto"), protocol="small.v1")
    return ScoringConfig()


@dataclass(frozen=True)
class LabelConfig:
    """Labels that networks are trained with: those of the method, or a teacher's.

    Attributes:
        regime: `own` keeps what the method returns, `hard` keeps class numbers alone; `soft` stores a teacher's
            distribution per sample, `views` several augmented views per sample with a distribution each, `teacher`
            stores nothing and asks the teacher at every step. `soft` and `views` are inside the byte budget.
        precision: of a stored log-probability, `fp32`, `fp16` or `int8`.
        top_k: store the most probable classes only, by number and value; None stores all.
        views: number of views per sample, for `views`.
        temperature: the teacher's logits are divided by it before they become a distribution.
        truth: weight of the class itself in the targets of `soft` and `teacher`; the rest is the teacher's. A teacher
            errs on coarse images, whose class is known.
    """

    regime: str = "own"
    precision: str = "int8"
    top_k: int | None = None
    views: int = 10
    temperature: float = 1.0
    truth: float = 0.0

    @property
    def taught(self) -> bool:
        """True if a teacher gives the labels."""
        return self.regime in ("soft", "views", "teacher")

    @property
    def stored(self) -> bool:
        """True if a teacher's labels are stored beside the codes."""
        return self.regime in ("soft", "views")

    def to_json(self) -> dict[str, Json]:
        """Return the options that mean something under this regime."""
        wanted: dict[str, Json] = {"regime": self.regime}
        if self.taught:
            wanted["temperature"] = self.temperature
        if self.truth:
            wanted["truth"] = self.truth
        if self.stored:
            wanted |= {"precision": self.precision, "top_k": self.top_k}
        return {**wanted, "views": self.views} if self.regime == "views" else wanted

    def faults(self) -> list[str]:
        """Return every fault that can be seen without the number of classes."""
        found = _type_faults(self, "labels.")
        if found:
            return found
        if not 0 < self.temperature < float("inf"):
            found.append(f"labels.temperature={self.temperature}: must be a finite number above 0")
        if not 0 <= self.truth < 1 or (self.truth and self.regime not in ("soft", "teacher")):
            found.append(f"labels.truth={self.truth}: must be in [0, 1), and is of soft and teacher labels only")
        return [
            *found,
            *not_among("labels.regime", self.regime, LABEL_REGIMES),
            *not_among("labels.precision", self.precision, LABEL_PRECISIONS),
            *_too_small(self, ("top_k", "views"), "labels."),
        ]


@dataclass(frozen=True)
class TeacherConfig:
    """A classifier of the dataset's classes, which labels or scores samples.

    Attributes:
        name: `convnet`, a timm architecture, or the name of a stored teacher's folder with `path`; None means no
            teacher.
        path: folder of a stored teacher (`teacher.safetensors` and `teacher.json`); None trains one, once per dataset.
        pretrained: take timm's pretrained weights from the hub and its head as it is.
        recipe: how it is trained here.
        networks: number of networks whose logits are averaged.
        seed: of the first network; the others follow it.
    """

    name: str | None = None
    path: str | None = None
    pretrained: bool = False
    recipe: str = "teacher-quick.v1"
    networks: int = 1
    seed: int = 0

    def __bool__(self) -> bool:
        return self.name is not None or self.path is not None

    @property
    def trained_here(self) -> bool:
        """True if a run trains it on its own training images, or takes such a one from the cache."""
        return self.name is not None and self.path is None and not self.pretrained

    def to_json(self) -> dict[str, Json]:
        """Return every option."""
        return asdict(self)

    def faults(self) -> list[str]:
        """Return every fault that can be seen without weights."""
        found = [*_type_faults(self, "teacher."), *_too_small(self, ("networks",), "teacher.")]
        if self.path is not None and self.pretrained:
            found.append("teacher: give teacher.path or teacher.pretrained=true, not both")
        return found


def label_config(value: LabelConfig | str | Mapping[str, Json] | None) -> LabelConfig:
    """Return the labels that a regime's name or a mapping of options describes."""
    if isinstance(value, LabelConfig):
        return value
    return LabelConfig(value) if isinstance(value, str) else LabelConfig(**(value or {}))


def teacher_config(value: TeacherConfig | str | Mapping[str, Json] | None) -> TeacherConfig:
    """Return the teacher that a name or a mapping of options describes."""
    if isinstance(value, TeacherConfig):
        return value
    return TeacherConfig(value) if isinstance(value, str) else TeacherConfig(**(value or {}))


def label_faults(labels: LabelConfig, teacher: TeacherConfig) -> list[str]:
    """Return the faults of labels and teacher, and of their combination."""
    found = [*labels.faults(), *teacher.faults()]
    if labels.taught and not teacher:
        found.append(f"labels={labels.regime}: name the teacher, for example --teacher convnet")
    return found


def labels_json(labels: LabelConfig, teacher: TeacherConfig) -> dict[str, Json]:
    """Return labels and teacher as published: nothing for the labels of the method itself and no teacher."""
    return {
        **({"labels": labels.to_json()} if labels.regime != "own" else {}),
        **({"teacher": teacher.to_json()} if teacher else {}),
    }


def dataset_config(value: DatasetConfig | str | Mapping[str, Json]) -> DatasetConfig:
    """Return the dataset that a name or a mapping of options describes."""
    if isinstance(value, DatasetConfig):
        return value
    options: dict[str, Json] = {"name": value} if isinstance(value, str) else dict(value)
    if options.get("classes") is not None:
        options["classes"] = tuple(str(name) for name in options["classes"])
    return DatasetConfig(**options)


def names(value: Sequence[str] | str) -> tuple[str, ...]:
    """Return one name, or several, as a tuple."""
    return (value,) if isinstance(value, str) else tuple(value)


def _plain(value: Json) -> Json:
    """Return a path as a text and a NumPy scalar as Python's own; anything else as it is."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") else value


def _type_faults(part: Any, prefix: str = "") -> list[str]:
    return fit_all(annotations_of(type(part)), vars(part), prefix)[1]


def _too_small(part: Any, names: Sequence[str], prefix: str = "") -> list[str]:
    values = {name: getattr(part, name) for name in names}
    return [f"{prefix}{k}={n}: must be at least 1" for k, n in values.items() if isinstance(n, (int, float)) and n < 1]


def not_among(key: str, value: str, allowed: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Return a fault if the value is not one of those allowed."""
    return [] if value in tuple(allowed) else [f"{key}={value}: choose one of {', '.join(allowed)}"]
