"""Turn a configuration tree into a run request; report every fault that can be seen before any work."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentdd_plugin.cli.overrides import split_commas
from latentdd_plugin.core import plugins
from latentdd_plugin.core.annotations import annotations_of, fit_all
from latentdd_plugin.core.config import (
    BudgetConfig,
    ComputeConfig,
    DatasetConfig,
    LabelConfig,
    RunConfig,
    ScoringConfig,
    TeacherConfig,
)
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import Json

if TYPE_CHECKING:
    from latentdd_plugin.results.record import Record

log = logging.getLogger("latentdd_plugin")

APART = (
    "dataset",
    "labels",
    "teacher",
    "codec",
    "algo",
    "out",
    "evaluator",
    "controls",
    "precision",
)  # keys read one by one


@dataclass(frozen=True)
class Request:
    """One run to do, or one distillation to store at several precisions."""

    config: RunConfig  # resolved: every hyper-parameter of its distiller written out
    precisions: tuple[str, ...]  # at least one; the first is the configuration's
    out: Path | None


def read(tree: Mapping[str, Json]) -> Request:
    """Return the request that a configuration tree makes, or raise UsageError with all faults."""
    request, faults = inspect(tree)
    if faults or request is None:
        raise UsageError(faults)
    return request


def inspect(tree: Mapping[str, Json]) -> tuple[Request | None, list[str]]:
    """Return the request, if one can be made, and every fault that can be seen without the dataset."""
    given, precisions, faults = typed(tree)
    if len(precisions) > 1 and given.lpc is None:
        faults.append("precision: several need a fixed number of codes, give --lpc; at a byte budget use -m")
    faults += [
        f for p in precisions[1:] for f in given.replace(precision=p).budget.faults() if f.startswith("precision")
    ]
    faults += dataset_faults(given.dataset.name)
    config, more = _resolved(given)
    faults += more
    if config is None or faults:
        return None, list(dict.fromkeys([*faults, *_weight_faults(given)]))
    if given.algo.get("preset") == "auto":
        log.info("algo.preset=auto means quick, on every device; ask for the published settings with algo.preset=paper")
    out = tree.get("out")
    return Request(config, precisions or (config.precision,), Path(str(out)) if out is not None else None), []


def typed(tree: Mapping[str, Json]) -> tuple[RunConfig, tuple[str, ...], list[str]]:
    """Return the configuration a tree describes, the precisions it names if any, and a fault for each ill-typed value.

    The parts are not looked up yet.
    """
    hints: dict[str, Any] = {"match": str, "seed": int}
    for part in (BudgetConfig, ScoringConfig, ComputeConfig):
        hints |= annotations_of(part)
    hints["protocol"] = str | None
    values, faults = fit_all(hints, {key: value for key, value in tree.items() if key not in APART})
    dataset, more = fit_all(annotations_of(DatasetConfig), _with_lists(tree["dataset"]), "dataset.")
    faults += more
    if dataset.get("classes") is not None:
        dataset["classes"] = tuple(map(str, dataset["classes"]))
    for node in ("labels", "teacher"):
        of_node: type[LabelConfig | TeacherConfig] = LabelConfig if node == "labels" else TeacherConfig
        options, more = fit_all(annotations_of(of_node), tree[node], f"{node}.")
        values[node] = of_node(**options)
        faults += more
    precisions, found = ((), list[str]()) if tree["precision"] is None else _several("precision", tree["precision"])
    values["evaluators"], more = (
        (None, list[str]()) if tree["evaluator"] is None else _several("evaluator", tree["evaluator"])
    )
    values["controls"], last = _controls(tree["controls"])
    values["precision"] = precisions[0] if precisions else None
    nodes: dict[str, Any] = {node: {**tree[node], "name": str(tree[node].get("name"))} for node in ("codec", "algo")}
    config = RunConfig(DatasetConfig(**dataset), **nodes, **values)
    return config, precisions, faults + found + more + last


def _with_lists(options: Mapping[str, Json]) -> dict[str, Json]:
    """Return a dataset's options with one class name, or several between commas, as a list."""
    classes = options.get("classes")
    return {**options, **({"classes": split_commas(classes)} if isinstance(classes, str) else {})}


def _resolved(config: RunConfig) -> tuple[RunConfig | None, list[str]]:
    """Return the configuration with its distiller's hyper-parameters, and its faults."""
    from latentdd_plugin.core.compute import resolve_device
    from latentdd_plugin.experiments.build import resolve_run

    faults: list[str] = []
    try:
        resolve_device(config.device)
    except UsageError as error:
        faults += error.faults
    try:
        return resolve_run(config)[0], faults
    except UsageError as error:
        return None, [*error.faults, *faults]


def _weight_faults(config: RunConfig) -> list[str]:
    """Return what is wrong with the codec's weights; nothing if the codec itself cannot be resolved."""
    from latentdd_plugin.experiments.build import weight_faults

    try:
        return weight_faults(config.codec)
    except UsageError:
        return []


def dataset_faults(name: str) -> list[str]:
    """Return a fault for a misspelt entry. Any other word may be a path or a hub id, which only loading can tell."""
    known = plugins.entries("datasets")
    hint = plugins.near(name, known)
    if name in known or not hint or not re.fullmatch(r"[\w-]+", name) or Path(name).exists():
        return []
    return [f"unknown dataset {name!r}{hint}; there are: {', '.join(known)}, any folder, any Hugging Face id"]


def shadow_note(name: str) -> str | None:
    """Return one line if a dataset's name is that of a local file or folder and of an installed dataset or a hub id."""
    if not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", name) or not Path(name).exists():
        return None
    if name in plugins.entries("datasets"):
        return f"dataset {name}: the installed dataset is used; for the file or folder of this name give ./{name}"
    if name.count("/") == 1 or Path(name).suffix:
        return None
    return f"dataset {name}: the folder {Path(name).resolve()} is used, not a dataset of this name on the hub"


def _several(key: str, value: Json) -> tuple[tuple[str, ...], list[str]]:
    values = split_commas(value) if isinstance(value, str) else value
    if not isinstance(values, (list, tuple)) or not all(isinstance(v, str) for v in values):
        return (), [f"{key}={value}: must be a name or a list of names, as [a,b]"]
    return tuple(dict.fromkeys(values)), [] if values else [f"{key}: name at least one"]


def _controls(value: Json) -> tuple[bool, list[str]]:
    choices = {"default": True, "none": False, True: True, False: False, None: False}
    try:
        return choices[value], []
    except (KeyError, TypeError):
        return True, [f"controls={value}: choose one of default, none"]


def perform(wanted: Request, *, progress: bool, command: str | None, limit_s: float | None) -> list[Record]:
    """Run a request; return one record, or one for each precision. Of several processes, only the first returns any."""
    from latentdd_plugin.experiments.run import run_precisions

    given, precisions = wanted.config, wanted.precisions
    return run_precisions(given, precisions, out=wanted.out, progress=progress, command=command, limit_s=limit_s)
