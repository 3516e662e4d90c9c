"""Train a small autoencoder on a data set's training split: what `dd-bench codec train` does, from Python.

    from latentdd_plugin.codec_training import TrainingConfig, train_codec
    train_codec(TrainingConfig((DatasetConfig("digits"),), f=2), out="my-vae")     # then codec.path=my-vae

The loss of a crop x and its reconstruction y, both in [0, 1], is RMSE(x, y) + edge * mean |d(x - y)|, where d are the
differences between neighbours down and across, and with kind=kl also kl * KL(posterior, N(0, 1)) a value of the code.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from tqdm import tqdm

from latentdd_plugin import data, numerics
from latentdd_plugin.cache import atomic_write
from latentdd_plugin.clock import duration
from latentdd_plugin.codecs.diffusers import KINDS, WEIGHTS, untrained
from latentdd_plugin.distillers.loop import held_interrupt
from latentdd_plugin.errors import RunFailed, UsageError
from latentdd_plugin.folder import DiskCheckpoint, RunFolder
from latentdd_plugin.numerics import Mode, Numerics
from latentdd_plugin.randomness import generator, seeded
from latentdd_plugin.reconstruction import mean_psnr, reconstruct, reconstruction_loss, write_samples
from latentdd_plugin.record import Record, command_line, environment
from latentdd_plugin.types import DatasetConfig, ImageData, Json, RunConfig, hash_json

log = logging.getLogger(__name__)

DTYPES = {"fp16": torch.float16, "fp32": torch.float32}
FACTORS = (2, 4, 8, 16)
VALIDATED = 256  # held-out images of each data set behind a PSNR
REPORTS = 20  # PSNRs along the way
SHOWN = 8  # images of each data set in samples.png
WARM_UP = 0.02  # fraction of the steps in which the learning rate rises; then it falls as a cosine to zero


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides the weights.

    Attributes:
        datasets: whose training splits are seen; `validation` of each must be above 0, those images are held out.
        kind: `tiny` (diffusers' AutoencoderTiny) or `kl` (AutoencoderKL).
        f: 2, 4, 8 or 16 pixels of a side become one of the code.
        channels: of the code.
        width: channels inside, of the first stage for `kl`.
        steps: updates.
        batch: crops a step; of a data set of smaller images so many more that the number of pixels is kept.
        crop: side in pixels of what a step sees of an image; None takes 8 f, at least 32.
        lr: the largest learning rate.
        edge: weight of the differences between neighbours in the loss.
        flips: probability, an axis and a step, that codes are flipped and have to decode to the flipped images, so that
            the code is spatial (EQ-VAE, https://arxiv.org/abs/2502.09509, with flips for its rotations and scalings).
        kl: weight of the Kullback-Leibler term (kind=kl only); above 0, training decodes samples of the posterior.
        precision: of the saved weights, fp16 or fp32.
        seed: the only source of randomness.
        device, amp, threads: as for a run.
    """

    datasets: tuple[DatasetConfig, ...]
    kind: str = "tiny"
    f: int = 4
    channels: int = 4
    width: int = 32
    steps: int = 10_000
    batch: int = 64
    crop: int | None = None
    lr: float = 2e-3
    edge: float = 0.1
    flips: float = 0.25
    kl: float = 0.0
    precision: str = "fp16"
    seed: int = 0
    device: str = "auto"
    amp: str = "auto"
    threads: int | None = None

    def faults(self) -> list[str]:
        """Every fault that can be seen without loading anything; empty when there is none."""
        found = RunConfig(device=self.device, amp=self.amp, threads=self.threads).faults()
        choices: dict[str, tuple[Json, ...]] = {"kind": KINDS, "f": FACTORS, "precision": tuple(DTYPES)}
        for key, allowed in choices.items():
            if getattr(self, key) not in allowed:
                found.append(f"{key}={getattr(self, key)}: choose one of {', '.join(map(str, allowed))}")
        for key in ("channels", "width", "steps", "batch"):
            if getattr(self, key) < 1:
                found.append(f"{key}={getattr(self, key)}: must be at least 1")
        for key in ("lr", "edge", "kl"):
            if not 0 <= getattr(self, key) < math.inf:
                found.append(f"{key}={getattr(self, key)}: must not be negative")
        if not 0 <= self.flips <= 1:
            found.append(f"flips={self.flips}: a probability in [0, 1]")
        if self.crop is not None and self.crop < self.f:
            found.append(f"crop={self.crop}: must be at least f={self.f}")
        if self.kl and self.kind != "kl":
            found.append(f"kl={self.kl}: only kind=kl has a posterior")
        if self.kind == "kl" and self.width % 8:
            found.append(f"width={self.width}: must be a multiple of 8 with kind=kl")
        if not all(0 < dataset.validation < 1 for dataset in self.datasets):
            found.append("dataset.validation: a fraction above 0 and below 1 is held out to measure the PSNR")
        return found

    def to_json(self) -> dict[str, Json]:
        """The configuration as plain JSON."""
        value: dict[str, Json] = json.loads(json.dumps(asdict(self)))
        return value


class Training(Record):
    """A finished training: the content of its `training.json`, beside the weights."""

    schema: ClassVar[str] = "dd-bench/codec-training.v1"
    file: ClassVar[str] = "training.json"

    def table(self) -> str:
        """The outcome as text for a person."""
        model = self.data["model"]
        psnr = ", ".join(f"{name} {value:.2f} dB" for name, value in self.data["psnr"].items())
        return (
            f"{model['class']}, f={model['f']}, {model['channels']} channels, {model['parameters']:,} parameters, "
            f"{model['bytes']:,} bytes\nPSNR on held-out training images: {psnr}\n"
            f"{self.data['config']['steps']:,} steps in {duration(self.data['seconds'])}"
        )


def train_codec(
    config: TrainingConfig, *, out: Path | str | None = None, progress: bool = False, command: str | None = None
) -> Training:
    """Train, and leave a diffusers folder with `training.json` and `samples.png`.

    Args:
        config: what to train on what.
        out: the folder; None makes `runs/codec-<data sets>-f<f>-<hash>`. An unfinished training there is continued, a
            finished one is returned as it is.
        progress: show a bar on stderr.
        command: what to record as the command; None takes this process's.

    Raises:
        UsageError: a fault of the configuration, or a folder that belongs to another one.
        RunFailed: the loss is no longer finite, or the folder cannot be written.
    """
    faults = config.faults()
    if faults:
        raise UsageError(faults)
    names = "-".join(dict.fromkeys(Path(dataset.name).name for dataset in config.datasets))
    default = Path("runs") / f"codec-{names}-f{config.f}-{hash_json(config.to_json())[:8]}"
    folder = RunFolder(Path(out) if out is not None else default, Training)
    done = folder.finished(config)
    if isinstance(done, Training):
        log.info("%s is finished", folder.path)
        return done
    folder.refuse_unwritable()
    how = numerics.resolve(RunConfig(device=config.device, amp=config.amp, compile="off", threads=config.threads))
    sets = [data.load(dataset, progress=progress) for dataset in config.datasets]
    trainer = Trainer(config, sets, how, folder)
    with folder.open(config):
        trainer.train(progress=progress)
        training = Training(trainer.finish(command or command_line()), folder.path)
        training.save()
        folder.close()
    return training


class Trainer:
    """One training: model, optimiser, images, and what is measured on the way.

    Args:
        config: what to train.
        sets: the data of `config.datasets`.
        how: device and arithmetic.
        folder: where progress and results go.
    """

    def __init__(self, config: TrainingConfig, sets: Sequence[ImageData], how: Numerics, folder: RunFolder) -> None:
        self.config, self.sets, self.how, self.folder = config, sets, how, folder
        self.colours = max(images.image_shape[0] for images in sets)
        self.crops = [_crop(images, config) for images in sets]
        self.held = [_held_out(images, config.f) for images in sets]
        with seeded(config.seed, "codec/model"):
            self.model: Any = untrained(
                config.kind, f=config.f, channels=config.channels, width=config.width, colours=self.colours
            )
        self.model.to(how.device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=config.lr, betas=(0.9, 0.99), weight_decay=0.01)
        self.checkpoint = DiskCheckpoint(folder, how.to_json())
        self.mode: Mode = how.mode(self._flops())
        self.step, self.seconds = 0, 0.0
        self.curve: list[dict[str, Json]] = []

    def _flops(self) -> float:
        """Floating-point operations of the training: forward, and twice as many backward."""
        n, h, w = self.crops[0]
        shape = (self.colours, h, w)
        each = numerics.forward_flops(lambda x: reconstruct(self.model, x), shape, self.how.device)
        return 3 * n * each * self.config.steps

    def train(self, *, progress: bool) -> None:
        """All steps that are left; equal with and without interruption."""
        self._restore()
        every = max(1, self.config.steps // REPORTS)
        bar = tqdm(total=self.config.steps, initial=self.step, desc="train", disable=not progress, leave=False)
        began = time.perf_counter() - self.seconds
        with held_interrupt() as interrupted, bar:
            while self.step < self.config.steps:
                stop = interrupted()
                if stop or self.checkpoint.due():
                    self._save()
                if stop:
                    raise KeyboardInterrupt
                loss = self._update()
                self.step += 1
                bar.update()
                if self.step % every == 0 or self.step == self.config.steps:
                    self._report(float(loss))
                self.seconds = time.perf_counter() - began
            self._save()

    def _update(self) -> Tensor:
        """One step; the loss before it."""
        images, flipped = self._batch(), self._flipped()
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * _schedule(self.step, self.config.steps)
        with self.mode.autocast():
            back, divergence = reconstruct(self.model, images, self._noise(), flipped)
        loss = reconstruction_loss(images.flip(flipped), back.float(), self.config.edge) + self.config.kl * divergence
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.detach()

    def _noise(self) -> torch.Generator | None:
        return generator(self.config.seed, "codec/posterior", self.step) if self.config.kl else None

    def _flipped(self) -> tuple[int, ...]:
        """The axes along which this step flips its codes before decoding."""
        draws = torch.rand(2, generator=generator(self.config.seed, "codec/flip", self.step))
        return tuple(axis for axis, drawn in zip((2, 3), draws.tolist(), strict=True) if drawn < self.config.flips)

    def _batch(self) -> Tensor:
        """Random crops of one data set, float32 (n, C, h, w); every pixel of all sets is about as likely as any."""
        draws = generator(self.config.seed, "codec/batch", self.step)
        pixels = torch.tensor([float(images.train.pixels.numel() / images.image_shape[0]) for images in self.sets])
        which = int(torch.multinomial(pixels, 1, generator=draws))
        images, (n, h, w) = self.sets[which], self.crops[which]
        store = images.train.pixels
        rows = torch.randint(len(store), (n,), generator=draws).tolist()
        tops = torch.randint(store.shape[2] - h + 1, (n,), generator=draws).tolist()
        lefts = torch.randint(store.shape[3] - w + 1, (n,), generator=draws).tolist()
        flips = torch.rand(n, generator=draws) < (0.5 if images.flip else 0.0)
        crops = torch.stack([store[i, :, y : y + h, x : x + w] for i, y, x in zip(rows, tops, lefts, strict=True)])
        crops = torch.where(flips[:, None, None, None], crops.flip(3), crops)
        return _floats(crops, self.colours, self.how.device)

    def _report(self, loss: float) -> None:
        """Note the PSNR on held-out images, and show some of them."""
        if not math.isfinite(loss):
            raise RunFailed(f"step {self.step}: the loss is {loss}; try a smaller --lr, or amp=off")
        psnr = self._measured()
        self.curve.append({"step": self.step, "loss": round(loss, 6), "psnr": psnr})
        told = ", ".join(f"{name} {value:.2f} dB" for name, value in psnr.items())
        log.info("step %s of %s: loss %.4f, %s", f"{self.step:,}", f"{self.config.steps:,}", loss, told)

    @torch.no_grad()
    def _measured(self) -> dict[str, float]:
        """Mean PSNR of each data set's held-out images in float32; some of them are shown in samples.png."""
        psnr, pairs = {}, []
        for images, held in zip(self.sets, self.held, strict=True):
            wanted = _floats(held, self.colours, self.how.device)
            back = torch.cat([reconstruct(self.model, part)[0] for part in wanted.split(16)])
            psnr[_label(images)] = round(mean_psnr(wanted, back), 4)
            pairs.append((wanted[:SHOWN].cpu(), back[:SHOWN].cpu()))
        write_samples(self.folder.path / "samples.png", pairs)
        return psnr

    def _save(self) -> None:
        self.checkpoint.save(
            {
                "step": self.step,
                "seconds": self.seconds,
                "curve": self.curve,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
        )

    def _restore(self) -> None:
        kept = self.checkpoint.load()
        if kept is None:
            return
        self.step, self.seconds, self.curve = kept["step"], kept["seconds"], kept["curve"]
        self.model.load_state_dict(kept["model"])
        self.optimizer.load_state_dict(kept["optimizer"])

    def finish(self, command: str) -> dict[str, Json]:
        """Write the model as it will be loaded, measure it so, and give the record's content."""
        for tensor in self.model.parameters():
            tensor.data = tensor.data.to(DTYPES[self.config.precision])
        with tempfile.TemporaryDirectory() as written:
            self.model.save_pretrained(written)
            for name in (WEIGHTS, "config.json"):
                with atomic_write(self.folder.path / name) as temporary:
                    shutil.copyfile(Path(written) / name, temporary)
        self.model.float()
        return {
            "schema": Training.schema,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "command": command,
            "config": self.config.to_json(),
            "trained_on": list(dict.fromkeys(images.name for images in self.sets)),
            "datasets": [_described(images) for images in self.sets],
            "model": {
                "class": type(self.model).__name__,
                "f": self.config.f,
                "channels": self.config.channels,
                "parameters": sum(p.numel() for p in self.model.parameters()),
                "bytes": (self.folder.path / WEIGHTS).stat().st_size,
            },
            "psnr": self._measured(),
            "curve": self.curve,
            "seconds": round(self.seconds, 1),
            "environment": environment(self.how.to_json()),
        }


def _crop(images: ImageData, config: TrainingConfig) -> tuple[int, int, int]:
    """(n, h, w) of a step on this data set: sides are multiples of f; n keeps the number of pixels about the same."""
    side = config.crop or max(32, 8 * config.f)
    h, w = (min(side, n) // config.f * config.f for n in images.image_shape[1:])
    if not h or not w:
        shape = "x".join(map(str, images.image_shape[1:]))
        raise UsageError(
            f"dataset {images.name}: its {shape} images are smaller than f={config.f}; choose a smaller --f"
        )
    return max(1, round(config.batch * side * side / (h * w))), h, w


def _held_out(images: ImageData, f: int) -> Tensor:
    """Held-out training images uint8 (n, C, H, W), evenly spaced over all of them, cut to multiples of f."""
    pixels = images.held_out("validation").pixels
    rows = torch.linspace(0, len(pixels) - 1, min(len(pixels), VALIDATED)).long()
    h, w = (n // f * f for n in pixels.shape[2:])
    return pixels[rows, :, :h, :w]


def _floats(pixels: Tensor, colours: int, device: str) -> Tensor:
    """Bytes (n, C, h, w) as float32 in [0, 1] with `colours` channels, in the layout that convolutions like."""
    found = (pixels.to(device).float() / 255).expand(-1, colours, -1, -1)
    return found.contiguous(memory_format=torch.channels_last)


def _schedule(step: int, steps: int) -> float:
    """The fraction of the learning rate at a step: a linear rise, then half a cosine."""
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise))) / 2


def _label(images: ImageData) -> str:
    """A data set and its size, for the PSNR."""
    return f"{images.name} {images.image_shape[1]}x{images.image_shape[2]}"


def _described(images: ImageData) -> dict[str, Json]:
    return {
        "name": images.name,
        "fingerprint": images.fingerprint,
        "image_shape": list(images.image_shape),
        **images.source,
    }
