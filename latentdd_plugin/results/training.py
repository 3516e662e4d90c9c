"""`training.json`: what a codec was trained on, and how well it reconstructs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from latentdd_plugin.core.json_record import JsonRecord, RecordOf, json_field
from latentdd_plugin.core.json_schema import (
    AMOUNT,
    COUNT,
    LINE,
    NAMES,
    NUMBER,
    OBJECT,
    SHA256,
    SIZES,
    TEXT,
    TIME,
    WHOLE,
    Json,
    ListOf,
    MapOf,
    word,
)
from latentdd_plugin.core.monitor import duration
from latentdd_plugin.results.entries import Environment
from latentdd_plugin.results.record_file import RecordFile

SCHEMA = "dd-bench/codec-training.v1"


@dataclass(frozen=True, kw_only=True)
class TrainedOn(JsonRecord):
    """A dataset that the training saw; how it was loaded is kept as it was given."""

    name: str = json_field(LINE, "name")
    fingerprint: str = json_field(SHA256, "hash of every training image and label used")
    image_shape: tuple[int, int, int] = json_field(SIZES, "C, H, W in pixels")


@dataclass(frozen=True, kw_only=True)
class ModelEntry(JsonRecord):
    """The trained autoencoder."""

    class_name: str = json_field(LINE, "class of diffusers", key="class")
    f: int = json_field(COUNT, "pixels of a side that become one of the code")
    channels: int = json_field(COUNT, "channels of the code")
    parameters: int = json_field(COUNT, "number of parameters")
    bytes: int = json_field(COUNT, "size of the weights' file")


@dataclass(frozen=True, kw_only=True)
class CurvePoint(JsonRecord):
    """The training at one step."""

    step: int = json_field(WHOLE, "steps done")
    loss: float = json_field(NUMBER, "loss before the step")
    psnr: Mapping[str, float] = json_field(MapOf(NUMBER), "PSNR in dB on held-out images, by dataset")


@dataclass(frozen=True, kw_only=True, repr=False)
class Training(RecordFile):
    """A finished training of a codec."""

    schema_name: ClassVar[str] = SCHEMA
    file: ClassVar[str] = "training.json"

    schema: str = json_field(word(SCHEMA), "name of this schema", default=SCHEMA)
    created: str = json_field(TIME, "time of completion, UTC")
    command: str = json_field(TEXT, "command line")
    config: Mapping[str, Json] = json_field(OBJECT, "everything that decides the weights")
    trained_on: tuple[str, ...] = json_field(NAMES, "names of the datasets")
    datasets: tuple[TrainedOn, ...] = json_field(ListOf(RecordOf(TrainedOn)), "the datasets")
    model: ModelEntry = json_field(RecordOf(ModelEntry), "the autoencoder")
    psnr: Mapping[str, float] = json_field(MapOf(NUMBER), "PSNR in dB of the saved weights, by dataset")
    curve: tuple[CurvePoint, ...] = json_field(ListOf(RecordOf(CurvePoint)), "the training along the way")
    seconds: float = json_field(AMOUNT, "seconds of training")
    environment: Environment = json_field(RecordOf(Environment), "machine and software")

    @property
    def headline(self) -> str:
        """Reduction factor and PSNR on each dataset."""
        return f"f={self.model.f}, {', '.join(f'{name} {value:.2f} dB' for name, value in self.psnr.items())}"

    def table(self) -> str:
        """Return the result as text."""
        model, steps = self.model, self.config.get("steps", 0)
        psnr = ", ".join(f"{name} {value:.2f} dB" for name, value in self.psnr.items())
        return (
            f"{model.class_name}, f={model.f}, {model.channels} channels, {model.parameters:,} parameters, "
            f"{model.bytes:,} bytes\nPSNR on held-out training images: {psnr}\n"
            f"{steps:,} steps in {duration(self.seconds)}"
        )

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield one row per point of the curve and dataset."""
        for point in self.curve:
            for name, psnr in point.psnr.items():
                yield {"step": point.step, "loss": point.loss, "dataset": name, "psnr": psnr}
