"""Checks that a codec gives numbers, and pictures, that can be used: what fails here would end in a table at chance."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdd_plugin.core.errors import RunFailed
from latentdd_plugin.core.types import ImageData, SampleStore
from latentdd_plugin.latent.sized_codec import SizedCodec

log = logging.getLogger(__name__)

TRIED = 8  # training pictures of the round trip
LEAST_GAIN = 3.0  # dB over pictures of one colour: at 3 dB half of what tells pictures apart is lost
NARROWEST = 1e-6  # standard deviation of codes below which float32 standardisation is no longer meaningful


def first_not_finite(values: Tensor) -> int | None:
    """Return the position along the first side of the first row that holds NaN or infinity, or None."""
    if bool(torch.isfinite(values).all()):
        return None
    rows = torch.isfinite(values).flatten(1).all(1)
    return int((~rows).nonzero()[0])


def _amount(row: Tensor) -> str:
    bad = int((~torch.isfinite(row)).sum())
    return f"{bad} of its {row.numel()} values {'is' if bad == 1 else 'are'} NaN or infinite"


def check_codes(codes: Tensor, codec: SizedCodec, start: int = 0, *, amp: bool = False) -> Tensor:
    """Return the codes (n, c, h, w) of training images `start` and following, or raise RunFailed naming the first bad.

    Args:
        codes: what `encode` returned.
        codec: the codec, for the message.
        start: position in the training split of the first image.
        amp: whether the codec ran in mixed precision, which the message then names as a possible cause.
    """
    bad = first_not_finite(codes)
    if bad is None:
        return codes if codec.tokens is None else check_tokens(codes, codec, start)
    advice = "; amp=off encodes in float32" if amp else ""
    raise RunFailed(
        f"codec {codec.name}: encoding training image {start + bad} (counted from 0) failed: "
        f"{_amount(codes[bad])}. Check the codec's weights and scaling factor{advice}; "
        f"dd-bench check codec {codec.name} tries it on small images"
    )


def check_tokens(codes: Tensor, codec: SizedCodec, start: int = 0) -> Tensor:
    """Return tokens (n, c, h, w) of training images `start` and following, or raise RunFailed naming the first bad."""
    if codec.tokens is None or bool(are_tokens(codes, codec.tokens).all()):
        return codes
    bad = int((~are_tokens(codes, codec.tokens).flatten(1).all(1)).nonzero()[0])
    wrong = float(codes[bad][~are_tokens(codes[bad], codec.tokens)][0])
    raise RunFailed(
        f"codec {codec.name}: encoding training image {start + bad} (counted from 0) gave {wrong:g}; its codes are "
        f"numbers of a codebook's entries, whole numbers from 0 to {codec.tokens - 1}"
    )


def are_tokens(codes: Tensor, size: int) -> Tensor:
    """Return, for each value, whether it is the number of an entry of a codebook of this size."""
    return (codes == codes.round()) & (codes >= 0) & (codes < size)


def check_images(images: Tensor, codes: Tensor, codec: SizedCodec, start: int = 0) -> Tensor:
    """Return decoded images (n, C, H, W), or raise RunFailed naming the codec and the first image that is not finite.

    Args:
        images: what `decode` returned.
        codes: the raw codes it was given, so that the codec is not blamed for codes that were not finite already.
        codec: the codec, for the message.
        start: position of the first code in its set.
    """
    bad = first_not_finite(images)
    if bad is None:
        return images
    cause = f"codec {codec.name}: decoding image {start + bad} (counted from 0) failed"
    if first_not_finite(codes[bad : bad + 1]) is not None:
        raise RunFailed(f"{cause}: its code is not finite ({_amount(codes[bad])}), so the codec is not the cause")
    raise RunFailed(
        f"{cause}: {_amount(images[bad])}, although its code is finite. Check the codec's weights and scaling factor"
    )


def check_spread(codec: SizedCodec, std: Tensor, data: ImageData) -> None:
    """Raise RunFailed if the codes hardly vary although the pictures do: nothing could be told apart by them."""
    if float(std.max()) > NARROWEST or _one_level(data):
        return
    raise RunFailed(
        f"codec {codec.name}: its codes hardly vary over the training images (standard deviation at most "
        f"{NARROWEST:g}). Check its scaling factor: codes should vary by about 1"
    )


def check_used(codec: SizedCodec, codes: SampleStore, data: ImageData) -> None:
    """Raise RunFailed if all codes consist of one and the same token although the pictures differ."""
    first = codes[:1].flatten()[0]
    if any(bool((part != first).any()) for part in codes.split(1024)) or _one_level(data):
        return
    raise RunFailed(
        f"codec {codec.name}: every code of every training image is token {int(first)} of its codebook of "
        f"{codec.tokens}: the encoder does not use the codebook. Check its weights"
    )


def _one_level(data: ImageData) -> bool:
    """Return whether all training pixels have the same value."""
    ends = [(int(part.amin()), int(part.amax())) for part in data.train.pixels.split(1024)]
    return len({level for pair in ends for level in pair}) == 1


@dataclass(frozen=True)
class RoundTrip:
    """PSNR of a few real training images after a round trip through a codec, and of images of their mean colour."""

    pictures: int
    psnr: float  # dB over all pixels of these pictures, clamped to [0, 1]; infinite if they come back exactly
    flat: float  # dB of the same pictures, each replaced by its own mean colour

    @property
    def poor(self) -> bool:
        """Return whether the pictures come back no better than `LEAST_GAIN` dB over pictures of one colour."""
        return self.psnr < self.flat + LEAST_GAIN


def round_trip(codec: SizedCodec, images: Tensor, codes: Tensor, labels: Tensor, positions: Sequence[int]) -> RoundTrip:
    """Decode the codes of a few real pictures and measure how near they come.

    Args:
        codec: the fitted codec.
        images: float32 (n, C, H, W) in [0, 1].
        codes: their raw codes (n, c, h, w).
        labels: their classes int64 (n,).
        positions: of the pictures in the training split, for messages.

    Raises:
        RunFailed: a decoded picture is not finite; codec and picture are named.
    """
    with torch.no_grad():
        decoded = [codec.decode(one, label) for one, label in zip(codes.split(1), labels.split(1), strict=True)]
    for position, image, code in zip(positions, decoded, codes.split(1), strict=True):
        check_images(image, code, codec, position)
    back = torch.cat(decoded).float().clamp(0, 1)
    flat = images.mean((2, 3), keepdim=True).expand_as(images)
    return RoundTrip(len(images), _psnr(back, images), _psnr(flat, images))


def _psnr(a: Tensor, b: Tensor) -> float:
    error = (a - b).double().square().mean()
    return float(-10 * error.log10())


def try_round_trip(codec: SizedCodec, data: ImageData, codes: SampleStore, device: str) -> RoundTrip | None:
    """Log the PSNR of a few training pictures spread over the split, and warn if it is poor; None without pictures.

    Args:
        codec: the fitted codec.
        data: its training images.
        codes: the raw codes (N, c, h, w) of all of them.
        device: where the codec is.
    """
    total = len(data.train)
    if not total:
        return None
    positions = sorted({i * total // TRIED for i in range(min(TRIED, total))})
    rows = torch.tensor(positions)
    some = codes[rows.to(codes.device)].to(device).float()
    images = data.train.pixels[rows].to(some.device).float() / 255
    found = round_trip(codec, images, some, data.train.labels[rows].to(some.device), positions)
    log.info("codec %s: %d training pictures come back at %.1f dB PSNR", codec.name, found.pictures, found.psnr)
    if found.poor:
        log.warning(
            "codec %s: training pictures come back at %.1f dB PSNR; their mean colour alone gives %.1f dB, and a codec "
            "should be at least %g dB above that. Its weights, scaling factor or options may not fit these images",
            codec.name,
            found.psnr,
            found.flat,
            LEAST_GAIN,
        )
    return found
