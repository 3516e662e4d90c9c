"""Compare codecs, distillers, precisions and match spaces at one budget: a table, a plot and an HTML report.

Every combination is run twice: at equal bytes, and with an equal number of images. Prefix an option with a name to set
it for one codec or distiller; without a name it applies to all that have it. Other keys apply to every cell:

  dd-bench compare --codec identity,dct,pca --algo dm,herding --precision fp32,int8
  dd-bench compare --codec identity,taesd codec.taesd.path=my/taesd --algo dm,mtt algo.mtt.iterations=50
  dd-bench compare --dataset my/folder dataset.image_size=64 --ipc 10 --out my/comparison
  dd-bench compare --algo random,dm,rded --labels hard,soft,teacher --teacher convnet
  dd-bench compare --bytes 4k,12288,64k --precision int4,coded     # rate curves: accuracy against bytes per class
  dd-bench compare --algo dm,mtt hydra/launcher=joblib hydra.launcher.n_jobs=2      # or submitit_slurm, …

Cells are ordinary run folders in OUT/cells. The same command continues an interrupted comparison:
finished cells are not run again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentdd_plugin.core.errors import DDBenchError, UsageError

if TYPE_CHECKING:
    from latentdd_plugin.core.types import Json
    from latentdd_plugin.experiments.compare import Comparison, Grid
    from latentdd_plugin.results.comparison.rate_plot import PublishedPoint

AXES: dict[str, str | None] = {
    "codec": "identity,dct",
    "algo": "random,dm",
    "precision": None,
    "match": "code",
    "labels": "own",
    "ledger": "bytes,count",
}
BYTES = "budgets in bytes per class, with commas (4k,12288): one rate curve per line, instead of --ipc"
TAKEN = {  # keys of a run that a comparison replaces
    **{
        key: f"set it as a flag, --{key.partition('.')[0]}"
        for key in ("codec.name", "algo.name", "precision", "match", "labels.regime")
    },
    "lpc": "set the budget of a comparison in images, --ipc",
    "out": "set it as a flag, --out",
}
FILES = ("compare.json", "compare.csv", "pareto.png", "rate.png", "report.html")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `dd-bench compare`."""
    axes = {
        "codec": "codecs",
        "algo": "distillers",
        "precision": "fp32, fp16, int8, int4, int2, coded, tokens",
        "match": "code, pixel: the input of the matching networks",
        "labels": "label regimes, own, hard, soft, views, teacher; the baselines get the same",
        "ledger": "bytes, count",
    }
    for flag, text in axes.items():
        names = ("--algo", "--distiller") if flag == "algo" else (f"--{flag}",)
        default = AXES[flag] or "fp32; tokens for codecs of tokens"
        parser.add_argument(*names, metavar="A,B", default=AXES[flag], help=f"{text} (default {default})")
    _add_values(parser)
    parser.add_argument("--bytes", dest="rates", metavar="A,B", help=BYTES)
    parser.add_argument(
        "--published",
        metavar="X",
        action="append",
        default=[],
        help="file or folder of published numbers, shown as hollow marks in the plot of a rate curve",
    )
    parser.add_argument(
        "--limit-hours", metavar="X", type=float, default=1.0,
        help="a distillation estimated to take longer is not run (default 1.0)",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", metavar="N", type=int, default=1, help="number of cells to run in parallel (default 1)"
    )
    parser.add_argument(
        "--in-process", action="store_true", help="run all cells in this process: faster, but without peak memory"
    )
    parser.add_argument("--quiet", action="store_true", help="print only the table, no progress or log lines")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="any key of the configuration of a run")


def _add_values(parser: argparse.ArgumentParser) -> None:
    """Add the flags that all cells share."""
    flags = {
        "ipc": "budget in images per class (default 1)",
        "dataset": "name, folder or Hugging Face id (default digits)",
        "evaluator": "evaluators or timm architectures, with commas (default convnet; for digits convnext_atto too)",
        "protocol": "evaluation recipe (default fast.v1; small.v1 for digits)",
        "seed": "whole number (default 0)",
        "device": "auto, cpu, cuda or cuda:N",
        "controls": "default or none",
        "teacher": "classifier for soft, views and teacher labels: convnet or a timm architecture",
        "out": "folder (default runs/compare-<dataset>-<hash>)",
    }
    for flag, text in flags.items():
        parser.add_argument(f"--{flag}", metavar="X", help=text)


def execute(args: argparse.Namespace) -> int:
    """Run the comparison and print the table; return 1 if a cell failed."""
    from latentdd_plugin.cli.launch import launcher, split
    from latentdd_plugin.cli.logs import start_logging
    from latentdd_plugin.experiments.compare import compare

    start_logging(quiet=args.quiet)
    hydra, args.overrides = split(args.overrides)
    if args.jobs > 1 and args.in_process:
        raise UsageError("--jobs runs each cell in its own process: leave out --in-process")
    if args.jobs > 1 and hydra:
        raise UsageError(
            "--jobs does not work with a launcher: set the launcher's own option, such as hydra.launcher.n_jobs"
        )
    try:
        comparison = compare(
            grid_of(args),
            out=args.out,
            limit_s=3600 * args.limit_hours,
            jobs=args.jobs,
            in_process=args.in_process,
            progress=not args.quiet and sys.stderr.isatty(),
            command=args.command_line,
            runner=launcher(hydra, quiet=args.quiet),
            published=published_points(args.published),
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; finished cells are kept, the same command continues") from None
    paths = [comparison.folder / name for name in FILES]
    sys.stdout.write("\n".join([comparison.table(), *(str(path) for path in paths if path.exists())]) + "\n")
    return 1 if comparison.failed else 0


def grid_of(args: argparse.Namespace) -> Grid:
    """Return the grid that flags and keys describe; raise UsageError with every fault in them."""
    from latentdd_plugin.cli import overrides, request
    from latentdd_plugin.cli.overrides import split_commas
    from latentdd_plugin.core.config import PartSpec
    from latentdd_plugin.experiments.compare import Grid

    flags = argparse.Namespace(**{key: value for key, value in vars(args).items() if key not in AXES})
    named = {axis: split_commas(getattr(args, axis)) for axis in overrides.OPEN}
    words, faults = overrides.checked(overrides.from_flags(flags, sweep=False), sweep=False, named=named)
    given = [overrides.key_of(word) for word in words]
    faults += [f"{key}: {TAKEN[key]}" for key in given if key in TAKEN]
    tree = overrides.composed([word for word in words if overrides.key_of(word) not in TAKEN])
    names = {axis: list(dict.fromkeys(split_commas(getattr(args, axis) or ""))) for axis in AXES}
    codecs, more = specs("codec", names["codec"], tree["codec"])
    algos, last = specs("algo", names["algo"], tree["algo"])
    base, _, ill = request.typed({**tree, "codec": {"name": "identity"}, "algo": {"name": "random"}})
    faults += [*more, *last, *ill, *request.dataset_faults(base.dataset.name)]
    if faults:
        raise UsageError(list(dict.fromkeys(faults)))
    axes = {"precisions": names["precision"], "matches": names["match"], "ledgers": names["ledger"]}
    axes["labels"] = names["labels"]
    chosen = {key: tuple(value) for key, value in axes.items()}
    parts = tuple(map(PartSpec.of, codecs)), tuple(map(PartSpec.of, algos))
    return Grid(base, parts[0], parts[1], **chosen, rates=rates_of(args.rates))


def rates_of(text: str | None) -> tuple[int, ...]:
    """Return the budgets in bytes per class that `--bytes` names; raise UsageError for what is not a number."""
    from latentdd_plugin.cli.overrides import byte_count, split_commas

    found = [byte_count(part) for part in split_commas(text or "")]
    faults = [
        f"bytes={part}: must be a whole number of bytes, as 12288 or 12k" for part in found if isinstance(part, str)
    ]
    if faults:
        raise UsageError(faults)
    return tuple(part for part in found if isinstance(part, int))


def published_points(paths: Sequence[str]) -> Callable[[Comparison], list[PublishedPoint]] | None:
    """Return a function that finds the published numbers comparable with a comparison; None without files.

    Raises:
        UsageError: a file cannot be read, or holds no published numbers.
    """
    from latentdd_plugin.leaderboard.literature import Literature, comparable
    from latentdd_plugin.leaderboard.registry import load_literature
    from latentdd_plugin.results.comparison.rate_plot import PublishedPoint

    found: list[Literature] = []
    for path in map(Path, paths):
        found += [load_literature(file) for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]

    def points(comparison: Comparison) -> list[PublishedPoint]:
        data, evaluator = comparison.dataset, comparison.evaluators[0]
        if data is None:
            return []
        shape = data.image_shape
        numbers = [one.number for one in comparable(found, data.name, shape, evaluator)]
        sized = [(number, number.size(shape)) for number in numbers]
        return [PublishedPoint(number.method, size, number.accuracy) for number, size in sized if size is not None]

    return points if found else None


def specs(axis: str, names: Sequence[str], node: Mapping[str, Json]) -> tuple[list[dict[str, Json]], list[str]]:
    """Return one specification per name, with its own options and the common ones it has, and the faults.

    Args:
        axis: `codec` or `algo`.
        names: the codecs or distillers to compare.
        node: options of one name as `{name: {option: value}}`, common ones as `{option: value}`.
    """
    from latentdd_plugin.experiments.compare.grid import short

    found: list[dict[str, Json]] = [{"name": name} for name in names]
    own = {short(name): node.get(short(name)) for name in names}
    faults: list[str] = []
    for option, value in node.items():
        if option == "name" or isinstance(own.get(option), Mapping):
            continue
        try:
            refusals = [_refusals(axis, str(spec["name"]), option) for spec in found]
        except DDBenchError as error:
            return found, [*faults, str(error)]
        for spec, refusal in zip(found, refusals, strict=True):
            if not refusal:
                spec[option] = value
        if all(refusals):
            stray = isinstance(value, Mapping)
            faults.append(f"{axis}.{option}: not among --{axis} {','.join(names)}" if stray else refusals[0][0])
    for spec in found:
        options = own[short(str(spec["name"]))]
        spec |= options if isinstance(options, Mapping) else {}
    return found, faults


def _refusals(axis: str, name: str, option: str) -> list[str]:
    """Return the reasons why a codec or distiller does not take an option; an empty list if it does."""
    from latentdd_plugin.codecs.base import Codec
    from latentdd_plugin.core import plugins
    from latentdd_plugin.core.types import JOINT_OPTIONS
    from latentdd_plugin.distillers.base import Distiller

    group, base, everywhere = {
        "codec": ("codecs", Codec, ("upsample", *JOINT_OPTIONS)),
        "algo": ("algos", Distiller, ("preset",)),
    }[axis]
    if option in everywhere:
        return []
    cls: Any = plugins.resolve(str(group), name, base=base).cls
    return [f"{axis}.{name}: {fault}" for fault in plugins.check_arguments(cls, {option: None})]
