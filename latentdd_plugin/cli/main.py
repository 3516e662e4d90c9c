"""`dd-bench`: finds the command by its first word, imports that command alone, and turns errors into exit codes.

A command is a module with `add_arguments(parser)` and `execute(args) -> int`, and one line in `COMMANDS`.
`args.command_line` holds what was typed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import sys
from collections.abc import Sequence

from latentdd_plugin.cli.streams import BROKEN_PIPE, accept_any_text, drop_output
from latentdd_plugin.core.cache import prepare_caches
from latentdd_plugin.core.errors import DDBenchError, UsageError
from latentdd_plugin.core.storage import is_disk_fault, write_fault
from latentdd_plugin.core.version import __version__

COMMANDS = {
    "run": ("latentdd_plugin.cli.run", "distil a dataset with one codec and one distiller, and score the result"),
    "estimate": ("latentdd_plugin.cli.estimate", "print what a run would cost, in time, memory and disk"),
    "compare": ("latentdd_plugin.cli.compare", "compare codecs, distillers and precisions at one budget"),
    "evaluate": ("latentdd_plugin.cli.evaluate", "score an artifact under any protocol and architectures"),
    "results": ("latentdd_plugin.cli.results", "print every result under a folder as csv, Markdown or LaTeX"),
    "import": ("latentdd_plugin.cli.importing", "read another project's distilled set as an artifact"),
    "export": ("latentdd_plugin.cli.exporting", "write an artifact as another project's files"),
    "leaderboard": ("latentdd_plugin.cli.leaderboard", "build the leaderboard, a static site, from a registry"),
    "literature": ("latentdd_plugin.cli.literature", "list and check the numbers that papers report"),
    "codec": ("latentdd_plugin.cli.codec", "train a small autoencoder"),
    "teacher": ("latentdd_plugin.cli.teacher", "train a classifier that labels samples, or convert one"),
    "zoo": ("latentdd_plugin.cli.zoo", "list, show, get and publish distilled sets by name"),
    "suite": ("latentdd_plugin.cli.suite", "list, show and run versioned grids of runs"),
    "submit": ("latentdd_plugin.cli.submit", "check a run against its suite and write it into the registry"),
    "verify": ("latentdd_plugin.cli.verify", "recompute what a run or a submission claims"),
    "check": (
        "latentdd_plugin.cli.check",
        "test a codec, distiller or evaluator against its contracts; measure its card",
    ),
    "new": ("latentdd_plugin.cli.new", "write an installable package with a codec, a distiller or an evaluator"),
    "list": ("latentdd_plugin.cli.listing", "show the codecs, distillers, evaluators and datasets that are installed"),
}
LIGHT = ("list", "new", "submit", "leaderboard", "literature", "results")  # commands that read and write no cache
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return the exit code.

    0: done; 1: failed; 2: bad usage or configuration; 130: interrupted; 141: the reader of the output went away.
    """
    if argv is None:  # this process is ours alone
        sys.path[:] = [place for place in sys.path if place]  # "" is the working folder, as `python -c` adds it
    accept_any_text()
    try:
        try:
            return _guarded(list(sys.argv[1:] if argv is None else argv))
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        drop_output()
        return BROKEN_PIPE


def _guarded(words: list[str]) -> int:
    """Run one command line; errors become messages and exit codes."""
    try:
        return _dispatch(words)
    except DDBenchError as error:
        _complain(_once(error))
        return error.exit_code
    except OSError as error:
        if not is_disk_fault(error):
            raise
        fault = write_fault(error.filename or "a file", error)
        _complain(str(fault))
        return fault.exit_code
    except KeyboardInterrupt as interrupt:
        _complain(str(interrupt) or "interrupted")
        return INTERRUPTED


def _dispatch(words: list[str]) -> int:
    first = words[0] if words else "--help"
    if first in ("-h", "--help"):
        sys.stdout.write(usage())
        return 0 if words else 2
    if first in ("-V", "--version"):
        sys.stdout.write(f"dd-bench {__version__}\n")
        return 0
    if first not in COMMANDS:
        import difflib

        close = difflib.get_close_matches(first, COMMANDS, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        _complain(f"unknown command {first!r}{hint}; there are: {', '.join(COMMANDS)}")
        return 2
    module = importlib.import_module(COMMANDS[first][0])
    parser = parser_of(first)
    args = parser.parse_intermixed_args(words[1:])
    args.command_line = shlex.join(["dd-bench", *words])
    os.environ["PYTHONSAFEPATH"] = "1"  # for child processes: the working folder is not importable in them either
    if first not in LIGHT:
        prepare_caches()
    if first != "run" and os.environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError(f"dd-bench {first} runs in one process; only dd-bench run is shared among several")
    try:
        return int(module.execute(args))
    except KeyboardInterrupt as interrupt:
        again = f"interrupted; what was finished is kept, the same command goes on from there: {args.command_line}"
        raise KeyboardInterrupt(str(interrupt) or again) from None


def parser_of(command: str) -> argparse.ArgumentParser:
    """Return the parser of a command."""
    module = importlib.import_module(COMMANDS[command][0])
    parser = argparse.ArgumentParser(
        prog=f"dd-bench {command}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    return parser


def usage() -> str:
    """Return the text of `dd-bench --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: dd-bench COMMAND …",
            "",
            "Dataset distillation in latent space: any codec, any distiller, one honest byte budget.",
            "",
            *lines,
            "",
            "dd-bench COMMAND --help shows a command's options; dd-bench --version the version.",
            "",
        ]
    )


def _once(error: DDBenchError) -> str:
    """Return the error's text, or nothing if another process of the run has written one already."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return str(error)
    from latentdd_plugin.core.processes import complaint

    return complaint(error)


def _complain(text: str) -> None:
    for line in text.splitlines():
        sys.stderr.write(f"dd-bench: {line}\n")
