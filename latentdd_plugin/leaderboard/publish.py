"""The part of a record that is published: built from keys that are known to be harmless, never cleaned of others.

A run records the places of its data and weights, and the words that were typed. Others can use none of it, and some of
it is private: folders, user names, tokens. Fingerprints identify data and weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from latentdd_plugin.core.types import JOINT_OPTIONS, Json, Score
from latentdd_plugin.results.entries import CodecEntry, DatasetEntry, DistillerEntry, NamedPart, Settings
from latentdd_plugin.results.record import Baseline, Record

WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")  # a text that an option may hold: a name, never a place
SECRET = re.compile(r"token|secret|passw|api_?key|credential|auth", re.IGNORECASE)
TOKEN = re.compile(r"(hf|ghp|gho|sk|pk|xox[a-z]|AKIA|glpat)[-_A-Z0-9].{8,}|(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9_-]{24,}")
SETTINGS = ("dataset", "codec", "algo", "match", "ipc", "lpc", "bytes", "precision", "evaluators", "protocol",
            "controls", "split", "seed", "device", "amp", "compile", "threads", "labels", "teacher")  # fmt: skip
DETAILS = ("by_class", "confused")  # of a score: for the report of a run, not for a claim
HIDDEN = "…"


def published(record: Record) -> Record:
    """Return the record as a submission holds it: known keys only, without places and secrets."""
    config = _settings(record.config, record.dataset, record.codec)
    return replace(
        record,
        command=command(config),
        config=config,
        dataset=_dataset(record.dataset),
        codec=_codec(record.codec),
        distiller=_distiller(record.distiller),
        scores=_scores(record.scores),
        baselines={
            name: _baseline(one, record.dataset) if isinstance(one, Baseline) else one
            for name, one in record.baselines.items()
        },
        environment=replace(record.environment, extra={}, key_order=None),
        extra={},
        key_order=None,
    )


def command(config: Settings) -> str:
    """Return the command line that a configuration stands for, without places."""
    words = ["dd-bench", "run", "--dataset", str(config.dataset.get("name")), "--codec", config.codec.name]
    words += ["--algo", config.algo.name, "--precision", config.precision, "--match", config.match]
    words += ["--ipc", str(config.ipc)] if config.ipc is not None else []
    words += ["--lpc", str(config.lpc)] if config.lpc is not None else []
    words += ["--bytes", str(config.bytes)] if config.bytes is not None else []
    words += ["--evaluator", ",".join(config.evaluators), "--protocol", config.protocol, "--seed", str(config.seed)]
    labels, teacher = dict(config.labels or {}), dict(config.teacher or {})
    words += ["--labels", str(labels["regime"])] if labels.get("regime") else []
    words += ["--teacher", str(teacher["name"])] if teacher.get("name") else []
    nodes = {"dataset": config.dataset, "codec": config.codec.extra, "algo": config.algo.extra}
    for node, options in {**nodes, "labels": labels, "teacher": teacher}.items():
        words += [
            f"{node}.{key}={_plain(value)}"
            for key, value in options.items()
            if key not in ("name", "regime") and value is not None
        ]
    return " ".join(words)


def _settings(config: Settings, dataset: DatasetEntry, codec: CodecEntry) -> Settings:
    stated = config.to_json()
    options = {
        key: value for key, value in config.codec.extra.items() if key in {*codec.config, "upsample", *JOINT_OPTIONS}
    }
    return Settings.from_json(
        {
            **{key: stated[key] for key in SETTINGS if key in stated},
            "dataset": {**_options(config.dataset), "name": dataset.name},
            "codec": {"name": config.codec.name, **_options(options)},
            "algo": _part(config.algo),
            **{key: _options(node) for key, node in (("labels", config.labels), ("teacher", config.teacher)) if node},
        }
    )


def _part(part: NamedPart) -> dict[str, Json]:
    return {"name": part.name, **_options(part.extra)}


def _baseline(baseline: Baseline, dataset: DatasetEntry) -> Baseline:
    return replace(
        baseline,
        config=_settings(baseline.config, dataset, baseline.codec),
        codec=_codec(baseline.codec),
        scores=_scores(baseline.scores),
        extra={},
        key_order=None,
    )


def _scores(scores: tuple[Score, ...]) -> tuple[Score, ...]:
    """Keep what another platform can recompute: not the classes and the mistakes of one network."""
    return tuple(replace(score, by_class=None, confused=None, extra={}, key_order=None) for score in scores)


def _dataset(entry: DatasetEntry) -> DatasetEntry:
    """Keep what identifies the data; an account of files keeps its numbers, without names."""
    return replace(entry, options=_options(entry.options), extra={}, key_order=None)


def _codec(entry: CodecEntry) -> CodecEntry:
    return replace(entry, source=_public(entry.source), extra={}, key_order=None)


def _distiller(entry: DistillerEntry) -> DistillerEntry:
    return replace(entry, config=_options(entry.config), extra={}, key_order=None)


def _options(options: Mapping[str, Json]) -> dict[str, Json]:
    """Return options by known kinds of values; a text that is not a plain word, or looks like a secret, is hidden."""
    return {
        key: HIDDEN if SECRET.search(key) else _public(value)
        for key, value in options.items()
        if WORD.fullmatch(str(key))
    }


def _public(value: Json) -> Json:
    if isinstance(value, Mapping):
        return _options(value)
    if isinstance(value, list | tuple):
        return [_public(one) for one in value]
    return _word(value) if isinstance(value, str) else value


def _word(value: Json) -> Json:
    if not isinstance(value, str):
        return None
    return value if WORD.fullmatch(value) and not TOKEN.fullmatch(value) else HIDDEN


def _plain(value: Json) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).replace(" ", "")
