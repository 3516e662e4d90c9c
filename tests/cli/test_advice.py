"""Messages name only options that the commands which show them have."""

import argparse
import ast
import importlib
import re
from pathlib import Path

import pytest

from latentdd_plugin.cli.main import COMMANDS

PACKAGE = Path(__file__).parents[2] / "latentdd_plugin"
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
OTHER_TOOLS = {"--include", "--porcelain", "--dd-bench", "--version", "--help"}  # of hf, git, pytest; of dd-bench alone
SHOWN_BY = {  # file or folder -> the commands whose users read its messages
    "artifacts/formats": ("import",),
    "artifacts/exchange.py": ("import",),
    "artifacts/imported.py": ("run", "import"),
    "artifacts/artifact.py": ("evaluate", "export"),
    "cli/check.py": ("check",),
    "cli/codec.py": ("codec",),
    "cli/compare.py": ("compare",),
    "cli/evaluate.py": ("evaluate",),
    "cli/exporting.py": ("export",),
    "cli/importing.py": ("import",),
    "cli/new.py": ("new", "run"),
    "cli/run.py": ("run",),
    "cli/suite.py": ("run", "suite", "submit"),
    "cli/verify.py": ("verify",),
    "codecs/tiny_vae.py": ("codec",),
    "core/monitor.py": ("run", "compare", "suite"),
    "data": ("run", "compare", "evaluate", "check", "codec", "import", "export", "suite", "verify"),
    "experiments/codec_training": ("codec",),
    "experiments/evaluate.py": ("evaluate",),
    "experiments/run_folder.py": ("run", "compare", "suite", "evaluate", "codec"),
    "leaderboard/static_check.py": ("verify",),
    "leaderboard/recompute.py": ("verify",),
    "leaderboard/site.py": ("leaderboard",),
    "leaderboard/submit.py": ("submit",),
}


NAME_ANOTHER = ("artifacts/imported.py", "cli/new.py", "cli/suite.py")  # their messages hold commands of others


def options(command):
    parser = argparse.ArgumentParser()
    importlib.import_module(COMMANDS[command][0]).add_arguments(parser)
    return {option for action in parser._actions for option in action.option_strings}


@pytest.fixture(scope="module")
def known():
    return {command: options(command) for command in COMMANDS}


def advice():
    """(file, line, flag) of each option that a string of the package names, docstrings left out."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        owners = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
        docs = {id(node.body[0].value) for node in owners if node.body and isinstance(node.body[0], ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                for flag in FLAG.findall(node.value):
                    yield path.relative_to(PACKAGE).as_posix(), node.lineno, flag


def test_every_option_in_a_message_is_one_of_the_commands_that_show_it(known):
    anywhere = set().union(*known.values()) | OTHER_TOOLS
    stray = []
    for path, line, flag in advice():
        commands = next((found for place, found in SHOWN_BY.items() if path.startswith(place)), ())
        wrong = [command for command in commands if flag not in known[command] | OTHER_TOOLS]
        if path in NAME_ANOTHER:
            wrong = wrong if len(wrong) == len(commands) else []
        if flag not in anywhere or wrong:
            stray.append(f"{path}:{line}: {flag} ({', '.join(wrong) or 'no command'} does not have it)")
    assert not stray, "\n".join(stray)


def test_every_option_in_a_commands_help_is_its_own_or_another_commands(known):
    anywhere = set().union(*known.values()) | OTHER_TOOLS
    for command, (module, _) in COMMANDS.items():
        text = importlib.import_module(module).__doc__
        for line in text.splitlines():
            named = re.search(r"dd-bench (\w+)", line)
            own = known[named[1]] if named and named[1] in known else anywhere
            assert set(FLAG.findall(line)) <= own | OTHER_TOOLS, (command, line)
