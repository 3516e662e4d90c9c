"""Train a small autoencoder on any dataset, or convert a pickled one: a folder that codec.path=FOLDER loads.

  dd-bench codec train --dataset my/pictures dataset.image_size=64 --f 4 --out my-vae
  dd-bench codec train --dataset my/pictures,my/pictures@64,other --f 8 --crop 64 --steps 20000
  dd-bench run --dataset my/pictures --codec diffusers codec.path=my-vae
  dd-bench codec convert diffusion_pytorch_model.bin --out my-vae

Several datasets are separated by commas; NAME@SIDE resizes one of them. The same command continues an interrupted
training. 10% of each training split is held out (dataset.validation=0.1) and measured along the way; test images are
never read. `convert` turns a pickled checkpoint (.bin, .pt, .ckpt) into safetensors and executes nothing in it.
Keys that can be set as key=value: dataset.*, device, amp, threads.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from latentdd_plugin.core.errors import UsageError

if TYPE_CHECKING:
    from latentdd_plugin.core.config import DatasetConfig
    from latentdd_plugin.experiments.codec_training import TrainingConfig

KEYS = ("seed", "device", "amp", "threads")
NUMBERS = {  # flag -> type and text
    "f": (int, "2, 4, 8 or 16 pixels of a side become one of the code (default 4)"),
    "channels": (int, "channels of the code (default 4)"),
    "width": (int, "channels inside (default 32)"),
    "steps": (int, "updates (default 10000)"),
    "batch": (int, "crops per step (default as many as have 65,536 pixels)"),
    "crop": (int, "side of a crop in pixels (default 8 f, at least 32)"),
    "lr": (float, "largest learning rate (default 0.002)"),
    "edge": (float, "weight of the differences between neighbouring pixels (default 0.1)"),
    "flips": (float, "probability per axis of flipping codes before decoding (default 0.25)"),
    "kl": (float, "weight of the Kullback-Leibler term, with --kind kl (default 0)"),
}
HELD_OUT = 0.1  # of each training split: the part that presets of this package are tuned on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `dd-bench codec`."""
    parser.add_argument("action", choices=["train", "convert"], help="what to do")
    parser.add_argument("--dataset", metavar="A,B@64", default="digits", help="names, folders or Hugging Face ids")
    parser.add_argument(
        "--kind", metavar="X", help="tiny (diffusers' AutoencoderTiny, the default) or kl (AutoencoderKL)"
    )
    for flag, (kind, text) in NUMBERS.items():
        parser.add_argument(f"--{flag}", metavar="N", type=kind, help=text)
    parser.add_argument("--precision", metavar="X", help="of the saved weights: fp16 (default) or fp32")
    parser.add_argument("--seed", metavar="X", help="whole number (default 0)")
    parser.add_argument("--device", metavar="X", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--out", metavar="X", help="folder (default runs/codec-<datasets>-f<f>-<hash>)")
    parser.add_argument("--quiet", action="store_true", help="no progress, no log lines; the outcome at the end only")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="dataset.*, device, amp or threads; FILE to convert"
    )


def execute(args: argparse.Namespace) -> int:
    """Train, or convert, and print the outcome."""
    if args.action == "convert":
        return _convert(args)
    from latentdd_plugin.cli.logs import note, start_logging
    from latentdd_plugin.cli.request import shadow_note
    from latentdd_plugin.experiments.codec_training import train_codec

    start_logging(quiet=args.quiet)
    request = parse_request(args)
    for dataset in request.datasets:
        note(shadow_note(dataset.name), quiet=args.quiet)
    training = train_codec(
        request, out=args.out, progress=not args.quiet and sys.stderr.isatty(), command=args.command_line
    )
    sys.stdout.write(f"{training.table()}\n{training.folder}\n")
    return 0


def _convert(args: argparse.Namespace) -> int:
    from latentdd_plugin.codecs.convert import convert_weights

    if len(args.overrides) != 1 or not args.out:
        raise UsageError("codec convert: give one file and a folder: dd-bench codec convert FILE --out FOLDER")
    written = convert_weights(args.overrides[0], args.out)
    sys.stdout.write(f"{written}\n")
    if not (written.parent / "config.json").exists():
        sys.stdout.write(f"no config.json lay beside it: put the model's own into {written.parent}\n")
    return 0


def parse_request(args: argparse.Namespace) -> TrainingConfig:
    """Return the configuration that flags and keys describe, or raise UsageError with every fault in them."""
    from latentdd_plugin.cli import overrides, request
    from latentdd_plugin.experiments.codec_training import TrainingConfig

    flags = argparse.Namespace(overrides=args.overrides, seed=args.seed, device=args.device)
    words, faults = overrides.checked(overrides.from_flags(flags, sweep=False), sweep=False)
    given = [overrides.key_of(word) for word in words]
    faults += [
        f"{key}: is not used here; the keys are: {', '.join(KEYS)}, dataset.*"
        for key in given
        if key not in KEYS and (not key.startswith("dataset.") or key == "dataset.name")
    ]
    config, _, more = request.typed(overrides.composed([f"dataset.validation={HELD_OUT}", *words]))
    datasets = tuple(_dataset(name, config.dataset) for name in overrides.split_commas(args.dataset))
    faults += [*more, *(fault for dataset in datasets for fault in request.dataset_faults(dataset.name))]
    chosen = {f: getattr(args, f) for f in ("kind", *NUMBERS, "precision") if getattr(args, f) is not None}
    training = TrainingConfig(datasets, **chosen, **{key: getattr(config, key) for key in KEYS})
    faults += training.faults()
    if faults:
        raise UsageError(list(dict.fromkeys(faults)))
    return training


def _dataset(name: str, options: DatasetConfig) -> DatasetConfig:
    """Return a dataset with these options; `@64` at the end of its name is its own image size."""
    found = re.fullmatch(r"(.+)@(\d+)", name)
    return replace(options, name=found[1], image_size=int(found[2])) if found else replace(options, name=name)
