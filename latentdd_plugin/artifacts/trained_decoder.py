"""The part of a decoder that was trained with the codes, as it is stored: each tensor at one precision."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentdd_plugin.artifacts.packing import Packed, pack, unpack
from latentdd_plugin.core.errors import ArtifactError, RunFailed
from latentdd_plugin.core.json_record import JsonRecord, json_field
from latentdd_plugin.core.json_schema import LARGEST, Leaf, word
from latentdd_plugin.core.types import PRECISIONS

PREFIX = "decoder."  # of its tensors in the file; a scale ends in SCALE
SCALE = ".scale"
MOST = 2**31  # values in all: no header makes a reader allocate more


def _holds_shapes(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(shape, list) and all(type(n) is int and 0 < n < LARGEST for n in shape) for shape in value.values()
    )


SHAPES = Leaf(
    "a shape by each tensor's name",
    _holds_shapes,
    {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "integer", "minimum": 1}}},
)


@dataclass(frozen=True)
class DecoderForm(JsonRecord):
    """The form in which the trained part of a decoder is stored."""

    precision: str = json_field(word(*PRECISIONS), "how its tensors are stored")
    shapes: Mapping[str, list[int]] = json_field(SHAPES, "shape of each tensor, by the name the codec gives it")


@dataclass(frozen=True)
class TrainedDecoder:
    """The trained tensors of a decoder at their storage precision."""

    form: DecoderForm
    packed: Mapping[str, Packed]  # each as one channel, (1, 1, 1, values)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors and their scales, which the budget limits."""
        scales = (0 if p.scale is None else p.scale.numel() * 4 for p in self.packed.values())
        return sum(p.nbytes for p in self.packed.values()) + sum(scales)

    @property
    def replaced(self) -> int:
        """Bytes of the codec's own float32 tensors that these take the place of."""
        return 4 * sum(packed.shape[3] for packed in self.packed.values())

    def tensors(self) -> dict[str, Tensor]:
        """Return the float32 tensors by name: those that decode."""
        return {name: unpack(p).view(self.form.shapes[name]) for name, p in self.packed.items()}

    def stored(self) -> dict[str, Tensor]:
        """Return the tensors of the file, by their names in it."""
        data = {PREFIX + name: packed.data for name, packed in self.packed.items()}
        scales = {name: packed.scale for name, packed in self.packed.items()}
        return data | {PREFIX + name + SCALE: scale for name, scale in scales.items() if scale is not None}


def pack_decoder(tensors: Mapping[str, Tensor], precision: str) -> TrainedDecoder:
    """Store trained tensors, float32 of any shape, at a precision.

    Raises:
        RunFailed: the precision cannot hold a value.
    """
    packed = {name: pack(tensor.reshape(1, 1, 1, -1), precision) for name, tensor in tensors.items()}
    found = TrainedDecoder(DecoderForm(precision, {name: list(t.shape) for name, t in tensors.items()}), packed)
    for name, tensor in found.tensors().items():
        if not bool(torch.isfinite(tensor).all()):
            raise RunFailed(f"codec.decoder_precision={precision} cannot hold {name}: choose fp32, or a smaller step")
    return found


def read_decoder(form: DecoderForm | None, tensors: Mapping[str, Tensor]) -> TrainedDecoder | None:
    """Return the trained decoder of a file.

    Args:
        form: of the header, or None.
        tensors: every tensor of the file.

    Raises:
        ArtifactError: header and tensors do not belong together, or hold what no decoder can have.
    """
    there = {name for name in tensors if name.startswith(PREFIX)}
    if form is None:
        if there:
            raise ArtifactError(f"tensors {sorted(there)}: the header names no trained decoder")
        return None
    integer = PRECISIONS[form.precision] <= 8
    wanted = {PREFIX + name for name in form.shapes}
    if not form.shapes or there != wanted | ({name + SCALE for name in wanted} if integer else set()):
        raise ArtifactError(f"decoder: tensors {sorted(there)} are not those that the header names")
    packed = {name: _checked(name, shape, form.precision, tensors) for name, shape in form.shapes.items()}
    return TrainedDecoder(form, packed)


def _checked(name: str, shape: list[int], precision: str, tensors: Mapping[str, Tensor]) -> Packed:
    """Return one tensor as stored; ArtifactError if its size, type or values are not those of its shape."""
    data, scale = tensors[PREFIX + name], tensors.get(PREFIX + name + SCALE)
    values, bits = math.prod(shape), PRECISIONS[precision]
    if values > MOST:
        raise ArtifactError(f"decoder: {name} of shape {shape} is too large")
    floats = {32: torch.float32, 16: torch.float16}
    dtype = floats.get(bits, torch.uint8)
    size = (1, 1, 1, values) if bits in floats else (-(-values * bits // 8),)
    if data.dtype != dtype or tuple(data.shape) != size:
        raise ArtifactError(f"decoder: {name} is {data.dtype} {tuple(data.shape)}; {dtype} {size} is needed")
    if (scale is not None and (scale.dtype != torch.float32 or tuple(scale.shape) != (2, 1))) or not all(
        bool(torch.isfinite(part).all()) for part in (data, *([] if scale is None else [scale]))
    ):
        raise ArtifactError(f"decoder: {name} or its scale is not finite, or the scale is not float32 (2, 1)")
    return Packed(data, scale, precision, (1, 1, 1, values))
