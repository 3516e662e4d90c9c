"""Adds to the site what the package makes: commands, changelog, bundled weights, tables, the papers' questions."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jinja2 import Template
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation

from latentdd_plugin.cli.main import COMMANDS, parser_of
from latentdd_plugin.cli.suite import page as suite_page
from latentdd_plugin.core.version import __version__
from latentdd_plugin.experiments import suites
from latentdd_plugin.leaderboard.site import SUMS, build

ROOT = Path(__file__).parents[1]
LEADERBOARD = "leaderboard"
CLI = "# Command line\n\nWritten by the commands' own parsers; `dd-bench COMMAND --help` shows the same.\n"
QUESTIONS = "latentdd-questions.v1"
MARK = '<nav class="site">'  # the head goes above it
TABS: list[tuple[str, str]] = []  # title and first page of each section


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
        "changelog.md": (ROOT / "CHANGELOG.md").read_text().replace("](docs/", "]("),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    with TemporaryDirectory() as folder:
        plots = Path(folder) / "paper-questions"
        plots.mkdir()
        text = suite_page(suites.get(QUESTIONS), ROOT / "docs/records" / QUESTIONS, plots)
        files.append(File.generated(config, "paper-questions.md", content=text))
        for path in sorted(plots.iterdir()):
            files.append(File.generated(config, f"{plots.name}/{path.name}", content=path.read_bytes()))
        site = Path(folder) / LEADERBOARD
        build(ROOT / "registry", site)
        for path in sorted(site.rglob("*")):
            if path.is_file() and path.name != SUMS:
                name = path.relative_to(folder).as_posix()
                files.append(File.generated(config, name, content=path.read_bytes()))
    return files


def on_nav(nav: Navigation, config: Any, files: Files) -> Navigation:
    """Remember the sections, for the head of the tables' pages."""
    TABS[:] = [(str(item.title), first(item).url) for item in nav.items]
    return nav


def first(item: Any) -> Any:
    """Return the first page of a section, or the page itself."""
    return first(item.children[0]) if item.children else item


def on_post_build(config: Any) -> None:
    """Give the tables' pages the head of the others."""
    folder = Path(config.site_dir) / LEADERBOARD
    head = Template((ROOT / "docs/tables_head.html").read_text(), autoescape=True, trim_blocks=True)
    for path in folder.rglob("*.html"):
        up = "../" * len(path.relative_to(folder).parts)
        top = head.render(up=up, name=config.site_name, tabs=TABS)
        path.write_text(path.read_text().replace(MARK, top + MARK, 1))


def command_page(command: str) -> str:
    """Return the section of one command: its description, usage and arguments."""
    parser = parser_of(command)
    text = "".join(prose(parser.description or "")) + "".join(prose(parser.epilog or ""))
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=96)
    usage = parser.format_usage().removeprefix("usage: ").replace("\n       ", "\n").strip()
    rows = "".join(
        f"| {' '.join(f'`{word}`' for word in words(action))} | {escape(action.help or '')} |\n"
        for action in parser._actions
        if action.help != argparse.SUPPRESS and action.dest != "help"
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
