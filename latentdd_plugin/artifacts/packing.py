"""Pack codes into bits at a precision, and unpack them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latentdd_plugin.artifacts import token_coding, transform_coding
from latentdd_plugin.artifacts.budget import precision_fault
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import CODED, PRECISIONS, TOKENS


@dataclass(frozen=True)
class Packed:
    """Codes at a storage precision, as they lie in the file."""

    data: Tensor  # float32 or float16 (M, c, h, w), or uint8 (bytes,): one bit stream, most significant bit first
    scale: Tensor | None  # float32 (2, c): minimum and maximum of each channel; (1, c): its step; None for floats
    precision: str
    shape: tuple[int, int, int, int]  # (M, c, h, w)
    tokens: int | None = None  # size of the codebook, of codes that are numbers of its entries; `scale` is then None

    @property
    def nbytes(self) -> int:
        """Bytes of the codes alone."""
        return self.data.numel() * self.data.element_size()


def pack(codes: Tensor, precision: str) -> Packed:
    """Store codes float32 (M, c, h, w) at a precision; integers use one min-max scale per channel for the whole set."""
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


def pack_coded(codes: Tensor, weights: Tensor, limit: int) -> Packed:
    """Store codes float32 (M, c, h, w) entropy-coded, as finely as `limit` bytes allow.

    Args:
        codes: what to store.
        weights: float32 (c,), the channels' quantiser steps relative to each other.
        limit: bytes that the stream may take.

    Raises:
        UsageError: the codes do not fit, however coarsely they are stored.
    """
    m, c, h, w = (int(n) for n in codes.shape)
    stream, steps = transform_coding.code(codes, weights, limit)
    data = torch.frombuffer(bytearray(stream), dtype=torch.uint8)
    return Packed(data, steps.view(1, c), CODED, (m, c, h, w))


def pack_tokens(codes: Tensor, size: int, precision: str, limit: int | None = None) -> Packed:
    """Store numbers of a codebook's entries at a fixed width (`tokens`) or entropy-coded (`coded`), without loss.

    Args:
        codes: float32 (M, c, h, w), whole numbers 0 … size - 1.
        size: of the codebook.
        precision: `tokens` or `coded`.
        limit: bytes that the stream may take; None is any number.

    Raises:
        UsageError: another precision, or the stream does not fit in `limit` bytes.
    """
    if fault := precision_fault(precision, "this codec", tokens=True):
        raise UsageError(fault)
    m, c, h, w = (int(n) for n in codes.shape)
    numbers = codes.detach().cpu().flatten().long().numpy()
    stream = token_coding.pack(numbers, size) if precision == TOKENS else token_coding.encode(numbers, size)
    if limit is not None and len(stream) > limit:
        raise UsageError(
            f"{m:,} codes take {len(stream):,} bytes as {precision}, {limit:,} are allowed: choose fewer codes with "
            "lpc, or more bytes"
        )
    return Packed(torch.frombuffer(bytearray(stream), dtype=torch.uint8), None, precision, (m, c, h, w), size)


def unpack(packed: Packed) -> Tensor:
    """Return the codes float32 (M, c, h, w) that a file holds: what is decoded and evaluated.

    Raises:
        ArtifactError: tokens or an entropy-coded stream are damaged.
    """
    if packed.tokens is not None:
        read = token_coding.unpack if packed.precision == TOKENS else token_coding.decode
        numbers = read(packed.data.numpy().tobytes(), packed.tokens, math.prod(packed.shape))
        return torch.from_numpy(numbers.astype(np.float32)).view(packed.shape)
    if packed.scale is None:
        return packed.data.float()
    if packed.precision == CODED:
        return transform_coding.decoded(packed.data.numpy().tobytes(), packed.scale[0], packed.shape)
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
