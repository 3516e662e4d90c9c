"""Print every result under a folder: as data, or as a table for a paper.

  dd-bench results runs --format csv > results.csv        # a line per trained network, baselines too
  dd-bench results runs/my-comparison --format md
  dd-bench results runs --format latex > table.tex        # needs the package booktabs

From Python: latentdd_plugin.results_frame("runs") is the same as a pandas data frame.
"""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folder and the format."""
    from latentdd_plugin.results.frame import FORMATS

    parser.add_argument("folder", metavar="FOLDER", help="a run, a comparison, or any folder above them")
    parser.add_argument("--format", choices=FORMATS, default="md", help="csv, md or latex (default md)")


def execute(args: argparse.Namespace) -> int:
    """Print them."""
    from latentdd_plugin.cli.logs import start_logging
    from latentdd_plugin.results.frame import results_text

    start_logging(quiet=False)
    sys.stdout.write(results_text(args.folder, args.format))
    return 0
