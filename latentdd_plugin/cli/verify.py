"""Recompute what a run or a submission claims, and keep what was found beside it.

  dd-bench verify runs/digits-dct-dm-0123abcd
  dd-bench verify registry/submissions/SUITE/SLUG.json dataset.path=my/cifar10 codec.path=my/taesd
  dd-bench verify --all --level static

static   forms, suite, protocol, seeds, hashes, every byte of the artifact, and every statement that is made twice
full     also decodes the artifact and trains every network again, the baselines' too: on the same platform (torch,
         processor's capability, threads, precision) each accuracy must come out to the bit; elsewhere the means of at
         least five networks and the gains, within a cap, and the recomputed mean is what the leaderboard ranks
repeat   also distils again (distillers of this package): the artifact must come out to the bit on the same platform

Nothing is fetched, and no code that a submission names is run: you give its data and weights (dataset.path, codec.path;
with --all dataset.<name>.path, codec.<name>.path), and a third party's codec needs --allow-plugin. Exit code 1: a claim
failed; 2: a claim could not be checked from here.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentdd_plugin.core.errors import DDBenchError, UsageError

if TYPE_CHECKING:
    from latentdd_plugin.leaderboard.recompute import VerifyInputs
    from latentdd_plugin.leaderboard.records import Check

log = logging.getLogger(__name__)
LEVELS = ("static", "full", "repeat")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `dd-bench verify`."""
    parser.add_argument("words", nargs="*", metavar="RUN_DIR|FILE key=value", help="what to check; where things lie")
    parser.add_argument("--all", action="store_true", help="every submission of the registry")
    parser.add_argument("--level", metavar="X", default="full", choices=LEVELS, help="static, full (default) or repeat")
    parser.add_argument("--registry", metavar="DIR", type=Path, help="of --all (default: the checkout's, else here)")
    parser.add_argument("--artifact", metavar="FILE", type=Path, help="of a submission whose artifact lies at a URL")
    parser.add_argument(
        "--teacher", metavar="FOLDER", help="the claim's teacher (default: it is trained again by its recipe)"
    )
    parser.add_argument(
        "--allow-plugin", metavar="DIST", action="append", default=[], help="a distribution whose entries it may name"
    )
    parser.add_argument(
        "--extra-seeds", metavar="N", type=int, default=0, help="networks under so many seeds that the claim lacks"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress, no log lines; the outcome only")


def execute(args: argparse.Namespace) -> int:
    """Check one claim or all of them, a paragraph each; 1 if one failed, 2 if one could not be checked from here."""
    from latentdd_plugin.cli.logs import start_logging
    from latentdd_plugin.leaderboard.verify import verify

    start_logging(quiet=args.quiet)
    paths, inputs = parse_request(args)
    codes = [0]
    for path in paths:
        try:
            check = verify(path, args.level, inputs, progress=not args.quiet and sys.stderr.isatty())
        except DDBenchError as error:
            if not args.all:
                raise
            codes.append(2)
            sys.stdout.write(f"{path}: not checked\n" + "".join(f"  {line}\n" for line in str(error).splitlines()))
            continue
        except Exception as error:
            if not args.all:
                raise
            log.error("%s", traceback.format_exc())
            codes.append(2)
            sys.stdout.write(f"{path}: not checked\n  {type(error).__name__}: {error}; please report it\n")
            continue
        codes.append(int(check.result == "failed"))
        sys.stdout.write(f"{path}: {format_check(check)}")
        sys.stdout.flush()
    return 1 if 1 in codes else max(codes)


def format_check(check: Check) -> str:
    """Return the outcome of a check as text."""
    from latentdd_plugin.leaderboard import registry
    from latentdd_plugin.leaderboard.records import VERIFIED

    why = "".join(f"  {line}\n" for line in (*check.why, *(check.notes or ())))
    if check.level == "static":
        return f"{registry.PASSED if check.result == VERIFIED else check.result}\n{why}"
    claimed = [row for row in check.rows if row.claimed is not None]
    exact = sum(row.claimed == row.found for row in claimed)
    where = "" if check.same_platform is None else f", {'the same' if check.same_platform else 'another'} platform"
    rows = f" ({exact} of {len(claimed)} accuracies to the bit{where})" if claimed else ""
    again = "; distilled again" if check.level == "repeat" else ""
    return f"{check.result}{rows}{again}\n{why}"


def parse_request(args: argparse.Namespace) -> tuple[list[Path], VerifyInputs]:
    """Return the claims to check, and the caller's inputs; raise UsageError with every fault seen in them."""
    from latentdd_plugin.leaderboard import registry, static_check
    from latentdd_plugin.leaderboard.recompute import VerifyInputs

    paths = [Path(word) for word in args.words if "=" not in word or Path(word).exists()]
    words = [word for word in args.words if Path(word) not in paths]
    faults = [f"{path}: there is no such file or folder" for path in paths if not path.exists()]
    if args.all:
        folder = args.registry or registry.default()
        faults += ["--all checks the registry: give no path beside it"] if paths else []
        faults += [] if folder.is_dir() else [f"{folder} is not a folder; give the registry's with --registry"]
        paths = static_check.all_in(folder) if folder.is_dir() else []
    elif not paths:
        faults.append("name the folder of a run or the file of a submission, or give --all")
    if args.extra_seeds < 0:
        faults.append(f"--extra-seeds {args.extra_seeds}: must be at least 0")
    datasets, codecs, more = places(words)
    if faults or more:
        raise UsageError([*faults, *more])
    allowed = tuple(args.allow_plugin)
    return paths, VerifyInputs(datasets, codecs, allowed, args.artifact, args.teacher, args.extra_seeds)


def places(words: Sequence[str]) -> tuple[dict[str, str], dict[str, dict[str, Any]], list[str]]:
    """Return the places of datasets and of codecs' weights, by name, "" for any; and a fault for each other word."""
    datasets: dict[str, str] = {}
    codecs: dict[str, dict[str, Any]] = {}
    faults = []
    for word in words:
        key, _, value = word.partition("=")
        parts = re.fullmatch(r"(dataset|codec)\.(?:(.+)\.)?(\w+)", key)
        if parts and parts[1] == "dataset" and parts[3] == "path":
            datasets[parts[2] or ""] = value
        elif parts and parts[1] == "codec":
            codecs.setdefault(parts[2] or "", {})[parts[3]] = value
        else:
            keys = "dataset.path, dataset.<name>.path, codec.path, codec.<name>.path"
            faults.append(f"{key}: the keys are {keys}; protocol, seeds, threads and the rest are the claim's")
    return datasets, codecs, faults
