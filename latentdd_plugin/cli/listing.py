"""List what is installed under which name, where it comes from and what is missing to use it.

Only metadata is read. With --check every entry is imported, and what fails is shown.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from latentdd_plugin.cli.names import group_of
from latentdd_plugin.core import plugins
from latentdd_plugin.core.errors import PluginError

if TYPE_CHECKING:
    from latentdd_plugin.core.plugins import Entry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the group, and the choice to import."""
    groups = tuple(plugins.GROUPS)
    parser.add_argument("group", nargs="?", type=group_of, choices=groups, help="which kind of plug-in (default all)")
    parser.add_argument("--check", action="store_true", help="import each entry and show what fails")


def execute(args: argparse.Namespace) -> int:
    """Print a table per group; the reason of what fails stands under it, and the command succeeds all the same."""
    groups = [args.group] if args.group else list(plugins.GROUPS)
    sys.stdout.write("\n".join(_table(group, check=args.check, titled=not args.group) for group in groups))
    for problem in plugins.problems():
        sys.stderr.write(f"dd-bench: ignored: {problem}\n")
    return 0


def _table(group: str, *, check: bool, titled: bool) -> str:
    found = plugins.entries(group)
    rows = [(group if titled else "name", "from", "missing")]
    rows += [(e.name, _origin(e), missing(e) or "-") for e in found.values()]
    faults = {name: fault for name in found if (fault := failure(group, name))} if check else {}
    checks = ["check", *("fails" if name in faults else "ok" for name in found)]
    lines = [_aligned([(*row, mark) for row, mark in zip(rows, checks, strict=True)] if check else rows)]
    if group == "evaluators":
        lines.append("\nAny timm architecture is an evaluator too: resnet18, vit_tiny_patch16_224, …\n")
    return "".join([*lines, *(f"\n{fault}\n" for fault in faults.values())])


def _origin(entry: Entry) -> str:
    return ", ".join(f"{e.distribution} {e.version}" for e in (entry, *entry.rivals))


def missing(entry: Entry) -> str:
    """Return what is missing to use an entry, as far as metadata tells; empty if nothing is."""
    found = []
    if entry.rivals:
        found.append(f"claimed twice ({'; '.join(e.target for e in (entry, *entry.rivals))}): uninstall one")
    for extra in entry.extras:
        if extra == plugins.WEIGHTS:
            found.append("weights: from the hub, or codec.path=FOLDER")
        elif absent := absent_requirements(entry.distribution, extra):
            found.append(f"{', '.join(absent)}: pip install '{entry.distribution}[{extra}]'")
    return "; ".join(found)


def absent_requirements(distribution: str, extra: str) -> list[str]:
    """Return the requirements of a distribution's extra that are not installed, or not in the required version."""
    from packaging.requirements import InvalidRequirement, Requirement

    absent = []
    for text in _requirements(distribution):
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}) or not marker.evaluate({"extra": extra}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            absent.append(requirement.name)
        else:
            if not requirement.specifier.contains(version, prereleases=True):
                absent.append(f"{requirement.name}{requirement.specifier}")
    return absent


def _requirements(distribution: str) -> list[str]:
    try:
        return importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:  # metadata without a name
        return []


def failure(group: str, name: str) -> str | None:
    """Import an entry and return why it cannot be used; None if it can."""
    try:
        if group == "datasets":  # functions; the other groups hold classes
            loaded = plugins.load(group, name)
            return None if callable(loaded) else f"dataset {plugins.find(group, name)}: must be a function"
        plugins.resolve(group, name, base=base_of(group))
    except PluginError as error:
        return str(error)
    return None


def base_of(group: str) -> type:
    """Return the class that a group's entries derive from. Imports torch."""
    from latentdd_plugin.codecs.base import Codec
    from latentdd_plugin.distillers.base import Distiller
    from latentdd_plugin.evaluators.base import Evaluator

    bases: dict[str, type] = {"codecs": Codec, "algos": Distiller, "evaluators": Evaluator}
    return bases[group]


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines) + "\n"
