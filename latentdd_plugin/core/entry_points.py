"""Installed entries by name, from metadata alone: the only module that imports `entrypoints`."""

from __future__ import annotations

import configparser
import functools
import importlib.metadata
import re
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import entrypoints

GROUPS = {
    "codecs": "dd_bench.codecs",
    "algos": "dd_bench.distillers",
    "evaluators": "dd_bench.evaluators",
    "datasets": "dd_bench.datasets",
}
WEIGHTS = "hub"  # the extra that marks an entry whose weights come from a hub or a local folder


@dataclass(frozen=True)
class Entry:
    """One declared entry point, not imported. `rivals` are other targets that claim the same name."""

    name: str
    group: str  # a key of GROUPS
    target: str  # "module:attribute"
    distribution: str  # normalised: lower case, dashes
    version: str
    extras: tuple[str, ...] = ()
    rivals: tuple[Entry, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} = {self.target} (of {self.distribution} {self.version})"


def entries(group: str) -> dict[str, Entry]:
    """Return every entry of a group by name, from metadata alone."""
    found: dict[str, Entry] = {}
    for entry in _scan(group)[0]:
        first = found.setdefault(entry.name, entry)
        if entry.target not in {e.target for e in (first, *first.rivals)}:
            found[entry.name] = replace(first, rivals=(*first.rivals, entry))
    return dict(sorted(found.items()))


def problems() -> list[str]:
    """Return a line per distribution whose entry points cannot be read, with the reason; empty if all is well."""
    return list(dict.fromkeys(text for group in GROUPS for text in _scan(group)[1]))


def _scan(group: str) -> tuple[list[Entry], list[str]]:
    """Return the entries of a group, and what could not be read; looked up again when something was installed."""
    found, faults = _scanned(group, tuple(map(_place, sys.path)))
    return list(found), list(faults)


def _place(folder: str) -> tuple[str, int]:
    """Return a folder of the path with its time: it changes when a distribution is added or removed."""
    try:
        return folder, Path(folder).stat().st_mtime_ns
    except OSError:
        return folder, 0


@functools.lru_cache(maxsize=len(GROUPS))
def _scanned(group: str, path: tuple[tuple[str, int], ...]) -> tuple[list[Entry], list[str]]:
    """Look through all distributions on the path; a malformed file aborts `entrypoints`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            points = entrypoints.get_group_all(GROUPS[group])
    except Exception:  # whatever the parser meets
        return _scan_each(group)
    return [
        Entry(p.name, group, _target(p.module_name, p.object_name), *_origin(p.distro), tuple(p.extras or ()))
        for p in points
    ], []


def _scan_each(group: str) -> tuple[list[Entry], list[str]]:
    found: dict[str, list[Entry]] = {}
    faults: list[str] = []
    for distribution in importlib.metadata.distributions():
        name, version = _origin(distribution)
        if name in found:  # the first on the path wins
            continue
        found[name] = []
        try:
            configparser.ConfigParser(delimiters=("=",)).read_string(distribution.read_text("entry_points.txt") or "")
            points = [p for p in distribution.entry_points if p.group == GROUPS[group]]
            found[name] = [
                Entry(p.name, group, _target(p.module, p.attr), name, version, tuple(p.extras)) for p in points
            ]
        except Exception as error:
            faults.append(f"{name} {version}: malformed entry_points.txt ({' '.join(repr(error).split())})")
    return [entry for group_entries in found.values() for entry in group_entries], faults


def _target(module: str, attribute: str | None) -> str:
    return f"{module}:{attribute}" if attribute else module


def _origin(distribution: Any) -> tuple[str, str]:
    """Return (normalised name, version) of a distribution of `entrypoints` or `importlib.metadata`."""
    name = getattr(distribution, "name", None) or "unknown"
    return re.sub(r"[-_.]+", "-", name).lower(), getattr(distribution, "version", None) or "?"
