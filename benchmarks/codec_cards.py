"""The codec cards in registry/codecs: every codec that comes with the package, and TAESD, on CIFAR-10 and Imagenette.

python benchmarks/codec_cards.py ../shared/data ../shared/weights      # those that are missing; --again makes all
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

DATASETS = ("cifar10", "imagenette128")
CODECS = (
    ("identity",),
    ("dct",),
    ("downscale",),
    ("pca",),
    ("tiny-vae", "codec.f=4"),
    ("tiny-vae", "codec.f=8"),
    ("taesd", "codec.path={weights}/taesd"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with cifar10 and imagenette128")
    parser.add_argument("weights", type=Path, help="folder with taesd")
    parser.add_argument("--again", action="store_true", help="also those that are there")
    parser.add_argument("--out", type=Path, default=Path("registry"))
    args = parser.parse_args()
    failed = 0
    for dataset in DATASETS:
        for name, *options in CODECS:
            kept = [option.removeprefix("codec.") for option in options if "path" not in option]
            place = args.out / "codecs" / "-".join([name, *kept]) / f"{dataset}.json"
            if place.exists() and not args.again:
                print(f"{place} is there")
                continue
            words = [option.format(weights=args.weights) for option in options]
            command = ["dd-bench", "check", "codec", name, *words, "--dataset", str(args.data / dataset)]
            command += ["--protocol", "quick.v1", "--out", str(args.out)]
            print(" ".join(command), flush=True)
            done = subprocess.run([Path(sys.executable).parent / command[0], *command[1:]], check=False)
            failed += done.returncode != 0
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
