"""Codes as they will be stored, for methods that optimise them: rounding with a straight-through gradient, and bits.

The gradient of a rounded value is taken as that of the value itself (Bengio et al., https://arxiv.org/abs/1308.3432).
The bits follow from each column's mean magnitude m alone, as in the real coder's choice of models: a discretised
Laplace distribution of that mean has P(0) = 1 - s and P(k) = s^(2|k|) (1/s - s) / 2, where m = s / (1 - s^2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdd_plugin.artifacts.packing import Packed, pack, unpack
from latentdd_plugin.artifacts.transform_coding import code, coefficients, rounded
from latentdd_plugin.core.types import CODED, PRECISIONS

LEAST = 1e-6  # mean magnitude below which a column takes no bits


@dataclass(frozen=True)
class AsStored:
    """The storage of a run: a precision and, for `coded`, the bytes and the channels' steps.

    Attributes:
        precision: how codes are stored.
        weights: float32 (c,), the channels' quantiser steps relative to each other.
        limit: bytes that `coded` codes may take.
    """

    precision: str
    weights: Tensor
    limit: int

    def fitted(self, codes: Tensor) -> RoundedCodes | None:
        """Return the rounding that these codes (M, c, h, w) get, or None if they are stored as they are."""
        if self.precision == CODED:
            steps = code(codes, self.weights, self.limit)[1]
            return RoundedCodes(self.precision, steps.to(codes.device), self.limit)
        return RoundedCodes(self.precision, None, self.limit) if PRECISIONS.get(self.precision, 32) <= 8 else None


@dataclass(frozen=True)
class RoundedCodes:
    """A rounding with fixed steps."""

    precision: str
    steps: Tensor | None  # float32 (c,), of `coded`
    limit: int

    def view(self, codes: Tensor) -> Tensor:
        """Return codes (M, c, h, w) as they are stored; the gradient passes as if they had not been rounded."""
        with torch.no_grad():
            if self.steps is None:
                stored = unpack(pack(codes, self.precision)).to(codes.device)
            else:
                scale = self.steps.view(-1, 1, 1)
                stored = coefficients(rounded(coefficients(codes) / scale) * scale, back=True)
        return codes + (stored - codes).detach()

    def rate(self, codes: Tensor) -> Tensor:
        """Return the estimated length of the stream as a share of the bytes allowed, differentiable, float32 ()."""
        if self.steps is None:
            return codes.new_zeros(())
        scaled = coefficients(codes) / self.steps.view(-1, 1, 1)
        symbols = scaled + (rounded(scaled) - scaled).detach()
        return estimated_bits(symbols) / (8 * self.limit)


def estimated_bits(symbols: Tensor) -> Tensor:
    """Return the bits of quantised codes (M, c, h, w), float (), differentiable in the columns' mean magnitudes."""
    means = symbols.flatten(1).abs().mean(0).clamp_min(LEAST)
    s = 2 * means / (1 + (1 + 4 * means.square()).sqrt())
    nothing = (1 - s) * torch.log1p(-s)
    others = 2 * means * s.log() + s * ((1 / s - s) / 2).log()
    return -(nothing + others).sum() * len(symbols) / math.log(2)


def estimated_bytes(packed: Packed) -> int | None:
    """Return the bytes of `coded` codes by the estimate that methods may optimise; None at other precisions."""
    if packed.precision != CODED or packed.scale is None:
        return None
    symbols = rounded(coefficients(unpack(packed)) / packed.scale[0].view(-1, 1, 1))
    return math.ceil(float(estimated_bits(symbols)) / 8)
