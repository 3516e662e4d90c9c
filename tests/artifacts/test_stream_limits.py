"""Entropy-coded streams of codes and tokens in processes of their own: equal at any number of threads, and bounded."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from latentdd_plugin.artifacts import token_coding
from latentdd_plugin.artifacts.entropy import encode
from latentdd_plugin.core.types import LARGEST_CODEBOOK

DECODE = """
import hashlib, sys, torch
torch.set_num_threads(int(sys.argv[2]))
from latentdd_plugin.artifacts.entropy import decode
print(hashlib.sha256(decode(open(sys.argv[1], "rb").read(), 200, 100).tobytes()).hexdigest())
"""
DAMAGE = """
import resource, sys, time
import numpy as np
from latentdd_plugin.core.errors import ArtifactError
stream, count, sizes = open(sys.argv[1], "rb").read(), int(sys.argv[2]), tuple(map(int, sys.argv[4:]))
if sys.argv[3] == "tokens":
    from latentdd_plugin.artifacts.token_coding import decode
    shape, largest = (sizes[1],), sizes[0]
else:
    from latentdd_plugin.artifacts.entropy import LARGEST as largest, decode
    shape = sizes
draw, longest = np.random.default_rng(3), 0.0
decode(stream, *sizes)  # what is imported and kept is there from now on
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + 500_000_000, held + 500_000_000))
for number in range(count):
    damaged = bytearray(stream)
    head = number % 2  # every second time in the models, which decide how much is allocated
    for place in draw.integers(0, 80 if head else len(stream), draw.integers(1, 6)):
        damaged[place] = draw.integers(0, 256)
    if draw.random() < 0.3:
        damaged = damaged[: draw.integers(0, len(stream) + 1)]
    begun = time.process_time()
    try:
        found = decode(bytes(damaged), *sizes)
        assert found.shape == shape and abs(found).max() <= largest
    except ArtifactError:
        pass
    longest = max(longest, time.process_time() - begun)
assert longest < 1, longest
print("bounded")
"""


def laplacian(samples, columns):
    """Quantised coefficients as a transform gives them: large at first, then smaller and smaller."""
    scales = 20.0 * np.exp(-np.arange(columns) / (columns / 6))
    return np.rint(np.random.default_rng(0).laplace(size=(samples, columns)) * scales).astype(np.int32)


def unequal(size, count):
    """Tokens of which a few occur often."""
    return np.minimum(np.random.default_rng(0).zipf(1.5, count) - 1, size - 1)


def ran(script, *words, **environment):
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.fixture
def stream(tmp_path):
    path = tmp_path / "stream"
    path.write_bytes(encode(laplacian(200, 100)))
    return path


def test_processes_with_other_numbers_of_threads_decode_the_same_symbols(stream):
    wanted = hashlib.sha256(np.ascontiguousarray(laplacian(200, 100)).tobytes()).hexdigest()
    assert ran(DECODE, stream, 1, OMP_NUM_THREADS="1") == wanted
    assert ran(DECODE, stream, 4, OMP_NUM_THREADS="4") == wanted


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by address space")
@pytest.mark.parametrize("count", [200, pytest.param(5000, marks=pytest.mark.slow)])
def test_damaged_streams_stay_within_500_mb_and_a_second_each(stream, count):
    assert ran(DAMAGE, stream, count, "values", 200, 100) == "bounded"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by address space")
@pytest.mark.parametrize("size", [40, 16384, LARGEST_CODEBOOK])
@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_damaged_tokens_stay_within_500_mb_and_a_second_each(tmp_path, size, count):
    stream = token_coding.encode(unequal(size, 20_000), size)
    assert len(stream) < token_coding.fixed_bytes(20_000, size)
    (tmp_path / "stream").write_bytes(stream)
    assert ran(DAMAGE, tmp_path / "stream", count, "tokens", size, 20_000) == "bounded"
