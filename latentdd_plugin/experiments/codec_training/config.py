"""The configuration of a codec's training."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

from latentdd_plugin.codecs.untrained import KINDS
from latentdd_plugin.core.config import ComputeConfig, DatasetConfig
from latentdd_plugin.core.parts import LATER
from latentdd_plugin.core.types import Json

PRECISIONS = ("fp16", "fp32")
FACTORS = (2, 4, 8, 16)
PIXELS = 1 << 16  # of a step, unless `batch` says otherwise


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
        batch: crops a step, and of smaller images so many more that the number of pixels is kept; None: 65,536 pixels.
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
    batch: int | None = None
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

    @property
    def compute(self) -> ComputeConfig:
        """Device and arithmetic; a training is not compiled."""
        return ComputeConfig(self.device, self.amp, "off", self.threads)

    @property
    def side(self) -> int:
        """Of a crop, in pixels."""
        return self.crop or max(32, 8 * self.f)

    @property
    def pixels(self) -> int:
        """Of a step, about."""
        return self.batch * self.side**2 if self.batch else PIXELS

    def faults(self) -> list[str]:
        """Every fault that can be seen without loading anything; empty when there is none."""
        found = [*(fault for dataset in self.datasets for fault in dataset.faults()), *self.compute.faults()]
        if not self.datasets:
            found.append("dataset: name at least one")
        choices: dict[str, tuple[Json, ...]] = {"kind": KINDS, "f": FACTORS, "precision": PRECISIONS}
        for key, allowed in choices.items():
            if getattr(self, key) not in allowed:
                found.append(f"{key}={getattr(self, key)}: choose one of {', '.join(map(str, allowed))}")
        counts = {key: getattr(self, key) for key in ("channels", "width", "steps", "batch")}
        found += [f"{key}={n}: must be at least 1" for key, n in counts.items() if n is not None and n < 1]
        weights = {key: getattr(self, key) for key in ("lr", "edge", "kl")}
        found += [f"{key}={x}: must not be negative" for key, x in weights.items() if not 0 <= x < math.inf]
        if not 0 <= self.flips <= 1:
            found.append(f"flips={self.flips}: a probability in [0, 1]")
        if self.crop is not None and self.crop < self.f:
            found.append(f"crop={self.crop}: must be at least f={self.f}")
        if self.kl and self.kind != "kl":
            found.append(f"kl={self.kl}: only kind=kl has a posterior")
        if self.kind == "kl" and self.width % 8:
            found.append(f"width={self.width}: must be a multiple of 8 with kind=kl")
        if not all(dataset.validation for dataset in self.datasets):
            found.append("dataset.validation=0: a fraction must be held out to measure the PSNR, for example 0.1")
        return list(dict.fromkeys(found))

    def to_json(self) -> dict[str, Json]:
        """Return the configuration as plain JSON."""
        value: dict[str, Json] = json.loads(json.dumps(asdict(self)))
        for dataset in value["datasets"]:
            for name in LATER:
                if dataset[name] == getattr(DatasetConfig, name):
                    del dataset[name]
        return value
