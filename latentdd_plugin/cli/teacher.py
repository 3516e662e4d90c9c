"""Train a teacher on any dataset, or convert a pickled network: a folder that teacher.path=FOLDER loads.

  dd-bench teacher train --dataset my/folder --teacher convnet --out my/teacher
  dd-bench teacher train --dataset my/folder --teacher resnet18 teacher.recipe=teacher.v1 --out my/teacher
  dd-bench teacher convert resnet18.pth --dataset my/folder --teacher resnet18 --out my/teacher
  dd-bench run --dataset my/folder --algo dm --labels soft teacher.path=my/teacher

The teacher learns from the training split; its accuracy on the test split is shown at the end. The same command
continues an interrupted training. `convert` reads a file of weights without executing anything in it; its classes must
be in the dataset's order, and its inputs standardised with ImageNet's mean and deviation unless --mean and --std say
otherwise.
Keys that can be set as key=value: dataset.*, teacher.*, device, amp, compile, threads.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from latentdd_plugin.core.errors import UsageError

if TYPE_CHECKING:
    from latentdd_plugin.core.config import RunConfig

KEYS = ("device", "amp", "compile", "threads")
OPEN = ("dataset", "teacher")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `dd-bench teacher`."""
    parser.add_argument("action", choices=["train", "convert"], help="what to do")
    parser.add_argument("--dataset", metavar="X", help="name, folder or Hugging Face id (default digits)")
    parser.add_argument("--teacher", metavar="X", default="convnet", help="convnet, convnet_bn or a timm architecture")
    parser.add_argument("--device", metavar="X", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--mean", metavar="A,B,C", default="0.485,0.456,0.406", help="of a converted network's inputs")
    parser.add_argument("--std", metavar="A,B,C", default="0.229,0.224,0.225", help="of a converted network's inputs")
    parser.add_argument("--out", metavar="FOLDER", required=True, help="folder of the teacher")
    parser.add_argument("--quiet", action="store_true", help="no progress, no log lines; the outcome only")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="a key; FILE to convert")


def execute(args: argparse.Namespace) -> int:
    """Train or convert, store the teacher, and print what it is."""
    from latentdd_plugin.cli.logs import start_logging
    from latentdd_plugin.core.compute import resolve_numerics
    from latentdd_plugin.data.load import load_dataset
    from latentdd_plugin.experiments.teachers import converted_teacher, obtain_teacher
    from latentdd_plugin.results.entries import TeacherEntry

    start_logging(quiet=args.quiet)
    files = [word for word in args.overrides if "=" not in word]
    args.overrides = [word for word in args.overrides if "=" in word]
    if len(files) != (args.action == "convert"):
        raise UsageError(
            "convert takes one FILE" if args.action == "convert" else f"{files[0]}: not of the form key=value"
        )
    config, progress = parse_request(args), not args.quiet and sys.stderr.isatty()
    numerics = resolve_numerics(config.compute)
    data = load_dataset(config.dataset, progress=progress, again=args.action == "train")
    if args.action == "train":
        teacher = obtain_teacher(config.teacher, data, numerics, progress=progress)
    else:
        scales = [tuple(float(part) for part in text.split(",")) for text in (args.mean, args.std)]
        teacher = converted_teacher(Path(files[0]), str(config.teacher.name), data, *scales).to(numerics.device)
    assert teacher is not None  # noqa: S101 - it has a name
    teacher.save(Path(args.out))
    entry = TeacherEntry.of(teacher, data.held_out("test"))
    sys.stdout.write(
        f"{entry.arch}: {100 * entry.accuracy:.1f}% on test, {entry.params:,} parameters, {entry.bytes:,} bytes, "
        f"sha256 {entry.sha256[:12]}…\n{args.out}\n"
    )
    return 0


def parse_request(args: argparse.Namespace) -> RunConfig:
    """Return dataset, teacher and arithmetic; raise UsageError with every fault."""
    from latentdd_plugin.cli import overrides, request
    from latentdd_plugin.experiments.teachers import teacher_faults

    words, faults = overrides.checked(overrides.from_flags(args, sweep=False), sweep=False)
    for key in (overrides.key_of(word) for word in words):
        if key not in KEYS and key.partition(".")[0] not in OPEN:
            faults.append(f"{key}: is not used for a teacher; the keys are: {', '.join(KEYS)}, dataset.*, teacher.*")
    config, _, more = request.typed(overrides.composed(words))
    faults += [*more, *config.dataset.faults(), *config.teacher.faults(), *teacher_faults(config.teacher)]
    if faults:
        raise UsageError(list(dict.fromkeys(faults)))
    return config
