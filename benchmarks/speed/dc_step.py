"""DC's outer step: ours against the original loop, code space against pixel space.

python benchmarks/speed/dc_step.py --cifar10 FOLDER --imagenette FOLDER --taesd FOLDER [--peer DatasetCondensation]
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Figures, distil_steps, main, prepared, ratio, real_set, task_of
from peers import condensation

from latentdd_plugin.distillers.dc import DC

ALGO = {"name": "dc", "preset": "paper"}


def peer(args: argparse.Namespace) -> Figures:
    """The original `main.py`, CIFAR-10, IPC 1, 256 real images per class, float32."""
    words = ["--method", "DC", "--dataset", "CIFAR10", "--ipc", "1", "--batch_real", "256", "--Iteration", "100"]
    return {"seconds": median(condensation(args.peer.resolve(), "main", words, real_set(args.cifar10), args.steps))}


def cifar(args: argparse.Namespace, amp: str) -> Figures:
    """Ours on the same data with the same mathematics."""
    config, ready, _ = prepared(args.cifar10, {"name": "identity"}, algo=ALGO, ipc=1, amp=amp, compile="on")
    return distil_steps(task_of(config, ready, 1), DC(batch_real=256), args.steps)


def imagenette(args: argparse.Namespace, codec: str, codes_per_class: int) -> Figures:
    """Imagenette at 128 px, 256 real samples per class, in the codec's space; bf16."""
    spec = {"name": "taesd", "path": str(args.taesd)} if codec == "taesd" else {"name": "identity"}
    config, ready, _ = prepared(args.imagenette, spec, algo=ALGO, ipc=1, amp="bf16", compile="on")
    method = DC(batch_real=256, outer_loops=1, inner_loops=1)
    return distil_steps(task_of(config, ready, codes_per_class), method, args.steps)


PARTS = {
    "peer": peer,
    "ours fp32": partial(cifar, amp="off"),
    "ours bf16": partial(cifar, amp="bf16"),
    "128px pixels 10 samples": partial(imagenette, codec="identity", codes_per_class=1),
    "128px taesd 10 samples": partial(imagenette, codec="taesd", codes_per_class=1),
    "128px taesd equal bytes": partial(imagenette, codec="taesd", codes_per_class=48),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peer", type=Path, help="checkout of DatasetCondensation")
    parser.add_argument("--cifar10", default="../shared/data/cifar10")
    parser.add_argument("--imagenette", default="../shared/data/imagenette128")
    parser.add_argument("--taesd", default="../shared/weights/taesd")
    parser.add_argument("--steps", type=int, default=3)


def report(medians: dict[str, Figures]) -> list[str]:
    pixels, codes = "128px pixels 10 samples", "128px taesd 10 samples"
    return [
        f"step rate against the original, fp32: {ratio(medians, 'peer', 'ours fp32')}x",
        f"step rate against the original, bf16: {ratio(medians, 'peer', 'ours bf16')}x",
        f"128 px, code space against pixel space, 10 samples: {ratio(medians, pixels, codes)}x faster, "
        f"memory above the data {ratio(medians, codes, pixels, 'above_mb')} of it",
        f"128 px, code space at equal bytes (480 codes): {ratio(medians, pixels, '128px taesd equal bytes')}x faster",
    ]


if __name__ == "__main__":
    main(PARTS, arguments, report)
