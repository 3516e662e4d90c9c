"""DM's step: ours against the original loop, code space against pixel space, encoding against a bare loop.

python benchmarks/speed/dm_step.py --cifar10 FOLDER --imagenette FOLDER --taesd FOLDER [--peer DatasetCondensation]
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Figures, distil_steps, main, prepared, ratio, real_set, task_of
from peers import condensation

from latentdd_plugin.core.config import DatasetConfig
from latentdd_plugin.distillers.dm import DM
from latentdd_plugin.latent.encode import ENCODE_BATCH, _encoder, encode_batches

ALGO = {"name": "dm", "preset": "paper"}


def peer(args: argparse.Namespace) -> Figures:
    """The original `main_DM.py`, CIFAR-10, IPC 10, 256 real images per class, Siamese augmentation, float32."""
    words = ["--dataset", "CIFAR10", "--ipc", "10", "--batch_real", "256", "--Iteration", "100"]
    steps = condensation(args.peer.resolve(), "main_DM", words, real_set(args.cifar10), args.steps)
    return {"seconds": median(steps)}


def cifar(args: argparse.Namespace, amp: str) -> Figures:
    """Ours on the same data with the same mathematics."""
    config, ready, _ = prepared(args.cifar10, {"name": "identity"}, algo=ALGO, ipc=10, amp=amp, compile="on")
    return distil_steps(task_of(config, ready, 10), DM(batch_real=256), args.steps)


def imagenette(args: argparse.Namespace, codec: str, codes_per_class: int) -> Figures:
    """Imagenette at 128 px, 256 real samples per class, in the codec's space."""
    spec = {"name": "taesd", "path": str(args.taesd)} if codec == "taesd" else {"name": "identity"}
    data = DatasetConfig(str(args.imagenette), per_class=300)
    config, ready, _ = prepared(data, spec, algo=ALGO, ipc=1, amp=args.amp, compile="on")
    return distil_steps(task_of(config, ready, codes_per_class), DM(batch_real=256), args.steps)


def encode(args: argparse.Namespace, bare: bool) -> Figures:
    """Images a second: the package's encoding loop, or a bare compiled loop over the same autoencoder."""
    data = DatasetConfig(str(args.imagenette), per_class=60)
    _, ready, _ = prepared(data, {"name": "taesd", "path": str(args.taesd)}, algo=ALGO, ipc=1)
    mode = ready.numerics.mode(1e15)
    pixels = ready.data.train.pixels[: 8 * ENCODE_BATCH]
    model = ready.codec.codec.model
    if bare:

        def forward(x: torch.Tensor) -> torch.Tensor:
            with mode.autocast():
                return model.encode(x).latents

        run = torch.compile(forward, dynamic=False)
        inputs = (pixels.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)

        def loop() -> None:
            with torch.no_grad():
                for part in inputs.split(ENCODE_BATCH):
                    run(part)

    else:
        ours = _encoder(ready.codec, mode, ready.data.image_shape)

        def loop() -> None:
            encode_batches(ours, pixels, mode.device)

    loop()
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        loop()
        seconds.append(time.perf_counter() - start)
    return {"images_per_second": len(pixels) / median(seconds)}


PARTS = {
    "peer": peer,
    "ours fp32": partial(cifar, amp="off"),
    "ours bf16": partial(cifar, amp="bf16"),
    "128px pixels 10 samples": partial(imagenette, codec="identity", codes_per_class=1),
    "128px taesd 10 samples": partial(imagenette, codec="taesd", codes_per_class=1),
    "128px taesd equal bytes": partial(imagenette, codec="taesd", codes_per_class=48),
    "encode bare": partial(encode, bare=True),
    "encode ours": partial(encode, bare=False),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peer", type=Path, help="checkout of DatasetCondensation")
    parser.add_argument("--cifar10", default="../shared/data/cifar10")
    parser.add_argument("--imagenette", default="../shared/data/imagenette128")
    parser.add_argument("--taesd", default="../shared/weights/taesd")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--amp", default="bf16", help="arithmetic at 128 px; `off` where the processor lacks bf16")


def report(medians: dict[str, Figures]) -> list[str]:
    pixels, codes = "128px pixels 10 samples", "128px taesd 10 samples"
    return [
        f"step rate against the original, fp32: {ratio(medians, 'peer', 'ours fp32')}x",
        f"step rate against the original, bf16: {ratio(medians, 'peer', 'ours bf16')}x",
        f"128 px, code space against pixel space, 10 samples: {ratio(medians, pixels, codes)}x faster, "
        f"memory above the data {ratio(medians, codes, pixels, 'above_mb')} of it",
        f"128 px, code space at equal bytes (480 codes): {ratio(medians, pixels, '128px taesd equal bytes')}x faster",
        f"encoding, share of the bare loop's rate: {ratio(medians, 'encode ours', 'encode bare', 'images_per_second')}",
    ]


if __name__ == "__main__":
    main(PARTS, arguments, report)
