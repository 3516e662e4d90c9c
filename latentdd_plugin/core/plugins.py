"""Load and check the classes that entry points, dotted paths and files name; nothing is imported before that."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from latentdd_plugin.core import user_code
from latentdd_plugin.core.entry_points import GROUPS, WEIGHTS, Entry, entries, problems
from latentdd_plugin.core.errors import PluginError
from latentdd_plugin.core.user_code import import_file, import_named

if TYPE_CHECKING:
    from latentdd_plugin.core.types import Json

__all__ = [
    "GROUPS",
    "OURS",
    "WEIGHTS",
    "Entry",
    "Preset",
    "check_arguments",
    "code_of",
    "config_of",
    "entries",
    "find",
    "load",
    "near",
    "parameters",
    "problems",
    "resolve",
]

OURS = "latentdd-plugin"  # the distribution of the built-in entries
CONTRACT = 1
KNOWN_BY_VERSION = ("latentdd_plugin", "torch", "abc", "builtins")  # top-level packages whose code needs no watching


@dataclass(frozen=True)
class Preset:
    """A class with some of its constructor's arguments already chosen."""

    cls: type
    config: Mapping[str, Json] = field(default_factory=dict)


def near(word: str, known: Collection[str]) -> str:
    """Return ` (did you mean x, y?)` for the nearest known words, or an empty text."""
    close = difflib.get_close_matches(word, sorted(known), n=3, cutoff=0.5)
    return f" (did you mean {', '.join(close)}?)" if close else ""


def find(group: str, name: str, *, distributions: Collection[str] | None = None) -> Entry:
    """Return the one entry of a name, of these distributions only if given; PluginError if none or several claim it."""
    known = entries(group)
    claims = [replace(known[name], rivals=()), *known[name].rivals] if name in known else []
    claims = [e for e in claims if distributions is None or e.distribution in distributions]
    kind = group.rstrip("s")
    if len(claims) > 1:
        raise PluginError(f"{kind} {name!r} is claimed twice, uninstall one: {'; '.join(map(str, claims))}")
    if not claims and name in known:
        raise PluginError(f"{kind} {name!r} is of {known[name].distribution}, which is not among those allowed here")
    if not claims:
        raise PluginError(f"unknown {kind} {name!r}{near(name, known)}; there are: {', '.join(known)}")
    return claims[0]


def load(group: str, name: str) -> Any:
    """Import what an entry points at. Whatever it raises, SystemExit included, becomes a PluginError."""
    return _imported(find(group, name))


def resolve(
    group: str,
    name: str,
    *,
    base: type | None = None,
    installed_only: bool = False,
    distributions: Collection[str] | None = None,
) -> Preset:
    """Return the class, or preset, that a name stands for, checked against its contract.

    Args:
        group: a key of GROUPS.
        name: an entry's name or, unless `installed_only`, `package.module:Class` or `./file.py:Class`.
        base: the class it must derive from.
        installed_only: for names out of files that others wrote: entry points alone.
        distributions: only entries of these distributions; None allows all.
    """
    if name.endswith(".py") and not installed_only:
        raise PluginError(f"{name!r} is a file: name the class in it too, {name}:ClassName")
    if ":" in name and not installed_only and name not in entries(group):
        value, origin = _from_path(name), name
    else:
        entry = find(group, name, distributions=distributions)
        value, origin = _imported(entry), str(entry)
    preset = value if isinstance(value, Preset) else Preset(value)
    _check(preset.cls, base, f"{group.rstrip('s')} {origin}")
    return preset


def parameters(cls: type) -> list[inspect.Parameter]:
    """Return the constructor's parameters; none if a plug-in's class does not define a constructor of its own."""
    maker = next(c for c in cls.__mro__ if "__init__" in vars(c))
    if hasattr(cls, "contract") and not hasattr(maker, "contract"):  # the constructor of torch's Module, say
        return []
    return list(inspect.signature(cls).parameters.values())


def config_of(part: object, without: Collection[str] = ()) -> dict[str, Json]:
    """Return a part's constructor arguments as JSON, from its attributes of the same names.

    Args:
        part: a codec, distiller or evaluator.
        without: arguments that are left out.
    """
    found = inspect.signature(type(part)).parameters.values()
    named = [p.name for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    values = {name: getattr(part, name) for name in named if name not in without}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def check_arguments(cls: type, config: Mapping[str, Json]) -> list[str]:
    """Return one fault for each key that is not a parameter of the class's constructor."""
    known = parameters(cls)
    if any(p.kind is p.VAR_KEYWORD for p in known):
        return []
    allowed = [p.name for p in known if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes = f"it takes: {', '.join(allowed)}" if allowed else "it takes no options"
    return [f"{cls.__name__} has no option {k!r}{near(k, allowed)}; {takes}" for k in config if k not in allowed]


def code_of(cls: type) -> str | None:
    """Return the sha256 over the files that define a plug-in's class and its bases; None for a class of this package.

    With other code, equal options may give other numbers: what is kept on disk is kept for this code alone.
    """
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in _files(cls)}
    return hashlib.sha256(" ".join(sorted(digests)).encode()).hexdigest() if digests else None


def _files(cls: type) -> set[Path]:
    """Return the files that define a class and its bases, by their functions: a file need not be a module any more."""
    theirs = [one for one in cls.__mro__ if one.__module__.partition(".")[0] not in KNOWN_BY_VERSION]
    functions = [inspect.unwrap(value) for one in theirs for value in vars(one).values() if inspect.isfunction(value)]
    paths = {function.__code__.co_filename for function in functions}
    paths |= {getattr(sys.modules.get(one.__module__), "__file__", None) or "" for one in theirs}
    return {Path(path) for path in paths if Path(path).is_file()}


def _check(cls: Any, base: type | None, what: str) -> None:
    if not isinstance(cls, type):
        raise PluginError(f"{what}: a class or a Preset is wanted, this is a {type(cls).__name__}")
    if base is not None and not issubclass(cls, base):
        raise PluginError(f"{what}: {cls.__qualname__} does not derive from {base.__module__}.{base.__qualname__}")
    contract = getattr(cls, "contract", CONTRACT)
    if contract != CONTRACT:
        raise PluginError(f"{what}: written for contract {contract}, this version knows contract {CONTRACT}")
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise PluginError(f"{what}: {cls.__qualname__} does not define {', '.join(missing)}")


def _imported(entry: Entry) -> Any:
    module, _, attribute = entry.target.partition(":")
    try:
        return _attribute(importlib.import_module(module), attribute)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plug-in may raise anything, SystemExit included
        extras = ",".join(e for e in entry.extras if e != WEIGHTS)
        hint = f"; it wants: pip install '{entry.distribution}[{extras}]'" if extras else ""
        raise PluginError(f"{entry.group.rstrip('s')} {entry} cannot be loaded: {_cause(error)}{hint}") from error


def _from_path(name: str) -> Any:
    where, _, attribute = name.rpartition(":")
    path = Path(where).expanduser()
    try:
        module = import_file(path) if path.suffix == ".py" else import_named(where)
        return _attribute(module, attribute)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(f"{name!r} cannot be loaded: {_cause(error)}") from error


def _attribute(module: ModuleType, dotted: str) -> Any:
    value: Any = module
    for part in dotted.split(".") if dotted else ():
        if not hasattr(value, part):
            raise AttributeError(f"{module.__name__} has no {part!r}{near(part, dir(value))}")
        value = getattr(value, part)
    return value


def _cause(error: BaseException) -> str:
    """Return the error and the line of the plug-in's code that raised it."""
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    ours = (__file__, user_code.__file__)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename not in ours and "<" not in f.filename]
    frames = [frame for frame in frames if Path(frame.filename).parent != Path(importlib.__file__).parent]
    return f"{said} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else said
