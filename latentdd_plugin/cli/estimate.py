"""Print what a run would cost, before it: seconds per stage, memory and disk.

It takes the arguments of `dd-bench run`, looks at the dataset and measures this machine for a few seconds:

  dd-bench estimate --codec dct --distiller dm --ipc 10 --evaluator convnet,resnet18
  dd-bench estimate --dataset /data/pictures --codec taesd --processes 1,2,8

A dataset that is not here is described by its sizes, and a machine by its speed:

  dd-bench estimate --train-images 1281167 --test-images 50000 --class-count 1000 --side 224 --speed 1e14
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from latentdd_plugin.cli import run
from latentdd_plugin.core.errors import UsageError

if TYPE_CHECKING:
    from latentdd_plugin.core.config import RunConfig
    from latentdd_plugin.experiments.cost.model import DataSize

SIZES = ("train_images", "test_images", "class_count", "side")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `dd-bench run`, and those of the estimate."""
    run.add_arguments(parser)
    parser.add_argument("--processes", metavar="N,…", default="1", help="numbers of processes that share the run")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--speed", metavar="X", type=float, help="assume X floating-point operations per second")
    group = parser.add_argument_group("a dataset that is not here, all four of")
    for flag, text in {
        "--train-images": "number of training images",
        "--test-images": "number of images that score",
        "--class-count": "number of classes",
        "--side": "height and width in pixels, of 3 channels",
    }.items():
        group.add_argument(flag, metavar="N", type=int, help=text)


def execute(args: argparse.Namespace) -> int:
    """Print the estimate of the run that the arguments describe."""
    from latentdd_plugin.cli import overrides, request
    from latentdd_plugin.cli.logs import start_logging
    from latentdd_plugin.experiments.cost.beginning import estimate_before

    start_logging(quiet=args.quiet or args.json)
    words, faults = overrides.checked(overrides.from_flags(args, sweep=False), sweep=False)
    wanted, more = request.inspect(overrides.composed(words))
    processes, size_faults = _processes(args.processes), _size_faults(args)
    faults = [*faults, *more, *size_faults, *([] if processes else [f"processes={args.processes}: give 1,2,8"])]
    if faults or wanted is None:
        raise UsageError(faults)
    found = estimate_before(wanted.config, _described(args, wanted.config), speed=args.speed)
    text = json.dumps(found.to_json(processes), indent=1) if args.json else found.table(processes)
    sys.stdout.write(text + "\n")
    return 0


def _processes(text: str) -> list[int]:
    parts = text.split(",")
    return [int(part) for part in parts] if all(part.isdecimal() and int(part) for part in parts) else []


def _size_faults(args: argparse.Namespace) -> list[str]:
    values = {name: getattr(args, name) for name in SIZES}
    faults = [f"--{name.replace('_', '-')}={n}: must be at least 1" for name, n in values.items() if (n or 1) < 1]
    if args.speed is not None and not 0 < args.speed < float("inf"):
        faults.append(f"--speed={args.speed:g}: must be a positive number of operations per second")
    missing = [f"--{name.replace('_', '-')}" for name, n in values.items() if n is None]
    if 0 < len(missing) < len(values):
        faults.append(f"a dataset that is not here needs {', '.join(missing)} too")
    return faults


def _described(args: argparse.Namespace, config: RunConfig) -> DataSize | None:
    """Return the dataset that the flags describe, decoded in no time, or None if they describe none."""
    if args.side is None:
        return None
    from latentdd_plugin.experiments.cost.model import DataSize

    store = "memory" if config.dataset.store == "auto" else config.dataset.store
    return DataSize(args.train_images, args.test_images, args.class_count, (3, args.side, args.side), store)
