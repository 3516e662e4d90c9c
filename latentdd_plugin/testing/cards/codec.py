"""A codec's card: what its codes cost, what they keep, how fast it is, and whether networks learn as well from them.

Everything is measured on a held-out part of the training split: no test image is read.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from statistics import median

import torch

from latentdd_plugin.core.compute import resolve_numerics
from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.types import ImageData, Images, Json
from latentdd_plugin.data.load import load_dataset
from latentdd_plugin.evaluators import protocols
from latentdd_plugin.evaluators.base import Trial
from latentdd_plugin.latent.encode import code_set
from latentdd_plugin.latent.sized_codec import SizedCodec, build_codec
from latentdd_plugin.latent.space import pixel_set
from latentdd_plugin.results.card_page import SHOWN, Pictures
from latentdd_plugin.results.environment import environment
from latentdd_plugin.testing import Finding
from latentdd_plugin.testing.cards.judged import accuracies
from latentdd_plugin.testing.cards.quality import psnr, ssim, window_side

SCHEMA = "dd-bench/codec-card.v1"
HELD_OUT = 0.2  # of the training split, where the caller names no fraction
TIMED, WARM, BATCH = 7, 2, 64  # calls timed, calls before them, images a call


def codec_card(
    config: RunConfig, findings: Sequence[Finding] = (), *, progress: bool = False, command: str = ""
) -> tuple[dict[str, Json], Pictures]:
    """Measure a codec on a data set; the card's content, and pictures for its page.

    Args:
        config: data set, codec, evaluators, protocol, seed and numerics; the rest of it has no meaning here.
        findings: what the contracts said.
        progress: show bars on stderr.
        command: what to record as the command.

    Raises:
        UsageError: no such codec or data set, or the codec does not take these images.
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
    card = {
        "schema": SCHEMA,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "codec": codec.describe(str(config.codec["name"])),
        "dataset": dataset_entry(images, config, held_out),
        "contracts": [asdict(finding) for finding in findings],
        "values": {"image": wanted, "code": values, "compression": wanted / values},
        "quality": quality,
        "speed": speed(codec, held_out, how.device),
        "accuracy": accuracies(config, images, held_out, space, codes, trial, progress),
        "environment": environment(how.to_json()),
    }
    return card, pictures


def held_out_of_training(config: RunConfig) -> RunConfig:
    """The configuration with a validation part, which is what scores; UsageError with all its faults."""
    fraction = config.dataset.validation or HELD_OUT
    config = config.replace(dataset=replace(config.dataset, validation=fraction), split="validation", controls=False)
    return config.check()


def dataset_entry(images: ImageData, config: RunConfig, held_out: Images) -> dict[str, Json]:
    """What was measured on: the training split without its held-out part, and that part."""
    return {
        "name": images.name,
        "origin": images.source["origin"],
        "revision": images.source["revision"],
        "options": images.source["options"],
        "fingerprint": images.fingerprint,
        "classes": len(images.classes),
        "image_shape": list(images.image_shape),
        "train_size": len(images.train),
        "held_out": f"{config.dataset.validation:g} of the training split, stratified, seed 0",
        "held_out_size": len(held_out),
    }


def fidelity(
    codec: SizedCodec, images: Images, classes: tuple[str, ...], device: str
) -> tuple[dict[str, Json], Pictures]:
    """PSNR and SSIM of every held-out image and its reconstruction, mean and deviation over images; some to show."""
    near, alike, kept = [], [], []
    shown = {int(i) for label in range(len(classes)) for i in (images.labels == label).nonzero().flatten()[:SHOWN]}
    with torch.no_grad():
        for start in range(0, len(images), BATCH):
            real = images.pixels[start : start + BATCH].to(device).float() / 255
            back = codec.decode(codec.encode(real))
            near.append(psnr(back, real).cpu())
            alike.append(ssim(back, real).cpu())
            kept += [(start + i, real[i].cpu(), back[i].cpu()) for i in range(len(real)) if start + i in shown]
    found: dict[str, Json] = {
        name: {"mean": float(values.mean()), "std": float(values.std())}
        for name, values in (("psnr", torch.cat(near)), ("ssim", torch.cat(alike)))
    }
    rows, originals, decoded = zip(*kept, strict=True)
    found |= {"images": len(images), "clamped": False, "ssim_window": window_side(*images.pixels.shape[2:])}
    return found, Pictures(torch.stack(originals), torch.stack(decoded), images.labels[list(rows)], classes)


def speed(codec: SizedCodec, images: Images, device: str) -> dict[str, Json]:
    """Images a second of `encode` and `decode` in plain float32: the median of several calls on one batch."""
    batch = images.pixels[torch.arange(BATCH) % len(images)].to(device).float() / 255
    with torch.no_grad():
        codes = codec.encode(batch)
        encode = _seconds(lambda: codec.encode(batch), device)
        decode = _seconds(lambda: codec.decode(codes), device)
    threads = torch.get_num_threads()
    rates = {"encode_images_s": BATCH / encode, "decode_images_s": BATCH / decode}
    return {**rates, "batch": BATCH, "calls": TIMED, "threads": threads, "device": device}


def _seconds(call: Callable[[], object], device: str) -> float:
    times = []
    for _ in range(WARM + TIMED):
        begun = time.perf_counter()
        call()
        if device != "cpu":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - begun)
    return median(times[WARM:])
