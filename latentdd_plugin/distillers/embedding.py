"""Feature extraction in chunks, compiled for one shape if the work is large."""

from __future__ import annotations

import torch
from torch import Tensor

from latentdd_plugin.core.compute import Mode, try_compiled
from latentdd_plugin.core.types import Shape
from latentdd_plugin.nn.architectures import forward_batch
from latentdd_plugin.nn.convnet import MatchingNetwork

CHUNK = 256  # samples per call, fewer if they are large: one shape if compiled, small enough for the caches of a CPU


class Embedding:
    """Features of many samples under one network, in chunks; compiled ones have one shape.

    Args:
        network: gives the features, with the weights that it has at the time of the call.
        mode: the arithmetic.
        shape: (c, h, w) of a sample.
    """

    def __init__(self, network: MatchingNetwork, mode: Mode, shape: Shape) -> None:
        self.chunk = min(CHUNK, forward_batch(shape))
        if mode.compile:
            network.to(memory_format=torch.channels_last)

        def features(x: Tensor) -> Tensor:
            with mode.autocast():
                return network.features(x)

        with torch.no_grad():
            example = torch.zeros((self.chunk, *shape), device=mode.device)
            self._features, self.mode = try_compiled(mode, features, example)

    def __call__(self, x: Tensor) -> Tensor:
        """Return features float32 (N, F) of samples (N, c, h, w)."""
        if self.mode.compile:
            x = x.contiguous(memory_format=torch.channels_last)
        parts = []
        for part in x.split(self.chunk):
            n = len(part)
            if self.mode.compile and n < self.chunk < len(x):  # pad: another shape would be compiled again
                part = torch.cat([part, part.new_zeros((self.chunk - n, *part.shape[1:]))])
            parts.append(self._features(part)[:n].float())
        return torch.cat(parts)
