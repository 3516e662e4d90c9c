"""The training itself: one model, one optimiser, and what is measured on the way.

The loss of a crop x and its reconstruction y, both in [0, 1], is RMSE(x, y) + edge * mean |d(x - y)|, where d are the
differences between neighbours down and across, and with kind=kl also kl * KL(posterior, N(0, 1)) a value of the code.
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from tqdm import tqdm

from latentdd_plugin.codecs.untrained import untrained
from latentdd_plugin.codecs.weight_files import WEIGHTS
from latentdd_plugin.core.compute import Numerics, forward_flops, resolve_numerics
from latentdd_plugin.core.errors import RunFailed, UsageError
from latentdd_plugin.core.monitor import held_interrupt
from latentdd_plugin.core.random import generator, seeded
from latentdd_plugin.core.storage import atomic_write, write_fault
from latentdd_plugin.core.types import ImageData, Json, hash_json
from latentdd_plugin.data.load import load_dataset
from latentdd_plugin.experiments.codec_training.config import TrainingConfig
from latentdd_plugin.experiments.codec_training.crops import Crops
from latentdd_plugin.experiments.codec_training.reconstruction import (
    mean_psnr,
    reconstruct,
    reconstruction_loss,
    write_samples,
)
from latentdd_plugin.experiments.run_folder import DiskCheckpoint, RunFolder, checkpoint_owner
from latentdd_plugin.results.environment import command_line, environment
from latentdd_plugin.results.training import CurvePoint, ModelEntry, TrainedOn, Training

log = logging.getLogger(__name__)

DTYPES = {"fp16": torch.float16, "fp32": torch.float32}
REPORTS = 20  # PSNRs along the way
SHOWN = 8  # images of each dataset in samples.png
WARM_UP = 0.02  # fraction of the steps in which the learning rate rises; then it falls as a cosine to zero


def train_codec(
    config: TrainingConfig, *, out: Path | str | None = None, progress: bool = False, command: str | None = None
) -> Training:
    """Train, and leave a diffusers folder with `training.json` and `samples.png`.

    Args:
        config: what to train on what.
        out: the folder; None makes `runs/codec-<datasets>-f<f>-<hash>`. An unfinished training there is continued, a
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
    if done is not None:
        log.info("%s is finished", folder.path)
        return done
    folder.refuse_unwritable()
    how = resolve_numerics(config.compute)
    sets = [load_dataset(dataset, progress=progress, again=True) for dataset in config.datasets]
    trainer = Trainer(config, sets, how, folder)
    with folder.open(config):
        trainer.train(progress=progress)
        training = trainer.finish(command or command_line())
        training.save()
        folder.seal()
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

    def __init__(
        self, config: TrainingConfig, sets: Sequence[ImageData], how: Numerics, folder: RunFolder[Training]
    ) -> None:
        self.config, self.sets, self.how, self.folder = config, sets, how, folder
        self.crops = Crops(sets, config)
        with seeded(config.seed, "codec/model"):
            self.model: Any = untrained(
                config.kind, f=config.f, channels=config.channels, width=config.width, colours=self.crops.colours
            )
        self.model.to(how.device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=config.lr, betas=(0.9, 0.99), weight_decay=0.01)
        owner = checkpoint_owner(config, how.to_json(), data=[images.fingerprint for images in sets])
        self.checkpoint = DiskCheckpoint(folder, owner)
        self.mode = how.mode(self._flops())
        self.step, self.seconds = 0, 0.0
        self.curve: list[dict[str, Json]] = []

    def _flops(self) -> float:
        """Floating-point operations of the training: forward, and twice as many backward."""
        n, h, w = self.crops.shapes[0]
        shape = (self.crops.colours, h, w)
        each = forward_flops(lambda x: reconstruct(self.model, x), shape, self.how.device)
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
        images, flipped = self.crops.batch(self.step).to(self.how.device), self._flipped()
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * _schedule(self.step, self.config.steps)
        with self.mode.autocast():
            back, divergence = reconstruct(self.model, images, self._noise(), flipped)
        loss = reconstruction_loss(images.flip(flipped), back.float(), self.config.edge) + self.config.kl * divergence
        if not bool(loss.isfinite()):
            raise RunFailed(f"step {self.step}: the loss is not finite; try a smaller --lr, or amp=off")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.detach()

    def _noise(self) -> torch.Generator | None:
        return generator(self.config.seed, "codec/posterior", self.step) if self.config.kl else None

    def _flipped(self) -> tuple[int, ...]:
        """Return the axes along which this step flips its codes before decoding."""
        draws = torch.rand(2, generator=generator(self.config.seed, "codec/flip", self.step))
        return tuple(axis for axis, drawn in zip((2, 3), draws.tolist(), strict=True) if drawn < self.config.flips)

    def _report(self, loss: float) -> None:
        """Note the PSNR on held-out images, and show some of them."""
        psnr = self._measured()
        self.curve.append({"step": self.step, "loss": round(loss, 6), "psnr": psnr})
        told = ", ".join(f"{name} {value:.2f} dB" for name, value in psnr.items())
        log.info("step %s of %s: loss %.4f, %s", f"{self.step:,}", f"{self.config.steps:,}", loss, told)

    @torch.no_grad()
    def _measured(self) -> dict[str, float]:
        """Mean PSNR of each dataset's held-out images in float32; some of them are shown in samples.png."""
        psnr, pairs = {}, []
        for name, held in zip(self.crops.names(), self.crops.held_out, strict=True):
            wanted = self.crops.floats(held)
            back = torch.cat([reconstruct(self.model, x.to(self.how.device))[0].cpu() for x in wanted.split(16)])
            psnr[name] = round(mean_psnr(wanted, back), 4)
            pairs.append((wanted[:SHOWN], back[:SHOWN]))
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

    def finish(self, command: str) -> Training:
        """Write the model as it will be loaded, measure it in that form, and return the record."""
        for tensor in self.model.parameters():
            tensor.data = tensor.data.to(DTYPES[self.config.precision])
        written = self.folder.checkpoints / "model"
        try:
            self.model.save_pretrained(written)
        except (OSError, SafetensorError) as error:
            raise write_fault(written, error) from error
        for name in (WEIGHTS, "config.json"):
            with atomic_write(self.folder.path / name) as temporary:
                shutil.copyfile(written / name, temporary)
        self.model.float()
        return Training(
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            command=command,
            config=self.config.to_json(),
            trained_on=tuple(dict.fromkeys(images.name for images in self.sets)),
            datasets=tuple(_described(images) for images in self.sets),
            model=ModelEntry(
                class_name=type(self.model).__name__,
                f=self.config.f,
                channels=self.config.channels,
                parameters=sum(p.numel() for p in self.model.parameters()),
                bytes=(self.folder.path / WEIGHTS).stat().st_size,
            ),
            psnr=self._measured(),
            curve=tuple(map(CurvePoint.from_json, self.curve)),
            seconds=round(self.seconds, 1),
            environment=environment(self.how.to_json()),
            folder_or_none=self.folder.path,
        )


def _schedule(step: int, steps: int) -> float:
    """Return the fraction of the learning rate at a step: a linear rise, then half a cosine."""
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise))) / 2


def _described(images: ImageData) -> TrainedOn:
    return TrainedOn.from_json(
        {
            "name": images.name,
            "fingerprint": images.fingerprint,
            "image_shape": list(images.image_shape),
            **images.source,
        }
    )
