"""Build the leaderboard, a static site, from a registry of submissions and codec cards.

  dd-bench leaderboard                                   # the checkout's registry, into ./site
  dd-bench leaderboard --registry my/registry --out public

The pages need no server and no network: open site/index.html. The same registry gives the same bytes. A file of the
registry that cannot be used is named here and on the site's first page; the rest is shown.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `dd-bench leaderboard`."""
    parser.add_argument(
        "--registry",
        metavar="DIR",
        help="folder of submissions and cards (default: the checkout's, ./registry, or the installed codec cards)",
    )
    parser.add_argument("--out", metavar="DIR", default="site", help="folder to write (default site)")


def execute(args: argparse.Namespace) -> int:
    """Build the site; what is not shown is named on stderr."""
    from latentdd_plugin.leaderboard import registry
    from latentdd_plugin.leaderboard.site import build
    from latentdd_plugin.results.formatting import count

    folder = Path(args.registry) if args.registry else registry.default(reading=True)
    site = build(folder, Path(args.out))
    for fault in site.faults:
        sys.stderr.write("".join(f"dd-bench: not shown: {fault.file}: {reason}\n" for reason in fault.reasons))
    found = f"{count(site.submissions, 'submission')}, {count(site.cards, 'codec card')}"
    if not args.registry and not site.submissions:
        sys.stderr.write(
            f"dd-bench: {folder} holds no submissions; --registry FOLDER shows those of another registry\n"
        )
    sys.stdout.write(f"{found}\n{site.folder / 'index.html'}\n")
    return 0
