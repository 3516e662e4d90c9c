"""A configuration to the parts it names. Every fault that needs no data is found here, together, before any work."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.core import plugins
from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import Json
from latentdd_plugin.distillers.base import Distiller
from latentdd_plugin.evaluators import protocols
from latentdd_plugin.evaluators.base import Evaluator
from latentdd_plugin.evaluators.protocols import Protocol
from latentdd_plugin.evaluators.train_scratch import TrainScratch


@dataclass(frozen=True)
class Parts:
    """What a run is made of, beside its data and its codec."""

    distiller: Distiller
    evaluators: Mapping[str, Evaluator]  # by the name that was asked for
    protocol: Protocol


def resolve_run(config: RunConfig) -> tuple[RunConfig, Parts]:
    """The configuration with every hyper-parameter of its method written out, and its parts.

    Raises:
        UsageError: with all faults found.
    """
    faults = config.faults()
    distiller = codec = None
    try:
        distiller = build_distiller(config.algo, config.match, str(config.codec["name"]))
    except UsageError as error:
        faults += error.faults
    try:
        codec = _check_codec(config.codec)
    except UsageError as error:
        faults += error.faults
    built = build_evaluators(config)
    faults += built.faults
    if faults or distiller is None or built.protocol is None:
        raise UsageError(faults)
    preset = {"preset": config.algo["preset"]} if "preset" in config.algo else {}
    algo = {"name": config.algo["name"], **preset, **distiller.config()}
    code = code_of({"codec": codec, "algo": type(distiller), **{key: type(e) for key, e in built.evaluators.items()}})
    return replace(config, algo=algo, code=code), Parts(distiller, built.evaluators, built.protocol)


def code_of(parts: Mapping[str, type | None]) -> dict[str, str]:
    """The code of each part that is not this package's."""
    return {key: code for key, cls in parts.items() if cls is not None and (code := plugins.code_of(cls))}


def build_distiller(spec: Mapping[str, Json], match: str = "code", codec: str = "") -> Distiller:
    """The method a configuration names: its preset's arguments, then the caller's own.

    Raises:
        PluginError: no such method. UsageError: an argument it does not have, a match space it does not support.
    """
    options = dict(spec)
    name, preset_name = str(options.pop("name")), options.pop("preset", None)
    preset = plugins.resolve("algos", name, base=Distiller)
    cls: type[Distiller] = preset.cls
    if preset_name is None and len({repr(sorted(p.items())) for p in cls.presets.values()}) > 1:
        raise UsageError(f"algo.preset: name one of {', '.join(cls.presets)}")
    if preset_name is not None and preset_name not in cls.presets:
        raise UsageError(f"algo.preset={preset_name}: {name} has {', '.join(cls.presets)}")
    chosen = {**cls.presets.get(str(preset_name), {}), **preset.config, **options}
    faults = [f"algo.{name}: {fault}" for fault in plugins.check_arguments(cls, chosen)]
    if match not in cls.match_spaces and codec != "identity":
        faults.append(f"match={match}: {name} supports {', '.join(cls.match_spaces)} only")
    if faults:
        raise UsageError(faults)
    try:
        distiller = cls(**chosen)
    except (TypeError, ValueError) as error:
        raise UsageError(f"algo.{name}: {error}") from error
    faults = [f"algo.{name}: {fault}" for fault in distiller.faults()]
    if faults:
        raise UsageError(faults)
    return distiller


def _check_codec(spec: Mapping[str, Json]) -> type[Codec]:
    """The codec's class; UsageError where it has not these options."""
    options = {k: v for k, v in spec.items() if k not in ("name", "upsample")}
    preset = plugins.resolve("codecs", str(spec["name"]), base=Codec)
    faults = plugins.check_arguments(preset.cls, {**preset.config, **options})
    if faults:
        raise UsageError([f"codec.{spec['name']}: {fault}" for fault in faults])
    cls: type[Codec] = preset.cls
    return cls


@dataclass(frozen=True)
class BuiltEvaluators:
    """The evaluators and the protocol that a configuration names."""

    evaluators: dict[str, Evaluator]  # by the requested name; unknown names are left out
    protocol: Protocol | None  # None if its name is unknown
    faults: list[str]  # one per unknown name; empty if everything was built


def build_evaluators(config: RunConfig) -> BuiltEvaluators:
    """Build the evaluators and look up the protocol that a configuration names, collecting the faults of all names."""
    evaluators: dict[str, Evaluator] = {}
    protocol, faults = None, list[str]()
    try:
        protocol = protocols.get(config.protocol)
    except UsageError as error:
        faults += error.faults
    for name in config.evaluators:
        try:
            evaluators[name] = build_evaluator(name)
        except UsageError as error:
            faults += error.faults
    return BuiltEvaluators(evaluators, protocol, faults)


def build_evaluator(name: str) -> Evaluator:
    """An evaluator by entry name, dotted path or file; any other name is an architecture to train from scratch."""
    if name in plugins.entries("evaluators") or ":" in name:
        preset = plugins.resolve("evaluators", name, base=Evaluator)
        try:
            evaluator: Evaluator = preset.cls(**preset.config)
        except (TypeError, ValueError) as error:
            raise UsageError(f"evaluator {name}: {error}") from error
        return evaluator
    from latentdd_plugin.evaluators.architectures import is_known

    if not is_known(name):
        import timm

        known = ["convnet", *plugins.entries("evaluators"), *timm.list_models()]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f" (did you mean {', '.join(near)}?)" if near else ""
        raise UsageError(f"unknown evaluator {name!r}{hint}; it may be any timm architecture, or convnet")
    return TrainScratch(arch=name)
