"""The forms of the registry's files, and what in a claim contradicts itself."""

from __future__ import annotations

import math
from collections.abc import Mapping

from latentdd_plugin.core.json_schema import (
    ANY,
    DIFFERENCE,
    FLAG,
    FRACTION,
    LIST,
    LONG,
    NAMES,
    NUMBER,
    OBJECT,
    PAIR,
    POSITIVE,
    SHA,
    SIZES,
    SOME,
    TEXT,
    TEXTS,
    TIME,
    URL,
    WHOLE,
    Form,
    Kind,
    faults,
    number,
    short,
    under,
    word,
)
from latentdd_plugin.core.types import PRECISIONS, Json, Score
from latentdd_plugin.results.statistics import gain, summary

SCORES: Form = {
    "scores": LIST,
    "scores.*.evaluator": TEXT,
    "scores.*.arch": TEXT,
    "scores.*.kwargs": OBJECT,
    "scores.*.params": WHOLE,
    "scores.*.seed": WHOLE,
    "scores.*.accuracy": FRACTION,
    "summary": OBJECT,
    "summary.*.mean": FRACTION,
    "summary.*.std": NUMBER.or_null(),
    "summary.*.n": SOME,
    "summary.*.ci95": PAIR.or_null(),
}
STATS: Form = {"mean": DIFFERENCE, "std": NUMBER.or_null(), "n": SOME, "ci95": PAIR.or_null()}
BUDGET: Form = {
    "ipc": SOME.or_null(),
    "bytes_per_class": SOME,
    "codes_per_class": SOME,
    "codes": SOME,
    "precision": word(*PRECISIONS),
    **{f"bytes.{key}": WHOLE for key in ("codes", "labels", "side", "decoder", "file", "total", "total_with_decoder")},
}
CODEC: Form = {
    "name": TEXT,
    "config": OBJECT,
    "fingerprint": SHA,
    "code_shape": SIZES,
    "decoder_bytes": WHOLE,
    "fitted": FLAG,
    "trained_on": TEXTS,
}
CONTROL: Form = {**SCORES, **under("budget", BUDGET), "gain": OBJECT, **under("gain.*", STATS)}
RECORD: Form = {
    "schema": word("dd-bench/result.v1"),
    "created": TIME,
    "command": ANY,
    "dataset.name": TEXT,
    "dataset.fingerprint": SHA,
    "dataset.classes": NAMES,
    "dataset.image_shape": SIZES,
    **under("codec", CODEC),
    "distiller.name": TEXT,
    "distiller.config": OBJECT,
    "distiller.match": word("code", "pixel"),
    **under("budget", BUDGET),
    "protocol.name": TEXT,
    "protocol.sha256": SHA,
    "scored_on": word("test", "validation"),
    **SCORES,
    "skipped": LIST,
    "skipped.*.evaluator": TEXT,
    "skipped.*.reason": ANY,
    "controls": OBJECT,
    "controls.*": OBJECT,
    "selection": TEXT,
    "cost": OBJECT,
    "cost.*": Kind("a number from 0", lambda v: number(v) and v >= 0, null=True),
    "artifact.sha256": SHA,
    "artifact.bytes": WHOLE,
    "environment": OBJECT,
    "environment.numerics": OBJECT,
    "environment.packages": OBJECT,
    "seeds": OBJECT,
}
CLAIM: Form = {
    "name": TEXT,
    "contact": TEXT,
    "code": URL.or_null(),
    "paper": URL.or_null(),
    "notes": LONG.or_null(),
    "suite": TEXT,
    "suite_sha256": SHA,
    "cell": TEXT,
    **under("record", RECORD),
    "artifact.file": TEXT.or_null(),
    "artifact.url": URL.or_null(),
    "artifact.sha256": SHA,
    "artifact.bytes": WHOLE,
    "grid": OBJECT.or_null(),
    "submitted": TIME,
}
GRID: Form = {"grid.file": TEXT, "grid.sha256": SHA}
CHECKS: Form = {
    "claim_sha256": SHA,
    "checks": LIST,
    "checks.*.level": word("static", "full"),
    "checks.*.result": word("verified", "reproduced within tolerance", "failed"),
    "checks.*.why": LIST,
    "checks.*.why.*": ANY,
    "checks.*.rows": LIST,
    "checks.*.rows.*.evaluator": TEXT,
    "checks.*.rows.*.seed": WHOLE,
    "checks.*.rows.*.claimed": FRACTION,
    "checks.*.rows.*.found": FRACTION,
    "checks.*.rows.*.control": TEXT.or_missing(),
    "checks.*.same_platform": FLAG.or_null(),
    "checks.*.created": TIME,
    "checks.*.environment": OBJECT,
}
ACCURACY: Form = {**SCORES, "skipped": LIST, "skipped.*.evaluator": TEXT, "skipped.*.reason": ANY}
CARD: Form = {
    "created": TIME,
    "command": ANY,
    **under("codec", CODEC),
    "dataset.name": TEXT,
    "dataset.image_shape": SIZES,
    "contracts": LIST,
    "contracts.*.contract": TEXT,
    "contracts.*.status": TEXT,
    "contracts.*.message": ANY,
    "values.image": SOME,
    "values.code": SOME,
    "values.compression": POSITIVE,
    "quality.images": SOME,
    "quality.ssim_window": SOME,
    **{f"quality.{what}.{key}": NUMBER for what in ("psnr", "ssim") for key in ("mean", "std")},
    **{f"speed.{key}": POSITIVE for key in ("encode_images_s", "decode_images_s", "batch", "threads")},
    "speed.device": TEXT,
    "accuracy.protocol": TEXT,
    "accuracy.scored_images": SOME,
    "accuracy.steps": SOME.or_null(),
    **under("accuracy.pixels", ACCURACY),
    **{
        path: kind
        for name in ("reconstructions", "codes")
        for path, kind in {
            **under(f"accuracy.{name}", ACCURACY),
            f"accuracy.{name}.difference": OBJECT,
            **under(f"accuracy.{name}.difference.*", STATS),
        }.items()
    },
    "environment": OBJECT,
}


def contradictions(claim: Mapping[str, Json]) -> list[str]:
    """Where a claim of the right form does not agree with itself: controls, rows and summaries, bytes, hashes."""
    record = claim["record"]
    found = faults(claim, GRID) if claim["grid"] is not None else []
    scored = {name: entry for name, entry in record["controls"].items() if not _left_out(entry)}
    for name, entry in scored.items():
        found += [f"record.controls.{short(name)}.{fault}" for fault in faults(entry, CONTROL)]
    if found:
        return found
    own = _rows(record)
    for name, entry in {"": record, **{f"controls.{short(k)}.": v for k, v in scored.items()}}.items():
        rows = _rows(entry)
        if len({(row.evaluator, row.seed) for row in rows}) < len(rows):
            found.append(f"record.{name}scores: an evaluator and seed are there twice")
        elif not _same(summary(rows), entry["summary"]):
            found.append(f"record.{name}summary: not what the rows of scores give")
        elif name and not _same(gain(own, rows), entry["gain"]):
            found.append(f"record.{name}gain: not what the rows of scores give, paired by seed")
        found += [
            f"record.{name}budget.{fault}" for fault in _spent(entry["budget"], len(record["dataset"]["classes"]))
        ]
    if not own:
        found.append("record.scores: no row; there is nothing to show")
    if claim["artifact"]["sha256"] != record["artifact"]["sha256"]:
        found.append("artifact.sha256: not the record's")
    return found


def _left_out(control: Mapping[str, Json]) -> bool:
    return control.keys() == {"skipped"} and ANY.holds(control["skipped"])


def _rows(entry: Mapping[str, Json]) -> list[Score]:
    keys = ("evaluator", "arch", "kwargs", "params", "seed", "accuracy")
    return [Score(**{key: row[key] for key in keys}) for row in entry["scores"]]


def _spent(budget: Mapping[str, Json], classes: int) -> list[str]:
    spent, found = budget["bytes"], []
    if spent["codes"] + spent["labels"] != spent["total"]:
        found.append("bytes.total: not the sum of codes and labels")
    if spent["total"] + spent["decoder"] != spent["total_with_decoder"]:
        found.append("bytes.total_with_decoder: not the sum of total and decoder")
    if spent["total"] > budget["bytes_per_class"] * classes:
        found.append(f"bytes.total: {spent['total']:,} spent, {budget['bytes_per_class'] * classes:,} allowed")
    return found


def _same(ours: Json, theirs: Json) -> bool:
    """Whether two summaries say the same, to what rounding in another version may change."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return ours.keys() == theirs.keys() and all(_same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, int | float):
        return math.isclose(ours, theirs, abs_tol=1e-6)
    return bool(ours == theirs)
