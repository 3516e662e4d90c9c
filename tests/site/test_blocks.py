"""Every command and Python block of the pages that teach: checked in the fast tests, run in the slow ones."""

from pathlib import Path

import children
import doc_blocks
import fresh
import pytest
from fake_hub import FakeHub

from latentdd_plugin.cli import compare, main, overrides

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs" / "start").glob("*.md")),
    *sorted((ROOT / "docs/guides").glob("*.md")),
]
IDS = [path.stem for path in PAGES]
RUN = ("console", "python")
OTHERS = ("text", "json", "toml")
LONGEST_S = 3600  # of one command, on a busy machine


def option_faults(words):
    """Return what is wrong with a command's options."""
    command = words[0]
    assert command in main.COMMANDS, command
    args = main.parser_of(command).parse_intermixed_args(words[1:])
    if command == "compare":
        compare.grid_of(args)
    elif command in ("run", "estimate", "evaluate", "teacher"):
        return overrides.checked(
            overrides.from_flags(args, sweep=getattr(args, "multirun", False)), sweep=getattr(args, "multirun", False)
        )[1]
    return []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_block_is_a_command_line_that_exists_or_python_that_compiles(page):
    assert "\n\n    " not in doc_blocks.outside(page), "an indented block: nothing runs it, so fence it"
    for block in doc_blocks.read(page):
        where = f"{page.name}:{block.line}"
        assert block.kind in (*RUN, *OTHERS), where
        assert block.reason != "", where
        if block.kind == "python":
            compile(block.text, where, "exec")
        if block.kind == "console":
            assert block.text.startswith("$ "), where
            for command, _ in doc_blocks.steps(block):
                words = doc_blocks.words_of(command)
                assert words is None or option_faults(words) == [], f"{where}: {command}"


def test_small_options_stand_before_a_lines_comment(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- small: --steps 2 -->\n```console\n$ dd-bench run \\\n  --lpc 1   # a 'comment'\nseen\n$ ls # all\n```\n"
    )
    (block,) = doc_blocks.read(page)
    assert doc_blocks.steps(block) == [("dd-bench run --lpc 1 --steps 2", ["seen"]), ("ls", [])]


# --- run --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Variables of an environment of its own with one cache, and a hub of this machine."""
    folder, hub = tmp_path_factory.mktemp("pages"), FakeHub()
    variables = fresh.environment(folder / "environment")
    variables |= {"DD_BENCH_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT / "tests"), "CHECKOUT": str(ROOT)}
    variables |= {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(folder / "hub"), "HF_TOKEN": "hf_of_this_machine"}
    yield variables
    hub.close()


class Page:
    """A folder in which a page's blocks run one after another."""

    def __init__(self, folder, variables):
        self.folder, self.variables = folder, variables
        self.packages = next(Path(variables["VIRTUAL_ENV"]).glob("lib/python*/site-packages"))

    def run(self, kind, content):
        """Run in a forked child; return the exit code and what was printed."""
        log = self.folder / ".log"
        words = (kind, content, str(self.folder), str(log), self.variables, str(self.packages))
        code = children.ended(children.start(doc_blocks.run, *words), LONGEST_S)
        return code, log.read_text()

    def command(self, line):
        """Run one line of a console block."""
        words = doc_blocks.words_of(line)
        return fresh.shell(line, self.folder, self.variables) if words is None else self.run("dd-bench", words)

    def block(self, block):
        """Run a block, or write the file that it is."""
        for line in block.before:
            code, printed = self.command(line)
            assert code == 0, f"{line}\n{printed}"
        path = self.folder / (block.title or ".block.py")
        if block.title or block.kind == "python":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        if block.title:
            return
        if block.kind == "python":
            code, printed = self.run("python", str(path))
            assert code == 0, f"{block.text}\n{printed}"
            return
        for line, shown in doc_blocks.steps(block):
            code, printed = self.command(line)
            assert code == 0, f"{line}\n{printed}"
            for expected in shown:
                assert expected in printed, f"{line}\n{printed}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_blocks_of_a_page_run_in_their_order(page, environment, tmp_path):
    there = Page(tmp_path, environment)
    for block in doc_blocks.read(page):
        if block.reason is None and (block.title or block.kind in RUN):
            there.block(block)
