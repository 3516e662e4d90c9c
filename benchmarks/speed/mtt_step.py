"""MTT's outer step: ours against the original loop, memory against the number of student steps, codes against pixels.

python benchmarks/speed/mtt_step.py --cifar10 FOLDER --imagenette FOLDER --taesd FOLDER [--peer mtt-distillation]

The experts' weights do not change what a step costs: the original is given random ones, ours are trained on few images.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Figures, distil_steps, main, memory_mb, prepared, ratio, real_set, reset_peak, task_of
from peers import trajectories

from latentdd_plugin.core.config import DatasetConfig
from latentdd_plugin.distillers.mtt import MTT
from latentdd_plugin.nn.convnet import matching_network

ALGO = {"name": "mtt", "preset": "paper"}
FEW = 256  # images of each class: enough to draw from


def peer(args: argparse.Namespace, data: str, steps: int) -> Figures:
    """The original `distill.py`, IPC 1, N=20, augmented, float32; `data` names the argument with the folder."""
    real = real_set(DatasetConfig(getattr(args, data), per_class=FEW))
    kept = [[_weights(real[0], epoch) for epoch in range(3)]]
    options = {"syn_steps": 20, "expert_epochs": 2, "max_start_epoch": 1, "ipc": 1}
    if data == "imagenette":
        options |= {"dataset": "ImageNet", "model": "ConvNetD5"}
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = memory_mb("VmRSS")
    reset_peak()
    seconds = trajectories(args.peer.resolve(), options, real, kept, steps)[1]
    peak = memory_mb("VmHWM")
    return {"seconds": median(seconds), "above_mb": peak - before, "peak_mb": peak}


def _weights(images: Tensor, seed: int) -> list[Tensor]:
    network = matching_network(tuple(images.shape[1:]), 10)
    network.reset(torch.Generator().manual_seed(seed))
    return [p.detach() for p in network.parameters()]


def ours(
    args: argparse.Namespace, data: str, codec: str = "identity", codes: int = 1, steps: int = 3, **options: object
) -> Figures:
    """Ours: N=20 unless said, float32, compiled; experts of two epochs are trained before anything is measured."""
    spec = {"name": "taesd", "path": str(args.taesd)} if codec == "taesd" else {"name": codec}
    few = DatasetConfig(getattr(args, data), per_class=FEW)
    config, ready, _ = prepared(few, spec, algo=ALGO, ipc=1, amp="off", compile="on")
    experts = {"expert_epochs": 2, "max_start_epoch": 1, "experts": 1, "batch_expert": 32}
    method = MTT(**{"syn_steps": 20, **experts, **options})  # type: ignore[arg-type]
    task = task_of(config, ready, codes)
    method._experts(task)
    return distil_steps(task, method, steps)


PARTS = {
    "peer 32px": partial(peer, data="cifar10", steps=5),
    "ours 32px": partial(ours, data="cifar10", steps=5),
    "ours 32px unrolled": partial(ours, data="cifar10", steps=5, gradient="unrolled"),
    "ours 32px N=5": partial(ours, data="cifar10", syn_steps=5),
    "ours 32px N=40": partial(ours, data="cifar10", syn_steps=40),
    "peer 128px pixels": partial(peer, data="imagenette", steps=1),
    "ours 128px pixels": partial(ours, data="imagenette", steps=1),
    "ours 128px taesd": partial(ours, data="imagenette", codec="taesd", steps=5),
    "ours 128px taesd unrolled": partial(ours, data="imagenette", codec="taesd", steps=5, gradient="unrolled"),
    "ours 128px taesd equal bytes": partial(ours, data="imagenette", codec="taesd", codes=48),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peer", type=Path, help="checkout of mtt-distillation")
    parser.add_argument("--cifar10", default="../shared/data/cifar10")
    parser.add_argument("--imagenette", default="../shared/data/imagenette128")
    parser.add_argument("--taesd", default="../shared/weights/taesd")


def report(medians: dict[str, Figures]) -> list[str]:
    codes = "ours 128px taesd"
    lines = [
        f"time of the original's step, 32 px, N=20: {ratio(medians, 'ours 32px', 'peer 32px')}",
        f"process peak at N=40 over N=5: {ratio(medians, 'ours 32px N=40', 'ours 32px N=5', 'peak_mb')}",
    ]
    for pixels in ("peer 128px pixels", "ours 128px pixels"):
        faster, memory = ratio(medians, pixels, codes), ratio(medians, codes, pixels, "above_mb")
        whole = ratio(medians, codes, pixels, "peak_mb")
        equal = ratio(medians, pixels, "ours 128px taesd equal bytes")
        lines.append(
            f"128 px, N=20, codes against {pixels}, 10 samples: {faster}x faster, {memory} of its memory above the data, "
            f"{whole} of its peak; at equal bytes (480 codes) {equal}x faster"
        )
    return lines


if __name__ == "__main__":
    main(PARTS, arguments, report)
