"""Flags and `key=value` words to Hydra overrides, and those to one configuration tree."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from latentdd_plugin.cli.names import SYNONYMS, normal_key
from latentdd_plugin.cli.values import Kind, hydra_value, is_quoted, kind_of, literal, parsed, quoted, split
from latentdd_plugin.core import plugins
from latentdd_plugin.core.annotations import annotations_of
from latentdd_plugin.core.config import (
    BudgetConfig,
    ComputeConfig,
    DatasetConfig,
    LabelConfig,
    ScoringConfig,
    TeacherConfig,
)
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.plugins import near
from latentdd_plugin.core.types import JOINT_OPTIONS

__all__ = [
    "CONF",
    "FLAGS",
    "OPEN",
    "Ready",
    "byte_count",
    "checked",
    "composed",
    "expanded",
    "from_flags",
    "key_of",
    "quoted",
    "split_commas",
]

CONF = Path(__file__).resolve().parent / "conf"
FLAGS = {  # flag -> the key it sets
    "codec": "codec.name",
    "algo": "algo.name",
    "dataset": "dataset.name",
    "ipc": "ipc",
    "lpc": "lpc",
    "bytes": "bytes",
    "precision": "precision",
    "match": "match",
    "evaluator": "evaluator",
    "protocol": "protocol",
    "seed": "seed",
    "device": "device",
    "controls": "controls",
    "labels": "labels.regime",
    "teacher": "teacher.name",
}
OPEN = ("codec", "algo")  # nodes that take any key: their plug-in's constructor decides
NAMED = {
    "codec": "name",
    "algo": "name",
    "dataset": "name",
    "labels": "regime",
    "teacher": "name",
}  # what `node=x` sets
PARTS = {"dataset": DatasetConfig, "labels": LabelConfig, "teacher": TeacherConfig}
LISTS = ("evaluator", "precision")  # keys that take one name or a list of names
CHOICES = (
    "codec.name",
    "algo.name",
    "labels.regime",
    "teacher.name",
    "protocol",
    "match",
    "split",
    "device",
    "amp",
    "compile",
)
WORD = re.compile(r"(?P<prefix>\+{0,2})(?P<key>[^\s=+~'\"\[\]{}(),]+)=(?P<value>.*)", re.DOTALL)


class Ready(str):
    """An override whose value is in Hydra's grammar already."""

    __slots__ = ()


def split_commas(text: str) -> list[str]:
    """Return the parts between commas that stand outside brackets and quotes."""
    return split(text)


def from_flags(args: argparse.Namespace, *, sweep: bool) -> list[str]:
    """Return the flags as overrides, before those that were typed, which therefore win.

    In a sweep commas separate jobs.
    """
    typed = list(args.overrides)
    fixed_lpc = getattr(args, "lpc", None) is not None or any(word.lstrip("+").startswith("lpc=") for word in typed)
    found: list[str] = []
    for flag, key in FLAGS.items():
        value = getattr(args, flag, None)  # a command has some of them
        if value is None:
            continue
        if flag == "evaluator" or (flag == "precision" and "," in value and (fixed_lpc or not sweep)):
            found.append(Ready(f"{key}=[{','.join(quoted(part) for part in split(value))}]"))
        elif flag in ("ipc", "lpc", "seed"):
            found.append(f"{key}={value}")
        elif flag == "bytes":
            found.append(f"{key}={','.join(str(byte_count(part)) for part in split(value))}")
        elif sweep:
            found.append(Ready(f"{key}={','.join(literal(part) for part in split(value))}"))
        else:
            found.append(Ready(f"{key}={literal(value)}"))
    return found + typed


def byte_count(text: str) -> int | str:
    """Return a number of bytes: `12288`, `4k` and `4kB` for 4,000, `1M` for a million; other text as it is."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kM]?)B?", text)
    if found is None:
        return text
    size = float(found[1]) * {"": 1, "k": 1000, "M": 1_000_000}[found[2]]
    return int(size) if size.is_integer() else text


def key_of(word: str) -> str:
    """Return the key that a checked override sets."""
    return word.lstrip("+").partition("=")[0]


def checked(
    words: Sequence[str], *, sweep: bool, named: Mapping[str, Sequence[str]] | None = None
) -> tuple[list[str], list[str]]:
    """Return the overrides as Hydra takes them, without those that are at fault; and the faults.

    Args:
        words: what was typed, and `from_flags`.
        sweep: commas separate jobs.
        named: by `codec` and `algo`, the plug-ins whose options may be set; None takes those that the words name.
    """
    keys = _keys(OmegaConf.to_container(OmegaConf.load(CONF / "config.yaml")))
    named = named or _plug_in_names(words)
    kept, faults = [], []
    for word in words:
        override, fault = _checked(word, keys, named, sweep=sweep)
        if override is not None:
            kept.append(override)
        if fault is not None:
            faults.append(fault)
    return kept, faults


def _checked(
    word: str, keys: Sequence[str], named: Mapping[str, Sequence[str]], *, sweep: bool
) -> tuple[str | None, str | None]:
    """Return one override as Hydra takes it, or its fault."""
    found = WORD.fullmatch(word)
    if found is None or word.startswith(("hydra.", "hydra/", "+hydra.", "++hydra.")):
        return _hydra_word(word)
    typed, raw = found.group("key"), found.group("value")
    key = normal_key(typed)
    if key in NAMED and not _is_mapping(raw):
        key = f"{key}.{NAMED[key]}"
    if key not in keys and key not in NAMED and key.split(".")[0] not in OPEN:
        shown = [*keys, *SYNONYMS]
        return None, f"unknown key {typed!r}{near(key, shown)}; the keys are: {', '.join(keys)}, codec.*, algo.*"
    kind = _kind(key, raw, named)
    list_hint = f", or write a list, {key}=[{raw}]" if kind is Kind.TEXTS else ""
    several = f"{key}={raw}: several values; add -m for a job each{list_hint}"
    if not sweep and _several(key, kind, raw) and not isinstance(word, Ready):
        return None, several
    value = raw if isinstance(word, Ready) else hydra_value(kind, raw, sweep=sweep)
    override = f"{'++' if key.split('.')[0] in OPEN else ''}{key}={value}"
    if (read := parsed(override)) is None:
        return None, f"{word!r} is not of the form key=value: {_reason(override)}"
    if read.is_sweep_override() and not sweep:
        return None, several
    return override, None


def _hydra_word(word: str) -> tuple[str | None, str | None]:
    """Return a word that is not one of our keys, checked by Hydra's own parser."""
    override = parsed(word)
    if override is None:
        return None, f"{word!r} is not of the form key=value: {_reason(word)}"
    if override.is_delete():
        return None, f"~{override.key_or_group}: a key cannot be removed; set it to null"
    return word, None


def _reason(word: str) -> str:
    try:
        OverridesParser.create().parse_overrides([word])
    except HydraException as error:
        return str(error).splitlines()[0]
    return "it cannot be read"


def _is_mapping(raw: str) -> bool:
    override: Override | None = parsed(f"key={raw}") if raw.startswith("{") else None
    return override is not None and isinstance(override.value(), dict)


def _several(key: str, kind: Kind, raw: str) -> bool:
    """Return whether commas separate values where one is taken, as in a sweep that lacks -m."""
    if is_quoted(raw) or raw.startswith("[") or len(parts := split(raw)) < 2:
        return False
    if key == "dataset.name":  # any other word may be a folder
        return all(part in plugins.entries("datasets") for part in parts)
    plain = all(re.fullmatch(r"[\w.:-]+", part) for part in parts)
    return kind is Kind.TEXTS or (key in CHOICES and plain)


def _kind(key: str, raw: str, named: Mapping[str, Sequence[str]]) -> Kind:
    """Return how the value of a key is read."""
    node, _, option = key.partition(".")
    if key in LISTS:
        return Kind.TEXTS
    if key in ("codec.name", "algo.name", "algo.preset"):
        return Kind.TEXT
    if node in PARTS and option:
        return kind_of(annotations_of(PARTS[node]).get(option))
    if node in OPEN:
        return _option_kind(node, option, raw, named)
    if key == "out":
        return Kind.TEXT_OR_NULL
    hints: dict[str, Any] = {"match": str}
    for part in (BudgetConfig, ScoringConfig, ComputeConfig):
        hints |= annotations_of(part)
    return kind_of(hints[key]) if key in hints else Kind.OTHER


def _option_kind(node: str, option: str, raw: str, named: Mapping[str, Sequence[str]]) -> Kind:
    """Return how an option of a codec or distiller is read: as its constructor's annotation has it."""
    head, _, last = option.rpartition(".")
    for name in (head,) if head else named[node]:  # `codec.taesd.path` in a comparison
        hint = _annotations(node, name).get(last)
        if hint is not None:
            return kind_of(hint)
    return Kind.OTHER if option in ("", "upsample", *(JOINT_OPTIONS if node == "codec" else ())) else Kind.UNKNOWN


def _annotations(node: str, name: str) -> dict[str, Any]:
    """Return the annotations of a plug-in's constructor; nothing if it cannot be resolved, which is reported later."""
    try:
        return annotations_of(plugins.resolve(f"{node}s", name).cls)
    except UsageError:
        return {}


def _plug_in_names(words: Sequence[str]) -> dict[str, list[str]]:
    """Return the codecs and distillers that the words name, the last first, then the defaults."""
    found: dict[str, list[str]] = {"codec": ["dct"], "algo": ["dm"]}
    for word in words:
        match = WORD.fullmatch(word)
        node, _, option = normal_key(match["key"]).partition(".") if match else ("", "", "")
        if match and node in OPEN and option in ("", "name"):
            found[node] = [part.strip("'\"") for part in split(match["value"])] + found[node]
    return found


def _keys(tree: Any, prefix: str = "") -> list[str]:
    found: list[str] = []
    for key, value in tree.items():
        if not prefix and key in ("defaults", "hydra"):
            continue
        found += _keys(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [prefix + key]
    return found


def composed(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the configuration tree that these overrides give. Makes no folder and touches no logging."""
    try:
        with initialize_config_dir(str(CONF), job_name="dd-bench", version_base="1.3"):
            tree = OmegaConf.to_container(compose("config", overrides=[str(word) for word in overrides]), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(" ".join(str(error).split())) from error
    return {str(key): value for key, value in dict(tree).items()} if isinstance(tree, Mapping) else {}


def expanded(overrides: Sequence[str]) -> list[list[str]]:
    """Return a sweep's overrides as one list per job, in the order of Hydra's own sweeper.

    Empty if only Hydra's sweeper can tell.
    """
    words = OverridesParser.create().parse_overrides([str(word) for word in overrides])
    if any(o.key_or_group == "hydra/sweeper" or (o.is_sweep_override() and not o.is_discrete_sweep()) for o in words):
        return []
    choices = {}
    for override in (o for o in words if not o.is_hydra_override()):
        key = override.get_key_element()
        values = override.sweep_string_iterator() if override.is_sweep_override() else None
        choices[key] = [f"{key}={value}" for value in values or [override.get_value_element_as_str()]]
    return [list(job) for job in itertools.product(*choices.values())]
