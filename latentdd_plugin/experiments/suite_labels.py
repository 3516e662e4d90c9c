"""Label regimes and teacher of a suite: read from its file, given to every run, required of every record."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from latentdd_plugin.core import plugins
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.parts import LabelConfig, TeacherConfig, label_faults
from latentdd_plugin.core.types import Json
from latentdd_plugin.experiments.teachers import teacher_faults
from latentdd_plugin.results.record import Record

LABEL_KEYS = tuple(f.name for f in dataclasses.fields(LabelConfig) if f.name != "regime")
TEACHER_KEYS = tuple(f.name for f in dataclasses.fields(TeacherConfig) if f.name != "path")
TEACHER_PINS = ("sha256",)


@dataclass(frozen=True)
class SuiteTeacher:
    """The teacher of a suite: how it is made; the user may give the folder of one that was made so.

    Attributes:
        options: of TeacherConfig, except `path`.
        pins: `sha256` of its weights, if every platform is to use the same. The suite's hash leaves it out, so that a
            published suite can be pinned later.
    """

    options: TeacherConfig = field(default_factory=TeacherConfig)
    pins: Mapping[str, Json] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.options)

    def config(self, path: str | None = None) -> TeacherConfig:
        """Return the teacher's configuration; `path` is the folder of a stored one."""
        return dataclasses.replace(self.options, path=path)


def read_labels(value: Json) -> tuple[LabelConfig, ...]:
    """Return one configuration per regime from `{regimes: [...], precision: ..., ...}`.

    Raises:
        UsageError: every fault of the mapping.
    """
    regimes = value.get("regimes") if isinstance(value, Mapping) else None
    if not isinstance(regimes, list) or not regimes or not all(isinstance(name, str) for name in regimes):
        raise UsageError("labels: a mapping with a list of regimes is wanted, and perhaps options of labels")
    options: dict[str, Any] = {key: option for key, option in value.items() if key != "regimes"}
    faults = _unknown("labels", options, LABEL_KEYS)
    if len(set(regimes)) < len(regimes):
        faults.append("labels: a regime is named twice")
    if faults:
        raise UsageError(faults)
    return tuple(LabelConfig(regime=name, **options) for name in regimes)


def read_teacher(value: Json) -> SuiteTeacher:
    """Return the teacher that `{name: ..., recipe: ..., pins: {sha256: ...}}` describes.

    Raises:
        UsageError: every fault of the mapping.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise UsageError("teacher: a mapping with a name is wanted")
    options: dict[str, Any] = {key: option for key, option in value.items() if key != "pins"}
    pins = value.get("pins", {})
    faults = _unknown("teacher", options, TEACHER_KEYS)
    if not isinstance(pins, Mapping) or not set(pins) <= set(TEACHER_PINS):
        faults.append(f"teacher, pins: a mapping of {', '.join(TEACHER_PINS)} is wanted")
    if faults:
        raise UsageError(faults)
    return SuiteTeacher(TeacherConfig(**options), dict(pins))


def _unknown(what: str, options: Mapping[str, Json], known: Sequence[str]) -> list[str]:
    if what == "teacher" and "path" in options:
        return ["teacher: path must be left to the user"]
    return [f"{what}: unknown option {key!r}{plugins.near(str(key), known)}" for key in options if key not in known]


def regime_faults(labels: Sequence[LabelConfig], teacher: SuiteTeacher) -> list[str]:
    """Return the faults of regimes and teacher: wrong values, unknown names, labels that lack a teacher."""
    found = [fault for one in labels for fault in label_faults(one, teacher.options)]
    found += [] if teacher.options.faults() else teacher_faults(teacher.options)
    return list(dict.fromkeys(found))


def unmet(labels: Sequence[LabelConfig], teacher: SuiteTeacher, record: Record) -> list[str]:
    """Return where a record's labels and teacher are others than a suite's; a suite without either asks for nothing."""
    found, config = [], record.config
    stated = dict(config.labels or LabelConfig().to_json())
    wanted = [one.to_json() for one in labels]
    if wanted and stated not in wanted:
        found.append(f"labels is {_words(stated)}, not {' or '.join(map(_words, wanted))}")
    if teacher and config.teacher is not None:
        theirs = {key: value for key, value in config.teacher.items() if key != "path"}
        ours = {key: value for key, value in teacher.options.to_json().items() if key != "path"}
        found += [] if theirs == ours else [f"teacher is {_words(theirs)}, not {_words(ours)}"]
    sha256 = teacher.pins.get("sha256")
    if sha256 and record.teacher is not None and record.teacher.sha256 != sha256:
        found.append(f"teacher.sha256 is {record.teacher.sha256[:12]}…, not {str(sha256)[:12]}…")
    return found


def _words(options: Mapping[str, Json]) -> str:
    return " ".join(f"{key}={value}" for key, value in options.items() if value is not None)
