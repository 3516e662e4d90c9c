"""A configuration tree to what a run is asked to do, with every fault of it found before any work."""

from __future__ import annotations

import logging
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentdd_plugin.cli.overrides import split_commas
from latentdd_plugin.core import plugins
from latentdd_plugin.core.config import DatasetConfig, RunConfig
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import Json

if TYPE_CHECKING:
    from latentdd_plugin.results.record import Record

log = logging.getLogger("latentdd_plugin")
AUTO = "auto"

WANTED: dict[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a list",
    types.NoneType: "null",
}


@dataclass(frozen=True)
class Request:
    """One run to do, or one distillation to store at several precisions."""

    config: RunConfig  # resolved: every hyper-parameter of its method written out
    precisions: tuple[str, ...]  # at least one; the first is the configuration's
    out: Path | None


def read(tree: Mapping[str, Json]) -> Request:
    """The request that a configuration tree makes; UsageError with all faults."""
    request, faults = inspect(tree)
    if faults or request is None:
        raise UsageError(faults)
    return request


def inspect(tree: Mapping[str, Json]) -> tuple[Request | None, list[str]]:
    """The request, where one can be made, and every fault that can be seen without data."""
    from latentdd_plugin.core.compute import resolve_device

    given, precisions, faults = typed(tree)
    if len(precisions) > 1 and given.lpc is None:
        faults.append("precision: several need a fixed number of codes, give --lpc; at a byte budget use -m")
    faults += [f for p in precisions[1:] for f in replace(given, precision=p).faults() if f.startswith("precision")]
    faults += dataset_faults(given.dataset.name)
    config, more = _resolved(given)
    faults += more
    if config is None or faults:
        return None, list(dict.fromkeys(faults))
    if given.algo.get("preset") == AUTO:
        device = resolve_device(config.device)
        log.info("algo.preset=auto: %s, for device %s", config.algo["preset"], device)
    out = tree.get("out")
    return Request(config, precisions, Path(str(out)) if out is not None else None), []


def typed(tree: Mapping[str, Json]) -> tuple[RunConfig, tuple[str, ...], list[str]]:
    """What a tree says, its parts not looked up yet; the precisions it names; a fault for each ill-typed value."""
    values, faults = _typed({k: v for k, v in tree.items() if k not in ("out", "evaluator", "controls", "precision")})
    precisions, found = _several("precision", tree["precision"])
    values["evaluators"], more = _several("evaluator", tree["evaluator"])
    values["controls"], last = _controls(tree["controls"])
    values["precision"] = precisions[0] if precisions else "fp32"
    return RunConfig(**values), precisions, faults + found + more + last


def _resolved(config: RunConfig) -> tuple[RunConfig | None, list[str]]:
    """The configuration with its method's hyper-parameters, `algo.preset=auto` by the device; and its faults."""
    from latentdd_plugin.experiments.build import resolve_run

    faults: list[str] = []
    preset = config.algo.get("preset", AUTO)
    if preset == AUTO:
        try:
            preset = auto_preset(config.device)
        except UsageError as error:
            faults += error.faults
            preset = "quick"
    try:
        return resolve_run(replace(config, algo={**config.algo, "preset": preset}))[0], faults
    except UsageError as error:
        return None, [*error.faults, *faults]


def auto_preset(device: str) -> str:
    """What `algo.preset=auto` stands for on this device; UsageError where it is not usable."""
    from latentdd_plugin.core.compute import resolve_device

    return "quick" if resolve_device(device) == "cpu" else "paper"


def dataset_faults(name: str) -> list[str]:
    """A misspelt entry. Any other word may be a path or a hub id, which only loading can tell."""
    known = plugins.entries("datasets")
    hint = plugins.near(name, known)
    if name in known or not hint or not re.fullmatch(r"[\w-]+", name) or Path(name).exists():
        return []
    return [f"unknown dataset {name!r}{hint}; there are: {', '.join(known)}, any folder, any Hugging Face id"]


def _several(key: str, value: Json) -> tuple[tuple[str, ...], list[str]]:
    values = split_commas(value) if isinstance(value, str) else value
    if not isinstance(values, (list, tuple)) or not all(isinstance(v, str) for v in values):
        return (), [f"{key}={value}: a name or a list of names is wanted, as [a,b]"]
    return tuple(dict.fromkeys(values)), [] if values else [f"{key}: name at least one"]


def _controls(value: Json) -> tuple[bool, list[str]]:
    choices = {"default": True, "none": False, True: True, False: False, None: False}
    if value in choices:
        return choices[value], []
    return True, [f"controls={value}: choose one of default, none"]


def _typed(tree: Mapping[str, Json]) -> tuple[dict[str, Any], list[str]]:
    """The well-typed values of a tree for RunConfig, and a fault for each other one."""
    values, faults = _fields(RunConfig, "", {k: v for k, v in tree.items() if k not in ("dataset", "codec", "algo")})
    dataset, more = _fields(DatasetConfig, "dataset.", tree["dataset"])
    values["dataset"] = DatasetConfig(**dataset)
    faults += more
    for node in ("codec", "algo"):
        values[node] = {**tree[node], "name": str(tree[node].get("name"))}
    return values, faults


def _fields(cls: type, prefix: str, tree: Mapping[str, Json]) -> tuple[dict[str, Any], list[str]]:
    hints = typing.get_type_hints(cls)
    values, faults = {}, []
    for key, value in tree.items():
        kinds = [typing.get_origin(k) or k for k in _alternatives(hints[key])]
        try:
            values[key] = _fitted(value, kinds)
        except ValueError:
            faults.append(f"{prefix}{key}={value!r}: {' or '.join(WANTED[k] for k in kinds)} is wanted")
    return values, faults


def _alternatives(hint: Any) -> Sequence[Any]:
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)


def _fitted(value: Json, kinds: Sequence[Any]) -> Any:
    if type(value) in kinds:
        return value
    if tuple in kinds and isinstance(value, (list, str)):
        return tuple(str(v) for v in (split_commas(value) if isinstance(value, str) else value))
    if float in kinds and type(value) is int:
        return float(value)
    if str in kinds and type(value) in (int, float):  # a name made of digits
        return str(value)
    raise ValueError


def perform(wanted: Request, *, progress: bool, command: str | None, limit_s: float | None) -> list[Record]:
    """Run what was asked for: one record, or one for each precision."""
    from latentdd_plugin.experiments.run import run, run_precisions

    config, precisions = wanted.config, wanted.precisions
    if len(precisions) > 1:
        return run_precisions(config, precisions, out=wanted.out, progress=progress, command=command, limit_s=limit_s)
    return [run(config, out=wanted.out, progress=progress, command=command, limit_s=limit_s)]
