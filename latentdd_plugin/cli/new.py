"""Write a small installable package: one source file that works, its entry point, and a test that runs the contracts.

  dd-bench new codec my-codec
  dd-bench new algo my-algo --dir ~/work
  dd-bench new evaluator my-evaluator

For a first try no package is needed: `dd-bench run --codec ./my_codec.py:MyCodec` takes a file as it is.
"""

from __future__ import annotations

import argparse
import importlib.util
import keyword
import re
import sys
from importlib import resources
from pathlib import Path
from string import Template

from latentdd_plugin.cli.names import kind_of
from latentdd_plugin.core import plugins
from latentdd_plugin.core.errors import RunFailed, UsageError

KINDS = {  # words of the templates
    "codec": {"what": "A codec", "flag": "codec", "listed": "codecs", "more": " --algo dm"},
    "algo": {"what": "A distiller", "flag": "algo", "listed": "algos", "more": " --codec dct"},
    "evaluator": {"what": "An evaluator", "flag": "evaluator", "listed": "evaluators", "more": ""},
}
SUITES = {
    "codec": ("CODEC_CONTRACTS", "CodecSubject"),
    "algo": ("DISTILLER_CONTRACTS", "DistillerSubject"),
    "evaluator": ("EVALUATOR_CONTRACTS", "EvaluatorSubject"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `dd-bench new`."""
    parser.add_argument("kind", type=kind_of, choices=tuple(KINDS), help="kind of plug-in")
    parser.add_argument("name", metavar="NAME", help="its name, for example my-codec")
    parser.add_argument("--dir", metavar="D", type=Path, default=Path(), help="where its folder goes (default here)")


def execute(args: argparse.Namespace) -> int:
    """Write the package and print what to do with it."""
    faults = faults_of(args.kind, args.name)
    folder: Path = args.dir.expanduser() / args.name
    if folder.exists():
        faults.append(f"{folder} exists: choose another name, or another --dir")
    if faults:
        raise UsageError(faults)
    try:
        for path, text in package(args.kind, args.name).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunFailed(f"cannot write {folder}: {error.strerror}") from error
    source = folder / f"{module_of(args.name)}.py"
    sys.stdout.write(
        f"{source}    holds the code to change\n\n"
        f"pip install -e {folder}\n"
        f"pytest {folder}\n"
        f"dd-bench run --{KINDS[args.kind]['flag']} {args.name}\n"
    )
    return 0


def faults_of(kind: str, name: str) -> list[str]:
    """Return why this cannot be the name of a new package."""
    module = module_of(name)
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(module):
        return [f"{name!r}: a name is made of lower-case letters, digits and single dashes, for example my-{kind}"]
    known = plugins.entries(KINDS[kind]["listed"])
    if name in known:
        return [f"{kind} {name!r} is taken by {known[name].distribution}; choose another name"]
    if importlib.util.find_spec(module) is not None:
        return [f"there is a module {module!r} already, which the package would hide; choose another name"]
    return []


def module_of(name: str) -> str:
    """Return the name as a module's."""
    return name.replace("-", "_")


def package(kind: str, name: str) -> dict[str, str]:
    """Return the package's files: path to text."""
    module = module_of(name)
    contracts, subject = SUITES[kind]
    words = {
        **KINDS[kind],
        "name": name,
        "module": module,
        "cls": "".join(part.capitalize() for part in name.split("-")),
        "group": plugins.GROUPS[KINDS[kind]["listed"]],
        "contracts": contracts,
        "subject": subject,
    }
    files = {
        "pyproject.toml": "pyproject.toml.in",
        "README.md": "README.md.in",
        f"{module}.py": f"{kind}.py.in",
        f"test_{module}.py": "test.py.in",
    }
    folder = resources.files("latentdd_plugin.cli") / "templates" / "new"
    return {
        path: Template((folder / template).read_text(encoding="utf-8")).substitute(words)
        for path, template in files.items()
    }
