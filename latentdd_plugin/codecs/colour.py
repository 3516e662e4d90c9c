"""Luma and chroma: the colour planes of codecs that keep less of the colour than of the light."""

from __future__ import annotations

import torch
from torch import Tensor

CHROMA_STEP = 2.0  # of luma's, where codes are entropy-coded

# JFIF (ITU-T T.871): Y, Cb, Cr of R, G, B, without the offset of the chroma, so that zero is grey.
RGB_TO_YCC = (
    (0.299, 0.587, 0.114),
    (-0.299 / 1.772, -0.587 / 1.772, 0.886 / 1.772),
    (0.701 / 1.402, -0.587 / 1.402, -0.114 / 1.402),
)


def colour_planes(channels: int, colour: str) -> Tensor:
    """Return the matrix from channels to colour planes, float64 (C, C): the identity unless RGB becomes Y'CbCr."""
    turns = channels == 3 and colour != "rgb"
    return torch.tensor(RGB_TO_YCC, dtype=torch.float64) if turns else torch.eye(channels, dtype=torch.float64)
