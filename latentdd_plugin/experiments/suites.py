"""A suite: the conditions that results share, and a grid of reference runs under them, in one versioned YAML file.

The conditions are the data, the bytes per class, the protocol, the evaluators, the seed and the split: a result that
meets them can be submitted, with any codec and distiller. A changed suite gets a new version; the old one stays.
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
from latentdd_plugin.core.checkout import PACKAGE, checkout
from latentdd_plugin.core.config import DatasetConfig, RunConfig
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.parts import LabelConfig, PartSpec
from latentdd_plugin.core.types import Json, hash_json
from latentdd_plugin.core.untrusted import read_text
from latentdd_plugin.evaluators import protocols
from latentdd_plugin.experiments.baselines import is_baseline_distiller
from latentdd_plugin.experiments.compare.grid import Cell, Grid, cells
from latentdd_plugin.experiments.suite_labels import SuiteTeacher, read_labels, read_teacher, regime_faults, unmet
from latentdd_plugin.results.entries import DatasetEntry
from latentdd_plugin.results.record import Record

SCHEMA = "dd-bench/suite.v1"
NAME = r"[a-z0-9]+(-[a-z0-9]+)*\.v[1-9][0-9]*"
NEEDED = ("name", "title", "description", "protocol", "evaluators", "datasets", "codecs", "algos")
OPTIONS = ("image_size", "classes", "per_class", "flip", "validation")  # of the dataset; they change what is measured
PINS = ("fingerprint", "image_shape", "classes")


@dataclass(frozen=True)
class SuiteData:
    """A dataset of a suite, identified by its sizes and options; the user gives its location.

    Attributes:
        name: its name in the suite.
        test_size: images in the split that scores.
        train_size: images in the training split used; None does not fix it.
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
        """Return the dataset's configuration; `place` is a folder, an entry or a hub id."""
        options: dict[str, Any] = dict(self.options)
        if options.get("classes") is not None:
            options["classes"] = tuple(map(str, options["classes"]))
        return DatasetConfig(name=place or self.name, **options)


@dataclass(frozen=True)
class Suite:
    """The content of a suite's file.

    Attributes:
        labels: label regimes, with their options; every method and its baselines are run under each. A suite without
            them leaves labels to the submitter.
        teacher: the teacher of these labels, and of methods that need one.
    """

    name: str
    title: str
    description: str
    protocol: str
    evaluators: tuple[str, ...]
    datasets: tuple[SuiteData, ...]
    codecs: tuple[PartSpec, ...]
    algos: tuple[PartSpec, ...]
    ipc: tuple[int, ...] = (1,)
    bytes: tuple[int, ...] = ()  # budgets in bytes per class, instead of `ipc`
    precisions: tuple[str, ...] = ()  # empty takes each codec's own default
    matches: tuple[str, ...] = ("code",)
    labels: tuple[LabelConfig, ...] = ()
    teacher: SuiteTeacher = field(default_factory=SuiteTeacher)
    seed: int = 0
    split: str = "test"
    sha256: str = ""  # of the file's content, as canonical JSON

    def grids(self, inputs: SuiteInputs | None = None) -> Iterator[tuple[str, Grid]]:
        """Yield (folder name, grid) for each dataset and budget, such as `digits-ipc1` or `digits-4000b`."""
        inputs = inputs or SuiteInputs()
        codecs = tuple(codec.with_options(inputs.codecs.get(codec.name, {})) for codec in self.codecs)
        sizes: tuple[int | None, ...] = self.bytes or (None,)
        for data, size, ipc in itertools.product(self.datasets, sizes, (1,) if self.bytes else self.ipc):
            base = RunConfig(
                dataset=data.config(inputs.datasets.get(data.name)),
                ipc=ipc,
                evaluators=self.evaluators,
                protocol=self.protocol,
                seed=self.seed,
                split=self.split,
                labels=self.labels[0] if self.labels else None,
                teacher=self.teacher.config(inputs.teacher),
                **inputs.arithmetic,
            )
            axes: dict[str, Any] = {"precisions": self.precisions, "matches": self.matches, "ledgers": ("bytes",)}
            axes |= {"labels": tuple(one.regime for one in self.labels)} if self.labels else {}
            rates = () if size is None else (size,)
            yield _place(data.name, ipc, size), Grid(base, codecs, self.algos, rates=rates, **axes)

    def cells(self, inputs: SuiteInputs | None = None) -> list[tuple[str, Cell]]:
        """Return every run of the grid with its name; raise UsageError with all faults of the suite."""
        found, faults = [], list[str]()
        for place, grid in self.grids(inputs):
            try:
                found += [(cell_name(place, cell), cell) for cell in cells(grid)]
            except UsageError as error:
                faults += [f"{self.name}, {place}: {fault}" for fault in error.faults]
        if faults:
            raise UsageError(list(dict.fromkeys(faults)))
        return found

    def place_of(self, record: Record) -> tuple[str, list[str]]:
        """Return the suite's dataset and budget that a record belongs to, and every condition that it breaks."""
        config, data = record.config, record.dataset
        conditions = {
            "protocol": (config.protocol, self.protocol),
            "evaluators": (list(config.evaluators), list(self.evaluators)),
            "seed": (config.seed, self.seed),
            "split": (record.scored_on, self.split),
        }
        faults = [f"{key} is {is_!r}, not {wants!r}" for key, (is_, wants) in conditions.items() if is_ != wants]
        faults += unmet(self.labels, self.teacher, record)
        if not config.controls and not is_baseline_distiller(config.algo.name):
            faults.append("it was made without baselines")
        if self.bytes and config.bytes not in self.bytes:
            faults.append(f"bytes is {config.bytes}, not {' or '.join(map(str, self.bytes))}")
        elif not self.bytes and config.ipc not in self.ipc:
            faults.append(f"ipc is {config.ipc}, not {' or '.join(map(str, self.ipc))}")
        near = [(one, _unlike(one, data)) for one in self.datasets]
        same = [one.name for one, unlike in near if not unlike]
        if not same:
            one, unlike = min(near, key=lambda pair: len(pair[1]))
            faults += [f"{what}, as in {one.name}" for what in unlike]
        return _place(same[0] if same else self.datasets[0].name, config.ipc, config.bytes), faults


def _place(dataset: str, ipc: int | None, size: int | None) -> str:
    """Return the name of a dataset and a budget, `digits-ipc1` or `digits-4000b`."""
    return f"{dataset}-ipc{ipc}" if size is None else f"{dataset}-{size}b"


@dataclass(frozen=True)
class SuiteInputs:
    """The user's inputs to a suite: locations of data and weights, and compute options."""

    datasets: Mapping[str, str] = field(default_factory=dict)  # the suite's name -> folder or hub id
    codecs: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)  # codec -> its locations
    arithmetic: Mapping[str, Any] = field(default_factory=dict)  # device, amp, compile, threads
    teacher: str | None = None  # folder of the suite's teacher, if it is stored


def _unlike(wanted: SuiteData, data: DatasetEntry) -> list[str]:
    """Return the differences between a record's dataset and a suite's."""
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
    """Return `<dataset>-<budget>-<codec>-<algo>[-pixel]-<precision>[-<labels>]`."""
    return name_of(place, cell.codec, cell.algo, cell.match, cell.precision, cell.labels)


def name_of(place: str, codec: str, algo: str, match: str, precision: str, labels: str) -> str:
    """Return the name of a suite's run; it contains match space and label regime if they are not `code` and `own`."""
    words = [place, codec, algo, *(["pixel"] if match == "pixel" else []), precision]
    words += [] if labels == "own" else [labels]
    return re.sub(r"[^\w.-]+", "_", "-".join(words))


# --- files ------------------------------------------------------------------------------------------------------------


def folder() -> Path:
    """Return the folder of the bundled suites: `benchmarks` in a checkout, `_suites` in an installed package."""
    tree = checkout()
    return tree / "benchmarks" if tree else PACKAGE / "_suites"


def names() -> list[str]:
    """Return the names of the bundled suites."""
    return sorted(path.name.removesuffix(".yaml") for path in folder().glob("*.yaml"))


def get(name: str) -> Suite:
    """Return a suite by its name, or from your own file, `./mine.v1.yaml`.

    Raises:
        UsageError: no suite has that name, or its file has faults; all of them are reported.
    """
    path = Path(name) if name.endswith(".yaml") else folder() / f"{name}.yaml"
    if not name.endswith(".yaml") and name not in names():
        raise UsageError(f"unknown suite {name!r}{plugins.near(name, names())}; there are: {', '.join(names())}")
    try:
        tree = yaml.safe_load(read_text(path))
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not a readable suite ({' '.join(str(error).split())})") from None
    try:
        suite = read(tree)
    except UsageError as error:
        raise UsageError([f"{path}: {fault}" for fault in error.faults]) from None
    if suite.name != path.name.removesuffix(".yaml"):
        raise UsageError(f"{path}: the suite inside is named {suite.name!r}; call the file {suite.name}.yaml")
    return suite


def read(tree: Json) -> Suite:
    """Return the suite that a YAML tree describes; raise UsageError with every fault in it."""
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
        "a list of whole numbers": (("ipc", "bytes"), lambda v: _all(v, lambda x: type(x) is int and x > 0)),
        "a list of names, or of mappings with a name": (("codecs", "algos"), lambda v: _all(v, _spec)),
        "a list of datasets with name, test_size and perhaps train_size, options, pins": (
            ("datasets",),
            lambda v: _all(v, _data),
        ),
    }
    for wanted, (keys, right) in forms.items():
        faults += [f"{key}: {wanted} is wanted" for key in keys if key in values and not right(values[key])]
    if faults:
        raise UsageError(faults)
    for key in ("codecs", "algos"):
        values[key] = tuple(PartSpec.of(value) for value in values[key])
    values["datasets"] = tuple(SuiteData(**data) for data in values["datasets"])
    for key in {"evaluators", "precisions", "matches", "ipc", "bytes"} & values.keys():
        values[key] = tuple(values[key])
    values |= _regimes(values)
    suite = Suite(**values, sha256=hash_json(_without_pins(tree)))
    faults += _faults_of(suite)
    if "ipc" in values and "bytes" in values:
        faults.append("give ipc or bytes, not both")
    if faults:
        raise UsageError(faults)
    return suite


def _regimes(values: dict[str, Any]) -> dict[str, Any]:
    """Return labels and teacher of a suite's values, typed; raise UsageError with all their faults."""
    readers: dict[str, Callable[[Json], Any]] = {"labels": read_labels, "teacher": read_teacher}
    found, faults = dict[str, Any](), list[str]()
    for key in readers.keys() & values.keys():
        try:
            found[key] = readers[key](values[key])
        except UsageError as error:
            faults += error.faults
    if faults:
        raise UsageError(faults)
    return found


def _without_pins(tree: Mapping[str, Json]) -> dict[str, Json]:
    """Return what a suite's hash is taken over."""

    def without(part: Mapping[str, Json]) -> dict[str, Json]:
        return {key: value for key, value in part.items() if key != "pins"}

    parts: dict[str, Json] = {"datasets": [without(data) for data in tree["datasets"]]}
    return {**tree, **parts, **({"teacher": without(tree["teacher"])} if "teacher" in tree else {})}


def _all(value: Json, right: Callable[[Json], bool]) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(right, value))


def _spec(value: Json) -> bool:
    """Return whether a value is a name, or a mapping with a name and options; not a file or a dotted path."""
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


def _faults_of(suite: Suite) -> list[str]:
    """Return the faults of a well-formed suite: name, protocol, unknown options, and options only a user may set."""
    faults = []
    if not re.fullmatch(NAME, suite.name):
        faults.append(f"name {suite.name!r}: lower-case words and a version are wanted, as in cpu-digits.v1")
    if suite.protocol not in protocols.PROTOCOLS:
        faults.append(f"unknown protocol {suite.protocol!r}; there are: {', '.join(protocols.PROTOCOLS)}")
    for data in suite.datasets:
        stray = [key for key in data.options if key not in OPTIONS]
        faults += [f"datasets, {data.name}: unknown option {key!r}; there are: {', '.join(OPTIONS)}" for key in stray]
    if len({data.name for data in suite.datasets}) < len(suite.datasets):
        faults.append("datasets: two have the same name")
    for codec in suite.codecs:
        faults += _located(codec) if codec.options else []
    return faults + regime_faults(suite.labels, suite.teacher)


def _located(codec: PartSpec) -> list[str]:
    """Return the faults of a codec whose location the suite sets: that is up to the user."""
    try:
        cls: type[Codec] = plugins.resolve("codecs", codec.name, base=Codec, installed_only=True).cls
    except UsageError as error:
        return list(error.faults)
    return [f"codecs, {codec.name}: {key} must be left to the user" for key in codec.options if key in cls.locations]


def matching(record: Record, among: Sequence[str] | None = None) -> tuple[Suite | None, list[str]]:
    """Return the first suite whose conditions a record meets, or None and the unmet conditions of the nearest one."""
    nearest: list[str] | None = None
    for name in names() if among is None else among:
        suite = get(name)
        unmet = [f"{name}, the nearest: {fault}" for fault in suite.place_of(record)[1]]
        if not unmet:
            return suite, []
        if nearest is None or len(unmet) < len(nearest):
            nearest = unmet
    return None, nearest or []
