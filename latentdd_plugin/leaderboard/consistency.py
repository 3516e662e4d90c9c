"""The statements of a record, held against each other: what needs no data, no training and no file but the claim.

A record says many things twice: the protocol that was asked for and the protocol that scored, the distiller of the
configuration and the distiller of the result. Which competition a claim enters is read from one of them, so both must
agree. `PAIRS` is the whole list.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from latentdd_plugin.artifacts.budget import budget_for, image_bytes, precision_fault
from latentdd_plugin.artifacts.labels import label_bits
from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.core import plugins
from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.json_schema import short
from latentdd_plugin.core.parts import LATER, ComputeConfig
from latentdd_plugin.core.types import JOINT_OPTIONS, Json, Score
from latentdd_plugin.evaluators import protocols
from latentdd_plugin.evaluators.predictions import TOP5_FROM
from latentdd_plugin.experiments.baselines import baseline_configs, is_baseline_distiller
from latentdd_plugin.experiments.build import build_distiller
from latentdd_plugin.experiments.token_rules import method_fault
from latentdd_plugin.results.entries import BudgetEntry
from latentdd_plugin.results.record import CURVE_POINTS, Baseline, Record
from latentdd_plugin.results.statistics import gains, summarise

ROUNDING = 1e-6  # of one image: an accuracy is a count over the images that scored
MOST_THREADS = 4096
DEVICE = r"cpu|cuda(:[0-9]{1,3})?"
LOCATIONS = (
    "path",
    "repo",
    "revision",
    "subfolder",
)  # options that say where weights lie, of codecs not installed here
NOT_IN_OPTIONS = ("name", "subset", "revision", *LATER)  # keys of a dataset that a record's options leave out
NUMERICS: Mapping[str, type] = {
    **dict.fromkeys(("device", "amp", "compile", "torch", "capability"), str),
    **dict.fromkeys(("bf16", "compiler"), bool),
    "threads": int,
}


def contradictions(record: Record, prefix: str = "") -> list[str]:
    """Return where rows, summaries, gains and bytes of a record do not agree."""
    found = []
    scored = record.scored_baselines
    entries: dict[str, Record | Baseline] = {"": record, **{f"controls.{short(k)}.": v for k, v in scored.items()}}
    for name, entry in entries.items():
        where = prefix + name
        if len({(row.evaluator, row.seed) for row in entry.scores}) < len(entry.scores):
            found.append(f"{where}scores: an evaluator and seed are there twice")
        elif not _same(summarise(entry.scores), entry.summary):
            found.append(f"{where}summary: not what the rows of scores give")
        elif isinstance(entry, Baseline) and not _same(gains(record.scores, entry.scores), entry.gain):
            found.append(f"{where}gain: not what the rows of scores give, paired by seed")
        found += [f"{where}scores: {fault}" for row in entry.scores for fault in _by_class(row, record)]
        found += [f"{where}budget.{fault}" for fault in _spent(entry.budget, len(record.dataset.classes))]
    if not record.scores:
        found.append(f"{prefix}scores: no row; there is nothing to show")
    return found


def _by_class(row: Score, record: Record) -> list[str]:
    """Return what is wrong with a score's classes and its top-5 accuracy."""
    name, classes = f"{row.evaluator}, seed {row.seed}", len(record.dataset.classes)
    found = []
    if row.by_class is not None and len(row.by_class) != classes:
        found.append(f"{name}: by_class has {len(row.by_class)} entries for {classes} classes")
    if any(max(mistake[:2]) >= classes or mistake[0] == mistake[1] for mistake in row.confused or ()):
        found.append(f"{name}: confused names no mistake among {classes} classes")
    if row.top5 is not None and (classes < TOP5_FROM or row.top5 < row.accuracy):
        found.append(f"{name}: top5 is below the accuracy, or of fewer than {TOP5_FROM} classes")
    return found


def _spent(budget: BudgetEntry, classes: int) -> list[str]:
    allowed = budget.bytes_per_class * classes
    return [] if budget.bytes.total <= allowed else [f"bytes.total: {budget.bytes.total:,} spent, {allowed:,} allowed"]


def _same(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Return whether two summaries say the same, up to what rounding in another version may change."""
    return ours.keys() == theirs.keys() and all(_close(ours[key].to_json(), theirs[key].to_json()) for key in ours)


def _close(ours: Json, theirs: Json) -> bool:
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return ours.keys() == theirs.keys() and all(_close(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_close, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, int | float) and not isinstance(theirs, bool):
        return math.isclose(ours, theirs, abs_tol=1e-6)
    return bool(ours == theirs) and type(ours) is type(theirs)


# --- statements that are made twice -----------------------------------------------------------------------------------

# Each is (what is stated, what it must equal), both with their name in the file.
PAIRS: tuple[tuple[str, Callable[[Record], Json], str, Callable[[Record], Json]], ...] = (
    ("protocol.name", lambda r: r.protocol.name, "config.protocol", lambda r: r.config.protocol),
    (
        "budget.bytes.teacher",
        lambda r: r.budget.bytes.teacher,
        "teacher.bytes",
        lambda r: None if r.teacher is None else r.teacher.bytes,
    ),
    ("scored_on", lambda r: r.scored_on, "config.split", lambda r: r.config.split),
    ("codec.name", lambda r: r.codec.name, "config.codec.name", lambda r: r.config.codec.name),
    (
        "codec.upsample",
        lambda r: r.codec.upsample,
        "config.codec.upsample",
        lambda r: r.config.codec.extra.get("upsample", 1),
    ),
    ("distiller.name", lambda r: r.distiller.name, "config.algo.name", lambda r: r.config.algo.name),
    ("distiller.match", lambda r: r.distiller.match, "config.match", lambda r: r.config.match),
    (
        "distiller.config",
        lambda r: dict(r.distiller.config),
        "config.algo",
        lambda r: {key: value for key, value in r.config.algo.extra.items() if key != "preset"},
    ),
    ("budget.ipc", lambda r: r.budget.ipc, "config.ipc", lambda r: r.config.ipc),
    ("budget.precision", lambda r: r.budget.precision, "config.precision", lambda r: r.config.precision),
    ("seeds.run", lambda r: r.seeds.run, "config.seed", lambda r: r.config.seed),
    (
        "seeds.evaluation",
        lambda r: list(r.seeds.evaluation),
        "the seeds of scores",
        lambda r: sorted({row.seed for row in r.scores}),
    ),
    (
        "dataset.options",
        lambda r: dict(r.dataset.options),
        "config.dataset",
        lambda r: {key: value for key, value in r.config.dataset.items() if key not in NOT_IN_OPTIONS},
    ),
    ("dataset.subset", lambda r: r.dataset.subset, "config.dataset.subset", lambda r: r.config.dataset.get("subset")),
)


def inconsistencies(record: Record) -> list[str]:
    """Return every place where a record contradicts itself, its protocol or its configuration."""
    found = [
        f"{stated}: {short(is_(record))}, but {source} is {short(wants(record))}"
        for stated, is_, source, wants in PAIRS
        if is_(record) != wants(record)
    ]
    return [
        *found,
        *_protocol(record),
        *_rows(record),
        *_budget(record),
        *_codec(record),
        *_distiller(record),
        *_baselines(record),
        *_numerics(record),
        *_losses(record),
    ]


def _protocol(record: Record) -> list[str]:
    """Compare the protocol with this package's of that name, number by number."""
    try:
        protocol = protocols.get(record.protocol.name)
    except UsageError as error:
        return [f"protocol: {fault}" for fault in error.faults]
    ours, claimed = type(record.protocol).of(protocol).to_json(), record.protocol.to_json()
    return [
        f"protocol.{key}: {claimed.get(key)!r}, but {protocol.name} has {ours.get(key)!r}"
        for key in sorted({*claimed, *ours})
        if json.dumps(claimed.get(key)) != json.dumps(ours.get(key))  # 0 is not 0.0, which a page would show
    ]


def _rows(record: Record) -> list[str]:
    """Require a row for each evaluator and each of the protocol's seeds, and accuracies that are counts of images."""
    if record.protocol.name not in protocols.PROTOCOLS:
        return []
    seeds = protocols.get(record.protocol.name).seeds
    skipped = [row.evaluator for row in record.skipped]
    wanted = [
        (name, 1000 * record.config.seed + i)
        for name in record.config.evaluators
        if name not in skipped
        for i in range(seeds)
    ]
    found = [f"skipped: no one asked for {name}" for name in skipped if name not in record.config.evaluators]
    images = record.dataset.test_size
    for baseline, scores in ((None, record.scores), *((n, b.scores) for n, b in record.scored_baselines.items())):
        where = "scores" if baseline is None else f"controls.{short(baseline)}.scores"
        there = [(row.evaluator, row.seed) for row in scores]
        # A baseline may suit an evaluator that the method does not, so only what the method has must be there.
        found += [f"{where}: {name} has no row of seed {seed}" for name, seed in wanted if (name, seed) not in there]
        stray = [key for key in there if key not in wanted and (baseline is None or key[0] not in skipped)]
        found += [f"{where}: no one asked for a row of {name}, seed {seed}" for name, seed in stray]
        if not stray and [key for key in there if key in wanted] != [key for key in wanted if key in there]:
            found.append(f"{where}: rows must be in the order of evaluators and seeds")
        for row in scores:
            right = row.accuracy * images
            if abs(right - round(right)) > ROUNDING:
                found.append(
                    f"{where}: {row.evaluator}, seed {row.seed}: {row.accuracy} is not a count of {images} images"
                )
    return found


def _budget(record: Record) -> list[str]:
    """Recompute the budget from the configuration and the shapes."""
    budget, found = record.budget, []
    codes, classes = budget.codes_per_class, len(record.dataset.classes)
    if record.config.lpc is not None and codes != record.config.lpc:
        found.append(f"budget.codes_per_class: {codes}, but config.lpc is {record.config.lpc}")
    if budget.ipc is not None:
        allowed = budget.ipc * image_bytes(record.dataset.image_shape)
        if budget.bytes_per_class != allowed:
            found.append(
                f"budget.bytes_per_class: {budget.bytes_per_class:,}, but ipc={budget.ipc} is {allowed:,} bytes"
            )
    if record.config.bytes is not None and budget.bytes_per_class != record.config.bytes:
        given = record.config.bytes
        found.append(f"budget.bytes_per_class: {budget.bytes_per_class:,}, but config.bytes is {given:,}")
    entries = {"": budget, **{f"controls.{short(name)}.": one.budget for name, one in record.scored_baselines.items()}}
    return found + [f"{where}budget.{fault}" for where, one in entries.items() for fault in _count(one, classes)]


def _count(budget: BudgetEntry, classes: int) -> list[str]:
    """Compare the stored codes with the codes per class."""
    wanted, codes = budget.codes_per_class * classes, budget.codes
    if codes > wanted:
        return [f"codes: {codes}, but at most {wanted} fit"]
    reason = None if codes == wanted else f"{codes} codes instead of {wanted}: a class has no more images"
    return [] if budget.shortfall == reason else [f"shortfall: {short(budget.shortfall)}, {codes} of {wanted} stored"]


def _codec(record: Record) -> list[str]:
    """Compare the codec's options with those that were asked for; require that it says what its weights have seen."""
    codec, found = record.codec, []
    locations = set(LOCATIONS)
    entry = plugins.entries("codecs").get(codec.name)
    if entry is not None and entry.distribution == plugins.OURS:
        cls: type[Codec] = plugins.resolve("codecs", codec.name, base=Codec, installed_only=True).cls
        locations |= set(cls.locations)
        if (cls.tokens is None) != (codec.tokens is None):
            found.append(f"codec.tokens: {codec.tokens}, but the codes of {codec.name} are tokens or not by its class")
    if fault := precision_fault(record.budget.precision, short(codec.name), tokens=codec.tokens is not None):
        found.append(f"budget.{fault}")
    for key, value in record.config.codec.extra.items():
        if key in ("upsample", *JOINT_OPTIONS) or (key in locations and key not in codec.config):
            continue
        if key not in codec.config or codec.config[key] != value:
            found.append(f"config.codec.{short(key)}: {short(value)}, but codec.config does not say so")
    if codec.decoder_bytes and not codec.fitted and not codec.trained_on:
        found.append(f"codec.trained_on: {codec.name} has weights; say what data they have seen")
    joint, trained = record.config.codec.extra.get("joint") is True, record.budget.bytes.trained
    if joint != bool(trained):
        found.append(f"budget.bytes.trained: {trained}, but config.codec.joint is {str(joint).lower()}")
    return found


def _distiller(record: Record) -> list[str]:
    """Build a distiller of this package from its options; compare the iterate that was scored."""
    name, found = record.distiller.name, []
    entry = plugins.entries("algos").get(name)
    ours = entry is not None and entry.distribution == plugins.OURS
    wanted = "unknown" if name == "imported" else "last-iterate"
    if record.selection != wanted and not (not ours and record.selection == "unknown"):
        found.append(f"selection: {record.selection!r}, but only the last iterate may be scored")
    if ours and name != "imported":
        try:
            match, codec = record.distiller.match, record.codec
            installed = plugins.entries("codecs").get(codec.name)  # no other codec that a claim names is loaded
            known = codec.name if installed is not None and installed.distribution == plugins.OURS else ""
            options = {"name": name, **record.distiller.config, "preset": _preset(record)}
            made = build_distiller(options, match, known)
            if codec.tokens is not None and made.changes_codes:
                found.append(f"distiller: {method_fault(name, short(codec.name))}")
            if made.config() != dict(record.distiller.config):
                found.append(f"distiller.config: not every option of {name}")
        except UsageError as error:
            found += [f"distiller: {fault}" for fault in error.faults]
    return found


def _preset(record: Record) -> str:
    return str(record.config.algo.extra.get("preset", "quick"))


def _baselines(record: Record) -> list[str]:
    """Require exactly the baselines that a run of this configuration has."""
    try:
        config = RunConfig.from_json(record.config.to_json())
        wanted = baseline_configs(config, record.budget.bytes_per_class, record.dataset.image_shape)
    except (UsageError, TypeError) as error:
        return [f"config: not the configuration of a run ({error})"]
    if not record.config.controls and is_baseline_distiller(record.distiller.name):
        wanted = {}  # it is the baseline itself
    found = [
        f"controls.{short(name)}: such a run has no baseline of that name"
        for name in record.baselines
        if name not in wanted
    ]
    for name, expected in wanted.items():
        entry = record.baselines.get(name)
        if entry is None:
            found.append(f"controls.{name}: left out; every method stands beside its baselines")
        elif isinstance(entry, Baseline):
            if isinstance(expected, str):
                found.append(f"controls.{name}: it has scores, but cannot be made ({expected})")
            else:
                found += [f"controls.{name}.{fault}" for fault in _baseline(record, entry, expected)]
        elif isinstance(expected, RunConfig) and entry.skipped not in _reasons(record, name, expected):
            found.append(f"controls.{name}: left out, though it can be made")
    return found


def _baseline(record: Record, entry: Baseline, expected: RunConfig) -> Iterator[str]:
    """Compare a baseline's own statements with the method's and with its configuration."""
    pairs: dict[str, tuple[Json, Json]] = {
        "config.codec.name": (entry.config.codec.name, expected.codec.name),
        "config.algo.name": (entry.config.algo.name, expected.algo.name),
        "config.precision": (entry.config.precision, expected.precision),
        "config.protocol": (entry.config.protocol, record.config.protocol),
        "config.evaluators": (entry.config.evaluators, record.config.evaluators),
        "config.seed": (entry.config.seed, record.config.seed),
        "config.labels": (entry.config.labels, record.config.labels),
        "config.teacher": (entry.config.teacher, expected.to_json().get("teacher")),
        "config.split": (entry.config.split, record.config.split),
        "codec.name": (entry.codec.name, expected.codec.name),
        "budget.precision": (entry.budget.precision, expected.precision),
    }
    if expected.codec.name == record.codec.name:
        pairs["codec.fingerprint"] = (entry.codec.fingerprint, record.codec.fingerprint)
    yield from (
        f"{key}: {short(is_)}, but it must be {short(wants)}" for key, (is_, wants) in pairs.items() if is_ != wants
    )
    if entry.budget.bytes_per_class > record.budget.bytes_per_class:
        theirs, ours = entry.budget.bytes_per_class, record.budget.bytes_per_class
        yield f"budget.bytes_per_class: {theirs:,}, the method has {ours:,}"


def _reasons(record: Record, name: str, config: RunConfig) -> list[str]:
    """Return the reasons for which this baseline may be missing: its budget holds not one code."""
    drawn = name == "random-codes"
    shape, tokens = (record.codec.code_shape, record.codec.tokens) if drawn else (record.dataset.image_shape, None)
    shapes, size = (record.dataset.image_shape, shape), config.bytes
    try:
        bits = label_bits(config.labels, len(record.dataset.classes))
        how: dict[str, Any] = {"ipc": config.ipc, "lpc": config.lpc, "bytes_per_class": size}
        how |= {"label_bits": bits, "tokens": tokens}
        budget_for(*shapes, config.precision, **how)
    except UsageError as error:
        return [str(error)]
    return []


def _losses(record: Record) -> list[str]:
    """Require a curve as a run writes it: at most 200 points, steps from 0 that rise."""
    steps = [step for step, _ in record.losses or ()]
    found = [] if len(steps) <= CURVE_POINTS else [f"losses: {len(steps)} points, but a run keeps {CURVE_POINTS}"]
    if any(after <= before for before, after in pairwise(steps)) or any(n < 0 for n in steps):
        found.append("losses: steps must rise, from 0")
    return found


def _numerics(record: Record) -> list[str]:
    """Require that the arithmetic is one that a machine can be asked for."""
    import re

    stated, found = record.environment.numerics, []
    for key, kind in NUMERICS.items():
        if type(stated.get(key)) is not kind:
            found.append(
                f"environment.numerics.{key}: {short(stated.get(key))}, but it must be of type {kind.__name__}"
            )
    found += [f"environment.numerics.{short(key)}: unknown" for key in stated if key not in NUMERICS]
    if found:
        return found
    if not re.fullmatch(DEVICE, stated["device"]):
        found.append(f"environment.numerics.device: {short(stated['device'])}, but it must be cpu, cuda or cuda:N")
    if not 1 <= stated["threads"] <= MOST_THREADS:
        found.append(f"environment.numerics.threads: {stated['threads']}, but it must be from 1 to {MOST_THREADS}")
    compute = ComputeConfig(amp=stated["amp"], compile=stated["compile"])
    return found + [f"environment.numerics.{fault}" for fault in compute.faults()]
