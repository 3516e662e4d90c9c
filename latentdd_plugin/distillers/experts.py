"""Expert trajectories: networks trained on the real set in the match space, stored epoch by epoch.

Each expert is one safetensors file with names and all hyper-parameters in its header, in a folder named by a hash of
everything that decides its numbers. An interrupted training loses only the expert that it was training.
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
from latentdd_plugin.core.processes import group
from latentdd_plugin.core.storage import claimed
from latentdd_plugin.core.types import hash_json
from latentdd_plugin.core.version import __version__
from latentdd_plugin.distillers.gradients import Gradients, Weights, weights_of
from latentdd_plugin.distillers.task import Task

log = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class ExpertTraining:
    """Settings of the training of experts and their storage. The defaults are the authors'."""

    experts: int = 100
    epochs: int = 50  # snapshots kept: epochs + 1, the untrained network first
    lr: float = 0.01
    batch: int = 256
    precision: str = "fp32"  # of the stored snapshots


class Experts:
    """Trajectories on disk; snapshots are read on access."""

    def __init__(self, folder: Path, training: ExpertTraining, names: list[str], device: str) -> None:
        self.folder, self.training, self._names, self._device = folder, training, names, device

    def path(self, expert: int) -> Path:
        """Return the file of one expert."""
        return self.folder / f"expert-{expert:03d}.safetensors"

    def snapshot(self, expert: int, epoch: int) -> Weights:
        """Return the weights float32 of an expert after `epoch` epochs; 0 is the untrained network."""
        with safe_open(self.path(expert), framework="pt") as file:
            return tuple(file.get_tensor(f"{epoch:03d}/{name}").float().to(self._device) for name in self._names)


def obtain_experts(task: Task, training: ExpertTraining) -> Experts:
    """Return the experts of this task's real set and network; they are trained, or found on disk, at the first call."""
    experts: Experts = task.once(training, lambda: train_experts(task, training))
    return experts


def train_experts(task: Task, training: ExpertTraining) -> Experts:
    """Return the experts of this task's real set and network, training those that are not on disk yet."""
    network = task.network("mtt/expert", 0)
    names = [name for name, _ in network.named_parameters()]
    samples = len(task.real.labels) * training.epochs * training.experts
    gradients = task.gradients(task.numerics.mode(task.flops(3 * samples)))
    key = {
        "schema": "dd-bench/expert.v2",
        "training": {**asdict(training), "experts": None},  # further experts go to the same folder
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
    every = range(training.experts)
    for some, wait in ((group().share(every), False), (every, True)):  # then those that another process was training
        for expert in some:
            path, owner = experts.path(expert), {**key, "expert": expert}
            with claimed(path, wait=wait) as free:
                if not free or checkpoint.read(path, owner) is not None:
                    continue
                log.info("training expert %d of %d for %d epochs", expert + 1, training.experts, training.epochs)
                snapshots = _train(task, training, gradients, expert)
                tensors = {
                    f"{epoch:03d}/{name}": tensor.cpu().contiguous()
                    for epoch, weights in enumerate(snapshots)
                    for name, tensor in zip(names, weights, strict=True)
                }
                checkpoint.write_tensors(path, tensors, owner)
    return experts


def _train(task: Task, training: ExpertTraining, gradients: Gradients, expert: int) -> list[Weights]:
    """Return the snapshots of one expert: SGD on the whole real set, augmented like the student's samples."""
    weights = weights_of(task.network("mtt/expert", expert))
    order, draws = task.generator("mtt/expert/order", expert), task.generator("mtt/expert/augment", expert)
    dtype = DTYPES[training.precision]
    snapshots = [tuple(w.to(dtype) for w in weights)]
    total = len(task.real.labels)
    labels = task.real.labels.to(task.device)
    for _ in range(training.epochs):
        for rows in torch.randperm(total, generator=order).split(training.batch):
            if len(rows) < training.batch < total:
                continue  # another shape would be compiled again
            x = task.augment.apply(task.real.take(rows), task.augment.draw(draws, len(rows)))
            steps = gradients.at(weights, x, labels[rows.to(task.device)])
            weights = tuple(w - training.lr * s for w, s in zip(weights, steps, strict=True))
        snapshots.append(tuple(w.to(dtype) for w in weights))
    return snapshots


def flat_distance(a: Weights, b: Weights) -> Tensor:
    """Return the squared Euclidean distance over all parameters."""
    return torch.stack([(x - y).square().sum() for x, y in zip(a, b, strict=True)]).sum()
