"""The versioned evaluation recipes. Scores compare only within one protocol; a changed recipe gets a new name.

`implementation` rises when changed code gives other scores for the same recipe. Hashes are frozen in `tests/fixtures`.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields

from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import Json, hash_json


@dataclass(frozen=True)
class Protocol:
    """A recipe: how networks are trained on a distilled set and tested once."""

    name: str
    side: int | None  # images larger than this are shrunk to it, for training and test; None keeps the size
    steps: tuple[tuple[int, int], ...]  # (largest side, optimiser steps), the first that fits; () if epochs count
    epochs: int  # used if steps is empty
    batch: int  # samples per step
    optimizer: str  # adamw | sgd
    lr: float
    lr_from: str  # fixed | artifact (its learned learning rate, if it has one)
    schedule: str  # cosine | drop (x0.1 once, after half)
    momentum: float  # for sgd only
    weight_decay: float
    augment: tuple[str, ...]  # operations of nn/augment.py; one drawn per batch, with parameters per sample
    clamp: bool  # decoded images are clamped to [0, 1] before training
    labels: str  # stored (soft if the artifact's are) | hard
    seeds: int  # trained networks per evaluator
    implementation: int = 1
    loss: str = "ce"  # ce | kl (both sides at the temperature) | mse+ce (logits); class numbers keep cross-entropy
    temperature: float = 1.0  # of `kl`
    crop: tuple[float, float] | None = None  # random resized crop: smallest and largest share of the area
    mix: str = "none"  # none | cutmix, one box and one order per batch
    batches: tuple[tuple[int, int], ...] = ()  # (samples per class, batch), the first that fits; () is `batch`
    decay: str = "all"  # all | weights: parameters with one dimension, biases among them, do not decay
    ce: float = 0.0  # weight of the cross-entropy in `mse+ce`
    ema: float = 0.0  # decay per step of the averaged weights that are tested; 0 tests the last ones

    def steps_for(self, side: int) -> int | None:
        """Return the number of optimiser steps for images of this side, or None if epochs count."""
        if not self.steps:
            return None
        return next((n for largest, n in self.steps if side <= largest), self.steps[-1][1])

    def to_json(self) -> dict[str, Json]:
        """Return every number of the recipe, for the record."""
        default = {field.name: field.default for field in fields(self)}
        value = {k: v for k, v in asdict(self).items() if k not in LATER or v != default[k]}  # earlier hashes stay
        plain: dict[str, Json] = json.loads(json.dumps(value))
        return plain

    def batch_for(self, samples: int, classes: int) -> int:
        """Return the samples per step for a set of this size; a hundred classes or more double a batch of `batches`."""
        per_class = math.ceil(samples / classes)
        found = next((size for most, size in self.batches if per_class <= most), None)
        if not self.batches:
            return self.batch
        size = self.batches[-1][1] if found is None else found
        return min(samples, size * (2 if classes >= 100 else 1))

    @property
    def sha256(self) -> str:
        """Hash of every number of the recipe (sha256, hex)."""
        return hash_json(self.to_json())


LATER = ("loss", "temperature", "crop", "mix", "batches", "decay", "ce", "ema")  # not in the hash at their defaults
ALL_OPERATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="fast.v1",
            side=64,
            steps=((32, 400), (64, 300)),
            epochs=0,
            batch=128,
            optimizer="adamw",
            lr=2e-3,
            lr_from="fixed",
            schedule="cosine",
            momentum=0.0,
            weight_decay=0.05,
            augment=ALL_OPERATIONS,
            clamp=False,
            labels="stored",
            seeds=3,
        ),
        Protocol(
            name="quick.v1",
            side=64,
            steps=((32, 200), (64, 150)),
            epochs=0,
            batch=64,
            optimizer="adamw",
            lr=2e-3,
            lr_from="fixed",
            schedule="cosine",
            momentum=0.0,
            weight_decay=0.05,
            augment=ALL_OPERATIONS,
            clamp=False,
            labels="stored",
            seeds=3,
        ),
        Protocol(
            name="demo.v1",
            side=32,
            steps=((32, 100),),
            epochs=0,
            batch=64,
            optimizer="adamw",
            lr=2e-3,
            lr_from="fixed",
            schedule="cosine",
            momentum=0.0,
            weight_decay=0.05,
            augment=("crop", "scale", "rotate"),
            clamp=False,
            labels="stored",
            seeds=2,
        ),
        # For images of up to 16 x 16 pixels: without cutout, which leaves too little of such images, and with smaller
        # steps, so that longer training helps both architectures (digits, validation images).
        Protocol(
            name="small.v1",
            side=32,
            steps=((32, 200),),
            epochs=0,
            batch=64,
            optimizer="adamw",
            lr=1e-3,
            lr_from="fixed",
            schedule="cosine",
            momentum=0.0,
            weight_decay=0.05,
            augment=("crop", "scale", "rotate"),
            clamp=False,
            labels="stored",
            seeds=3,
        ),
        Protocol(
            name="dc-bench.v1",
            side=None,
            steps=(),
            epochs=1000,
            batch=256,
            optimizer="sgd",
            lr=0.01,
            lr_from="artifact",
            schedule="drop",
            momentum=0.9,
            weight_decay=5e-4,
            augment=ALL_OPERATIONS,
            clamp=False,
            labels="stored",
            seeds=5,
        ),
        # RDED's evaluation (Sun et al., arXiv 2312.03526): its batch sizes, temperature, crops and half a cosine.
        Protocol(
            name="rded.v1",
            side=None,
            steps=(),
            epochs=300,
            batch=100,
            batches=((1, 10), (10, 50), (50, 100)),
            optimizer="adamw",
            lr=1e-3,
            lr_from="fixed",
            schedule="half-cosine",
            momentum=0.0,
            weight_decay=0.01,
            decay="weights",
            augment=("flip",),
            crop=(1.0, 1.0),
            mix="cutmix",
            loss="kl",
            temperature=20.0,
            clamp=True,
            labels="stored",
            seeds=3,
        ),
        # A teacher's labels on two CPU cores: `fast.v1` with crops, CutMix and softened targets.
        Protocol(
            name="kd-quick.v1",
            side=64,
            steps=((32, 800), (64, 500)),
            epochs=0,
            batch=128,
            optimizer="adamw",
            lr=2e-3,
            lr_from="fixed",
            schedule="cosine",
            momentum=0.0,
            weight_decay=0.05,
            augment=("flip",),
            crop=(0.35, 1.0),
            mix="cutmix",
            loss="kl",
            temperature=4.0,
            clamp=True,
            labels="stored",
            seeds=3,
        ),
    )
}


def get(name: str) -> Protocol:
    """Return the protocol of that name; raise UsageError with the known names if there is none."""
    if name not in PROTOCOLS:
        raise UsageError(f"unknown protocol {name!r}; there are: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
