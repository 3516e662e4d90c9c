"""Bytes to codes per class, and codes to bits at a precision.

The literature counts a budget in images per class of 32-bit pixels; here it is bytes, and what a file really spends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.json_record import JsonRecord, json_field
from latentdd_plugin.core.json_schema import WHOLE, Kind
from latentdd_plugin.core.types import CODED, PRECISIONS, TOKENS, Shape, token_bits


@dataclass(frozen=True)
class Budget:
    """The bytes that a distilled set may spend on codes, soft labels and a decoder trained with them."""

    ipc: int | None  # as asked for, if the budget was given in images
    bytes_per_class: int
    codes_per_class: int
    precision: str
    code_shape: Shape
    label_bits: int = 0  # bits of one code's soft label; hard labels are not counted
    decoder_bytes: int = 0  # bytes per class of a decoder that is trained with the codes
    tokens: int | None = None  # size of the codebook, of codes that are numbers of its entries

    def packed_bytes(self, codes: int, classes: int = 1) -> int:
        """Return the bytes that so many packed codes of so many classes take; for `coded`, those that they may take."""
        if self.precision == CODED:
            return (self.bytes_per_class - self.decoder_bytes) * classes - math.ceil(codes * self.label_bits / 8)
        return math.ceil(codes * math.prod(self.code_shape) * value_bits(self.precision, self.tokens) / 8)


@dataclass(frozen=True)
class ByteLedger(JsonRecord):
    """The bytes of a stored set, by what they are spent on."""

    derived: ClassVar[Mapping[str, tuple[Kind, str, str]]] = {
        "total": (
            WHOLE,
            "codes + labels + trained, which the budget limits",
            "not the sum of codes, labels and trained",
        ),
        "total_with_decoder": (WHOLE, "total + decoder", "not the sum of total and decoder"),
    }

    codes: int = json_field(WHOLE, "packed codes")
    labels: int = json_field(WHOLE, "soft labels; hard ones are free, as the literature counts")
    side: int = json_field(WHOLE, "side information: scales, standardisation, learned learning rate, hard labels")
    decoder: int = json_field(WHOLE, "weights and fitted tables that decoding needs")
    file: int = json_field(WHOLE, "the whole file, header included")
    teacher: int | None = json_field(
        WHOLE.or_missing(omit=True), "weights of the teacher that the labels come from", default=None
    )
    trained: int | None = json_field(
        WHOLE.or_missing(omit=True),
        "tensors of the decoder that were trained with the codes, scales included",
        default=None,
    )

    @property
    def total(self) -> int:
        """Bytes that the budget limits: codes, soft labels and what was trained of the decoder."""
        return self.codes + self.labels + (self.trained or 0)

    @property
    def total_with_decoder(self) -> int:
        """Bytes of codes, soft labels and the decoder."""
        return self.total + self.decoder

    @property
    def total_with_teacher(self) -> int:
        """Bytes of codes, labels, the decoder and the teacher."""
        return self.total_with_decoder + (self.teacher or 0)

    @property
    def parts(self) -> dict[str, int]:
        """Bytes by part, without the sums."""
        names = ("codes", "labels", "side", "decoder", "file")
        found = {name: getattr(self, name) for name in names}
        return found if self.trained is None else {**found, "trained": self.trained}

    def differences(self, found: ByteLedger, *, but: tuple[str, ...] = ()) -> list[tuple[str, int, int]]:
        """Return (part, bytes here, bytes there) of every part and sum that differs, except those named in `but`."""
        parts = dict.fromkeys((*self.parts, *found.parts, *self.derived))
        pairs = [(name, getattr(self, name) or 0, getattr(found, name) or 0) for name in parts if name not in but]
        return [pair for pair in pairs if pair[1] != pair[2]]


def precision_fault(precision: str, codec: str, *, tokens: bool) -> str | None:
    """Return why a codec's codes cannot be stored at a precision, None if they can.

    Args:
        precision: one of STORAGE.
        codec: name of the codec, for the message.
        tokens: whether its codes are numbers of a codebook's entries.
    """
    if tokens and precision not in (TOKENS, CODED):
        return (
            f"precision={precision}: the codes of {codec} are tokens, numbers of a codebook's entries, which are "
            f"stored as they are: leave the precision out, or choose one of {TOKENS}, {CODED}"
        )
    if precision == TOKENS and not tokens:
        known = ", ".join((*PRECISIONS, CODED))
        return (
            f"precision={TOKENS}: the codes of {codec} are not numbers of a codebook's entries; choose one of {known}"
        )
    return None


def value_bits(precision: str, tokens: int | None = None) -> int:
    """Return the bits of one value of a code; `tokens` is the size of the codebook of codes that are its numbers."""
    return PRECISIONS[precision] if tokens is None else token_bits(tokens)


def image_bytes(image_shape: Shape) -> int:
    """Bytes of one image as the field counts it: 32-bit pixels."""
    return math.prod(image_shape) * 4


def codes_by_rule(bytes_per_class: int, label_bits: int = 0) -> int:
    """Return how many entropy-coded codes per class share this many bytes: sqrt(3 bytes), labels at most half of them.

    A code's share of the bytes grows with the budget, but more slowly: 64 bytes for 192 codes in 12,288 bytes.
    """
    codes = round(math.sqrt(3 * bytes_per_class))
    return max(1, min(codes, 4 * bytes_per_class // label_bits) if label_bits else codes)


def budget_for(  # the three ways of asking, one answer
    image_shape: Shape,
    code_shape: Shape,
    precision: str,
    *,
    ipc: int | None = None,
    lpc: int | None = None,
    bytes_per_class: int | None = None,
    label_bits: int = 0,
    decoder_bytes: int = 0,
    tokens: int | None = None,
    images_per_class: int | None = None,
) -> Budget:
    """Return the budget of `ipc` images, `bytes_per_class` bytes or `lpc` codes per class.

    LPC = floor(8 * (bytes - decoder_bytes) / (bits * c*h*w + label_bits)). For `coded`, where a code takes any number
    of bits, `lpc` codes share the bytes; by default they are as many as `codes_by_rule` says, and at most
    `images_per_class`, the images of the smallest class, from which codes are drawn. Numbers of a codebook of `tokens`
    entries have bits = ceil(log2 tokens), and under `coded` as many codes by default as at this width.

    Raises:
        UsageError: not even one code per class fits, or the precision is not one of tokens.
    """
    if fault := precision_fault(precision, "this codec", tokens=tokens is not None):
        raise UsageError(fault)
    if bytes_per_class is None and (lpc is None or precision == CODED):
        ipc = 1 if ipc is None else ipc
    total = ipc * image_bytes(image_shape) if ipc is not None else bytes_per_class or 0
    if precision == CODED and (tokens is None or lpc is not None):
        by_rule = codes_by_rule(total - decoder_bytes, label_bits)
        codes = lpc or min(by_rule, max(1, images_per_class or by_rule))
        if 8 * (total - decoder_bytes) < codes * (label_bits + 8):
            labels = f", of which each label takes {math.ceil(label_bits / 8)} bytes" if label_bits else ""
            raise UsageError(
                f"budget too small: the codes ({codes} per class) do not fit in {total} bytes per class{labels}; raise "
                "ipc or bytes, lower lpc, or store smaller labels (labels.top_k, labels.precision)"
            )
        return Budget(ipc, total, codes, precision, code_shape, label_bits, decoder_bytes, tokens)
    bits = value_bits(precision, tokens) * math.prod(code_shape) + label_bits
    if lpc is not None:
        return Budget(None, math.ceil(lpc * bits / 8), lpc, precision, code_shape, label_bits, tokens=tokens)
    codes = 8 * (total - decoder_bytes) // bits
    if tokens is not None:  # tokens and labels begin with a byte each, whatever their bits
        codes -= math.ceil(codes * (bits - label_bits) / 8) + math.ceil(codes * label_bits / 8) > total - decoder_bytes
    if codes < 1:
        spent = f", of which the trained decoder takes {decoder_bytes}" if decoder_bytes else ""
        labelled = f", {math.ceil(label_bits / 8)} of them for its label" if label_bits else ""
        raise UsageError(
            f"budget too small: {f'ipc={ipc} is ' if ipc else ''}{total} bytes per class{spent}, but one {precision} "
            f"code of shape {code_shape} takes {math.ceil(bits / 8)} bytes{labelled}; raise "
            f"{'ipc' if ipc else 'it'}, choose a lower precision or a codec with smaller codes"
        )
    return Budget(ipc, total, codes, precision, code_shape, label_bits, decoder_bytes, tokens)
