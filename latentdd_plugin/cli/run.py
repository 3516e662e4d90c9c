"""Distil a dataset in a codec's space with one distiller, score the result, and leave a record.

Any key of the configuration can also be set as key=value, before or after the flags:

  dd-bench run --codec dct --distiller dm --ipc 1
  dd-bench run --codec ./my_codec.py:MyCodec codec.size=4 algo.iterations=100
  dd-bench run --lpc 16 --precision fp32,int8,int4         one distillation, stored and scored three times
  dd-bench run --algo dm,random seed=0,1 -m                a job for each combination
  dd-bench run --algo dm,random -m hydra/launcher=joblib   the same, side by side

--algo and --distiller are the same, --controls and --baselines too. algo.preset=paper takes a distiller's published
settings.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from latentdd_plugin.core.errors import UsageError

if TYPE_CHECKING:
    from latentdd_plugin.results.record import Record


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `dd-bench run`. All are texts: Hydra and the configuration check them."""
    flags = {
        ("codec",): "name, package.module:Class or ./file.py:Class (default dct)",
        ("algo", "distiller"): "name, package.module:Class or ./file.py:Class (default dm)",
        ("dataset",): "name, folder or Hugging Face id (default digits)",
        ("ipc",): "budget in images per class (default 1)",
        ("lpc",): "budget in codes per class, instead of --ipc",
        ("bytes",): "budget in bytes per class, instead of --ipc: 4096, 4k",
        ("precision",): "fp32 (default), fp16, int8, int4, int2 or coded; of a codec of tokens tokens (default) or "
        "coded; several with commas at a fixed --lpc",
        ("labels",): "own, hard, soft, views or teacher: what networks are trained with (default own)",
        ("teacher",): "classifier for these labels: convnet or a timm architecture; teacher.path=FOLDER loads one",
        ("match",): "code or pixel: the space that the matching networks look at",
        ("evaluator",): "evaluators or timm architectures, with commas (default convnet; for digits convnext_atto too)",
        ("protocol",): "evaluation recipe (default fast.v1; small.v1 for digits)",
        ("seed",): "whole number (default 0)",
        ("device",): "auto, cpu, cuda or cuda:N",
        ("controls", "baselines"): "default or none",
        ("out",): "folder of the run; the same folder again continues it",
    }
    for names, text in flags.items():
        parser.add_argument(*(f"--{name}" for name in names), dest=names[0], metavar="X", help=text)
    parser.add_argument("--limit-hours", metavar="X", type=float, help="refuse a distillation estimated to take longer")
    parser.add_argument("--resume", action="store_true", help="continue in --out; that happens without it too")
    parser.add_argument("--quiet", action="store_true", help="no progress, no log lines; the table at the end only")
    parser.add_argument("-m", "--multirun", action="store_true", help="a job for each combination of values")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="any key of the configuration")


def execute(args: argparse.Namespace) -> int:
    """Run, or sweep with -m, and print the table."""
    from latentdd_plugin.cli import overrides, request, sweep
    from latentdd_plugin.cli.logs import note, start_logging

    start_logging(quiet=args.quiet)
    words, faults = overrides.checked(overrides.from_flags(args, sweep=args.multirun), sweep=args.multirun)
    if args.out is not None:
        words.append(f"out={overrides.quoted(args.out)}")
    limit_s = None if args.limit_hours is None else 3600 * args.limit_hours
    if args.multirun:
        return sweep.execute(words, faults, quiet=args.quiet, command=args.command_line, limit_s=limit_s)
    wanted, more = request.inspect(overrides.composed(words))
    if faults or more or wanted is None:
        raise UsageError([*faults, *more])
    note(request.shadow_note(wanted.config.dataset.name), quiet=args.quiet)
    progress = not args.quiet and sys.stderr.isatty()
    for record in request.perform(wanted, progress=progress, command=args.command_line, limit_s=limit_s):
        sys.stdout.write(f"{record.table()}\n{paths(record)}\n")
    return 0


def paths(record: Record) -> str:
    """Return the paths of the run's files, one per line."""
    from latentdd_plugin.artifacts.file import ARTIFACT

    files = ("result.json", ARTIFACT, "report.html", "grid.png")
    return "\n".join(str(record.folder / name) for name in files if (record.folder / name).exists())
