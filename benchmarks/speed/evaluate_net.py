"""Evaluation of one network, training and test: ours against the original loop, on the same images and epochs.

python benchmarks/speed/evaluate_net.py --cifar10 FOLDER [--peer DatasetCondensation] [--epochs 100]

CIFAR-10, 100 random training images (IPC 10), batch 256, SGD, augmented; 10,000 test images. The first network, which
ours compiles for, is not timed.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean, median

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Figures, main, prepared, ratio, real_set, task_of, trial
from peers import evaluation

from latentdd_plugin.core.config import DatasetConfig
from latentdd_plugin.data.load import load_dataset
from latentdd_plugin.evaluators import protocols
from latentdd_plugin.evaluators.train_scratch import TrainScratch
from latentdd_plugin.latent.space import pixel_set


def peer(args: argparse.Namespace) -> Figures:
    """The original `evaluate_synset`."""
    images, labels = real_set(args.cifar10)
    real = pixel_set(load_dataset(DatasetConfig(args.cifar10)), "cpu")
    held = load_dataset(DatasetConfig(args.cifar10)).held_out("test")
    test = (held.pixels.float() / 255 - real.mean) / real.std
    rows = [row for c in range(10) for row in (labels == c).nonzero()[:10, 0].tolist()]
    seconds, accuracies = evaluation(
        args.peer.resolve(), (images[rows], labels[rows]), (test, held.labels), args.epochs, args.networks
    )
    return {"seconds": median(seconds), "accuracy": fmean(accuracies)}


def ours(args: argparse.Namespace, amp: str) -> Figures:
    """Ours under the same recipe, `dc-bench.v1`, with so many epochs."""
    config, ready, _ = prepared(
        args.cifar10, {"name": "identity"}, algo={"name": "random"}, ipc=10, amp=amp, compile="on"
    )
    task = task_of(config, ready, 10)
    rows = torch.cat([members[:10] for members in task.real.by_class])
    protocol = replace(protocols.get("dc-bench.v1"), epochs=args.epochs)
    codes = ready.pixels.take(rows)
    score = TrainScratch("convnet").session(trial(ready, codes, task.real.labels[rows], protocol))
    seconds, accuracies = [], []
    for seed in range(args.networks + 1):
        start = time.perf_counter()
        accuracy = score(seed).accuracy
        if seed:
            seconds.append(time.perf_counter() - start)
            accuracies.append(accuracy)
    return {"seconds": median(seconds), "accuracy": fmean(accuracies)}


PARTS = {"peer": peer, "ours fp32": partial(ours, amp="off"), "ours bf16": partial(ours, amp="bf16")}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peer", type=Path, help="checkout of DatasetCondensation")
    parser.add_argument("--cifar10", default="../shared/data/cifar10")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--networks", type=int, default=2)


def report(medians: dict[str, Figures]) -> list[str]:
    return [f"rate against the original, {how}: {ratio(medians, 'peer', f'ours {how}')}x" for how in ("fp32", "bf16")]


if __name__ == "__main__":
    main(PARTS, arguments, report)
