"""Expert trajectories: networks trained on the real set in the match space, kept epoch by epoch.

One safetensors file an expert, with names and all hyper-parameters in its header, found again by a hash of what decides
its numbers; a killed training loses the expert it was at, no more.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from latentdd_plugin.core import checkpoint
from latentdd_plugin.core.cache import cache_dir
from latentdd_plugin.core.storage import locked
from latentdd_plugin.core.types import hash_json
from latentdd_plugin.core.version import __version__
from latentdd_plugin.distillers.gradients import Gradients, Weights, weights_of
from latentdd_plugin.distillers.task import Task

log = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Training:
    """How experts are trained and stored. The defaults are the authors'."""

    experts: int = 100
    epochs: int = 50  # snapshots kept: epochs + 1, the untrained network first
    lr: float = 0.01
    batch: int = 256
    precision: str = "fp32"  # of the stored snapshots


class Experts:
    """Trajectories on disk; a snapshot is read when it is asked for."""

    def __init__(self, folder: Path, training: Training, names: list[str], device: str) -> None:
        self.folder, self.training, self._names, self._device = folder, training, names, device

    def path(self, expert: int) -> Path:
        """The file of one expert."""
        return self.folder / f"expert-{expert:03d}.safetensors"

    def snapshot(self, expert: int, epoch: int) -> Weights:
        """Weights float32 of an expert after `epoch` epochs; 0 is the untrained network."""
        with safe_open(self.path(expert), framework="pt") as file:
            return tuple(file.get_tensor(f"{epoch:03d}/{name}").float().to(self._device) for name in self._names)


def prepare(task: Task, training: Training) -> Experts:
    """The experts of this task's real set and network, training those that are not on disk yet."""
    network = task.network("mtt/expert", 0)
    names = [name for name, _ in network.named_parameters()]
    samples = len(task.real.labels) * training.epochs * training.experts
    gradients = task.gradients(task.numerics.mode(task.flops(3 * samples)))
    key = {
        "schema": "dd-bench/expert.v2",
        "training": {**asdict(training), "experts": None},  # more experts of the same kind join these
        "real": task.real_id,
        "network": type(network).__name__,
        "parameters": {name: list(p.shape) for name, p in network.named_parameters()},
        "augment": list(task.augment.operations),
        "seed": task.seed,
        "amp": gradients.mode.amp,
        "numerics": task.numerics.to_json(),
        "version": __version__,
    }
    experts = Experts(cache_dir() / "experts" / hash_json(key)[:32], training, names, task.device)
    with locked(experts.folder):
        for expert in range(training.experts):
            owner = {**key, "expert": expert}
            if checkpoint.read(experts.path(expert), owner) is None:
                log.info("training expert %d of %d for %d epochs", expert + 1, training.experts, training.epochs)
                snapshots = _train(task, training, gradients, expert)
                tensors = {
                    f"{epoch:03d}/{name}": tensor.cpu().contiguous()
                    for epoch, weights in enumerate(snapshots)
                    for name, tensor in zip(names, weights, strict=True)
                }
                checkpoint.write_tensors(experts.path(expert), tensors, owner)
    return experts


def _train(task: Task, training: Training, gradients: Gradients, expert: int) -> list[Weights]:
    """Snapshots of one expert: plain SGD over the whole real set, augmented as the student will be."""
    weights = weights_of(task.network("mtt/expert", expert))
    order, draws = task.generator("mtt/expert/order", expert), task.generator("mtt/expert/augment", expert)
    dtype = DTYPES[training.precision]
    snapshots = [tuple(w.to(dtype) for w in weights)]
    total = len(task.real.labels)
    labels = task.real.labels.to(task.device)
    for _ in range(training.epochs):
        for rows in torch.randperm(total, generator=order).split(training.batch):
            if len(rows) < training.batch < total:
                continue  # a ragged end would be another shape to compile
            x = task.augment.apply(task.real.take(rows), task.augment.draw(draws, len(rows)))
            steps = gradients.at(weights, x, labels[rows.to(task.device)])
            weights = tuple(w - training.lr * s for w, s in zip(weights, steps, strict=True))
        snapshots.append(tuple(w.to(dtype) for w in weights))
    return snapshots


def flat_distance(a: Weights, b: Weights) -> Tensor:
    """Squared Euclidean distance over all parameters."""
    return torch.stack([(x - y).square().sum() for x, y in zip(a, b, strict=True)]).sum()
