"""Make a large image folder out of a small one: random crops of real pictures, some of them mirrored.

    python benchmarks/scale/make_set.py SOURCE OUT --images 200000 --side 64

SOURCE is a dataset that `dd-bench` reads (its pictures must be larger than the side). OUT receives train/<class>/*.jpg
and test/<class>/*.jpg. Equal arguments give equal crops. Delete OUT when you are done.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image

from latentdd_plugin.core.config import DatasetConfig
from latentdd_plugin.data.load import load_dataset


def write_crops(
    pixels: np.ndarray, labels: np.ndarray, names: tuple[str, ...], out: Path, count: int, side: int
) -> None:
    draws = np.random.RandomState(0)
    for name in names:
        (out / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        row = number % len(pixels)
        top, left = (int(draws.randint(0, size - side + 1)) for size in pixels.shape[2:])
        crop = pixels[row, :, top : top + side, left : left + side].transpose(1, 2, 0)
        if draws.randint(2):
            crop = crop[:, ::-1]
        held = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(crop)).save(held, "JPEG", quality=85)
        (out / names[labels[row]] / f"{number:07d}.jpg").write_bytes(held.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=64)
    args = parser.parse_args()
    data = load_dataset(DatasetConfig(args.source))
    names = tuple(name.replace("/", "_").replace(" ", "_") for name in data.classes)
    for split, images, count in (("train", data.train, args.images), ("test", data.held_out("test"), args.test)):
        write_crops(images.pixels.numpy(), images.labels.numpy(), names, args.out / split, count, args.side)
        print(f"{split}: {count} pictures of {args.side} px in {args.out / split}")


if __name__ == "__main__":
    main()
