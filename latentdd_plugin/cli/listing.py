"""Show what is installed under which name, where it comes from and what is missing to use it.

Only metadata is read. With --check every entry is imported, and what fails is shown.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from latentdd_plugin import plugins
from latentdd_plugin.errors import PluginError

if TYPE_CHECKING:
    from latentdd_plugin.plugins import Entry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The group, and whether to import."""
    parser.add_argument("group", choices=tuple(plugins.GROUPS), help="which kind of plug-in")
    parser.add_argument("--check", action="store_true", help="import each entry and show what fails")


def execute(args: argparse.Namespace) -> int:
    """Print the table; 1 if --check found an entry that cannot be used."""
    found = plugins.entries(args.group)
    heads = ("name", "from", "missing")
    rows = [(e.name, _origin(e), missing(e) or "-") for e in found.values()]
    faults: dict[str, str] = {}
    if args.check:
        faults = {name: fault for name in found if (fault := failure(args.group, name))}
        heads = (*heads, "check")  # type: ignore[assignment]
        rows = [(*row, "fails" if row[0] in faults else "ok") for row in rows]  # type: ignore[misc]
    sys.stdout.write(_aligned([heads, *rows]))
    if args.group == "evaluators":
        sys.stdout.write("\nAny timm architecture is an evaluator too: resnet18, vit_tiny_patch16_224, …\n")
    for fault in faults.values():
        sys.stdout.write(f"\n{fault}\n")
    for problem in plugins.problems():
        sys.stderr.write(f"dd-bench: ignored: {problem}\n")
    return 1 if faults else 0


def _origin(entry: Entry) -> str:
    return ", ".join(f"{e.distribution} {e.version}" for e in (entry, *entry.rivals))


def missing(entry: Entry) -> str:
    """What stands between this entry and its use, as far as metadata tells; empty when nothing does."""
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
    """The requirements of a distribution's extra that are not installed, or not in the version it wants."""
    from packaging.requirements import Requirement

    absent = []
    for text in importlib.metadata.requires(distribution) or []:
        requirement = Requirement(text)
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


def failure(group: str, name: str) -> str | None:
    """Why an entry cannot be used, found by importing it; None when it can."""
    try:
        if group == "datasets":  # functions; the other groups hold classes
            plugins.load(group, name)
        else:
            plugins.resolve(group, name, base=base_of(group))
    except PluginError as error:
        return str(error)
    return None


def base_of(group: str) -> type:
    """The class that a group's entries derive from. Imports torch."""
    from latentdd_plugin.codecs.base import Codec
    from latentdd_plugin.distillers.base import Distiller
    from latentdd_plugin.evaluators.base import Evaluator

    bases: dict[str, type] = {"codecs": Codec, "algos": Distiller, "evaluators": Evaluator}
    return bases[group]


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines) + "\n"
