"""Commands and Python of the documentation's pages: read, checked, and run with tiny settings.

A page's comments steer it, each for the next block: `<!-- not run: REASON -->`, `<!-- before: SHELL COMMAND -->` (a
line that readers need not see), `<!-- small: OPTIONS -->` (added to each `dd-bench` and `torchrun` line).
"""

import os
import re
import runpy
import shlex
import site
import sys
from dataclasses import dataclass, replace
from pathlib import Path

FENCE = re.compile(r'^```(?P<kind>\w+)(?: title="(?P<title>\S+)")?\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)
NOTE = re.compile(r"<!-- (?P<key>not run|before|small): (?P<value>.*?) -->")
SHELL = set("|&;<>$`")
LARGEST = {
    "iterations": 3,
    "batch_real": 8,
    "batch_syn": 8,
    "experts": 1,
    "expert_epochs": 1,
    "networks": 1,
    "epochs": 1,
    "max_start_epoch": 1,
    "first_max_start_epoch": 1,
}


@dataclass(frozen=True)
class Block:
    """A fenced block, and the comments between it and the block before."""

    line: int  # of the page, counted from 1
    kind: str
    title: str | None  # of a file that the block is
    text: str
    reason: str | None  # not to run it
    before: tuple[str, ...]
    small: str


def read(page):
    """Return the blocks of a page, in order."""
    text = Path(page).read_text()
    found, end = [], 0
    for fence in FENCE.finditer(text):
        notes = [(note["key"], note["value"]) for note in NOTE.finditer(text, end, fence.start())]
        end = fence.end()
        found.append(
            Block(
                text.count("\n", 0, fence.start()) + 1,
                fence["kind"],
                fence["title"],
                fence["text"],
                next((value for key, value in notes if key == "not run"), None),
                tuple(value for key, value in notes if key == "before"),
                " ".join(value for key, value in notes if key == "small"),
            )
        )
    return found


def outside(page):
    """Return the page without its fenced blocks."""
    return FENCE.sub("", Path(page).read_text())


def steps(block):
    """Return (command with the small options, the lines that its output has to hold) of a console block."""
    found = []
    for line in re.sub(r" *\\\n *", " ", block.text).splitlines():
        if not line.startswith("$ "):
            found[-1][1].append(line.strip())
            continue
        command = re.sub(r"\s+# .*", "", line[2:])
        options = f" {block.small}" if block.small and command.startswith(("dd-bench", "torchrun")) else ""
        found.append((command + options, []))
    return found


def words_of(command):
    """Return the words of a plain `dd-bench` line, or None if a shell has to run it."""
    words = shlex.split(command, comments=True)
    return words[1:] if words[:1] == ["dd-bench"] and not SHELL & set(" ".join(words)) else None


# --- in a child process -----------------------------------------------------------------------------------------------


def make_small():
    """Patch this process: networks of one layer, three steps each, no child processes, `./registry`."""
    from latentdd_plugin.core import config, plugins
    from latentdd_plugin.core.parts import ScoringConfig, default_scoring
    from latentdd_plugin.evaluators import protocols
    from latentdd_plugin.experiments import jobs, teachers
    from latentdd_plugin.experiments.compare import run
    from latentdd_plugin.leaderboard import registry

    for recipes in (protocols.PROTOCOLS, teachers.RECIPES):
        for name, recipe in recipes.items():
            recipes[name] = replace(recipe, steps=((4096, 3),) if recipe.steps else (), epochs=1, batch=16, seeds=2)
    for name in plugins.entries("algos"):
        quick = getattr(plugins.resolve("algos", name).cls, "presets", {}).get("quick", {})
        quick.update({key: min(value, LARGEST[key]) for key, value in quick.items() if key in LARGEST})
    for module in (jobs, run):
        module.run_in_processes = lambda waiting, finished, **_: jobs.run_here(waiting, finished)
    config.default_scoring = lambda dataset: ScoringConfig(("convnet_d1",), default_scoring(dataset).protocol)
    registry.default = lambda **_: Path("registry")


def ask_hub(url):
    """Do what HF_ENDPOINT does when the hub's library is imported, which it is already."""
    from huggingface_hub import constants

    constants.ENDPOINT = url
    constants.HUGGINGFACE_CO_URL_TEMPLATE = url + "/{repo_id}/resolve/{revision}/{filename}"
    constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET = False, True
    constants.HF_HUB_CACHE = os.environ["HF_HUB_CACHE"]


def run(kind, content, folder, log, variables, packages):
    """Run a Python file, or `dd-bench` with these words, as a new process would; return the exit code.

    Args:
        kind: `python` or `dd-bench`.
        content: the file; the words.
        folder: where it runs.
        log: file for both outputs.
        variables: the environment.
        packages: folder of packages that are installed beside ours.
    """
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(target, number)
    site.addsitedir(packages)
    make_small()
    if "HF_ENDPOINT" in variables:
        ask_hub(variables["HF_ENDPOINT"])
    if kind == "python":
        sys.path.insert(0, str(folder))
        runpy.run_path(content, run_name="__main__")
        return 0
    from latentdd_plugin.cli.main import main

    sys.argv = ["dd-bench", *content]
    return main()
