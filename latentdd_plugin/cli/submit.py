"""Check a finished run against its suite and write it into the registry as a submission.

  dd-bench submit runs/cpu-digits.v1/digits-ipc1/cells/dct-dm-code-int8-bytes --name "A. Person" --contact a@example.org

A run made without `dd-bench suite` can be submitted too, if it meets a suite's conditions: dataset, bytes per class,
protocol, evaluators and seed (dd-bench suite show NAME). Codec and distiller are free. It reports all faults together.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `dd-bench submit`."""
    parser.add_argument("run", metavar="RUN_DIR", type=Path, help="the folder of a finished run")
    parser.add_argument("--name", metavar="X", required=True, help="your name, as the page shows it")
    parser.add_argument("--contact", metavar="X", required=True, help="your e-mail address or URL")
    parser.add_argument("--code", metavar="URL", help="address of the method's code")
    parser.add_argument("--paper", metavar="URL", help="address of the paper")
    parser.add_argument("--notes", metavar="X", help="anything a reader should know")
    parser.add_argument("--url", metavar="URL", help="address of the artifact; needed above 2 MB")
    parser.add_argument(
        "--suite", metavar="NAME", help="suite to submit to (default: the one whose conditions the run meets)"
    )
    parser.add_argument("--registry", metavar="DIR", type=Path, help="default: the checkout's, else ./registry")
    parser.add_argument(
        "--allow-plugin", metavar="DIST", action="append", default=[], help="distribution that provides the run's codec"
    )


def execute(args: argparse.Namespace) -> int:
    """Write the submission and print how to hand it in."""
    from latentdd_plugin.leaderboard import registry
    from latentdd_plugin.leaderboard.submit import Submitter, submit

    who = Submitter(args.name, args.contact, args.code, args.paper, args.notes, args.url)
    into = args.registry or registry.default()
    paths = submit(args.run, who, into=into, suite=args.suite, allow_plugins=args.allow_plugin)
    sys.stdout.write("".join(f"{path}\n" for path in paths))
    sys.stdout.write(
        f"\nCheck it as others will:  dd-bench verify {paths[0]}\n"
        "Hand it in: commit these files on a branch of a fork of the project, and open a pull request. Its check runs\n"
        "dd-bench verify --all --level static; a maintainer trains it again.\n"
    )
    return 0
