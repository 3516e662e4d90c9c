"""Random numbers: every draw is derived from (seed, purpose, step), never from a clock or a global generator."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, purpose: str, step: int = 0) -> int:
    """Return a 63-bit seed that depends on all three arguments and on nothing else."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{step}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: str, step: int = 0) -> torch.Generator:
    """Return a CPU generator for one purpose at one step. Draws on the CPU are the same for every device."""
    return torch.Generator().manual_seed(derive(seed, purpose, step))


@contextmanager
def seeded(seed: int, purpose: str, step: int = 0) -> Iterator[None]:
    """Run code that uses global generators (timm's initialisation, dropout, plug-ins) under a derived seed.

    Python's, NumPy's and torch's global states are restored afterwards.
    """
    value = derive(seed, purpose, step)
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(value)
        np.random.seed(value % 2**32)
        torch.manual_seed(value)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
