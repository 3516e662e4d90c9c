"""Encode the training set once; codes that a network computed are kept on disk."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from latentdd_plugin.core import checkpoint
from latentdd_plugin.core.cache import cache_dir
from latentdd_plugin.core.compute import Mode, Numerics, forward_flops, try_compiled
from latentdd_plugin.core.errors import RunFailed
from latentdd_plugin.core.monitor import available_memory
from latentdd_plugin.core.processes import group
from latentdd_plugin.core.storage import require_space
from latentdd_plugin.core.types import ImageData, Json, SampleStore, Shape, hash_json
from latentdd_plugin.data.store import PART, MappedStore, PartStore, fill
from latentdd_plugin.latent.finite import check_codes, check_spread, check_used, try_round_trip
from latentdd_plugin.latent.sized_codec import SizedCodec, float_batches
from latentdd_plugin.latent.space import CodeSpace, Real, members, pixel_set, statistics

log = logging.getLogger(__name__)

ENCODE_BATCH = 64  # images per call of a costly codec: one fixed shape for the compiler
DESCRIBED = 64  # fitted codes from which statistics are taken
STATISTICS = "statistics.json"  # beside the parts, when all of them are there
COPIES = 3  # of the codes that memory must have room for, to hold them there
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


def code_set(
    data: ImageData, codec: SizedCodec, numerics: Numerics, *, progress: bool = False, precision: str = "fp32"
) -> tuple[CodeSpace, Real]:
    """Fit the codec if it learns, encode the training images once, try a few of them back, and standardise.

    Codes of a codec that runs a network, or of images that are not in memory, are kept on disk and found again by data,
    codec, shape and arithmetic. They are memory-mapped if they would fill the memory.

    Raises:
        RunFailed: the codec gives codes or images that are not finite, or codes that hardly vary; it is named.
    """
    codec.fit(data.train, numerics.device)
    if codec.pixels:
        real = pixel_set(data, numerics.device, group())
        return CodeSpace(codec, real.mean, real.std), real
    resident = isinstance(data.train.pixels, Tensor)
    codes: SampleStore
    if codec.codec.fits_codes:
        codes = FittedCodes(data.train.pixels, codec, numerics.device)
    elif resident and not codec.codec.costly and group().size == 1:
        codes = _encode_all(data, codec, numerics).to(numerics.device)
    else:
        plain = resident or codec.tokens is not None  # half precision does not hold every token
        codes = _encode_parts(data, codec, numerics, progress, "fp32" if plain else precision)
        codes = codes if isinstance(codes, MappedStore) else codes.to(numerics.device)
    mean, std = _standardisation(data, codec, codes, numerics.device)
    try_round_trip(codec, data, codes, numerics.device)
    by_class = members(data.train.labels, len(data.classes))
    return CodeSpace(codec, mean, std), Real(codes, data.train.labels, by_class, mean, std)


class FittedCodes:
    """A store of codes that are fitted when they are taken, and kept: of a codec that optimises each code by itself.

    Args:
        pixels: uint8 (N, C, H, W).
        codec: its codec has `fits_codes`.
        device: where codes are fitted and returned.
    """

    dtype = torch.float32

    def __init__(self, pixels: SampleStore, codec: SizedCodec, device: str) -> None:
        self.pixels, self.codec, self.device = pixels, codec, torch.device(device)
        self.shape = (len(pixels), *codec.code_shape)
        self._fitted: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: Any, /) -> Tensor:
        wanted = torch.arange(len(self))[rows].tolist()
        missing = [row for row in dict.fromkeys(wanted) if row not in self._fitted]
        for some in (missing[start : start + ENCODE_BATCH] for start in range(0, len(missing), ENCODE_BATCH)):
            log.info("codec %s: fitting the codes of %d images", self.codec.name, len(some))
            images = self.pixels[torch.tensor(some)].to(self.device).float() / 255
            codes = self.codec.encode(images).float()
            for row, code in zip(some, codes, strict=True):
                self._fitted[row] = check_codes(code[None], self.codec, row)[0].cpu()
        return torch.stack([self._fitted[row] for row in wanted]).to(self.device)

    def split(self, size: int, /) -> Iterable[Tensor]:
        """Yield all codes in order, `size` at a time; every image is fitted."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def spread(self, count: int) -> Tensor:
        """Return the codes of at most so many images, spread over the training split."""
        total = len(self)
        return self[torch.tensor(sorted({i * total // count for i in range(min(count, total))}))]


def _standardisation(data: ImageData, codec: SizedCodec, codes: SampleStore, device: str) -> tuple[Tensor, Tensor]:
    """Return mean and deviation (c, 1, 1) of a channel's codes; tokens are left as they are.

    Raises:
        RunFailed: the codes hardly vary, or only one token is used.
    """
    if codec.tokens is not None:
        check_used(codec, codes, data)
        shape = (codec.code_shape[0], 1, 1)
        return torch.zeros(shape, device=device), torch.ones(shape, device=device)
    mean, std = (moment.to(device) for moment in _moments(codes, codec))
    check_spread(codec, std, data)
    return mean, std


def _moments(codes: SampleStore, codec: SizedCodec) -> tuple[Tensor, Tensor]:
    """Return the mean and deviation of each channel.

    Those of codes that stay on disk are computed once and kept beside them. Those of fitted codes come from a few.
    """
    if isinstance(codes, FittedCodes):
        return statistics(codes.spread(DESCRIBED), common=False)  # each value is a weight with a scale of its own
    common = min(codec.code_shape[1:]) < 2
    if not isinstance(codes, MappedStore):
        return statistics(codes, common=common, ours=group())
    path, shape = codes.folder / STATISTICS, (-1, 1, 1)
    stored = checkpoint.read_json(path, codes.owner) if group().first else None
    found = group().from_first(None if stored is None else stored.content)
    if found is not None:
        return torch.tensor(found["mean"]).view(shape), torch.tensor(found["std"]).view(shape)
    mean, std = statistics(codes, common=common, ours=group())
    if group().first:
        checkpoint.write_json(path, {"mean": mean.flatten().tolist(), "std": std.flatten().tolist()}, codes.owner)
    return mean, std


def _encode_all(data: ImageData, codec: SizedCodec, numerics: Numerics) -> Tensor:
    codes: list[Tensor] = []
    with torch.no_grad():
        for part in float_batches(data.train, numerics.device, PART):  # as on disk: last bits depend on a call's shape
            codes.append(check_codes(codec.encode(part).float(), codec, sum(map(len, codes))))
    return torch.cat(codes)


def _encode_parts(
    data: ImageData, codec: SizedCodec, numerics: Numerics, progress: bool, precision: str
) -> Tensor | MappedStore:
    """Encode what is not on disk yet, part by part; return the codes in memory if they fit, else mapped."""
    total, size = len(data.train), math.prod(codec.code_shape) * DTYPES[precision].itemsize
    encode, mode = _part_encoder(data, codec, numerics, total)
    key = _key(data, codec, mode, precision)
    folder, owner = cache_dir() / "codes" / key[:32], {"codes": key}
    paths = [folder / f"part-{number:05d}.safetensors" for number in range(-(-total // PART))]
    resident = isinstance(data.train.pixels, Tensor)
    held = resident or (numerics.device != "cpu" and total * size * COPIES <= available_memory())
    known = (folder / STATISTICS).exists() and not held  # the parts were whole once; each is checked when it is read
    kept = None if known else _read_parts(paths, owner, codec, amp=mode.amp, held=held)
    missing = sum(not path.exists() for path in paths)
    advice = "halve them with dataset.codes=fp16, or choose a codec with smaller codes"
    require_space(folder, missing * min(PART, total) * size, "the codes", advice)
    if missing:
        log.info("encoding %d images (%d of %d parts to do)", total, missing, len(paths))
    store = data.train.pixels

    def read(number: int) -> Tensor:
        return store.part(number) if isinstance(store, PartStore) else store[number * PART : (number + 1) * PART]

    with tqdm(total=missing * PART // group().size, unit="img", desc="encode", disable=not progress) as bar:

        def make(number: int, pixels: Tensor) -> Tensor:
            codes = check_codes(encode(pixels, bar), codec, number * PART, amp=mode.amp)
            return codes.to(DTYPES[precision])

        fill(paths, read, make, "codes", owner)
    if kept is None:
        log.info("the codes stay on disk, memory-mapped: %.1f GB", total * size / 1e9)
        return MappedStore(paths, "codes", owner, total)
    for number, path in enumerate(paths):
        if number not in kept:
            stored = checkpoint.read(path, owner)
            if stored is None:
                raise RunFailed(f"{path} is damaged or gone; run the same command again")
            kept[number] = stored.content["codes"]
    return torch.cat([kept[number] for number in range(len(paths))]).float()


def _read_parts(
    paths: Sequence[Path], owner: Mapping[str, Json], codec: SizedCodec, *, amp: bool, held: bool
) -> dict[int, Tensor] | None:
    """Return the parts on disk, or None if they are not to be `held`; damaged ones are removed."""
    kept: dict[int, Tensor] = {}
    for number, path in enumerate(paths):
        stored = checkpoint.read(path, owner)
        if stored is not None:
            codes = check_codes(stored.content["codes"], codec, number * PART, amp=amp)
            kept |= {number: codes} if held else {}
        elif path.exists():
            path.unlink()
    return kept if held else None


def _key(data: ImageData, codec: SizedCodec, mode: Mode, precision: str) -> str:
    """Return what decides the codes."""
    how = [mode.amp, mode.compile, ENCODE_BATCH, PART] if codec.codec.costly else ["plain", PART]
    more = [] if precision == "fp32" else [precision]
    return hash_json([data.key or data.fingerprint, codec.identity, data.image_shape, codec.upsample, *how, *more])


def _part_encoder(
    data: ImageData, codec: SizedCodec, numerics: Numerics, total: int
) -> tuple[Callable[[Tensor, tqdm[Any]], Tensor], Mode]:
    """Return a function from the pixels of a part to its codes, float32 on the CPU, and its arithmetic."""
    if not codec.codec.costly:
        return _plainly(codec, numerics.device), Mode(False, False, numerics.device)
    mode = numerics.mode(total * forward_flops(_Encoder(codec), data.image_shape, numerics.device))
    encode = functools.cache(lambda: _encoder(codec, mode, data.image_shape))  # compiled only if there is work
    return lambda pixels, bar: encode_batches(encode(), pixels, mode.device, bar), mode


def _plainly(codec: SizedCodec, device: str) -> Callable[[Tensor, tqdm[Any]], Tensor]:
    def encode(pixels: Tensor, bar: tqdm[Any]) -> Tensor:
        bar.update(len(pixels))
        with torch.no_grad():
            return codec.encode(pixels.to(device).float() / 255).float().cpu()

    return encode


class _Encoder(torch.nn.Module):
    def __init__(self, codec: SizedCodec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, images: Tensor) -> Tensor:
        return self.codec.encode(images)


def _encoder(codec: SizedCodec, mode: Mode, shape: Shape) -> Any:
    def encode(pixels: Tensor) -> Tensor:
        with mode.autocast():
            images = (pixels.float() / 255).contiguous(memory_format=torch.channels_last)
            return codec.encode(images).float()

    example = torch.zeros((ENCODE_BATCH, *shape), dtype=torch.uint8, device=mode.device)
    with torch.no_grad():
        return try_compiled(mode, encode, example)[0]


def encode_batches(encode: Any, pixels: Tensor, device: str, bar: tqdm[Any] | None = None) -> Tensor:
    """Return raw codes float32 (n, c, h, w) on the CPU of pixels uint8 (n, C, H, W); every call has the same shape."""
    codes = []
    with torch.no_grad():
        for part in pixels.split(ENCODE_BATCH):
            padded = part.to(device)
            if len(part) < ENCODE_BATCH:
                padded = torch.cat([padded, padded[-1:].expand(ENCODE_BATCH - len(part), -1, -1, -1)])
            codes.append(encode(padded)[: len(part)].cpu())
            if bar is not None:
                bar.update(len(part))
    return torch.cat(codes).contiguous()
