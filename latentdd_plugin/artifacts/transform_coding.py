"""Codes stored at as many bits as they carry: a cosine transform, one quantiser step per channel, entropy coding.

Neighbouring values of a code are alike, so each channel is transformed over its rows and columns first, by the same
orthonormal DCT-II that JPEG applies to blocks. Coefficients are quantised uniformly with a wide dead zone around zero
(Sullivan, "Efficient scalar quantization of exponential and Laplacian random variables", IEEE Trans. Inf. Theory 1996)
and coded by `entropy`. One step is searched for, so that the stream is as long as the budget allows.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from latentdd_plugin.artifacts.entropy import LARGEST, Symbols, decode, encode
from latentdd_plugin.codecs.dct import dct_matrix
from latentdd_plugin.core.errors import UsageError

ROUNDING = 0.35  # magnitudes from k + 0.65 on become k + 1: a half would spend more bits than the detail is worth
TOLERANCE = 0.002  # of the step, at which the search for it ends


def code(codes: Tensor, weights: Tensor, limit: int) -> tuple[bytes, Tensor]:
    """Quantise codes as finely as a number of bytes allows.

    Args:
        codes: float (M, c, h, w).
        weights: float32 (c,), the channels' steps relative to each other, in units of the codes.
        limit: bytes that the stream may take.

    Returns:
        The stream, and the steps float32 (c,).

    Raises:
        UsageError: the codes do not fit, however coarsely they are stored.
    """
    values = coefficients(codes.detach().cpu().float())
    largest = max(float((values.abs() / weights.view(-1, 1, 1)).max()), 1e-30)
    high = math.log(2 * largest)  # everything becomes zero
    low, found = high - math.log(2 * LARGEST), _stream(values, weights, math.exp(high))
    while high - low > TOLERANCE:
        middle = (low + high) / 2
        stream = _stream(values, weights, math.exp(middle))
        # A stream of next to nothing is none at all: then, too, the step has to become finer.
        if stream is None or len(stream[0]) <= limit:
            high, found = middle, stream or found
        else:
            low = middle
    if found is None or len(found[0]) > limit:
        raise UsageError(
            f"{len(codes):,} codes do not fit in {limit:,} bytes, however coarsely they are stored: choose fewer codes "
            "with lpc, or more bytes"
        )
    return found


def decoded(stream: bytes, steps: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the codes float32 (M, c, h, w) of a stream; ArtifactError if it is damaged."""
    return dequantise(decode(stream, shape[0], math.prod(shape[1:])), steps, shape)


def quantise(values: Tensor, steps: Tensor) -> Symbols:
    """Return the symbols int32 (M, c h w) of coefficients float32 (M, c, h, w); steps are float32 (c,)."""
    symbols = rounded(values / steps.view(-1, 1, 1))
    return symbols.flatten(1).clamp(-LARGEST, LARGEST).numpy().astype(np.int32)


def rounded(scaled: Tensor) -> Tensor:
    """Return coefficients in units of their step as whole numbers, with the dead zone around zero."""
    return scaled.sign() * (scaled.abs() + ROUNDING).floor()


def dequantise(symbols: Symbols, steps: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the codes float32 (M, c, h, w) that symbols (M, c h w) stand for."""
    return coefficients(torch.from_numpy(symbols).float().view(shape) * steps.view(-1, 1, 1), back=True)


def coefficients(codes: Tensor, *, back: bool = False) -> Tensor:
    """Return the orthonormal DCT-II of each channel over its rows and columns, or its inverse."""
    rows, columns = (dct_matrix(int(side)).float().to(codes.device) for side in codes.shape[2:])
    return rows.T @ codes @ columns if back else rows @ codes @ columns.T


def _stream(values: Tensor, weights: Tensor, step: float) -> tuple[bytes, Tensor] | None:
    """Return the stream at this step, and the steps; None if next to nothing of the codes would be left."""
    steps = (weights * step).float()
    try:
        return encode(quantise(values, steps)), steps
    except UsageError:
        return None
