"""Adds to the site what is made from the package: the command line, the changelog, the bundled weights, the tables."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mkdocs.structure.files import File, Files

from latentdd_plugin.cli.main import COMMANDS, parser_of
from latentdd_plugin.core.version import __version__
from latentdd_plugin.leaderboard.site import build

ROOT = Path(__file__).parents[1]
LEADERBOARD = "leaderboard"
CLI = "# Command line\n\nWritten by the commands' own parsers; `dd-bench COMMAND --help` shows the same.\n"


def on_config(config: Any) -> Any:
    """Show the version in the footer."""
    config.copyright = f"latentdd-plugin {__version__}, {config.copyright}"
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages and every file of the leaderboard."""
    weights = ROOT / "latentdd_plugin/codecs/weights/README.md"
    pages = {
        "reference/cli.md": CLI + "".join(map(command_page, COMMANDS)),
        "reference/bundled-weights.md": weights.read_text(),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    with TemporaryDirectory() as folder:
        site = Path(folder) / LEADERBOARD
        build(ROOT / "registry", site)
        for path in sorted(site.rglob("*")):
            if path.is_file():
                name = path.relative_to(folder).as_posix()
                files.append(File.generated(config, name, content=path.read_bytes()))
    return files


def command_page(command: str) -> str:
    """Return the section of one command: its description, usage and arguments."""
    parser = parser_of(command)
    text = "".join(prose(parser.description or "")) + "".join(prose(parser.epilog or ""))
    usage = re.sub(r"\s+", " ", parser.format_usage()).removeprefix("usage: ").strip()
    rows = "".join(
        f"| {' '.join(f'`{word}`' for word in words(action))} | {escape(action.help or '')} |\n"
        for action in parser._actions
        if action.help != argparse.SUPPRESS
    )
    return f"\n## dd-bench {command}\n\n{text}```text\n{usage}\n```\n\n| argument | meaning |\n|---|---|\n{rows}"


def words(action: argparse.Action) -> Iterator[str]:
    """Yield the spellings of an argument, its value with the last one."""
    value = action.metavar or ("" if action.nargs == 0 else "|".join(action.choices or (action.dest,)))
    if action.option_strings:
        *others, last = action.option_strings
        yield from others
        yield f"{last} {value}".strip()
    else:
        yield str(value)


def prose(text: str) -> Iterator[str]:
    """Yield the paragraphs of a parser's description; indented ones are code."""
    for part in re.split(r"\n\s*\n", text.strip("\n")):
        if part.startswith("  "):
            yield f"```text\n{part}\n```\n\n"
        elif part:
            yield f"{escape(part)}\n\n"


def escape(text: str) -> str:
    """Return text without meaning to Markdown."""
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", text.replace("%%", "%"))
