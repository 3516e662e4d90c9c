"""The versioned evaluation recipes. Scores compare only within one protocol; a changed recipe gets a new name.

`implementation` rises when changed code gives other scores for the same recipe. Hashes are frozen in `tests/fixtures`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

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

    def steps_for(self, side: int) -> int | None:
        """Return the number of optimiser steps for images of this side, or None if epochs count."""
        if not self.steps:
            return None
        return next((n for largest, n in self.steps if side <= largest), self.steps[-1][1])

    def to_json(self) -> dict[str, Json]:
        """Return every number of the recipe, for the record."""
        value = asdict(self)
        value["steps"], value["augment"] = [list(pair) for pair in self.steps], list(self.augment)
        return value

    @property
    def sha256(self) -> str:
        """Hash of every number of the recipe (sha256, hex)."""
        return hash_json(self.to_json())


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
    )
}


def get(name: str) -> Protocol:
    """Return the protocol of that name; raise UsageError with the known names if there is none."""
    if name not in PROTOCOLS:
        raise UsageError(f"unknown protocol {name!r}; there are: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
