"""Encode the training set once; codes that a network computed are kept on disk."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from latentdd_plugin.core import checkpoint
from latentdd_plugin.core.cache import cache_dir
from latentdd_plugin.core.compute import Mode, Numerics, forward_flops, try_compiled
from latentdd_plugin.core.storage import locked
from latentdd_plugin.core.types import ImageData, Shape, hash_json
from latentdd_plugin.latent.finite import check_codes, check_spread, try_round_trip
from latentdd_plugin.latent.sized_codec import SizedCodec, float_batches
from latentdd_plugin.latent.space import CodeSpace, Real, members, pixel_set, statistics

log = logging.getLogger(__name__)

ENCODE_BATCH = 64  # images per call of a costly codec: one fixed shape for the compiler
PART = 1024  # images per file of the cache: what a killed run loses at most


def code_set(
    data: ImageData, codec: SizedCodec, numerics: Numerics, *, progress: bool = False
) -> tuple[CodeSpace, Real]:
    """Fit the codec if it learns, encode the training images once, try a few of them back, and standardise.

    Codes of a codec that runs a network are kept on disk and found again by data, codec, shape and arithmetic.

    Raises:
        RunFailed: the codec gives codes or images that are not finite, or codes that hardly vary; it is named.
    """
    codec.fit(data.train, numerics.device)
    if codec.pixels:
        real = pixel_set(data, numerics.device)
        return CodeSpace(codec, real.mean, real.std), real
    encode = _encode_cached if codec.codec.costly else _encode_all
    codes = encode(data, codec, numerics, progress).to(numerics.device)
    mean, std = statistics(codes, common=min(codec.code_shape[1:]) < 2)
    check_spread(codec, std, data)
    try_round_trip(codec, data, codes)
    by_class = members(data.train.labels, len(data.classes))
    return CodeSpace(codec, mean, std), Real(codes, data.train.labels, by_class, mean, std)


def _encode_all(data: ImageData, codec: SizedCodec, numerics: Numerics, progress: bool) -> Tensor:
    codes: list[Tensor] = []
    with torch.no_grad():
        for part in float_batches(data.train, numerics.device):
            codes.append(check_codes(codec.encode(part).float(), codec, sum(map(len, codes))))
    return torch.cat(codes)


def _encode_cached(data: ImageData, codec: SizedCodec, numerics: Numerics, progress: bool) -> Tensor:
    total = len(data.train)
    mode = numerics.mode(total * forward_flops(_Encoder(codec), data.image_shape, numerics.device))
    key = hash_json(
        [
            data.fingerprint,
            codec.identity,
            data.image_shape,
            codec.upsample,
            mode.amp,
            mode.compile,
            ENCODE_BATCH,
            PART,
        ]
    )
    folder, owner = cache_dir() / "codes" / key[:32], {"codes": key}
    parts = [(start, folder / f"part-{start // PART:05d}.safetensors") for start in range(0, total, PART)]
    with locked(folder):
        kept = {start: stored.content["codes"] for start, path in parts if (stored := checkpoint.read(path, owner))}
        for start, codes in kept.items():
            check_codes(codes, codec, start, amp=mode.amp)
        missing = [(start, path) for start, path in parts if start not in kept]
        if missing:
            log.info("encoding %d images (%d of %d parts to do)", total, len(missing), len(parts))
            encode = _encoder(codec, mode, data.image_shape)
            with tqdm(total=len(missing) * PART, unit="img", desc="encode", disable=not progress) as bar:
                for start, path in missing:
                    pixels = data.train.pixels[start : start + PART]
                    codes = encode_batches(encode, pixels, mode.device, bar)
                    kept[start] = check_codes(codes, codec, start, amp=mode.amp)
                    checkpoint.write_tensors(path, {"codes": kept[start]}, owner)
    return torch.cat([kept[start] for start, _ in parts])


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
