"""The cells of a comparison: which runs there are, which cannot be, and which are one and the same."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.core import plugins
from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import CODED, MATCH_SPACES, PRECISIONS, STORAGE, Json
from latentdd_plugin.distillers.base import Distiller
from latentdd_plugin.distillers.random import Random
from latentdd_plugin.distillers.selection import Selection
from latentdd_plugin.experiments.build import build_distiller, build_evaluators, has_presets, resolve_run

LEDGERS = ("bytes", "count")
RANDOM = "random"
PIXELS = "identity"


@dataclass(frozen=True)
class Grid:
    """What is compared, at one budget.

    Attributes:
        base: data set, budget (`ipc`), protocol, evaluators, seed and arithmetic of every cell; its codec, algo, match
            and precision are not used. `controls=False` leaves the controls out.
        codecs, algos: names with options, each as in RunConfig.
        precisions: how codes are stored.
        matches: `code`, `pixel`.
        ledgers: `bytes` gives every cell the bytes of `ipc` images a class, `count` gives every cell `ipc` codes.
    """

    base: RunConfig
    codecs: tuple[Mapping[str, Json], ...]
    algos: tuple[Mapping[str, Json], ...]
    precisions: tuple[str, ...] = ("fp32",)
    matches: tuple[str, ...] = ("code",)
    ledgers: tuple[str, ...] = LEDGERS

    def faults(self) -> list[str]:
        """What is wrong with the axes themselves."""
        allowed = {"precision": STORAGE, "match": MATCH_SPACES, "ledger": LEDGERS}
        axes = {"precision": self.precisions, "match": self.matches, "ledger": self.ledgers}
        found = [
            f"{axis}={value}: choose among {', '.join(allowed[axis])}"
            for axis, values in axes.items()
            for value in values
            if value not in allowed[axis]
        ]
        named = {"codec": [c["name"] for c in self.codecs], "algo": [a["name"] for a in self.algos]}
        for axis, values in {**axes, **named}.items():
            if not values:
                found.append(f"{axis}: name at least one")
            found += [f"{axis}: {value} is named twice" for value in dict.fromkeys(values) if values.count(value) > 1]
        if self.base.lpc is not None:
            found.append("lpc: a comparison has its budget in images, give ipc")
        return found


@dataclass(frozen=True)
class Cell:
    """One place of the table."""

    name: str  # its folder
    ledger: str  # bytes | count
    codec: str
    algo: str
    match: str
    precision: str
    config: RunConfig | None = None  # what to run; None where there is nothing to run
    reason: str | None = None  # why it cannot be run
    same_as: str | None = None  # the cell that is the same run
    added: bool = False  # a control that was not asked for by name
    cost: tuple[float, ...] = field(default=(), compare=False)  # cells of lower cost run first


def cells(grid: Grid) -> list[Cell]:
    """Every cell in the order of the table: by codec and precision, controls first.

    Raises:
        UsageError: a fault that is not the property of one impossible pair; all of them.
    """
    _check(grid)
    found: dict[str, Cell] = {}
    runs: dict[tuple[str, ...], str] = {}  # what a run amounts to -> the first cell that is this run
    faults: list[str] = []
    for wanted in _wanted(grid):
        try:
            cell, key = _cell(grid, wanted)
        except UsageError as error:
            faults += error.faults
            continue
        if cell.name in found:
            faults.append(f"{cell.codec} and {cell.algo}: a codec or an algorithm of this name is there twice")
        first = runs.setdefault(key, cell.name)
        found[cell.name] = cell if first == cell.name else replace(cell, config=None, same_as=first)
    if faults:
        raise UsageError(list(dict.fromkeys(faults)))
    return list(found.values())


def short(name: str) -> str:
    """What an entry, `package.module:Class` or `./file.py:Class` is called in the table and in options."""
    return name.rpartition(":")[2]


@dataclass(frozen=True)
class Wanted:
    """A cell before it is looked at."""

    codec: Mapping[str, Json]
    algo: Mapping[str, Json]
    match: str
    precision: str
    ledger: str
    added: bool = False


def _check(grid: Grid) -> None:
    """All faults that have nothing to do with a codec or an algorithm in particular."""
    base = grid.base.replace(lpc=None, ipc=grid.base.ipc or 1, precision="fp32", match="code")
    faults = [*grid.faults(), *base.faults(), *build_evaluators(base.scoring).faults]
    if faults:
        raise UsageError(list(dict.fromkeys(faults)))


def _wanted(grid: Grid) -> Iterator[Wanted]:
    """Every cell; random codes once, whatever the match spaces."""
    random: dict[str, Json] = {"name": RANDOM}
    algos = [algo for algo in grid.algos if algo["name"] != RANDOM]
    asked = len(algos) < len(grid.algos)
    if grid.base.controls and PIXELS not in [codec["name"] for codec in grid.codecs]:
        for precision in dict.fromkeys(("fp32", *grid.precisions)):
            yield from (Wanted({"name": PIXELS}, random, "code", precision, ledger, True) for ledger in grid.ledgers)
    for codec, precision in itertools.product(grid.codecs, grid.precisions):
        if asked or grid.base.controls:
            yield from (Wanted(codec, random, "code", precision, ledger, not asked) for ledger in grid.ledgers)
        for algo, match, ledger in itertools.product(algos, grid.matches, grid.ledgers):
            yield Wanted(codec, algo, match, precision, ledger)


def _cell(grid: Grid, wanted: Wanted) -> tuple[Cell, tuple[str, ...]]:
    """One cell, and what its run amounts to: equal keys are equal runs."""
    codec, algo, ledger = wanted.codec, wanted.algo, wanted.ledger
    names, is_random = (short(str(codec["name"])), short(str(algo["name"]))), algo["name"] == RANDOM
    words = [*names, *([] if is_random else [wanted.match]), wanted.precision, ledger]
    name = re.sub(r"[^\w.-]+", "_", "-".join(words))
    cell = Cell(name, ledger, *names, wanted.match, wanted.precision, added=wanted.added)
    method = build_distiller(_chosen(algo))
    if wanted.match not in method.match_spaces and codec["name"] != PIXELS:
        reason = f"match={wanted.match}: {names[1]} supports {', '.join(method.match_spaces)} only"
        return replace(cell, reason=reason), (name,)
    if wanted.precision == CODED and ledger == "count":
        return replace(cell, reason="precision=coded shares out bytes; at an equal count there are none"), (name,)
    lpc, ipc = (grid.base.ipc or 1, None) if ledger == "count" else (None, grid.base.ipc or 1)
    asked = grid.base.replace(codec=codec, algo=_chosen(algo), match=wanted.match, ipc=ipc, lpc=lpc)
    controls = grid.base.controls and not is_random  # random codes are the control
    config = resolve_run(asked.replace(precision=wanted.precision, controls=controls))[0]
    in_pixels = _is_pixels(codec)
    one_space = in_pixels or is_random
    one_ledger = in_pixels and wanted.precision == "fp32" and method.label_bits(2) == 0 and "bytes" in grid.ledgers
    key = *names, "code" if one_space else wanted.match, wanted.precision, "bytes" if one_ledger else ledger
    return replace(cell, config=config, cost=_cost(method, cell, in_pixels)), key


def _chosen(algo: Mapping[str, Json]) -> dict[str, Json]:
    """The algorithm without a preset that chooses nothing, so that equal runs have equal configurations."""
    if has_presets(plugins.resolve("algos", str(algo["name"]), base=Distiller).cls):
        return dict(algo)
    return {key: value for key, value in algo.items() if key != "preset"}


def _is_pixels(codec: Mapping[str, Json]) -> bool:
    cls: type[Any] = plugins.resolve("codecs", str(codec["name"]), base=Codec).cls
    return bool(cls.pixels) and codec.get("upsample", 1) == 1


def _cost(method: Distiller, cell: Cell, in_pixels: bool) -> tuple[float, ...]:
    """What decides how long a cell takes, the weightiest first: steps at all, a decoder in the loop, how many codes."""
    steps = 0.0 if isinstance(method, Selection | Random) else float(getattr(method, "iterations", 1))
    through = cell.match == "pixel" and not in_pixels
    return (
        float(steps > 0),
        float(through),
        float(cell.ledger == "bytes"),
        1 / PRECISIONS.get(cell.precision, 1),
        steps,
    )
