"""Measure a codec's card: size of its codes, fidelity, speed, and the accuracy of networks trained on its codes.

Everything is measured on a held-out part of the training split: no test image is read.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from statistics import median

import torch

from latentdd_plugin.core.compute import resolve_numerics
from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.types import ImageData, Images
from latentdd_plugin.data.load import load_dataset
from latentdd_plugin.evaluators import protocols
from latentdd_plugin.evaluators.base import Trial
from latentdd_plugin.latent.encode import code_set
from latentdd_plugin.latent.sized_codec import SizedCodec, build_codec
from latentdd_plugin.latent.space import pixel_set
from latentdd_plugin.results.card_page import SHOWN, Pictures
from latentdd_plugin.results.cards import CardDataset, CodecCard, FindingEntry, MeanStd, Quality, Speed, ValueCounts
from latentdd_plugin.results.entries import CodecEntry
from latentdd_plugin.results.environment import environment
from latentdd_plugin.testing import Finding
from latentdd_plugin.testing.cards.judged import accuracies
from latentdd_plugin.testing.cards.quality import psnr, ssim, window_side

HELD_OUT = 0.2  # of the training split, if the caller gives no fraction
TIMED, WARM, BATCH = 7, 2, 64  # calls timed, calls before them, images per call


def codec_card(
    config: RunConfig, findings: Sequence[Finding] = (), *, progress: bool = False, command: str = ""
) -> tuple[CodecCard, Pictures]:
    """Measure a codec on a dataset; return the card and pictures for its page.

    Args:
        config: dataset, codec, evaluators, protocol, seed and numerics; the rest of it is ignored.
        findings: the outcomes of the contracts.
        progress: show bars on stderr.
        command: what to record as the command.

    Raises:
        UsageError: the codec or dataset is unknown, or the codec does not take these images.
    """
    config = held_out_of_training(config)
    how = resolve_numerics(config.compute)
    images = load_dataset(config.dataset, progress=progress)
    codec = build_codec(config.codec, images.image_shape)
    codec.fit(images.train, how.device)
    space, codes = code_set(images, codec, how, progress=progress)
    held_out, protocol = images.held_out(config.split), protocols.get(config.protocol)
    pixels = pixel_set(images, how.device)
    trial = Trial(
        images=torch.empty((0, *images.image_shape)),
        labels=images.train.labels,
        label_kind="hard",
        lr=None,
        held_out=held_out,
        num_classes=len(images.classes),
        mean=pixels.mean,
        std=pixels.std,
        flip=images.flip,
        protocol=protocol,
        numerics=how,
    )
    values, wanted = math.prod(codec.code_shape), math.prod(images.image_shape)
    quality, pictures = fidelity(codec, held_out, images.classes, how.device)
    card = CodecCard(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=command,
        codec=CodecEntry.from_json(codec.describe(config.codec.name)),
        dataset=dataset_entry(images, config, held_out),
        contracts=tuple(FindingEntry(f.contract, f.status, f.message) for f in findings),
        values=ValueCounts(wanted, values, wanted / values),
        quality=quality,
        speed=speed(codec, held_out, how.device),
        accuracy=accuracies(config, images, held_out, space, codes, trial, progress),
        environment=environment(how.to_json()),
    )
    return card, pictures


def held_out_of_training(config: RunConfig) -> RunConfig:
    """Return the configuration scored on a validation part; raise UsageError with all its faults."""
    fraction = config.dataset.validation or HELD_OUT
    config = config.replace(dataset=replace(config.dataset, validation=fraction), split="validation", controls=False)
    return config.check()


def dataset_entry(images: ImageData, config: RunConfig, held_out: Images) -> CardDataset:
    """Return the card's entry of the training split without its held-out part, and of that part."""
    source = {key: images.source[key] for key in ("origin", "revision", "options")}
    return CardDataset(
        name=images.name,
        **source,
        fingerprint=images.fingerprint,
        classes=len(images.classes),
        image_shape=images.image_shape,
        train_size=len(images.train),
        held_out=f"{config.dataset.validation:g} of the training split, stratified, seed 0",
        held_out_size=len(held_out),
    )


def fidelity(codec: SizedCodec, images: Images, classes: tuple[str, ...], device: str) -> tuple[Quality, Pictures]:
    """Return PSNR and SSIM of decode(encode(x)) over every held-out image, and some images to show."""
    near, alike, kept = [], [], []
    shown = {int(i) for label in range(len(classes)) for i in (images.labels == label).nonzero().flatten()[:SHOWN]}
    with torch.no_grad():
        for start in range(0, len(images), BATCH):
            real = images.pixels[start : start + BATCH].to(device).float() / 255
            back = codec.decode(codec.encode(real), images.labels[start : start + BATCH].to(device))
            near.append(psnr(back, real).cpu())
            alike.append(ssim(back, real).cpu())
            kept += [(start + i, real[i].cpu(), back[i].cpu()) for i in range(len(real)) if start + i in shown]
    found = torch.cat(near), torch.cat(alike)
    fidelity_db, similarity = (MeanStd(float(values.mean()), float(values.std())) for values in found)
    rows, originals, decoded = zip(*kept, strict=True)
    window = window_side(*images.pixels.shape[2:])
    quality = Quality(psnr=fidelity_db, ssim=similarity, images=len(images), clamped=False, ssim_window=window)
    return quality, Pictures(torch.stack(originals), torch.stack(decoded), images.labels[list(rows)], classes)


def speed(codec: SizedCodec, images: Images, device: str) -> Speed:
    """Return images per second of `encode` and `decode` in plain float32: the median of several calls on one batch."""
    batch = images.pixels[torch.arange(BATCH) % len(images)].to(device).float() / 255
    with torch.no_grad():
        codes, labels = codec.encode(batch), torch.zeros(BATCH, dtype=torch.long, device=device)
        encode = _seconds(lambda: codec.encode(batch), device)
        decode = _seconds(lambda: codec.decode(codes, labels), device)
    return Speed(
        encode_images_s=BATCH / encode,
        decode_images_s=BATCH / decode,
        batch=BATCH,
        calls=TIMED,
        threads=torch.get_num_threads(),
        device=device,
    )


def _seconds(call: Callable[[], object], device: str) -> float:
    times = []
    for _ in range(WARM + TIMED):
        begun = time.perf_counter()
        call()
        if device != "cpu":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - begun)
    return median(times[WARM:])
