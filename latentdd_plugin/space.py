"""Code space: a codec made to fit one image shape, the training set encoded once, and its standardisation.

Distillers see codes standardised per channel by the training set, so that `identity` gives the normalised pixels of
the original DC, DM and MTT.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from tqdm import tqdm

from latentdd_plugin import plugins
from latentdd_plugin.cache import atomic_write, cache_dir, locked
from latentdd_plugin.codecs.base import Codec, decoder_bytes, fingerprint, is_fitted
from latentdd_plugin.errors import UsageError
from latentdd_plugin.numerics import Mode, Numerics, forward_flops, try_compiled
from latentdd_plugin.types import ImageData, Images, Json, Shape, hash_json

log = logging.getLogger(__name__)

ENCODE_BATCH = 64  # images a call of a costly codec: one fixed shape for the compiler
PART = 1024  # images a file of the cache: what a killed run loses at most
VALUES_A_CHUNK = 1 << 23  # of the training set, in float64, while its mean and deviation are taken
PIXELS_A_CHUNK = 1 << 20  # decoded pixels (all channels) whose activations are held at once


class Misfit(UsageError):
    """The codec fails on images of this size, or gives back others than it was given."""


def encoded_shape(codec: Codec, image_shape: Shape, upsample: int) -> Shape:
    """(C, H, W) of the images that a codec's `encode` is given: in its channels, enlarged, padded."""
    c, *sides = image_shape
    h, w = (-(-side * upsample // codec.multiple) * codec.multiple for side in sides)
    return (3 if codec.channels == 3 else c), h, w


class SizedCodec:
    """A codec made to fit images (C, H, W): grey to RGB, enlarging by `upsample`, padding; each undone by `decode`."""

    def __init__(self, codec: Codec, image_shape: Shape, upsample: int = 1) -> None:
        self.codec = codec.eval().requires_grad_(False)
        self.image_shape = image_shape
        self.upsample = upsample
        c, h, w = image_shape
        if codec.channels not in (None, 1, 3) or (codec.channels == 1 and c == 3):
            raise UsageError(f"this codec takes {codec.channels} channels; the images have {c}")
        self._to_rgb = codec.channels == 3 and c == 1
        self._size = (h * upsample, w * upsample)
        padded = encoded_shape(codec, image_shape, upsample)[1:]
        self._pad = tuple(p - s for p, s in zip(padded, self._size, strict=True))
        self._to_fit = is_fitted(codec)

    @property
    def pixels(self) -> bool:
        """Whether the codes are the images' own pixels."""
        return self.codec.pixels and self.upsample == 1

    def fit(self, images: Images, device: str) -> None:
        """Let a codec that learns see the training images as `encode` gives them to it, once; others need nothing."""
        self.to(device)
        if self._to_fit:
            self.codec.fit(lambda: (self.sized(part) for part in _float_batches(images, device)))
            self._to_fit = False

    def encode(self, images: Tensor) -> Tensor:
        """Images float32 (N, C, H, W) in [0, 1] to codes (N, c, h, w)."""
        return self.codec.encode(self.sized(images))

    def sized(self, images: Tensor) -> Tensor:
        """Images as the codec takes them."""
        if self._to_rgb:
            images = images.expand(-1, 3, -1, -1)
        if self.upsample != 1:
            images = F.interpolate(images, self._size, mode="bicubic", antialias=True).clamp(0, 1)
        if any(self._pad):
            images = F.pad(images, (0, self._pad[1], 0, self._pad[0]), mode=_padding_mode(self._size, self._pad))
        return images

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (N, c, h, w) to images (N, C, H, W), differentiable, not clamped."""
        images = self.codec.decode(codes)[..., : self._size[0], : self._size[1]]
        if self.upsample != 1:
            images = F.interpolate(images, self.image_shape[1:], mode="bicubic", antialias=True)
        return images.mean(1, keepdim=True) if self._to_rgb else images

    def to(self, device: str) -> SizedCodec:
        """This codec with its tensors on a device."""
        self.codec.to(device)
        return self

    @cached_property
    def code_shape(self) -> Shape:
        """(c, h, w) of one code, found by encoding an empty image.

        Raises:
            UsageError: the codec refuses this image size. Misfit: it fails on it, or does not give it back.
        """
        c, h, w = self.image_shape
        device = next(iter([*self.codec.parameters(), *self.codec.buffers()]), torch.zeros(())).device
        try:
            with torch.no_grad():
                codes = self.encode(torch.zeros((1, c, h, w), device=device))
                images = self.decode(codes)
        except UsageError:
            raise
        except Exception as error:
            raise Misfit(f"the codec cannot take images of shape {self.image_shape}: {error}") from error
        if codes.ndim != 4:
            raise Misfit(f"encode has to give codes (N, c, h, w), it gave {tuple(codes.shape)}; (N, d, 1, 1) is one")
        if tuple(images.shape[1:]) != self.image_shape:
            raise Misfit(
                f"the codec does not fit images of shape {self.image_shape}: codes {tuple(codes.shape)} decode to "
                f"{tuple(images.shape)}; set `multiple` in the codec, or dataset.image_size"
            )
        _, k, s, t = codes.shape
        return int(k), int(s), int(t)

    @property
    def spatial(self) -> bool:
        """Whether codes may be flipped, shifted and cut like images."""
        return self.codec.spatial and min(self.code_shape[1:]) > 1

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the codec; equal wherever the weights were loaded from."""
        return fingerprint(self.codec)

    @cached_property
    def identity(self) -> str:
        """What codes on disk are kept for: the fingerprint, and the code of a codec that is not this package's."""
        code = plugins.code_of(type(self.codec))
        return hash_json([self.fingerprint, code]) if code else self.fingerprint

    def describe(self, name: str) -> dict[str, Json]:
        """The record's `codec` entry."""
        return {
            "name": name,
            "config": self.codec.config(),
            "upsample": self.upsample,
            "fingerprint": self.fingerprint,
            "code_shape": list(self.code_shape),
            "spatial": self.spatial,
            "decoder_bytes": decoder_bytes(self.codec),
            "fitted": is_fitted(self.codec),
            "trained_on": list(self.codec.trained_on),
            "grey": "repeated to three channels, averaged after decoding" if self._to_rgb else None,
            "source": getattr(self.codec, "source", None),
        }


def _padding_mode(size: tuple[int, int], pad: tuple[int, ...]) -> str:
    return "reflect" if all(p < s for p, s in zip(pad, size, strict=True)) else "replicate"


def build_codec(spec: Mapping[str, Json], image_shape: Shape, **resolving: Any) -> SizedCodec:
    """The codec a configuration names, made to fit images of this shape; not yet fitted.

    Args:
        spec: `name`, optionally `upsample`, and the codec's own options.
        image_shape: (C, H, W) of the data set's images.
        resolving: passed to `plugins.resolve`, for names that come out of somebody's file.

    Raises:
        PluginError: no such codec. UsageError: an option it does not have, a size it cannot take.
    """
    options = dict(spec)
    name, upsample = str(options.pop("name")), options.pop("upsample", 1)
    if not isinstance(upsample, int) or not 1 <= upsample <= 8:
        raise UsageError(f"codec.upsample={upsample}: a whole number from 1 to 8")
    preset = plugins.resolve("codecs", name, base=Codec, **resolving)
    options = {**preset.config, **options}
    faults = plugins.check_arguments(preset.cls, options)
    if faults:
        raise UsageError([f"codec.{name}: {fault}" for fault in faults])
    given = options.get("image_shape")
    wants_shape = "image_shape" in inspect.signature(preset.cls).parameters
    if wants_shape:
        c, h, w = image_shape
        options["image_shape"] = tuple(given or (c, h * upsample, w * upsample))
    codec = _made(preset.cls, name, options)
    seen = encoded_shape(codec, image_shape, upsample)
    if wants_shape and not given and seen != options["image_shape"]:  # it pads, or takes other channels
        codec = _made(preset.cls, name, {**options, "image_shape": seen})
    sized = SizedCodec(codec, image_shape, upsample)
    if not is_fitted(codec):
        _ = sized.code_shape
    return sized


def _made(cls: type[Codec], name: str, options: Mapping[str, Json]) -> Codec:
    try:
        codec = cls(**options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"codec {name}: {error}") from error
    if not hasattr(codec, "_modules"):
        raise UsageError(f"codec {name}: {cls.__name__}.__init__ has to begin with super().__init__()")
    return codec


@dataclass(frozen=True)
class Real:
    """Real samples in one space, standardised per channel as they are taken."""

    store: Tensor  # uint8 pixels (N, C, H, W), or float32 codes (N, c, h, w)
    labels: Tensor  # int64 (N,)
    by_class: tuple[Tensor, ...]  # int64 indices of each class
    mean: Tensor  # float32 (c, 1, 1), in units of the space: pixels in [0, 1], or raw codes
    std: Tensor  # float32 (c, 1, 1)

    @property
    def shape(self) -> Shape:
        """(c, h, w) of one sample."""
        c, h, w = self.store.shape[1:]
        return int(c), int(h), int(w)

    def take(self, indices: Tensor) -> Tensor:
        """Standardised samples float32 (n, c, h, w) at these positions of the training set."""
        samples = self.store[indices.to(self.store.device)]
        if samples.dtype == torch.uint8:
            return samples.float().sub_(self.mean * 255).div_(self.std * 255)
        return (samples - self.mean) / self.std

    def batch(self, label: int, n: int, generator: torch.Generator) -> Tensor:
        """min(n, class size) samples of one class, drawn without replacement."""
        members = self.by_class[label]
        return self.take(members[torch.randperm(len(members), generator=generator)[:n]])

    def all(self) -> tuple[Tensor, Tensor]:
        """Every sample (N, c, h, w) and its label (N,)."""
        return self.take(torch.arange(len(self.labels))), self.labels


@dataclass(frozen=True)
class CodeSpace:
    """A fitted codec and the statistics that standardise its codes."""

    codec: SizedCodec
    mean: Tensor  # float32 (c, 1, 1) of raw codes
    std: Tensor  # float32 (c, 1, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """Standardised codes (M, c, h, w) to images (M, C, H, W) in [0, 1] units, not clamped.

        Differentiable; the backward pass decodes one chunk at a time again, so that memory is bounded by the chunk.
        """
        pixels = math.prod(self.codec.image_shape) * self.codec.upsample**2
        chunks = codes.split(max(1, PIXELS_A_CHUNK // pixels))
        if codes.requires_grad and torch.is_grad_enabled():
            return torch.cat([checkpoint(self._decode, chunk, use_reentrant=False) for chunk in chunks])
        return torch.cat([self._decode(chunk) for chunk in chunks])

    def _decode(self, codes: Tensor) -> Tensor:
        return self.codec.decode(codes * self.std + self.mean)


def _statistics(store: Tensor, *, common: bool) -> tuple[Tensor, Tensor]:
    """Per-channel mean and standard deviation (c, 1, 1) over samples and places; one common deviation where asked."""
    scale = 255.0 if store.dtype == torch.uint8 else 1.0
    count = store.numel() / store.shape[1]
    total, squares = (torch.zeros(store.shape[1], dtype=torch.float64) for _ in range(2))
    chunk = max(1, VALUES_A_CHUNK // store[0].numel())
    for part in store.split(chunk):
        total += part.to(torch.float64).sum((0, 2, 3)).cpu()
    mean = total / count
    for part in store.split(chunk):
        squares += (part.to(torch.float64) - mean.view(-1, 1, 1).to(part.device)).square().sum((0, 2, 3)).cpu()
    variance = squares / count
    std = (variance.mean().expand_as(variance) if common else variance).sqrt().clamp_min(1e-6 * scale)
    shape = (-1, 1, 1)
    return (mean / scale).float().view(shape).to(store.device), (std / scale).float().view(shape).to(store.device)


def members(labels: Tensor, classes: int) -> tuple[Tensor, ...]:
    """Positions of each class, in order."""
    return tuple((labels == label).nonzero().flatten().cpu() for label in range(classes))


def pixel_set(data: ImageData, device: str) -> Real:
    """The training images as real samples of pixel space."""
    store = data.train.pixels.to(device)
    mean, std = _statistics(store, common=False)
    return Real(store, data.train.labels, members(data.train.labels, len(data.classes)), mean, std)


def code_set(
    data: ImageData, codec: SizedCodec, numerics: Numerics, *, progress: bool = False
) -> tuple[CodeSpace, Real]:
    """Fit the codec where it learns, encode the training images once, standardise.

    Codes of a codec that runs a network are kept on disk and found again by data, codec, shape and arithmetic.
    """
    codec.fit(data.train, numerics.device)
    if codec.pixels:
        real = pixel_set(data, numerics.device)
        return CodeSpace(codec, real.mean, real.std), real
    encode = _encode_cached if codec.codec.costly else _encode_all
    codes = encode(data, codec, numerics, progress).to(numerics.device)
    mean, std = _statistics(codes, common=min(codec.code_shape[1:]) < 2)
    by_class = members(data.train.labels, len(data.classes))
    return CodeSpace(codec, mean, std), Real(codes, data.train.labels, by_class, mean, std)


def _float_batches(images: Images, device: str, size: int = 1024) -> Iterator[Tensor]:
    for part in images.pixels.split(size):
        yield part.to(device).float() / 255


def _encode_all(data: ImageData, codec: SizedCodec, numerics: Numerics, progress: bool) -> Tensor:
    with torch.no_grad():
        return torch.cat([codec.encode(part).float() for part in _float_batches(data.train, numerics.device)])


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
    folder = cache_dir() / "codes" / key[:32]
    parts = [(start, folder / f"part-{start // PART:05d}.safetensors") for start in range(0, total, PART)]
    with locked(folder):
        kept = {start: codes for start, path in parts if (codes := _read_part(path)) is not None}
        missing = [(start, path) for start, path in parts if start not in kept]
        if missing:
            log.info("encoding %d images (%d of %d parts to do)", total, len(missing), len(parts))
            encode = _encoder(codec, mode, data.image_shape)
            with tqdm(total=len(missing) * PART, unit="img", desc="encode", disable=not progress) as bar:
                for start, path in missing:
                    pixels = data.train.pixels[start : start + PART]
                    kept[start] = encode_batches(encode, pixels, mode.device, bar)
                    _write_part(path, kept[start])
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
    """Raw codes float32 (n, c, h, w) on the CPU of pixels uint8 (n, C, H, W); every call has the same shape."""
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


def _write_part(path: Path, codes: Tensor) -> None:
    with atomic_write(path) as temporary:
        save_file({"codes": codes}, temporary, metadata={"sha256": _sha256(codes)})


def _read_part(path: Path) -> Tensor | None:
    """The codes of a finished part; None where it is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            sha256 = (file.metadata() or {}).get("sha256")
            codes: Tensor = file.get_tensor("codes")
    except (OSError, SafetensorError):
        return None
    return codes if _sha256(codes) == sha256 else None


def _sha256(codes: Tensor) -> str:
    return hashlib.sha256(codes.numpy().data).hexdigest()
