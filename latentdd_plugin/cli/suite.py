"""Versioned grids of runs: list them, show one, run what is missing of it.

  dd-bench suite list
  dd-bench suite show cpu-digits.v1
  dd-bench suite run cpu-digits.v1 --only '*-dm-*'
  dd-bench suite run cifar10-ipc.v1 dataset.cifar10.path=my/cifar10 codec.taesd.path=my/taesd threads=1
  dd-bench suite run cpu-digits.v1 hydra/launcher=joblib hydra.launcher.n_jobs=2
  dd-bench suite page latentdd-questions.v1                # Markdown: cost and fidelity of codecs, gains over random

Every run of the grid is checked before the first one starts. The same command again continues: finished runs stay.
Each dataset and budget becomes a comparison, OUT/<dataset>-ipc<k>, whose cells are run folders to submit. Keys that
can be set as key=value: dataset.<name>.path, codec.<name>.<location>, teacher.path (of a stored teacher), device, amp,
compile, threads, hydra/launcher, hydra.launcher.*.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentdd_plugin.core.errors import UsageError

if TYPE_CHECKING:
    from latentdd_plugin.experiments.compare import Cell
    from latentdd_plugin.experiments.suites import Suite, SuiteInputs

KEYS = ("device", "amp", "compile", "threads")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `dd-bench suite`."""
    parser.add_argument("action", choices=("list", "show", "run", "page"), help="what to do")
    parser.add_argument("words", nargs="*", metavar="NAME key=value", help="the suite, or a file of one; and keys")
    parser.add_argument("--only", metavar="GLOB", action="append", help="runs of these names only, as `show` has them")
    parser.add_argument("--out", metavar="X", type=Path, help="folder (default runs/<suite>)")
    parser.add_argument("--plots", metavar="X", type=Path, help="of `page`: folder to write its plots into")
    parser.add_argument(
        "--limit-hours", metavar="X", type=float, default=1.0,
        help="a distillation estimated to take longer is not run (default 1.0)",
    )  # fmt: skip
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="runs at a time (default 1)")
    parser.add_argument("--quiet", action="store_true", help="no progress, no log lines")


def execute(args: argparse.Namespace) -> int:
    """Print the list or the suite, or run it; 1 if a run failed."""
    from latentdd_plugin.experiments import suites

    if args.action == "list":
        found = [suites.get(name) for name in suites.names()]
        width = max(len(suite.name) for suite in found)
        sys.stdout.write("".join(f"{suite.name:{width}}  {suite.title}\n" for suite in found))
        return 0
    if not args.words:
        raise UsageError(f"suite {args.action}: name one; there are: {', '.join(suites.names())}")
    suite = suites.get(args.words[0])
    if args.action == "show":
        sys.stdout.write(shown(suite))
        return 0
    if args.action == "page":
        if args.plots:
            args.plots.mkdir(parents=True, exist_ok=True)
        sys.stdout.write(page(suite, args.out or Path("runs") / suite.name, args.plots))
        return 0
    return run(suite, args)


def shown(suite: Suite) -> str:
    """Format a suite: its conditions, its data, and the name of every run."""
    lines = [f"{suite.name}: {suite.title}", suite.description.strip(), ""]
    budget = " or ".join(f"--bytes {n}" for n in suite.bytes) or " or ".join(f"--ipc {n}" for n in suite.ipc)
    lines += [
        f"protocol {suite.protocol}, evaluators {', '.join(suite.evaluators)}, seed {suite.seed}, {suite.split} images"
    ]
    for data in suite.datasets:
        options = "".join(f", {key}={value}" for key, value in data.options.items())
        train = f"{data.train_size:,} training and " if data.train_size else ""
        lines.append(f"data {data.name}: {train}{data.test_size:,} test images{options}")
    if suite.labels:
        lines.append(f"labels {', '.join(one.regime for one in suite.labels)}")
    if suite.teacher:
        stated = {key: value for key, value in suite.teacher.options.to_json().items() if value is not None}
        lines.append("teacher " + ", ".join(f"{key}={value}" for key, value in stated.items()))
    yours = f"dd-bench run --codec … --algo … {budget} --protocol {suite.protocol}"
    lines += [f"sha256 {suite.sha256}", f"your own: {yours} --evaluator {','.join(suite.evaluators)}", ""]
    for name, cell in suite.cells():
        why = (
            f"   cannot be: {cell.reason}"
            if cell.reason
            else f"   the same run as {cell.same_as}"
            if cell.same_as
            else ""
        )
        lines.append(f"  {name}{why}")
    return "\n".join(lines) + "\n"


def page(suite: Suite, out: Path, plots: Path | None = None) -> str:
    """Return what the comparisons under `out` and the registry answer of the latent-space papers' questions.

    Plots are written into the folder `plots`, if one is given; the page names them by that folder's name.
    """
    from latentdd_plugin.leaderboard import registry
    from latentdd_plugin.results import questions_plots
    from latentdd_plugin.results.comparison.record import ComparisonRecord
    from latentdd_plugin.results.grid import write_file
    from latentdd_plugin.results.questions import questions_page

    known = registry.read(registry.default(reading=True))
    comparisons = [ComparisonRecord.load(path.parent) for path in sorted(out.glob("*/compare.json"))]
    cards, runs = [one.card for one in known.cards], [one.record for one in known.submissions]
    drawn: dict[str, str] = {}
    if plots is not None:
        for name, picture in questions_plots.draw(cards, comparisons, runs).items():
            write_file(plots / f"{name}.png", picture)
            drawn[name] = f"{plots.name}/{name}.png"
    return questions_page(suite.title, cards, comparisons, runs, drawn)


def run(suite: Suite, args: argparse.Namespace) -> int:
    """Check every run, then do what is missing, dataset by dataset; print each one's table."""
    from latentdd_plugin.cli.launch import launcher, split
    from latentdd_plugin.cli.logs import start_logging
    from latentdd_plugin.experiments.compare import compare
    from latentdd_plugin.experiments.suites import cell_name

    start_logging(quiet=args.quiet)
    hydra, words = split(args.words[1:])
    given = parse_inputs(suite, words)
    names = [name for name, _ in suite.cells(given)]
    stray = [glob for glob in args.only or () if not any(fnmatchcase(name, glob) for name in names)]
    if stray:
        raise UsageError(
            [f"--only {glob}: no run of {suite.name} has such a name; see dd-bench suite show" for glob in stray]
        )
    out, failed = args.out or Path("runs") / suite.name, False
    for place, grid in suite.grids(given):

        def chosen(cell: Cell, place: str = place) -> bool:
            return any(fnmatchcase(cell_name(place, cell), glob) for glob in args.only or ("*",))

        if not any(fnmatchcase(name, glob) for name in names if name.startswith(place) for glob in args.only or ("*",)):
            continue
        done = compare(
            grid,
            out=out / place,
            limit_s=3600 * args.limit_hours,
            jobs=args.jobs,
            progress=not args.quiet and sys.stderr.isatty(),
            command=args.command_line,
            only=chosen,
            runner=launcher(hydra, quiet=args.quiet),
        )
        failed |= done.failed
        sys.stdout.write(f"{done.table()}\n{done.folder / 'report.html'}\n")
        runs = [cell.folder for cell in done.cells if cell.status == "done" and cell.folder]
        if runs:
            sys.stdout.write(f"dd-bench submit {done.folder / runs[0]} --name … --contact …\n")
    return int(failed)


def parse_inputs(suite: Suite, words: Sequence[str]) -> SuiteInputs:
    """Parse locations and compute options from key=value; raise UsageError with every fault in them."""
    import yaml

    from latentdd_plugin.experiments.suites import SuiteInputs

    datasets: dict[str, str] = {}
    codecs: dict[str, dict[str, Any]] = {}
    arithmetic: dict[str, Any] = {}
    faults, teacher = [], None
    known = {"dataset": [data.name for data in suite.datasets], "codec": [codec.name for codec in suite.codecs]}
    for word in words:
        key, equals, value = word.partition("=")
        parts = re.fullmatch(r"(dataset|codec)\.(.+)\.(\w+)", key)
        if not equals:
            faults.append(f"{word!r} is not of the form key=value")
        elif key in KEYS:
            arithmetic[key] = int(value) if key == "threads" and value.isdigit() else value
        elif key == "teacher.path" and suite.teacher:
            teacher = value
        elif parts and parts[2] not in known[parts[1]]:
            faults.append(f"{key}: {suite.name} has the {parts[1]}s {', '.join(known[parts[1]])}")
        elif parts and parts[1] == "dataset" and parts[3] == "path":
            datasets[parts[2]] = value
        elif parts and parts[1] == "codec" and parts[3] in _locations(parts[2]):
            codecs.setdefault(parts[2], {})[parts[3]] = yaml.safe_load(value)
        else:
            faults.append(
                f"{key}: has no meaning for a suite; the keys are: dataset.<name>.path, codec.<name>.<location>, "
                f"{'teacher.path, ' if suite.teacher else ''}{', '.join(KEYS)}, hydra/launcher, hydra.launcher.*"
            )
    faults += _absent(suite, datasets)
    if faults:
        raise UsageError(faults)
    return SuiteInputs(datasets, codecs, arithmetic, teacher)


def _locations(codec: str) -> tuple[str, ...]:
    from latentdd_plugin.codecs.base import Codec
    from latentdd_plugin.core import plugins

    cls: type[Codec] = plugins.resolve("codecs", codec, base=Codec).cls
    return cls.locations


def _absent(suite: Suite, given: dict[str, str]) -> list[str]:
    """Return a fault for each dataset without a location."""
    from latentdd_plugin.core import plugins

    installed = plugins.entries("datasets")
    missing = [data.name for data in suite.datasets if data.name not in given and data.name not in installed]
    return [f"dataset.{name}.path: give the location of {name}, a folder or a Hugging Face id" for name in missing]
