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

from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.plugins import near

CONF = Path(__file__).resolve().parent / "conf"
FLAGS = {  # flag -> the key it sets
    "codec": "codec.name",
    "algo": "algo.name",
    "dataset": "dataset.name",
    "ipc": "ipc",
    "lpc": "lpc",
    "precision": "precision",
    "match": "match",
    "evaluator": "evaluator",
    "protocol": "protocol",
    "seed": "seed",
    "device": "device",
    "controls": "controls",
}
OPEN = ("codec", "algo")  # nodes that take any key: their plug-in's constructor decides
NAMED = ("codec", "algo", "dataset")  # nodes for which `node=x` is short for `node.name=x`


def quoted(value: str) -> str:
    """A text as one Hydra value that means exactly this text, whatever it holds."""
    text = re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + r"\${", value)  # no OmegaConf interpolation
    text = re.sub(r"(\\*)'", lambda m: m[1] * 2 + r"\'", text)
    text = re.sub(r"(\\+)$", lambda m: m[1] * 2, text)
    return f"'{text}'"


def split_commas(text: str) -> list[str]:
    """The parts between commas that stand outside parentheses."""
    return [part.strip() for part in re.split(r",(?![^()]*\))", text) if part.strip()]


def from_flags(args: argparse.Namespace, *, sweep: bool) -> list[str]:
    """The flags as overrides, before those that were typed, which therefore win. In a sweep commas separate jobs."""
    typed = list(args.overrides)
    fixed_lpc = getattr(args, "lpc", None) is not None or any(word.lstrip("+").startswith("lpc=") for word in typed)
    found = []
    for flag, key in FLAGS.items():
        value = getattr(args, flag, None)  # a command has some of them
        if value is None:
            continue
        if flag == "evaluator" or (flag == "precision" and "," in value and (fixed_lpc or not sweep)):
            found.append(f"{key}=[{','.join(quoted(part) for part in split_commas(value))}]")
        elif sweep:
            found.append(f"{key}={','.join(_literal(part) for part in split_commas(value))}")
        else:
            found.append(f"{key}={_literal(value)}")
    return found + typed


def key_of(word: str) -> str:
    """The key that a checked override sets."""
    return word.lstrip("+").partition("=")[0]


def _literal(value: str) -> str:
    """A number or a plain word as it is, which reads well in a sweep's table; anything else quoted."""
    plain = re.fullmatch(r"-?\d+|(?!(?i:null|true|false|nan|inf)$)[A-Za-z][A-Za-z0-9_-]*", value)
    return value if plain else quoted(value)


def checked(words: Sequence[str], *, sweep: bool) -> tuple[list[str], list[str]]:
    """The overrides as Hydra takes them, without those that are at fault; and the faults."""
    known = _keys(OmegaConf.to_container(OmegaConf.load(CONF / "config.yaml")))
    kept, faults = [], []
    for word in words:
        try:
            (override,) = OverridesParser.create().parse_overrides([word])
        except HydraException as error:
            faults.append(f"{word!r} is not of the form key=value: {str(error).splitlines()[0]}")
            continue
        fault = _fault(override, known, sweep=sweep)
        if fault:
            faults.append(fault)
        else:
            kept.append(_normal(word, override))
    return kept, faults


def _fault(override: Override, known: Sequence[str], *, sweep: bool) -> str | None:
    key = override.key_or_group
    if override.is_hydra_override() or key.split("/")[0] == "hydra":
        return None
    if override.is_delete():
        return f"~{key}: a key cannot be removed; set it to null"
    if override.is_sweep_override() and not sweep:
        value = override.get_value_string()
        return f"{key}={value}: several values; add -m for a job each, or write a list, {key}=[{value}]"
    if key in known or key in NAMED or key.split(".")[0] in OPEN:
        return None
    return f"unknown key {key!r}{near(key, known)}; the keys are: {', '.join(known)}, codec.*, algo.*"


def _normal(word: str, override: Override) -> str:
    """`codec=x` as `codec.name=x`; keys of open nodes as additions, so that Hydra takes new ones."""
    key, value = override.key_or_group, word.partition("=")[2]
    if key.split("/")[0] == "hydra" or override.is_hydra_override():
        return word
    if key in NAMED and not isinstance(override.value(), dict):
        key = f"{key}.name"
    return f"{'++' if key.split('.')[0] in OPEN else ''}{key}={value}"


def _keys(tree: Any, prefix: str = "") -> list[str]:
    found: list[str] = []
    for key, value in tree.items():
        if not prefix and key in ("defaults", "hydra"):
            continue
        found += _keys(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [prefix + key]
    return found


def composed(overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration tree these overrides give. Makes no folder and touches no logging."""
    try:
        with initialize_config_dir(str(CONF), job_name="dd-bench", version_base="1.3"):
            tree = OmegaConf.to_container(compose("config", overrides=list(overrides)), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(" ".join(str(error).split())) from error
    return {str(key): value for key, value in dict(tree).items()} if isinstance(tree, Mapping) else {}


def expanded(overrides: Sequence[str]) -> list[list[str]]:
    """A sweep's overrides as one list a job, as Hydra's own sweeper orders them; [] where only its sweeper can tell."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    if any(o.key_or_group == "hydra/sweeper" or (o.is_sweep_override() and not o.is_discrete_sweep()) for o in parsed):
        return []
    choices = {}
    for override in (o for o in parsed if not o.is_hydra_override()):
        key = override.get_key_element()
        values = override.sweep_string_iterator() if override.is_sweep_override() else None
        choices[key] = [f"{key}={value}" for value in values or [override.get_value_element_as_str()]]
    return [list(job) for job in itertools.product(*choices.values())]
