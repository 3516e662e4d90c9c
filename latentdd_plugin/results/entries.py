"""Entries that several records share: data, codec, distiller, budget, protocol, cost, machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from latentdd_plugin.artifacts.budget import ByteLedger
from latentdd_plugin.core.json_record import JsonRecord, RecordOf, json_field
from latentdd_plugin.core.json_schema import (
    AMOUNT,
    ANYTHING,
    COUNT,
    FLAG,
    FRACTION,
    LINE,
    LINES,
    NAMES,
    OBJECT,
    SHA256,
    SIZES,
    TEXT,
    WHOLE,
    Kind,
    ListOf,
    word,
)
from latentdd_plugin.core.types import MATCH_SPACES, STORAGE, Json

if TYPE_CHECKING:
    from typing_extensions import Self

    from latentdd_plugin.core.monitor import Clock
    from latentdd_plugin.core.types import ImageData, Images
    from latentdd_plugin.evaluators.protocols import Protocol
    from latentdd_plugin.nn.teacher import Teacher


@dataclass(frozen=True)
class NamedPart(JsonRecord):
    """A part of a run by its name; its options are the other keys."""

    name: str = json_field(LINE, "name of the entry, or `package.module:Class`, or `file.py:Class`")


@dataclass(frozen=True, kw_only=True)
class Settings(JsonRecord):
    """The whole configuration of a run, defaults included; keys not listed here are kept too."""

    dataset: Mapping[str, Json] = json_field(OBJECT, "dataset and its options, as they were given")
    codec: NamedPart = json_field(RecordOf(NamedPart), "codec and its options, as they were given")
    algo: NamedPart = json_field(RecordOf(NamedPart), "distiller with every hyper-parameter")
    match: str = json_field(word(*MATCH_SPACES), "space in which the distiller matches")
    ipc: int | None = json_field(COUNT.or_null(), "budget in images per class; null with `lpc`")
    lpc: int | None = json_field(COUNT.or_null(), "budget in codes per class; null with `ipc`")
    bytes: int | None = json_field(
        COUNT.or_missing(omit=True), "budget in bytes per class, if it was given in bytes", default=None
    )
    precision: str = json_field(word(*STORAGE), "how codes are stored")
    evaluators: tuple[str, ...] = json_field(NAMES, "evaluators or timm architectures")
    protocol: str = json_field(LINE, "name of the evaluation recipe")
    controls: bool = json_field(FLAG, "whether baselines were run at the same bytes")
    split: str = json_field(word("test", "validation"), "held-out images that score")
    seed: int = json_field(WHOLE, "the only source of randomness")
    labels: Mapping[str, Json] | None = json_field(
        OBJECT.or_missing(omit=True), "label regime and its options; missing: the method's own labels", default=None
    )
    teacher: Mapping[str, Json] | None = json_field(
        OBJECT.or_missing(omit=True), "the teacher, as it was asked for", default=None
    )


@dataclass(frozen=True, kw_only=True)
class DatasetEntry(JsonRecord):
    """The data that a run read."""

    origin: str = json_field(LINE, "where it came from: an entry, a path or the hub")
    train: Json = json_field(ANYTHING.or_missing(omit=True), "name of the training split", default=None)
    test: Json = json_field(ANYTHING.or_missing(omit=True), "name of the test split", default=None)
    train_size: int = json_field(COUNT, "training images used")
    test_size: int = json_field(COUNT, "images of the split that scored")
    validation_size: int | None = json_field(
        WHOLE.or_missing(omit=True), "images held out of the training split for validation", default=None
    )
    revision: Json = json_field(ANYTHING.or_missing(), "revision on the hub", default=None)
    subset: Json = json_field(ANYTHING.or_missing(), "configuration on the hub", default=None)
    options: Mapping[str, Json] = json_field(OBJECT, "how it was loaded")
    name: str = json_field(LINE, "name")
    fingerprint: str = json_field(SHA256, "hash of every training image and label used")
    classes: tuple[str, ...] = json_field(NAMES, "class names in label order")
    image_shape: tuple[int, int, int] = json_field(SIZES, "C, H, W in pixels")
    flip: bool | None = json_field(FLAG.or_missing(omit=True), "whether a mirrored image keeps its class", default=None)

    @classmethod
    def of(cls, images: ImageData, held_out: Images, **more: Json) -> Self:
        """Return the entry of a loaded dataset and the images that score."""
        return cls.from_json(
            {
                **images.source,
                "name": images.name,
                "fingerprint": images.fingerprint,
                "classes": list(images.classes),
                "image_shape": list(images.image_shape),
                "train_size": len(images.train),
                "test_size": len(held_out),
                "flip": images.flip,
                **more,
            }
        )

    @property
    def shape_text(self) -> str:
        """The image shape as text: `3×32×32`."""
        return "×".join(map(str, self.image_shape))


@dataclass(frozen=True, kw_only=True)
class CodecEntry(JsonRecord):
    """The codec that made the codes."""

    name: str = json_field(LINE, "name of the codec")
    config: Mapping[str, Json] = json_field(OBJECT, "its options, never where weights lie")
    upsample: int = json_field(COUNT, "factor by which images are enlarged before it")
    fingerprint: str = json_field(SHA256, "hash of its id, configuration and every weight")
    code_shape: tuple[int, int, int] = json_field(SIZES, "c, h, w of one code")
    spatial: bool | None = json_field(
        FLAG.or_missing(omit=True), "whether codes have the layout of an image", default=None
    )
    decoder_bytes: int = json_field(WHOLE, "bytes of weights and fitted tables that decoding needs")
    fitted: bool = json_field(FLAG, "whether it was fitted on this training set")
    trained_on: tuple[str, ...] = json_field(LINES, "datasets that its weights have seen")
    grey: Json = json_field(ANYTHING.or_missing(), "how one channel was made three, or null", default=None)
    source: Json = json_field(ANYTHING.or_missing(), "hub id and revision of its weights, or null", default=None)
    tokens: int | None = json_field(
        COUNT.or_missing(omit=True), "size of the codebook, of codes that are numbers of its entries", default=None
    )

    @property
    def shape_text(self) -> str:
        """The code shape as text: `4×4×4`."""
        return "×".join(map(str, self.code_shape))


@dataclass(frozen=True)
class DistillerEntry(JsonRecord):
    """The method that made the set."""

    name: str = json_field(LINE, "name of the distiller")
    config: Mapping[str, Json] = json_field(OBJECT, "every option with its value")
    match: str = json_field(word(*MATCH_SPACES), "space in which it matched")


@dataclass(frozen=True, kw_only=True)
class StoredSize(JsonRecord):
    """The size of a distilled set: codes and bytes."""

    codes: int = json_field(COUNT, "codes in all")
    precision: str = json_field(word(*STORAGE), "how codes are stored")
    bytes: ByteLedger = json_field(RecordOf(ByteLedger), "what the file spends")


@dataclass(frozen=True, kw_only=True)
class BudgetEntry(JsonRecord):
    """The bytes that were allowed, and those that the file spends."""

    ipc: int | None = json_field(
        COUNT.or_null(), "images per class whose fp32 bytes are allowed; null with `lpc` or `bytes`"
    )
    bytes_per_class: int = json_field(COUNT, "bytes allowed per class")
    codes_per_class: int = json_field(COUNT, "codes per class that fit")
    codes: int = json_field(COUNT, "codes in all")
    shortfall: str | None = json_field(TEXT.or_missing(), "why there are fewer codes than fit, or null", default=None)
    precision: str = json_field(word(*STORAGE), "how codes are stored")
    estimated_bytes: int | None = json_field(
        WHOLE.or_missing(omit=True), "bytes of `coded` codes by the model that methods may optimise", default=None
    )
    bytes: ByteLedger = json_field(RecordOf(ByteLedger), "what the file spends")

    def stored_per_class(self, classes: int) -> float:
        """Return how many codes per class the file holds, a mean: fewer than fit if a class has no more images."""
        whole, rest = divmod(self.codes, classes)
        return self.codes / classes if rest else whole


@dataclass(frozen=True, kw_only=True)
class TeacherEntry(JsonRecord):
    """The teacher that labelled or scored samples."""

    arch: str = json_field(LINE, "timm name of the network")
    networks: int = json_field(COUNT, "number of networks, whose logits are averaged")
    params: int = json_field(WHOLE, "parameters of all networks")
    bytes: int = json_field(WHOLE, "bytes of all weights")
    sha256: str = json_field(SHA256, "hash of its weights")
    trained_on: tuple[str, ...] = json_field(LINES, "datasets that its weights have seen")
    recipe: str | None = json_field(LINE.or_missing(omit=True), "recipe it was trained by, if known", default=None)
    accuracy: float = json_field(FRACTION, "its accuracy on the images that scored")

    @classmethod
    def of(cls, teacher: Teacher, held_out: Images) -> Self:
        """Return the entry of a teacher, which is tested on the held-out images."""
        card = teacher.card
        device = next(teacher.networks[0].parameters()).device
        parts = zip(held_out.pixels.split(1000), held_out.labels.split(1000), strict=True)
        right = sum(int((teacher.classify(x.to(device).float() / 255).argmax(1).cpu() == y).sum()) for x, y in parts)
        return cls(
            arch=card.arch,
            networks=card.networks,
            params=teacher.params,
            bytes=teacher.bytes,
            sha256=card.sha256,
            trained_on=card.trained_on,
            recipe=card.recipe,
            accuracy=right / len(held_out),
        )


@dataclass(frozen=True, kw_only=True)
class ArtifactEntry(JsonRecord):
    """The file of the distilled set."""

    path: str | None = json_field(LINE.or_missing(omit=True), "file beside the record", default=None)
    sha256: str = json_field(SHA256, "hash of the file")
    bytes: int = json_field(WHOLE, "size of the file")


@dataclass(frozen=True, kw_only=True)
class ProtocolEntry(JsonRecord):
    """The evaluation recipe: every number of it, and their hash."""

    name: str = json_field(LINE, "name and version of the recipe")
    seeds: int | None = json_field(COUNT.or_missing(omit=True), "networks per evaluator", default=None)
    sha256: str = json_field(SHA256, "hash of the recipe's numbers, which are the other keys")

    @classmethod
    def of(cls, protocol: Protocol) -> Self:
        """Return the entry of a protocol, with JSON's lists instead of tuples."""
        return cls.from_json(json.loads(json.dumps({**protocol.to_json(), "sha256": protocol.sha256})))


@dataclass(frozen=True, kw_only=True)
class Environment(JsonRecord):
    """The machine and the software that made a result."""

    python: Json = json_field(ANYTHING.or_missing(), "version of Python", default=None)
    platform: Json = json_field(ANYTHING.or_missing(), "operating system", default=None)
    cpu: Json = json_field(ANYTHING.or_missing(), "processor", default=None)
    cores: Json = json_field(ANYTHING.or_missing(), "processor cores", default=None)
    gpu: Json = json_field(ANYTHING.or_missing(), "accelerator, or null", default=None)
    packages: Mapping[str, Json] = json_field(OBJECT, "versions of the packages that decide the numbers")
    git: Json = json_field(
        ANYTHING.or_missing(), "commit of the checkout, or null for an installed package", default=None
    )
    numerics: Mapping[str, Json] = json_field(
        OBJECT, "device, threads, precision, compilation, torch and processor: what decides the bits"
    )


MEASURED = AMOUNT.or_missing(omit=True)


@dataclass(frozen=True, kw_only=True)
class Cost(JsonRecord):
    """Time and memory; no number of a result depends on them."""

    extra_kind: ClassVar[Kind | None] = AMOUNT.or_null()

    load_s: float | None = json_field(MEASURED, "seconds to load the data", default=None)
    fit_s: float | None = json_field(MEASURED, "seconds to fit the codec", default=None)
    encode_s: float | None = json_field(MEASURED, "seconds to encode the training set", default=None)
    teacher_s: float | None = json_field(MEASURED, "seconds to load or train the teacher", default=None)
    distill_s: float | None = json_field(MEASURED, "seconds to distil", default=None)
    decode_s: float | None = json_field(MEASURED, "seconds to decode, of an evaluation", default=None)
    evaluate_s: float | None = json_field(MEASURED, "seconds to train and test networks", default=None)
    reference_s: float | None = json_field(
        MEASURED, "seconds for the whole training set, of an evaluation", default=None
    )
    metrics_s: float | None = json_field(MEASURED, "seconds for DD-Ranking's scores, of an evaluation", default=None)
    controls_s: float | None = json_field(MEASURED, "seconds for the baselines", default=None)
    step_ms_median: float | None = json_field(MEASURED, "median milliseconds per step", default=None)
    distill_peak_rss_mb: float | None = json_field(MEASURED, "peak memory to the end of the distillation", default=None)
    distill_peak_device_mb: float | None = json_field(MEASURED, "the same on the accelerator", default=None)
    peak_rss_mb: float | None = json_field(MEASURED, "peak memory of the process", default=None)
    peak_device_mb: float | None = json_field(MEASURED, "peak memory of the accelerator", default=None)

    @classmethod
    def of_run(cls, clock: Clock) -> Self:
        """Return the cost of a run: seconds per stage, peak memory to the end of the distillation and in all."""
        from latentdd_plugin.core.monitor import peak_mb

        stages: tuple[str, ...] = ("load_s", "fit_s", "encode_s", "distill_s", "evaluate_s", "controls_s")
        stages += ("teacher_s",) if clock.seconds.get("teacher_s", 0.0) > 0.01 else ()
        rss, device = peak_mb()
        distill_rss, distill_device = clock.peaks.get("distill_s", (None, None))
        return cls.from_json(
            {
                **{stage: round(clock.seconds.get(stage, 0.0), 3) for stage in stages},
                "step_ms_median": clock.step_ms(),
                "distill_peak_rss_mb": distill_rss,
                "distill_peak_device_mb": distill_device,
                "peak_rss_mb": rss,
                "peak_device_mb": device,
            }
        )

    @property
    def distill_peak_mb(self) -> float:
        """Peak memory to the end of the distillation: of the accelerator if there is one, nan if unknown."""
        return float(self.distill_peak_device_mb or self.distill_peak_rss_mb or "nan")


@dataclass(frozen=True)
class Seeds(JsonRecord):
    """Seeds of the distillation and of the networks."""

    run: int = json_field(WHOLE, "seed of the run")
    evaluation: tuple[int, ...] = json_field(ListOf(WHOLE), "seeds of the networks")


@dataclass(frozen=True, kw_only=True)
class NearestImages(JsonRecord):
    """The split of the real image nearest to each distilled sample."""

    samples: int = json_field(COUNT, "distilled samples compared")
    nearer_to_test: int = json_field(WHOLE, "samples nearer to an image that scored than to any training image")
    expected: float = json_field(FRACTION, "the same by chance: those images' share of all real images")
    copies_of_train: int = json_field(
        WHOLE, "samples at less than half the distance to training images than to the others"
    )
    copies_of_test: int = json_field(
        WHOLE, "samples at less than half the distance to the others than to training images"
    )

    @property
    def sentence(self) -> str:
        """The count in a sentence, beside what chance would give."""
        return (
            f"{self.nearer_to_test} of {self.samples} samples are nearer to a held-out image than to any training "
            f"image (by chance {self.expected * self.samples:.0f}); {self.copies_of_test} repeat one"
        )
