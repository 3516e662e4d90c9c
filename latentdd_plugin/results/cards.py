"""Cards: the measurements of a codec or a distiller, in a form that can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from latentdd_plugin.core.json_record import JsonRecord, RecordOf, json_field
from latentdd_plugin.core.json_schema import (
    AMOUNT,
    ANYTHING,
    COUNT,
    FLAG,
    LINE,
    LINES,
    NUMBER,
    OBJECT,
    POSITIVE,
    SIZES,
    TEXT,
    TIME,
    Json,
    ListOf,
    word,
)
from latentdd_plugin.core.types import Score, Skipped
from latentdd_plugin.results.entries import CodecEntry, Environment
from latentdd_plugin.results.record import GAINS, SCORES, SKIPPED, SUMMARY
from latentdd_plugin.results.statistics import Accuracy, Gain

CODEC_CARD, ALGO_CARD = "dd-bench/codec-card.v1", "dd-bench/algo-card.v1"


@dataclass(frozen=True)
class FindingEntry(JsonRecord):
    """A contract and its outcome."""

    contract: str = json_field(LINE, "name of the rule")
    status: str = json_field(LINE, "`passed`, `broken` or `skipped`")
    message: str = json_field(TEXT, "what broke, or why it was skipped")


FINDINGS = ListOf(RecordOf(FindingEntry))


# --- codecs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CardDataset(JsonRecord):
    """The training images that a card was measured on."""

    name: str = json_field(LINE, "name")
    origin: Json = json_field(ANYTHING.or_missing(omit=True), "where it came from", default=None)
    revision: Json = json_field(ANYTHING.or_missing(omit=True), "revision on the hub", default=None)
    options: Json = json_field(ANYTHING.or_missing(omit=True), "how it was loaded", default=None)
    fingerprint: Json = json_field(
        ANYTHING.or_missing(omit=True), "hash of every training image and label", default=None
    )
    classes: Json = json_field(ANYTHING.or_missing(omit=True), "number of classes", default=None)
    image_shape: tuple[int, int, int] = json_field(SIZES, "C, H, W in pixels")
    train_size: Json = json_field(ANYTHING.or_missing(omit=True), "training images used", default=None)
    held_out: Json = json_field(ANYTHING.or_missing(omit=True), "what was held out of them", default=None)
    held_out_size: Json = json_field(ANYTHING.or_missing(omit=True), "images held out to measure on", default=None)


@dataclass(frozen=True)
class ValueCounts(JsonRecord):
    """Values of an image and of its code."""

    image: int = json_field(COUNT, "values of an image")
    code: int = json_field(COUNT, "values of a code")
    compression: float = json_field(POSITIVE, "their ratio")


@dataclass(frozen=True)
class MeanStd(JsonRecord):
    """A mean and a deviation over images."""

    mean: float = json_field(NUMBER, "mean over images")
    std: float = json_field(NUMBER, "standard deviation over images")


@dataclass(frozen=True, kw_only=True)
class Quality(JsonRecord):
    """The fidelity of decode(encode(x))."""

    psnr: MeanStd = json_field(RecordOf(MeanStd), "PSNR in dB")
    ssim: MeanStd = json_field(RecordOf(MeanStd), "SSIM (Wang et al. 2004)")
    images: int = json_field(COUNT, "images measured")
    clamped: bool | None = json_field(
        FLAG.or_missing(omit=True), "whether decoded images were clamped to [0, 1]", default=None
    )
    ssim_window: int = json_field(COUNT, "side of the window of SSIM in pixels")


@dataclass(frozen=True, kw_only=True)
class Speed(JsonRecord):
    """The throughput of the codec in plain float32."""

    encode_images_s: float = json_field(POSITIVE, "images per second encoded, median of the calls")
    decode_images_s: float = json_field(POSITIVE, "images per second decoded, median of the calls")
    batch: int = json_field(POSITIVE, "images per call")
    calls: Json = json_field(ANYTHING.or_missing(omit=True), "calls that were timed", default=None)
    threads: int = json_field(POSITIVE, "processor threads")
    device: str = json_field(LINE, "device")


@dataclass(frozen=True, kw_only=True)
class TrainedOnSpace(JsonRecord):
    """Networks trained on pixels, on reconstructions or on codes."""

    train_size: int | None = json_field(COUNT.or_missing(omit=True), "training images", default=None)
    scores: tuple[Score, ...] = json_field(SCORES, "every trained network")
    skipped: tuple[Skipped, ...] = json_field(SKIPPED, "evaluators that could not take the job")
    summary: Mapping[str, Accuracy] = json_field(SUMMARY, "accuracy over seeds, by evaluator")
    difference: Mapping[str, Gain] | None = json_field(
        GAINS.or_missing(omit=True), "less that on pixels, paired by seed, by evaluator", default=None
    )


@dataclass(frozen=True, kw_only=True)
class ComparedSpace(TrainedOnSpace):
    """Networks trained on reconstructions or codes, beside those trained on pixels."""

    difference: Mapping[str, Gain] = json_field(GAINS, "less that on pixels, paired by seed, by evaluator")


@dataclass(frozen=True, kw_only=True)
class SpaceAccuracies(JsonRecord):
    """Classification in pixels, in reconstructions and in codes."""

    protocol: str = json_field(LINE, "evaluation recipe")
    scored_on: str | None = json_field(LINE.or_missing(omit=True), "split that scored", default=None)
    scored_images: int = json_field(COUNT, "images that scored")
    steps: int | None = json_field(COUNT.or_null(), "optimiser steps; null if epochs are counted")
    augment_codes: tuple[str, ...] | None = json_field(
        LINES.or_missing(omit=True), "augmentation that the codes allow", default=None
    )
    pixels: TrainedOnSpace = json_field(RecordOf(TrainedOnSpace), "trained on real images")
    reconstructions: ComparedSpace = json_field(RecordOf(ComparedSpace), "trained on decode(encode(x))")
    codes: ComparedSpace = json_field(RecordOf(ComparedSpace), "trained on codes")

    @property
    def spaces(self) -> dict[str, TrainedOnSpace]:
        """The three spaces by name."""
        return {"pixels": self.pixels, "reconstructions": self.reconstructions, "codes": self.codes}


@dataclass(frozen=True, kw_only=True)
class CodecCard(JsonRecord):
    """The measurements of a codec on a dataset."""

    schema: str = json_field(word(CODEC_CARD), "name of this schema", default=CODEC_CARD)
    created: str = json_field(TIME, "time of completion, UTC")
    command: str = json_field(TEXT, "command line")
    codec: CodecEntry = json_field(RecordOf(CodecEntry), "the codec")
    dataset: CardDataset = json_field(RecordOf(CardDataset), "the data")
    contracts: tuple[FindingEntry, ...] = json_field(FINDINGS, "rules that the codec was held to")
    values: ValueCounts = json_field(RecordOf(ValueCounts), "sizes")
    quality: Quality = json_field(RecordOf(Quality), "fidelity on held-out images")
    speed: Speed = json_field(RecordOf(Speed), "throughput")
    accuracy: SpaceAccuracies = json_field(RecordOf(SpaceAccuracies), "networks trained in each space")
    environment: Environment = json_field(RecordOf(Environment), "machine and software")


# --- distillers -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AlgoEntry(JsonRecord):
    """The distiller of a card."""

    name: str = json_field(LINE, "name")
    config: Mapping[str, Json] = json_field(OBJECT, "every option with its value")
    match_spaces: tuple[str, ...] = json_field(LINES, "spaces it can match in")


@dataclass(frozen=True, kw_only=True)
class AlgoCell(JsonRecord):
    """Speed and memory at one resolution and budget."""

    side: int = json_field(COUNT, "side of the images in pixels")
    ipc: int = json_field(COUNT, "budget in images per class")
    failed: str | None = json_field(TEXT.or_missing(omit=True), "why there is no measurement", default=None)
    steps_s: float | None = json_field(
        POSITIVE.or_missing(omit=True), "steps per second; null for a method without steps", default=None
    )
    distill_s: float | None = json_field(AMOUNT.or_missing(omit=True), "seconds to distil", default=None)
    peak_rss_mb: float | None = json_field(AMOUNT.or_missing(omit=True), "peak memory of the process", default=None)
    peak_device_mb: float | None = json_field(
        AMOUNT.or_missing(omit=True), "peak memory of the accelerator", default=None
    )


@dataclass(frozen=True, kw_only=True)
class AlgoGain(JsonRecord):
    """The gain over random codes, on held-out training images of the digits."""

    dataset: str = json_field(LINE, "dataset")
    codec: str = json_field(LINE, "codec")
    match: str = json_field(LINE, "space in which it matched")
    bytes_per_class: int = json_field(COUNT, "bytes allowed per class")
    codes_per_class: int = json_field(COUNT, "codes per class")
    protocol: str = json_field(LINE, "evaluation recipe")
    scored_on: str = json_field(LINE, "split that scored")
    scored_images: int = json_field(COUNT, "images that scored")
    scores: tuple[Score, ...] = json_field(SCORES, "every trained network")
    summary: Mapping[str, Accuracy] = json_field(SUMMARY, "accuracy over seeds, by evaluator")
    random: Mapping[str, Accuracy] | None = json_field(
        SUMMARY.or_null(), "accuracy of random codes; null for the baseline itself"
    )
    over_random: Mapping[str, Gain] | None = json_field(
        GAINS.or_null(), "gain over random codes, paired by seed; null for the baseline itself"
    )
    distill_s: float | None = json_field(AMOUNT.or_null(), "seconds to distil")


@dataclass(frozen=True, kw_only=True)
class AlgoCard(JsonRecord):
    """The measurements of a distiller."""

    schema: str = json_field(word(ALGO_CARD), "name of this schema", default=ALGO_CARD)
    created: str = json_field(TIME, "time of completion, UTC")
    command: str = json_field(TEXT, "command line")
    algo: AlgoEntry = json_field(RecordOf(AlgoEntry), "the distiller")
    contracts: tuple[FindingEntry, ...] = json_field(FINDINGS, "rules that the distiller was held to")
    cells: tuple[AlgoCell, ...] = json_field(ListOf(RecordOf(AlgoCell)), "speed and memory")
    gain: AlgoGain = json_field(RecordOf(AlgoGain), "accuracy beside random codes")
    environment: Environment = json_field(RecordOf(Environment), "machine and software")
