"""The header of an artifact: everything in its file that is not a tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from latentdd_plugin.artifacts.labels import LabelForm
from latentdd_plugin.artifacts.trained_decoder import DecoderForm
from latentdd_plugin.core.json_record import JsonRecord, RecordOf, json_field
from latentdd_plugin.core.json_schema import COUNT, LARGEST, OBJECT, SHA256, TEXT, Leaf, is_number, word
from latentdd_plugin.core.types import LARGEST_CODEBOOK, STORAGE, Json, Shape

SCHEMA = "dd-bench/artifact.v1"
LABEL_KINDS = ("hard", "probabilities", "logits")
LARGEST_TENSOR = 2**31  # values of one tensor: no header makes a reader allocate more
LARGEST_IMAGE = 2**26  # values of one decoded image


def _sizes(sides: int, largest: int) -> Leaf:
    """Return the kind of a shape with so many sides and at most so many values."""
    return Leaf(
        f"{sides} whole numbers from 1, of a possible size",
        lambda v: (
            isinstance(v, list)
            and len(v) == sides
            and all(type(n) is int and 0 < n < LARGEST for n in v)
            and math.prod(v) <= largest
        ),
        {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": sides, "maxItems": sides},
    )


STRING = replace(TEXT, wanted="a text")
CODEBOOK = Leaf(
    f"a whole number from 2 to {LARGEST_CODEBOOK}",
    lambda v: type(v) is int and 2 <= v <= LARGEST_CODEBOOK,
    {"type": "integer", "minimum": 2, "maximum": LARGEST_CODEBOOK},
)
CLASSES = Leaf(
    "a list of different texts, at least one",
    lambda v: isinstance(v, list) and all(isinstance(name, str) for name in v) and len(set(v)) == len(v) > 0,
    {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True},
)
MEANS = Leaf(
    "finite numbers",
    lambda v: isinstance(v, list) and all(is_number(x) and math.isfinite(x) for x in v),
    {"type": "array", "items": {"type": "number"}},
)
DEVIATIONS = Leaf(
    "positive numbers",
    lambda v: MEANS.holds(v) and all(x > 0 for x in v),
    {"type": "array", "items": {"type": "number", "exclusiveMinimum": 0}},
)


@dataclass(frozen=True)
class HeaderCodec(JsonRecord):
    """The codec that decodes the set."""

    name: str = json_field(STRING, "name of the codec")
    config: Mapping[str, Json] = json_field(OBJECT, "its options")
    upsample: int = json_field(COUNT, "factor by which images are enlarged before it")
    fingerprint: str = json_field(STRING, "hash of its id, configuration and every weight")
    decoder_fingerprint: str | None = json_field(
        STRING.or_missing(omit=True), "hash of its decoder alone, if only that travels in the file", default=None
    )


@dataclass(frozen=True)
class HeaderSpace(JsonRecord):
    """The standardisation of codes."""

    mean: tuple[float, ...] = json_field(MEANS, "mean by channel")
    std: tuple[float, ...] = json_field(DEVIATIONS, "deviation by channel")


@dataclass(frozen=True)
class HeaderDataset(JsonRecord):
    """The data that the set was distilled from."""

    name: str = json_field(STRING, "name")
    fingerprint: str = json_field(STRING, "hash of every training image and label used; empty if unknown")


@dataclass(frozen=True)
class Origin(JsonRecord):
    """The origin of an imported set."""

    format: str | None = json_field(STRING.or_missing(omit=True), "format it was imported from", default=None)
    values: str | None = json_field(STRING.or_missing(omit=True), "value space it was imported from", default=None)
    selection: str | None = json_field(
        STRING.or_missing(omit=True), "`unknown`: the source does not say which iterate it is", default=None
    )
    class_order: str | None = json_field(
        STRING.or_missing(omit=True), "rule by which its labels were matched with classes", default=None
    )
    labels: Mapping[str, Json] | None = json_field(
        OBJECT.or_missing(omit=True), "class name by each label of the source", default=None
    )


@dataclass(frozen=True, kw_only=True)
class ArtifactHeader(JsonRecord):
    """The header, canonical JSON under one key of the file's metadata."""

    schema: str = json_field(word(SCHEMA), "name of this schema", default=SCHEMA)
    content_sha256: str | None = json_field(
        SHA256.or_missing(omit=True), "hash of the header and every tensor; written with the file", default=None
    )
    codec: HeaderCodec = json_field(RecordOf(HeaderCodec), "what decodes it")
    space: HeaderSpace = json_field(RecordOf(HeaderSpace), "standardisation of codes")
    value_space: str = json_field(STRING, "units of decoded values")
    precision: str = json_field(word(*STORAGE), "how codes are stored")
    tokens: int | None = json_field(
        CODEBOOK.or_missing(omit=True), "size of the codebook, of codes that are numbers of its entries", default=None
    )
    codes_shape: tuple[int, int, int, int] = json_field(_sizes(4, LARGEST_TENSOR), "M, c, h, w of the codes")
    image_shape: Shape = json_field(_sizes(3, LARGEST_IMAGE), "C, H, W of a decoded image in pixels")
    classes: tuple[str, ...] = json_field(CLASSES, "class names in label order")
    label_kind: str = json_field(word(*LABEL_KINDS), "`hard`, `probabilities` or `logits`")
    labels: LabelForm | None = json_field(
        RecordOf(LabelForm).or_missing(omit=True), "labels of a teacher, beside the class numbers", default=None
    )
    decoder: DecoderForm | None = json_field(
        RecordOf(DecoderForm).or_missing(omit=True),
        "the part of the codec's decoder that was trained with the codes",
        default=None,
    )
    dataset: HeaderDataset = json_field(RecordOf(HeaderDataset), "what it was distilled from")
    origin: Origin | None = json_field(
        RecordOf(Origin).or_missing(omit=True), "of an imported set: where it came from", default=None
    )

    def sealed(self, content_sha256: str | None) -> ArtifactHeader:
        """Return the header with this hash of its content; None takes the hash away."""
        order = None if self.key_order is None else tuple(key for key in self.key_order if key != "content_sha256")
        return replace(self, content_sha256=content_sha256, key_order=order)
