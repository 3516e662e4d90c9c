"""A suite: the conditions that results share, and a grid of reference runs under them, in one versioned YAML file.

The conditions are the data, the bytes a class, the protocol, the evaluators, the seed and the split: a result that
meets them can be submitted, whatever its codec and algorithm. A changed suite gets a new version; the old one stays.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.core import plugins
from latentdd_plugin.core.config import DatasetConfig, RunConfig
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import Json, hash_json
from latentdd_plugin.evaluators import protocols
from latentdd_plugin.experiments.compare.grid import Cell, Grid, cells
from latentdd_plugin.results.entries import DatasetEntry
from latentdd_plugin.results.record import Record

SCHEMA = "dd-bench/suite.v1"
NAME = r"[a-z0-9]+(-[a-z0-9]+)*\.v[1-9][0-9]*"
NEEDED = ("name", "title", "description", "protocol", "evaluators", "datasets", "codecs", "algos")
OPTIONS = ("image_size", "classes", "per_class", "flip", "validation")  # of the data set, that change what is measured
PINS = ("fingerprint", "image_shape", "classes")


@dataclass(frozen=True)
class SuiteData:
    """A data set of a suite. Where it lies is the caller's to say; its sizes and options tell it from others.

    Attributes:
        name: what the suite calls it.
        test_size: images in the split that scores.
        train_size: images in the training split used; None does not say.
        options: of DatasetConfig, among `OPTIONS`.
        pins: of a record's dataset, among `PINS`: equal values mean equal images, labels and classes. The suite's hash
            leaves them out, so that a published suite can be pinned later.
    """

    name: str
    test_size: int
    train_size: int | None = None
    options: Mapping[str, Json] = field(default_factory=dict)
    pins: Mapping[str, Json] = field(default_factory=dict)

    def config(self, place: str | None = None) -> DatasetConfig:
        """The data set as a run takes it; `place` is a folder, an entry or a hub id."""
        options: dict[str, Any] = dict(self.options)
        if options.get("classes") is not None:
            options["classes"] = tuple(map(str, options["classes"]))
        return DatasetConfig(name=place or self.name, **options)


@dataclass(frozen=True)
class Suite:
    """A suite as its file says it."""

    name: str
    title: str
    description: str
    protocol: str
    evaluators: tuple[str, ...]
    datasets: tuple[SuiteData, ...]
    codecs: tuple[Mapping[str, Json], ...]
    algos: tuple[Mapping[str, Json], ...]
    ipc: tuple[int, ...] = (1,)
    precisions: tuple[str, ...] = ("fp32",)
    matches: tuple[str, ...] = ("code",)
    seed: int = 0
    split: str = "test"
    sha256: str = ""  # of the file's content, as canonical JSON

    def grids(self, given: Given | None = None) -> Iterator[tuple[str, Grid]]:
        """A comparison for each data set and budget, by the name of its folder: `digits-ipc1`."""
        given = given or Given()
        codecs = tuple({**codec, **given.codecs.get(str(codec["name"]), {})} for codec in self.codecs)
        for data, ipc in itertools.product(self.datasets, self.ipc):
            base = RunConfig(
                dataset=data.config(given.datasets.get(data.name)),
                ipc=ipc,
                evaluators=self.evaluators,
                protocol=self.protocol,
                seed=self.seed,
                split=self.split,
                **given.arithmetic,
            )
            axes = {"precisions": self.precisions, "matches": self.matches, "ledgers": ("bytes",)}
            yield f"{data.name}-ipc{ipc}", Grid(base, codecs, self.algos, **axes)

    def cells(self, given: Given | None = None) -> list[tuple[str, Cell]]:
        """Every run of the grid under its name; UsageError with all faults of the suite."""
        found, faults = [], list[str]()
        for place, grid in self.grids(given):
            try:
                found += [(cell_name(place, cell), cell) for cell in cells(grid)]
            except UsageError as error:
                faults += [f"{self.name}, {place}: {fault}" for fault in error.faults]
        if faults:
            raise UsageError(list(dict.fromkeys(faults)))
        return found

    def place_of(self, record: Record) -> tuple[str, list[str]]:
        """Return the suite's `<dataset>-ipc<k>` that a record belongs to, and every condition that it breaks."""
        config, data = record.config, record.dataset
        conditions = {
            "protocol": (config.protocol, self.protocol),
            "evaluators": (list(config.evaluators), list(self.evaluators)),
            "seed": (config.seed, self.seed),
            "split": (record.scored_on, self.split),
        }
        faults = [f"{key} is {is_!r}, not {wants!r}" for key, (is_, wants) in conditions.items() if is_ != wants]
        if not config.controls and config.algo.name != "random":  # random is the baseline itself
            faults.append("it was made without baselines")
        if config.ipc not in self.ipc:
            faults.append(f"ipc is {config.ipc}, not {' or '.join(map(str, self.ipc))}")
        near = [(one, _unlike(one, data)) for one in self.datasets]
        same = [one.name for one, unlike in near if not unlike]
        if not same:
            one, unlike = min(near, key=lambda pair: len(pair[1]))
            faults += [f"{what}, as in {one.name}" for what in unlike]
        return f"{same[0] if same else self.datasets[0].name}-ipc{config.ipc}", faults


@dataclass(frozen=True)
class Given:
    """What the caller brings to a suite: where data and weights lie, and how to compute."""

    datasets: Mapping[str, str] = field(default_factory=dict)  # the suite's name -> folder or hub id
    codecs: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)  # codec -> its locations
    arithmetic: Mapping[str, Any] = field(default_factory=dict)  # device, amp, compile, threads


def _unlike(wanted: SuiteData, data: DatasetEntry) -> list[str]:
    """How a record's data set differs from a suite's."""
    options = json.loads(json.dumps(dataclasses.asdict(wanted.config())))
    missing = [f"dataset.options.{key} is missing" for key in OPTIONS if key not in data.options]
    missing += [f"dataset.options.{key} is unknown" for key in data.options if key not in options]
    pairs = {f"options.{key}": (data.options.get(key), options[key]) for key in OPTIONS}
    stated = data.to_json()
    pairs |= {key: (stated[key], value) for key, value in wanted.pins.items()}
    sizes = {"train_size": wanted.train_size, "test_size": wanted.test_size}
    pairs |= {key: (getattr(data, key), size) for key, size in sizes.items() if size is not None}
    unlike = [f"dataset.{key} is {is_!r}, not {wants!r}" for key, (is_, wants) in pairs.items() if is_ != wants]
    return missing + unlike


def cell_name(place: str, cell: Cell) -> str:
    """`<dataset>-ipc<k>-<codec>-<algo>[-pixel]-<precision>`."""
    return name_of(place, cell.codec, cell.algo, cell.match, cell.precision)


def name_of(place: str, codec: str, algo: str, match: str, precision: str) -> str:
    """What a run of a suite is called; the match space is said where it is not the codes'."""
    words = [place, codec, algo, *(["pixel"] if match == "pixel" else []), precision]
    return re.sub(r"[^\w.-]+", "_", "-".join(words))


# --- files ------------------------------------------------------------------------------------------------------------


def folder() -> Path:
    """Where the suites that come with the package lie: `benchmarks` of the checkout, or within the package."""
    checkout = Path(__file__).parents[2]
    return checkout / "benchmarks" if (checkout / ".git").exists() else Path(__file__).parents[1] / "_suites"


def names() -> list[str]:
    """The suites that come with the package."""
    return sorted(path.name.removesuffix(".yaml") for path in folder().glob("*.yaml"))


def get(name: str) -> Suite:
    """A suite by its name, or from a file of one's own, `./mine.v1.yaml`.

    Raises:
        UsageError: there is none of that name, or its file has faults; all of them.
    """
    path = Path(name) if name.endswith(".yaml") else folder() / f"{name}.yaml"
    if not name.endswith(".yaml") and name not in names():
        raise UsageError(f"unknown suite {name!r}{plugins.near(name, names())}; there are: {', '.join(names())}")
    try:
        tree = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: not a readable suite ({' '.join(str(error).split())})") from None
    try:
        suite = read(tree)
    except UsageError as error:
        raise UsageError([f"{path}: {fault}" for fault in error.faults]) from None
    if suite.name != path.name.removesuffix(".yaml"):
        raise UsageError(f"{path}: it calls itself {suite.name!r}")
    return suite


def read(tree: Json) -> Suite:
    """The suite that a YAML tree describes; UsageError with every fault of its form."""
    if not isinstance(tree, Mapping) or tree.get("schema") != SCHEMA:
        raise UsageError(f"not a suite of schema {SCHEMA!r}")
    values: dict[str, Any] = {key: value for key, value in tree.items() if key != "schema"}
    known = [f.name for f in dataclasses.fields(Suite) if f.name != "sha256"]
    faults = [f"unknown key {key!r}{plugins.near(str(key), known)}" for key in values if key not in known]
    faults += [f"{key} is missing" for key in NEEDED if key not in values]
    forms: dict[str, tuple[tuple[str, ...], Callable[[Json], bool]]] = {
        "text": (("name", "title", "description", "protocol", "split"), lambda v: isinstance(v, str)),
        "a whole number": (("seed",), lambda v: type(v) is int and v >= 0),
        "a list of names": (("evaluators", "precisions", "matches"), lambda v: _all(v, lambda x: isinstance(x, str))),
        "a list of whole numbers": (("ipc",), lambda v: _all(v, lambda x: type(x) is int and x > 0)),
        "a list of names, or of mappings with a name": (("codecs", "algos"), lambda v: _all(v, _spec)),
        "a list of data sets with name, test_size and perhaps train_size, options, pins": (
            ("datasets",),
            lambda v: _all(v, _data),
        ),
    }
    for wanted, (keys, right) in forms.items():
        faults += [f"{key}: {wanted} is wanted" for key in keys if key in values and not right(values[key])]
    if not faults:
        faults += _wrong(values)
    if faults:
        raise UsageError(faults)
    for key in ("codecs", "algos"):
        values[key] = tuple({"name": v} if isinstance(v, str) else dict(v) for v in values[key])
    values["datasets"] = tuple(SuiteData(**data) for data in values["datasets"])
    for key in {"evaluators", "precisions", "matches", "ipc"} & values.keys():
        values[key] = tuple(values[key])
    return Suite(**values, sha256=hash_json(_without_pins(tree)))


def _without_pins(tree: Mapping[str, Json]) -> dict[str, Json]:
    """Return what a suite's hash is taken over."""
    datasets = [{key: value for key, value in data.items() if key != "pins"} for data in tree["datasets"]]
    return {**tree, "datasets": datasets}


def _all(value: Json, right: Callable[[Json], bool]) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(right, value))


def _spec(value: Json) -> bool:
    """A name, or a mapping with one and options; never a file or a dotted path."""
    name = value.get("name") if isinstance(value, Mapping) else value
    return isinstance(name, str) and re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name) is not None


def _data(value: Json) -> bool:
    sizes = isinstance(value, Mapping) and all(type(value.get(key, 0)) is int for key in ("train_size", "test_size"))
    keys = {f.name for f in dataclasses.fields(SuiteData)}
    return (
        sizes
        and _spec(value)
        and "test_size" in value
        and set(value) <= keys
        and isinstance(value.get("options", {}), Mapping)
        and isinstance(value.get("pins", {}), Mapping)
        and set(value.get("pins", {})) <= set(PINS)
    )


def _wrong(values: Mapping[str, Any]) -> list[str]:
    """Faults of a well-formed suite: its name, its protocol, unknown options, and those that are the caller's."""
    faults = []
    if not re.fullmatch(NAME, values["name"]):
        faults.append(f"name {values['name']!r}: lower-case words and a version are wanted, as in cpu-digits.v1")
    if values["protocol"] not in protocols.PROTOCOLS:
        faults.append(f"unknown protocol {values['protocol']!r}; there are: {', '.join(protocols.PROTOCOLS)}")
    for data in values["datasets"]:
        stray = [key for key in data.get("options", {}) if key not in OPTIONS]
        faults += [
            f"datasets, {data['name']}: unknown option {key!r}; there are: {', '.join(OPTIONS)}" for key in stray
        ]
    if len({data["name"] for data in values["datasets"]}) < len(values["datasets"]):
        faults.append("datasets: a name is there twice")
    for codec in values["codecs"]:
        faults += _located(codec) if isinstance(codec, Mapping) else []
    return faults


def _located(codec: Mapping[str, Json]) -> list[str]:
    """A suite says which codec, never where its weights lie."""
    try:
        cls: type[Codec] = plugins.resolve("codecs", str(codec["name"]), base=Codec, installed_only=True).cls
    except UsageError as error:
        return list(error.faults)
    return [f"codecs, {codec['name']}: {key} is the caller's to say" for key in codec if key in cls.locations]


def matching(record: Record, among: Sequence[str] | None = None) -> tuple[Suite | None, list[str]]:
    """The first suite whose conditions a record meets; or, where there is none, what the nearest one asks for."""
    nearest: list[str] | None = None
    for name in names() if among is None else among:
        suite = get(name)
        unmet = [f"{name}, the nearest: {fault}" for fault in suite.place_of(record)[1]]
        if not unmet:
            return suite, []
        if nearest is None or len(unmet) < len(nearest):
            nearest = unmet
    return None, nearest or []
