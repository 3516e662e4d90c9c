"""Entropy coding of quantised codes: integers to a byte stream and back, exact on every platform.

Symbols are coded with the range coder of `constriction` (https://bamler-lab.github.io/constriction). Every column of
the array, one channel or one frequency of all codes, belongs to a class of columns with about the same mean magnitude.
A class has a model of two numbers: the probability of zero, and the ratio of a two-sided geometric tail. Classes and
models are part of the stream. Models are tables of integers until their last division, so that no platform's logarithm
or exponential can make two machines disagree.

    stream = version (u8), number of classes (u8), model of the class differences, (class u8, model) each, range code
    model  = 65536 P(0) (u16), 256 ratio (u8), largest magnitude (u16)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentdd_plugin.core.errors import ArtifactError, UsageError

Symbols = NDArray[np.int32]

VERSION = 1
LARGEST = 4095  # magnitude of a symbol
PER_OCTAVE = 4  # classes for each doubling of a column's mean magnitude
ZERO_AT = 12 * PER_OCTAVE  # the class of columns whose mean magnitude is 1
SYMBOLS_PER_BYTE = 512  # a shorter stream is refused: no header makes a reader allocate more than its file justifies
SLACK = 1 << 16  # symbols that any stream may hold
HEAD, MODEL = struct.Struct("<BB"), struct.Struct("<HBH")


@dataclass(frozen=True)
class _Model:
    """A distribution over -largest … largest: P(0), then a geometric tail on both sides."""

    zero: int  # 65536 P(0), 1 … 65535
    ratio: int  # 256 P(k + 1) / P(k) for k >= 1, 1 … 255
    largest: int  # 1 … LARGEST

    @classmethod
    def fit(cls, symbols: Symbols) -> _Model:
        """Return the model of greatest likelihood, up to rounding."""
        magnitudes = np.abs(symbols)
        others = int(np.count_nonzero(magnitudes))
        zero = round(65536 * (symbols.size - others) / symbols.size)
        ratio = round(256 * (1 - others / int(magnitudes.sum()))) if others else 1
        return cls(min(max(zero, 1), 65535), min(max(ratio, 1), 255), max(int(magnitudes.max()), 1))

    def table(self) -> Any:
        """Return the coder's model, from integers whose quotients are the same wherever they are taken."""
        weights, weight = [], 1 << 24
        for _ in range(self.largest):
            weights.append(max(weight, 1))
            weight = weight * self.ratio >> 8
        side = np.array(weights, dtype=np.float64)
        side *= (65536 - self.zero) / (2 * side.sum())  # exact integers below 2^53 until this division
        probabilities = np.concatenate([side[::-1], [self.zero], side]) / 65536
        import constriction

        return constriction.stream.model.Categorical(probabilities.astype(np.float32), perfect=False)


def encode(symbols: Symbols) -> bytes:
    """Return the stream of symbols (samples, columns).

    Raises:
        UsageError: a magnitude above 4095, or so little content that a reader would have to take the size on trust.
    """
    import constriction

    if symbols.size and int(np.abs(symbols).max()) > LARGEST:
        raise UsageError(f"a quantised code of magnitude {int(np.abs(symbols).max())}: at most {LARGEST} can be coded")
    classes = _classes(symbols)
    encoder = constriction.stream.queue.RangeEncoder()
    differences = np.diff(classes, prepend=0).astype(np.int32)
    models = [_Model.fit(differences)]
    _put(encoder, differences, models[0])
    used = [int(one) for one in np.unique(classes) if one]
    for one in used:
        members = np.ascontiguousarray(symbols[:, classes == one].T).ravel()
        models.append(_Model.fit(members))
        _put(encoder, members, models[-1])
    head = HEAD.pack(VERSION, len(used)) + MODEL.pack(models[0].zero, models[0].ratio, models[0].largest)
    for one, model in zip(used, models[1:], strict=True):
        head += bytes([one]) + MODEL.pack(model.zero, model.ratio, model.largest)
    stream = head + np.asarray(encoder.get_compressed(), dtype="<u4").tobytes()
    if symbols.size > _most(len(stream)):
        raise UsageError(
            f"{symbols.size:,} values in {len(stream):,} bytes: the codes are quantised until almost nothing is left; "
            "choose fewer codes or more bytes"
        )
    return stream


def decode(stream: bytes, samples: int, columns: int) -> Symbols:
    """Return the symbols int32 (samples, columns) of a stream.

    Raises:
        ArtifactError: it is not such a stream, or does not hold so many symbols.
    """
    if not 0 < samples * columns <= _most(len(stream)):
        raise ArtifactError(f"coded stream: {samples:,} x {columns:,} values in {len(stream):,} bytes are not possible")
    try:
        return _decoded(stream, samples, columns)
    except (struct.error, ValueError, AssertionError, IndexError, KeyError) as error:
        raise ArtifactError(f"coded stream: damaged ({error})") from None


def _decoded(stream: bytes, samples: int, columns: int) -> Symbols:
    import constriction

    version, count = HEAD.unpack_from(stream)
    if version != VERSION:
        raise ArtifactError(f"coded stream: version {version}; this package reads {VERSION}")
    first = _read_model(stream, HEAD.size)
    place, models = HEAD.size + MODEL.size, dict[int, _Model]()
    for _ in range(count):
        models[stream[place]] = _read_model(stream, place + 1)
        place += 1 + MODEL.size
    if (len(stream) - place) % 4:
        raise ValueError("its length does not fit")
    decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(stream, dtype="<u4", offset=place).astype(np.uint32))
    classes = np.cumsum(_take(decoder, columns, first))
    if set(np.unique(classes).tolist()) - {0} != set(models) or len(models) != count:
        raise ValueError("its classes do not fit its models")
    symbols = np.zeros((samples, columns), dtype=np.int32)
    for one, model in sorted(models.items()):
        members = np.flatnonzero(classes == one)
        symbols[:, members] = _take(decoder, samples * len(members), model).reshape(len(members), samples).T
    if not decoder.maybe_exhausted():
        raise ValueError("something follows its last symbol")
    return symbols


def _classes(symbols: Symbols) -> NDArray[np.int64]:
    """Return each column's class: 0 if all of it is zero, else its mean magnitude in quarters of an octave."""
    means = np.abs(symbols).mean(0)
    levels = np.round(PER_OCTAVE * np.log2(np.maximum(means, 1e-12))).astype(np.int64) + ZERO_AT
    return np.where(means > 0, levels.clip(1, 255), 0)


def _most(length: int) -> int:
    return SLACK + SYMBOLS_PER_BYTE * length


def _put(encoder: Any, symbols: Symbols, model: _Model) -> None:
    encoder.encode((symbols + model.largest).astype(np.int32), model.table())


def _take(decoder: Any, count: int, model: _Model) -> Symbols:
    found: Symbols = np.asarray(decoder.decode(model.table(), count), dtype=np.int32) - model.largest
    return found


def _read_model(stream: bytes, place: int) -> _Model:
    model = _Model(*MODEL.unpack_from(stream, place))
    if not (model.zero and model.ratio and 1 <= model.largest <= LARGEST):
        raise ValueError("a model with a number out of its range")
    return model
