"""Build the parts that a configuration names, and find every fault that needs no data, together, before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from latentdd_plugin.artifacts.budget import precision_fault
from latentdd_plugin.codecs.base import Codec, is_comparable
from latentdd_plugin.core import plugins
from latentdd_plugin.core.annotations import annotations_of, fit_all
from latentdd_plugin.core.config import RunConfig, ScoringConfig
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import JOINT_OPTIONS, STORAGE, Json
from latentdd_plugin.distillers.base import Distiller
from latentdd_plugin.evaluators import protocols
from latentdd_plugin.evaluators.base import Evaluator
from latentdd_plugin.evaluators.protocols import Protocol
from latentdd_plugin.evaluators.train_scratch import TrainScratch
from latentdd_plugin.experiments.teachers import architecture_of, teacher_faults
from latentdd_plugin.experiments.token_rules import method_fault, precision_of
from latentdd_plugin.latent.joint import frozen, joint_faults
from latentdd_plugin.latent.sized_codec import upsample_fault

DEFAULT_PRESET = "quick"
AUTO = "auto"  # an alias of the default, as configurations before version 0.2 have it


@dataclass(frozen=True)
class Parts:
    """The parts of a run beside its dataset and its codec."""

    distiller: Distiller
    evaluators: Mapping[str, Evaluator]  # by the name that was asked for
    protocol: Protocol


@dataclass(frozen=True)
class BuiltEvaluators:
    """Fresh evaluators by the name that was asked for, and the protocol they follow."""

    evaluators: dict[str, Evaluator]
    protocol: Protocol | None
    faults: tuple[str, ...]  # one per name that is wrong


def resolve_run(config: RunConfig) -> tuple[RunConfig, Parts]:
    """Return the configuration with every hyper-parameter of its distiller written out, and its parts.

    Raises:
        UsageError: with all faults found.
    """
    faults = config.faults()
    config = config.replace(precision=precision_of(config))
    distiller = codec = None
    try:
        codec = _codec_class(config.codec)
        faults += codec_faults(config.codec)
    except UsageError as error:
        faults += error.faults
    try:
        distiller = build_distiller(config.algo, config.match, config.codec.name)
    except UsageError as error:
        faults += error.faults
    faults += _joint_faults(config, distiller)
    if codec is not None and config.precision in STORAGE:
        fault = precision_fault(config.precision, config.codec.name, tokens=codec.tokens is not None)
        faults += [] if fault is None else [fault]
    found = build_evaluators(config.scoring)
    faults += found.faults
    needs = distiller is not None and distiller.needs_teacher
    if needs and not config.teacher:
        faults.append(f"algo={config.algo.name}: it needs a teacher, for example --teacher convnet")
    config = config.replace(teacher=config.teacher if needs or config.labels.taught else None)
    faults += teacher_faults(config.teacher)
    if needs and distiller is not None and (arch := architecture_of(config.teacher)):
        faults += [f"algo={config.algo.name}: {reason}" for reason in distiller.teacher_faults(arch)]
    if faults or distiller is None or found.protocol is None:
        raise UsageError(list(dict.fromkeys(faults)))
    preset = preset_of(config.algo)
    algo = {"name": config.algo.name, **({"preset": preset} if preset else {}), **distiller.config()}
    code = code_of({"codec": codec, "algo": type(distiller), **{key: type(e) for key, e in found.evaluators.items()}})
    return config.replace(algo=algo, code=code), Parts(distiller, found.evaluators, found.protocol)


def rereads_pixels(config: RunConfig) -> bool:
    """Return whether a run reads its pixels again and again: to match them, as codes, or to train a teacher."""
    return config.match == "pixel" or _codec_class(config.codec).pixels or config.teacher.trained_here


def code_of(parts: Mapping[str, type | None]) -> dict[str, str]:
    """Return the hash of the code of each part that is not this package's."""
    return {key: code for key, cls in parts.items() if cls is not None and (code := plugins.code_of(cls))}


# --- distillers -------------------------------------------------------------------------------------------------------


def has_presets(cls: type[Distiller]) -> bool:
    """Return whether the distiller's presets differ, so that choosing one means something."""
    return len({repr(sorted(options.items())) for options in cls.presets.values()}) > 1


def preset_of(spec: Mapping[str, Json]) -> str | None:
    """Return the name of the preset that a distiller's specification asks for: `quick` unless another is named.

    None if the distiller's presets do not differ: equal runs then have equal configurations.

    Raises:
        PluginError: no such distiller. UsageError: it does not have this preset.
    """
    cls: type[Distiller] = plugins.resolve("algos", str(spec["name"]), base=Distiller).cls
    given, known = spec.get("preset"), ", ".join(cls.presets)
    if given not in (None, AUTO):
        if given not in cls.presets:
            raise UsageError(f"algo.preset={given}: {spec['name']} has {known}")
        return str(given) if has_presets(cls) or cls.presets[given] else None
    if has_presets(cls) and DEFAULT_PRESET not in cls.presets:
        raise UsageError(f"algo.preset: name one of {known}; {spec['name']} has no {DEFAULT_PRESET}, the default")
    return DEFAULT_PRESET if has_presets(cls) else None


def preset_note(config: RunConfig, device: str) -> str | None:
    """Return a line for the log if the preset needs an explanation, else None.

    Args:
        config: as the user gave it, or resolved.
        device: the resolved device.
    """
    cls: type[Distiller] = plugins.resolve("algos", config.algo.name, base=Distiller).cls
    if preset_of(config.algo) != DEFAULT_PRESET:
        return None
    is_auto = config.algo.options.get("preset") == AUTO
    auto = "algo.preset=auto means quick, on every device" if is_auto else "algo.preset=quick"
    if device != "cpu" and "paper" in cls.presets:
        return f"{auto}; on {device} algo.preset=paper, the published settings, is affordable too"
    return auto if is_auto else None


def build_distiller(spec: Mapping[str, Json], match: str = "code", codec: str = "") -> Distiller:
    """Return the distiller that a configuration names: its preset's arguments, then the caller's own.

    Args:
        spec: `name`, optionally `preset` (`quick` unless `paper` is named), and the distiller's options.
        match: the space the matching networks look at.
        codec: name of the run's codec, if known: a code that is a picture can be matched in either space.

    Raises:
        PluginError: no such distiller. UsageError: an option it does not have, a match space it does not support.
    """
    name = str(spec["name"])
    options = {key: value for key, value in spec.items() if key not in ("name", "preset")}
    preset = plugins.resolve("algos", name, base=Distiller)
    cls: type[Distiller] = preset.cls
    chosen_preset = preset_of(spec)
    chosen = {**(cls.presets[chosen_preset] if chosen_preset else {}), **preset.config, **options}
    faults = [f"algo.{name}: {fault}" for fault in plugins.check_arguments(cls, chosen)]
    chosen, more = fitted_options(cls, chosen, "algo.")
    faults += more
    if faults:
        raise UsageError([*faults, *match_faults(cls, name, match, codec)])
    try:
        distiller = cls(**chosen)
    except (TypeError, ValueError) as error:
        raise UsageError([f"algo.{name}: {error}", *match_faults(cls, name, match, codec)]) from error
    faults = [f"algo.{name}: {fault}" for fault in distiller.faults()] + match_faults(distiller, name, match, codec)
    if faults:
        raise UsageError(faults)
    return distiller


def match_faults(method: Distiller | type[Distiller], name: str, match: str, codec: str) -> list[str]:
    """Return why a method cannot work in a match space on the codes of a codec: one reason, or none.

    Args:
        method: the method, or its class where its options are wrong.
        name: what to call it.
        match: the match space.
        codec: name of the codec; empty, or one that cannot be resolved, is taken for one with ordinary codes.
    """
    try:
        codes = _codec_class({"name": codec}) if codec else None
    except UsageError:
        codes = None
    if codes and codes.tokens is not None and method.changes_codes:
        return [method_fault(name, codec)]
    if match not in method.match_spaces and not (codes and codes.pixels):
        return [f"match={match}: {name} supports {', '.join(method.match_spaces)} only"]
    if match == "code" and method.compares and codes and not is_comparable(codes):
        hint = "; match=pixel compares decoded images" if "pixel" in method.match_spaces else ""
        return [f"match=code: {name} compares samples, and codes of {codec} cannot be compared{hint}"]
    return []


# --- codecs -----------------------------------------------------------------------------------------------------------


def _codec_class(spec: Mapping[str, Json]) -> type[Codec]:
    cls: type[Codec] = plugins.resolve("codecs", str(spec["name"]), base=Codec).cls
    return cls


def codec_faults(spec: Mapping[str, Json]) -> list[str]:
    """Return every fault of a codec's options and their values that can be seen without images or weights.

    Raises:
        PluginError: no such codec.
    """
    name, options = str(spec["name"]), _own_options(spec)
    found = upsample_fault(spec.get("upsample", 1)) + joint_faults(spec)
    preset = plugins.resolve("codecs", name, base=Codec)
    cls: type[Codec] = preset.cls
    if spec.get("joint") is True and cls.tokens is not None:
        found.append(f"codec.joint=true: the codes of {name} are tokens, which no method that trains a decoder takes")
    elif spec.get("joint") is True and cls.trainable_parameters is Codec.trainable_parameters:
        found.append(f"codec.joint=true: {name} has no decoder that could be trained; tiny-vae has one")
    chosen = {**preset.config, **options}
    found += [f"codec.{name}: {fault}" for fault in plugins.check_arguments(cls, chosen)]
    chosen, more = fitted_options(cls, chosen, "codec.")
    found += more
    return found or cls.option_faults(chosen)


def weight_faults(spec: Mapping[str, Json]) -> list[str]:
    """Return why the weights of a codec cannot be had, as far as it can be seen without loading them."""
    preset = plugins.resolve("codecs", str(spec["name"]), base=Codec)
    cls: type[Codec] = preset.cls
    return cls.weight_faults({**preset.config, **_own_options(spec)})


def _own_options(spec: Mapping[str, Json]) -> dict[str, Json]:
    """Return the options that a codec's constructor gets."""
    return {key: value for key, value in frozen(spec).items() if key not in ("name", "upsample")}


def _joint_faults(config: RunConfig, distiller: Distiller | None) -> list[str]:
    """Return why nothing in a run could train the decoder that `codec.joint=true` asks to train."""
    if not config.codec.get("joint") or distiller is None:
        return []
    found = []
    if not distiller.trains_decoder:
        idle = ", ".join(f"codec.{option}" for option in JOINT_OPTIONS if option in config.codec)
        found.append(f"algo={config.algo.name}: it trains nothing, so no decoder either; leave out {idle}")
    elif config.match != "pixel":
        found.append("codec.joint=true: a decoder learns from the images that it decodes; it needs match=pixel")
    if config.budget.ipc is None and config.budget.bytes is None:
        found.append("codec.joint=true: a decoder takes its share of given bytes; give ipc or bytes instead of lpc")
    return found


def fitted_options(cls: type, options: Mapping[str, Json], prefix: str) -> tuple[dict[str, Json], list[str]]:
    """Return options with whole numbers written as 1e3 made whole, and a fault for each that is of another type."""
    fitted, faults = fit_all(annotations_of(cls), options, prefix)
    whole = {k: v for k, v in fitted.items() if type(v) is int and type(options[k]) is float}
    return {**options, **whole}, faults


# --- evaluators -------------------------------------------------------------------------------------------------------


def build_evaluators(scoring: ScoringConfig) -> BuiltEvaluators:
    """Return fresh evaluators by the name that was asked for, their protocol, and what is wrong with the names."""
    evaluators: dict[str, Evaluator] = {}
    protocol, faults = None, list[str]()
    try:
        protocol = protocols.get(scoring.protocol)
    except UsageError as error:
        faults += error.faults
    for name in scoring.evaluators:
        try:
            evaluators[name] = build_evaluator(name)
        except UsageError as error:
            faults += error.faults
    return BuiltEvaluators(evaluators, protocol, tuple(faults))


def build_evaluator(name: str, **options: Json) -> Evaluator:
    """Return an evaluator by entry name, dotted path or file; any other name is an architecture to train from scratch.

    Raises:
        PluginError: it cannot be loaded. UsageError: an unknown name, or an option it does not have.
    """
    if name in plugins.entries("evaluators") or ":" in name:
        preset = plugins.resolve("evaluators", name, base=Evaluator)
        chosen = {**preset.config, **options}
        faults = plugins.check_arguments(preset.cls, chosen)
        if faults:
            raise UsageError([f"evaluator {name}: {fault}" for fault in faults])
        try:
            evaluator: Evaluator = preset.cls(**chosen)
        except (TypeError, ValueError) as error:
            raise UsageError(f"evaluator {name}: {error}") from error
        return evaluator
    from latentdd_plugin.nn.architectures import is_known, known_names

    if not is_known(name):
        near = plugins.near(name, ["convnet", *plugins.entries("evaluators"), *known_names()])
        raise UsageError(f"unknown evaluator {name!r}{near}; it may be any timm architecture, or convnet")
    if options:
        raise UsageError(f"evaluator {name}: an architecture takes no options; the protocol decides how it is trained")
    return TrainScratch(arch=name)
