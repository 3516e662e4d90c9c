"""The cells of a comparison: possible runs, impossible combinations, and combinations that are the same run."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from latentdd_plugin.artifacts.budget import precision_fault
from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.core import plugins
from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.parts import PartSpec
from latentdd_plugin.core.types import CODED, LABEL_REGIMES, MATCH_SPACES, PRECISIONS, STORAGE, TOKENS
from latentdd_plugin.distillers.base import Distiller
from latentdd_plugin.experiments.build import build_distiller, build_evaluators, has_presets, match_faults, resolve_run
from latentdd_plugin.experiments.token_rules import default_precision, has_tokens
from latentdd_plugin.latent.joint import frozen

LEDGERS = ("bytes", "count")
BASELINE = PartSpec("random")  # added beside the distillers that are compared
PIXELS = PartSpec("identity")  # and the codec of the baseline in pixels


@dataclass(frozen=True)
class Grid:
    """The axes of a comparison at one budget.

    Attributes:
        base: dataset, budget (`ipc`), protocol, evaluators, seed and arithmetic of every cell; its codec, algo, match
            and precision are not used. `controls=False` leaves out baselines that are not among the axes.
        codecs, algos: names with options, each as in RunConfig.
        precisions: precisions at which codes are stored; empty takes each codec's own default.
        matches: `code`, `pixel`.
        labels: label regimes; every method and its baselines are run under each. Their options are those of the base.
        ledgers: `bytes` gives every cell the bytes of `ipc` images per class, `count` gives every cell `ipc` codes.
        rates: budgets in bytes per class, instead of `ipc`: a rate curve for each line of the table. Equal bytes only.
    """

    base: RunConfig
    codecs: tuple[PartSpec, ...]
    algos: tuple[PartSpec, ...]
    precisions: tuple[str, ...] = ()
    matches: tuple[str, ...] = ("code",)
    ledgers: tuple[str, ...] = LEDGERS
    labels: tuple[str, ...] = ("own",)
    rates: tuple[int, ...] = ()

    def faults(self) -> list[str]:
        """Return the faults of the axes themselves."""
        allowed = {"precision": STORAGE, "match": MATCH_SPACES, "ledger": LEDGERS, "labels": LABEL_REGIMES}
        axes = {
            "precision": self.precisions,
            "match": self.matches,
            "ledger": self.ledgers,
            "labels": self.labels,
        }
        found = [
            f"{axis}={value}: choose among {', '.join(allowed[axis])}"
            for axis, values in axes.items()
            for value in values
            if value not in allowed[axis]
        ]
        named = {"codec": [c.name for c in self.codecs], "algo": [a.name for a in self.algos]}
        for axis, values in {**axes, **named}.items():
            if not values and axis != "precision":
                found.append(f"{axis}: name at least one")
            found += [f"{axis}: {value} is named twice" for value in dict.fromkeys(values) if values.count(value) > 1]
        if self.base.lpc is not None:
            found.append("lpc: the budget of a comparison is in images, give ipc")
        return found + self._rate_faults()

    def _rate_faults(self) -> list[str]:
        found = [f"bytes={rate}: must be at least 1" for rate in self.rates if rate < 1]
        found += [f"bytes: {rate} is named twice" for rate in dict.fromkeys(self.rates) if self.rates.count(rate) > 1]
        if self.rates and self.base.ipc not in (None, 1):
            found.append(f"budget: give bytes or ipc, not both (ipc={self.base.ipc})")
        return found

    @property
    def columns(self) -> tuple[tuple[str, int | None], ...]:
        """Return (ledger, budget in bytes per class or None) of each column of the table."""
        return tuple(("bytes", rate) for rate in self.rates) or tuple((ledger, None) for ledger in self.ledgers)


@dataclass(frozen=True)
class Cell:
    """One combination in the table of a comparison."""

    name: str  # of its folder
    ledger: str  # bytes | count
    codec: str
    algo: str
    match: str
    precision: str
    labels: str = "own"
    config: RunConfig | None = None  # of its run; None if there is nothing to run
    reason: str | None = None  # of an impossible combination
    same_as: str | None = None  # name of the cell that is the same run
    added: bool = False  # a baseline that is not among the axes
    cost: tuple[float, ...] = field(default=(), compare=False)  # cells of lower cost run first
    rate: int | None = None  # its budget in bytes per class, if that is an axis


def cells(grid: Grid) -> list[Cell]:
    """Return every cell in the order of the table: by codec and precision, baselines first.

    Raises:
        UsageError: all faults; an impossible combination is not a fault but a cell with a reason.
    """
    _check(grid)
    found: dict[str, Cell] = {}
    runs: dict[tuple[str, ...], str] = {}  # key of a run -> name of the first cell that is this run
    faults: list[str] = []
    specs = [replace(spec, labels=labels) for spec in _specs(grid) for labels in grid.labels]
    for spec in specs:
        try:
            cell, key = _cell(grid, spec)
        except UsageError as error:
            faults += error.faults
            continue
        if cell.name in found:
            faults.append(f"{cell.codec} and {cell.algo}: two codecs or two distillers have this name")
        first = runs.setdefault(key, cell.name)
        found[cell.name] = cell if first == cell.name else replace(cell, config=None, same_as=first)
    if faults:
        raise UsageError(list(dict.fromkeys(faults)))
    return list(found.values())


def short(name: str) -> str:
    """Return the name in tables and options of an entry, a `package.module:Class` or a `./file.py:Class`."""
    return name.rpartition(":")[2]


@dataclass(frozen=True)
class CellSpec:
    """One combination of the axes, before its parts are built."""

    codec: PartSpec
    algo: PartSpec
    match: str
    precision: str
    ledger: str
    rate: int | None = None
    added: bool = False
    labels: str = "own"


def _check(grid: Grid) -> None:
    """Raise UsageError with all faults that do not concern a single codec or distiller."""
    base = grid.base.replace(labels="own", lpc=None, ipc=grid.base.ipc or 1, precision="fp32", match="code")
    faults = [*grid.faults(), *base.faults(), *build_evaluators(base.scoring).faults]
    if faults:
        raise UsageError(list(dict.fromkeys(faults)))


def _specs(grid: Grid) -> Iterator[CellSpec]:
    """Yield every combination; baselines once, whatever the match spaces."""
    algos = [algo for algo in grid.algos if not _is_baseline(algo)]
    requested = [algo for algo in grid.algos if _is_baseline(algo)]
    baselines = requested or ([BASELINE] if grid.base.controls else [])
    if grid.base.controls and not any(_has_pixels(codec) for codec in grid.codecs):
        for precision in dict.fromkeys(("fp32", *grid.precisions)):
            if precision != TOKENS:
                yield from (CellSpec(PIXELS, BASELINE, "code", precision, *place, True) for place in grid.columns)
    stored = ((codec, each) for codec in grid.codecs for each in grid.precisions or (default_precision(codec.name),))
    for codec, precision in stored:
        for algo, place in itertools.product(baselines, grid.columns):
            yield CellSpec(codec, algo, "code", precision, *place, added=not requested)
        for algo, match, place in itertools.product(algos, grid.matches, grid.columns):
            yield CellSpec(codec, algo, match, precision, *place)


def _cell(grid: Grid, spec: CellSpec) -> tuple[Cell, tuple[str, ...]]:
    """Return one cell and the key of its run: equal keys are equal runs."""
    algo = _without_idle_preset(spec.algo)
    distiller = build_distiller(algo)
    names = short(spec.codec.name), short(algo.name)
    place = spec.ledger if spec.rate is None else f"{spec.rate}b"
    labels = [] if spec.labels == "own" else [spec.labels]
    words = [*names, *([] if distiller.is_baseline else [spec.match]), spec.precision, *labels, place]
    name = re.sub(r"[^\w.-]+", "_", "-".join(words))
    cell = Cell(name, spec.ledger, *names, spec.match, spec.precision, spec.labels, added=spec.added, rate=spec.rate)
    if reasons := match_faults(distiller, names[1], spec.match, spec.codec.name):
        return replace(cell, reason=reasons[0]), (name,)
    if spec.precision == CODED and spec.ledger == "count":
        return replace(cell, reason="precision=coded needs a budget in bytes; an equal count has none"), (name,)
    if reason := precision_fault(spec.precision, names[0], tokens=has_tokens(spec.codec.name)):
        return replace(cell, reason=reason), (name,)
    if not distiller.trains_decoder:
        spec = replace(spec, codec=PartSpec.of(frozen(spec.codec)))
    if reason := _cannot_train_decoder(spec):
        return replace(cell, reason=reason), (name,)
    config = resolve_run(_config(grid, spec, algo, controls=grid.base.controls and not distiller.is_baseline))[0]
    in_pixels = _has_pixels(spec.codec) and spec.codec.options.get("upsample", 1) == 1
    one_space = in_pixels or distiller.is_baseline
    free = distiller.label_bits(2) == 0 and spec.labels in ("own", "hard", "teacher")
    one_ledger = in_pixels and spec.precision == "fp32" and free and "bytes" in grid.ledgers
    key = (
        *names,
        "code" if one_space else spec.match,
        spec.precision,
        spec.labels,
        "bytes" if one_ledger and spec.rate is None else place,
    )
    return replace(cell, config=config, cost=_cost(distiller, cell, in_pixels)), key


def _cannot_train_decoder(spec: CellSpec) -> str:
    """Return why a cell cannot train the decoder that its codec is to be trained with; empty if nothing forbids it."""
    if not spec.codec.get("joint"):
        return ""
    if spec.match != "pixel":
        return "codec.joint=true needs match=pixel"
    return "codec.joint=true needs a budget in bytes; an equal count has none" if spec.ledger == "count" else ""


def _config(grid: Grid, spec: CellSpec, algo: PartSpec, *, controls: bool) -> RunConfig:
    """Return the configuration of a combination, not resolved."""
    images = grid.base.ipc or 1
    lpc, ipc = (images, None) if spec.ledger == "count" else (None, images)
    budget = {"ipc": ipc, "lpc": lpc} if spec.rate is None else {"bytes": spec.rate, "ipc": None, "lpc": None}
    found = grid.base.replace(codec=spec.codec, algo=algo, match=spec.match, **budget)
    labels = replace(grid.base.labels, regime=spec.labels)
    return found.replace(precision=spec.precision, controls=controls, labels=labels)


def _without_idle_preset(algo: PartSpec) -> PartSpec:
    """Return the distiller without a preset that chooses nothing, so that equal runs have equal configurations."""
    if has_presets(plugins.resolve("algos", algo.name, base=Distiller).cls):
        return algo
    return PartSpec(algo.name, {key: value for key, value in algo.options.items() if key != "preset"})


def _is_baseline(algo: PartSpec) -> bool:
    """Return whether this is a baseline; False for an unknown name, which is a fault of its cells."""
    try:
        cls: type[Distiller] = plugins.resolve("algos", algo.name, base=Distiller).cls
    except UsageError:
        return False
    return cls.is_baseline


def _has_pixels(codec: PartSpec) -> bool:
    """Return whether the codes are pixels; False for an unknown name, which is a fault of its cells."""
    try:
        cls: type[Codec] = plugins.resolve("codecs", codec.name, base=Codec).cls
    except UsageError:
        return False
    return cls.pixels


def _cost(distiller: Distiller, cell: Cell, in_pixels: bool) -> tuple[float, ...]:
    """Return what decides the time of a cell, most important first: steps at all, a decoder in the loop, the codes."""
    steps = 0.0 if distiller.is_selection else float(getattr(distiller, "iterations", 1))
    decodes = cell.match == "pixel" and not in_pixels
    codes = 1 / PRECISIONS.get(cell.precision, 1)
    return (float(steps > 0), float(decodes), float(cell.ledger == "bytes"), codes, steps)
