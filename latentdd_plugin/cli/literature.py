"""List the numbers that papers report, or check the files that hold them.

  dd-bench literature list --dataset cifar10 --ipc 1
  dd-bench literature check                            # every file of the registry
  dd-bench literature check my/registry/literature/2311.15547.json

Published numbers follow their papers' protocols. They are shown beside verified results and never ranked with them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latentdd_plugin.leaderboard.literature import Reported


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the action, the files and the filters."""
    parser.add_argument("action", choices=("list", "check"), help="what to do")
    parser.add_argument("files", nargs="*", metavar="FILE", help="files to check (default: all of the registry)")
    parser.add_argument("--registry", metavar="DIR", help="the registry (default: the checkout's, or ./registry)")
    parser.add_argument("--dataset", metavar="NAME", help="list the numbers of this dataset")
    parser.add_argument("--ipc", type=int, metavar="N", help="list the numbers of this budget")


def execute(args: argparse.Namespace) -> int:
    """Print the numbers, or every fault; the exit code of a check is 1 if there is one."""
    from latentdd_plugin.leaderboard import registry

    folder = Path(args.registry) if args.registry else registry.default(reading=True)
    paths = [Path(name) for name in args.files] or sorted((folder / "literature").glob("*.json"))
    return _check(paths) if args.action == "check" else _list(paths, args.dataset, args.ipc)


def _check(paths: Sequence[Path]) -> int:
    from latentdd_plugin.core.errors import ArtifactError
    from latentdd_plugin.leaderboard import registry
    from latentdd_plugin.results.formatting import count

    failed, numbers = 0, 0
    for path in paths:
        try:
            numbers += len(registry.load_literature(path).numbers)
        except ArtifactError as error:
            failed += 1
            sys.stderr.write("".join(f"dd-bench: {path}: {fault}\n" for fault in error.faults))
    sys.stdout.write(f"{count(len(paths), 'file')}, {count(numbers, 'number')}, {failed} with faults\n")
    return 1 if failed else 0


def _list(paths: Sequence[Path], dataset: str | None, ipc: int | None) -> int:
    from latentdd_plugin.leaderboard import literature, registry

    groups = literature.by_dataset([registry.load_literature(path) for path in paths])
    for name, members in groups.items():
        kept = [
            one for one in members if dataset in (None, one.number.dataset) and (ipc is None or one.number.ipc == ipc)
        ]
        if kept:
            sys.stdout.write(f"{name}\n{_table(kept)}\n")
    return 0


def _table(members: Sequence[Reported]) -> str:
    from latentdd_plugin.results.formatting import text_table

    head = ["  method", "accuracy", "budget", "architecture", "labels", "by", "source"]
    rows = [
        [
            f"  {one.number.method}",
            one.number.accuracy_text,
            one.number.budget_text,
            one.number.evaluator or "-",
            one.number.labels or "-",
            one.number.reported_by or "-",
            one.source.link + (", flagged" if one.number.flag else ""),
        ]
        for one in members
    ]
    return "".join(f"{line}\n" for line in text_table([head, *rows], align="<>>"))
