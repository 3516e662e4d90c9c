"""Bytes to codes per class, and codes to bits at a precision.

The literature counts a budget in images per class of 32-bit pixels; here it is bytes, and what a file really spends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdd_plugin.errors import UsageError
from latentdd_plugin.types import PRECISIONS, Shape


@dataclass(frozen=True)
class Budget:
    """How much a distilled set may spend on codes and soft labels."""

    ipc: int | None  # as asked for, if the budget was given in images
    bytes_per_class: int
    codes_per_class: int
    precision: str
    code_shape: Shape
    label_bits: int = 0  # bits of one code's soft label; hard labels are not counted

    def packed_bytes(self, codes: int) -> int:
        """Bytes of so many packed codes in one bit stream."""
        return math.ceil(codes * math.prod(self.code_shape) * PRECISIONS[self.precision] / 8)


def image_bytes(image_shape: Shape) -> int:
    """Bytes of one image as the field counts it: 32-bit pixels."""
    return math.prod(image_shape) * 4


def budget_for(  # the two ways of asking, one answer
    image_shape: Shape,
    code_shape: Shape,
    precision: str,
    *,
    ipc: int | None = None,
    lpc: int | None = None,
    label_bits: int = 0,
) -> Budget:
    """The budget of `ipc` images or `lpc` codes a class.

    LPC = floor(8 * bytes / (bits * c*h*w + label_bits)).

    Raises:
        UsageError: not even one code a class fits.
    """
    bits = PRECISIONS[precision] * math.prod(code_shape) + label_bits
    if lpc is not None:
        return Budget(None, math.ceil(lpc * bits / 8), lpc, precision, code_shape, label_bits)
    ipc = 1 if ipc is None else ipc
    total = ipc * image_bytes(image_shape)
    codes = 8 * total // bits
    if codes < 1:
        raise UsageError(
            f"budget too small: ipc={ipc} is {total} bytes a class, but one {precision} code of shape {code_shape} "
            f"takes {math.ceil(bits / 8)} bytes; raise ipc, choose a lower precision or a codec with smaller codes"
        )
    return Budget(ipc, total, codes, precision, code_shape, label_bits)


@dataclass(frozen=True)
class Packed:
    """Codes at a storage precision, as they lie in the file."""

    data: Tensor  # float32 or float16 (M, c, h, w), or uint8 (bytes,): one bit stream, most significant bit first
    scale: Tensor | None  # float32 (2, c): minimum and maximum of each channel; None for floats
    precision: str
    shape: tuple[int, int, int, int]  # (M, c, h, w)

    @property
    def nbytes(self) -> int:
        """Bytes of the codes alone."""
        return self.data.numel() * self.data.element_size()


def pack(codes: Tensor, precision: str) -> Packed:
    """Store codes float32 (M, c, h, w) at a precision; integers use one min-max scale a channel for the whole set."""
    codes = codes.detach().float().cpu()
    m, c, h, w = (int(n) for n in codes.shape)
    shape = (m, c, h, w)
    bits = PRECISIONS[precision]
    if bits == 32:
        return Packed(codes.contiguous(), None, precision, shape)
    if bits == 16:
        return Packed(codes.half().contiguous(), None, precision, shape)
    low, high = codes.amin((0, 2, 3)), codes.amax((0, 2, 3))
    levels = 2**bits - 1
    width = (high - low).clamp_min(torch.finfo(torch.float32).tiny).view(1, c, 1, 1)
    steps = ((codes - low.view(1, c, 1, 1)) / width * levels).round_().clamp_(0, levels).to(torch.uint8)
    return Packed(_to_bits(steps.flatten(), bits), torch.stack([low, high]), precision, shape)


def unpack(packed: Packed) -> Tensor:
    """The codes float32 (M, c, h, w) that a file holds: what is decoded and evaluated."""
    if packed.scale is None:
        return packed.data.float()
    bits = PRECISIONS[packed.precision]
    steps = _from_bits(packed.data, bits, math.prod(packed.shape)).view(packed.shape).float()
    low, high = (side.view(1, -1, 1, 1) for side in packed.scale)
    codes: Tensor = low + steps * ((high - low) / (2**bits - 1))
    return codes


def _to_bits(values: Tensor, bits: int) -> Tensor:
    each = 8 // bits
    padded = torch.nn.functional.pad(values, (0, -len(values) % each)).view(-1, each)
    out = torch.zeros(len(padded), dtype=torch.uint8)
    for place in range(each):
        out |= padded[:, place] << (8 - bits * (place + 1))
    return out


def _from_bits(stream: Tensor, bits: int, count: int) -> Tensor:
    each = 8 // bits
    places = [(stream >> (8 - bits * (place + 1))) & (2**bits - 1) for place in range(each)]
    return torch.stack(places, 1).flatten()[:count]
