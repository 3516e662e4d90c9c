"""Tokens, numbers 0 … K - 1 of a codebook's entries, as bytes: at a fixed width or entropy-coded, exact everywhere.

Fixed width: ceil(log2 K) bits each, most significant bit first, with zero bits up to a whole byte.

Entropy-coded: tokens do not occur equally often. The model is a quantised histogram: a token that occurs n times has
the weight nearest to n among 1, 1.41, 2, 2.83, …, and the number of that weight is its *level*; level 0 does not occur.
Levels and tokens are coded with the range coder of `constriction`, whose models are quotients of integers, so that no
platform's logarithm can make two machines disagree.

    stream = version (u8), number of levels (u8), (level u8, weight u16) each, range code of K levels, then the tokens

A stream as long as the fixed width is at fixed width: the model would cost more than it saves. The length says so, not
a byte, so that given bytes hold as many codes as at the fixed width.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentdd_plugin.core.errors import ArtifactError
from latentdd_plugin.core.types import token_bits

Tokens = NDArray[np.int64]

VERSION = 1
WEIGHTS = np.array([(128, 181)[k % 2] << k // 2 for k in range(63)], dtype=np.int64)  # 128 sqrt(2)^k, of level k + 1
HEAD, LEVEL = struct.Struct("<BB"), struct.Struct("<BH")
MOST_WEIGHT = 65535  # of a level in the model of levels
BLOCK = 1 << 18  # tokens that are taken apart into bits at once: a multiple of 8, so that a block ends with a byte
TOKENS_PER_BYTE = 512  # a shorter stream is refused: no header makes a reader allocate more than its file justifies
SLACK = 1 << 16  # tokens that any stream may hold


def fixed_bytes(count: int, size: int) -> int:
    """Return the bytes of so many tokens of a codebook of `size` entries at their fixed width."""
    return math.ceil(count * token_bits(size) / 8)


def pack(tokens: Tokens, size: int) -> bytes:
    """Return tokens (n,) of a codebook of `size` entries at their fixed width."""
    bits = token_bits(size)
    parts = []
    for start in range(0, len(tokens), BLOCK):
        words = tokens[start : start + BLOCK].astype(">u4").view(np.uint8).reshape(-1, 4)
        parts.append(np.packbits(np.unpackbits(words, axis=1)[:, 32 - bits :]).tobytes())
    return b"".join(parts)


def unpack(data: bytes, size: int, count: int) -> Tokens:
    """Return the tokens (count,) that bytes hold at a fixed width.

    Raises:
        ArtifactError: they are too few or too many, or name an entry that the codebook does not have.
    """
    if len(data) != fixed_bytes(count, size):
        raise ArtifactError(f"tokens: {count:,} of {token_bits(size)} bits are not {len(data):,} bytes")
    bits, found = token_bits(size), np.empty(count, dtype=np.int64)
    for start in range(0, count, BLOCK):
        n = min(BLOCK, count - start)
        block = np.frombuffer(data, np.uint8, fixed_bytes(n, size), start * bits // 8)
        planes = np.unpackbits(block)
        if planes[n * bits :].any():
            raise ArtifactError("tokens: something follows the last one")
        words = np.zeros((n, 32), dtype=np.uint8)
        words[:, 32 - bits :] = planes[: n * bits].reshape(n, bits)
        found[start : start + n] = np.packbits(words, axis=1).view(">u4")[:, 0]
    if count and int(found.max()) >= size:
        raise ArtifactError(f"tokens: {int(found.max()):,} is not an entry of a codebook of {size:,}")
    return found


def encode(tokens: Tokens, size: int) -> bytes:
    """Return tokens (n,) of a codebook of `size` entries entropy-coded, or at their fixed width if that is shorter."""
    stream = _modelled(tokens, size)
    plain = fixed_bytes(len(tokens), size)
    return stream if len(stream) < plain and len(tokens) <= _most(len(stream)) else pack(tokens, size)


def decode(stream: bytes, size: int, count: int) -> Tokens:
    """Return the tokens (count,) of a stream.

    Raises:
        ArtifactError: it is not such a stream, or does not hold so many tokens.
    """
    if len(stream) >= fixed_bytes(count, size):
        return unpack(stream, size, count)
    if not 0 < count <= _most(len(stream)):
        raise ArtifactError(f"coded tokens: {count:,} in {len(stream):,} bytes are not possible")
    try:
        return _decoded(stream, size, count)
    except (struct.error, ValueError, AssertionError, IndexError) as error:
        raise ArtifactError(f"coded tokens: damaged ({error})") from None


def _modelled(tokens: Tokens, size: int) -> bytes:
    """Return the stream with its model, whatever its length."""
    import constriction

    counts = np.bincount(tokens, minlength=size)
    levels = np.where(counts > 0, np.searchsorted((WEIGHTS[:-1] + WEIGHTS[1:]) // 2, 128 * counts) + 1, 0)
    known, places, often = np.unique(levels, return_inverse=True, return_counts=True)
    weights = np.maximum(often * MOST_WEIGHT // size, 1)
    encoder = constriction.stream.queue.RangeEncoder()
    _put(encoder, places, weights)
    used = np.flatnonzero(levels)
    _put(encoder, np.searchsorted(used, tokens), WEIGHTS[levels[used] - 1])
    head = HEAD.pack(VERSION, len(known)) + b"".join(map(LEVEL.pack, known.tolist(), weights.tolist()))
    return head + np.asarray(encoder.get_compressed(), dtype="<u4").tobytes()


def _decoded(stream: bytes, size: int, count: int) -> Tokens:
    import constriction

    version, kinds = HEAD.unpack_from(stream)
    if version != VERSION:
        raise ArtifactError(f"coded tokens: version {version}; this package reads {VERSION}")
    place = HEAD.size + kinds * LEVEL.size
    pairs = [LEVEL.unpack_from(stream, HEAD.size + i * LEVEL.size) for i in range(kinds)]
    known, weights = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
    if np.any(np.diff(known) <= 0) or known[-1] > len(WEIGHTS) or weights.min() < 1:
        raise ValueError("a level or a weight out of its range")
    if (len(stream) - place) % 4:
        raise ValueError("its length does not fit")
    decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(stream, dtype="<u4", offset=place).astype(np.uint32))
    levels = known[_take(decoder, size, weights)]
    used = np.flatnonzero(levels)
    if not len(used):
        raise ValueError("no token occurs")
    found: Tokens = used[_take(decoder, count, WEIGHTS[levels[used] - 1])]
    if not decoder.maybe_exhausted():
        raise ValueError("something follows its last token")
    return found


def _most(length: int) -> int:
    return SLACK + TOKENS_PER_BYTE * length


def _put(encoder: Any, symbols: Tokens, weights: NDArray[np.int64]) -> None:
    if len(weights) > 1:  # a single symbol takes no bits
        encoder.encode(symbols.astype(np.int32), _table(weights))


def _take(decoder: Any, count: int, weights: NDArray[np.int64]) -> Tokens:
    if len(weights) == 1:
        return np.zeros(count, dtype=np.int64)
    return np.asarray(decoder.decode(_table(weights), count), dtype=np.int64)


def _table(weights: NDArray[np.int64]) -> Any:
    """Return the coder's model of symbols with these weights: quotients of integers, the same wherever they are taken.

    Their sum is exact: at most 2^20 weights of at most 2^38.
    """
    import constriction

    shares = weights.astype(np.float64) / float(weights.sum())
    return constriction.stream.model.Categorical(shares.astype(np.float32), perfect=False)
