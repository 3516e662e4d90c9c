"""The accuracies that DD-Ranking's scores are made of, measured under the protocol that judges the distilled set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from latentdd_plugin.core.config import ResolvedEvaluation
from latentdd_plugin.core.random import generator
from latentdd_plugin.core.types import ImageData, Json, Score
from latentdd_plugin.evaluators.base import Trial
from latentdd_plugin.evaluators.protocols import Protocol
from latentdd_plugin.evaluators.scoring import ScoreFile, score
from latentdd_plugin.experiments.build import build_evaluators
from latentdd_plugin.experiments.full_dataset import reference
from latentdd_plugin.experiments.metrics import (
    WEIGHT,
    augmentation_robust_score,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
)
from latentdd_plugin.results.statistics import by_evaluator, summarise, summary

METRICS = ("lrs", "ars")
Rows = Mapping[str, Sequence[Score]]  # what was trained on -> scores


def metric_faults(asked: Sequence[str], protocol: Protocol | None) -> list[str]:
    """What is wrong with the metrics that were asked for; empty where nothing is."""
    faults = [f"metrics: {name!r}; choose of {', '.join(METRICS)}" for name in asked if name not in METRICS]
    if "ars" in asked and protocol is not None and not protocol.augment:
        faults.append(f"metrics=ars: protocol {protocol.name} has no augmentation to do without")
    return faults


def robustness(
    resolved: ResolvedEvaluation,
    images: ImageData,
    trial: Trial,
    scores: Sequence[Score],
    kept: Path,
    *,
    progress: bool,
) -> dict[str, Json]:
    """The record's `metrics`: values for each evaluator, paired by seed, and every accuracy they come from.

    `random` is one draw of as many real images a class, with hard labels and the protocol's own learning rate; only
    the networks differ between seeds. Where the set has soft labels, HLR takes it with their largest entry.

    Args:
        resolved: what is asked for.
        images: the data set.
        trial: the distilled set's trial.
        scores: the distilled set's scores under the protocol as it is.
        kept: folder in which finished scores are kept.
        progress: show bars on stderr.
    """
    scoring, seed = resolved.scoring, resolved.seed
    trials = _trials(resolved.metrics, trial, random_subset(images, trial, seed))
    rows: dict[str, Sequence[Score]] = {"synthetic": scores}
    for name, one in trials.items():
        file = ScoreFile(kept / f"scores-{name}.json")
        rows[name] = score(build_evaluators(scoring).evaluators, one, seed, file, progress=progress)[0]
    if "lrs" in resolved.metrics:
        whole = reference(build_evaluators(scoring).evaluators, images, trial, scoring.split, seed, progress=progress)
        rows["whole"] = [Score(**row) for row in whole["scores"]]
    return {
        "scale": "accuracies are fractions",
        "weight": WEIGHT,
        "values": _values(resolved.metrics, rows),
        "measured": {name: _measured(name, found, trials.get(name, trial)) for name, found in rows.items()},
    }


def random_subset(images: ImageData, trial: Trial, seed: int) -> Trial:
    """The trial with random real images: of each class as many as the distilled set has of it, or all there are."""
    classes, labels = len(images.classes), trial.labels.cpu()
    if labels.ndim == 2 and len(labels) % classes == 0:
        labels = torch.arange(classes).repeat_interleave(len(labels) // classes)
    elif labels.ndim == 2:
        labels = labels.argmax(1)
    counts = torch.bincount(labels, minlength=classes).tolist()
    draws, real = generator(seed, "random-subset"), images.train
    rows = []
    for label, count in enumerate(counts):
        members = (real.labels == label).nonzero().flatten()
        rows.append(members[torch.randperm(len(members), generator=draws)[:count]])
    chosen = torch.cat(rows)
    pixels = real.pixels[chosen].to(trial.numerics.device).float() / 255
    return replace(trial, images=pixels, labels=real.labels[chosen], label_kind="hard", lr=None)


def _trials(asked: Sequence[str], trial: Trial, random: Trial) -> dict[str, Trial]:
    """What is still to be trained on, by name."""
    plain = replace(trial.protocol, augment=())
    found = {"random": random}
    if "lrs" in asked and trial.label_kind != "hard" and trial.protocol.labels != "hard":
        found["synthetic-hard"] = replace(trial, protocol=replace(trial.protocol, labels="hard"))
    if "ars" in asked:
        found["synthetic-plain"] = replace(trial, protocol=plain)
        found["random-plain"] = replace(random, protocol=plain)
    return found


def _values(asked: Sequence[str], rows: Rows) -> dict[str, Json]:
    """`summarise` of each metric over seeds, for each evaluator."""
    table = {name: by_evaluator(scores) for name, scores in rows.items()}
    found: dict[str, Json] = {}
    for evaluator in table["synthetic"]:
        seeds = {name: of[evaluator] for name, of in table.items() if evaluator in of}
        if len(seeds) == len(table):
            found[evaluator] = {}
            for metric in asked:
                found[evaluator] |= {"lrs": _lrs, "ars": _ars}[metric](seeds)
    return found


Seeds = Mapping[str, Mapping[int, float]]  # what was trained on -> accuracy by seed


def _lrs(seeds: Seeds) -> dict[str, Json]:
    hard = seeds.get("synthetic-hard", seeds["synthetic"])
    hlr = _paired(hard_label_recovery, seeds["whole"], hard)
    ior = _paired(improvement_over_random, seeds["synthetic"], seeds["random"])
    lrs = _paired(label_robust_score, hlr, ior)
    return {name: summarise(list(of.values())) for name, of in (("hlr", hlr), ("ior", ior), ("lrs", lrs))}


def _ars(seeds: Seeds) -> dict[str, Json]:
    augmented = _paired(improvement_over_random, seeds["synthetic"], seeds["random"])
    plain = _paired(improvement_over_random, seeds["synthetic-plain"], seeds["random-plain"])
    ars = _paired(augmentation_robust_score, augmented, plain)
    parts = (("ior", augmented), ("ior-plain", plain), ("ars", ars))
    return {name: summarise(list(of.values())) for name, of in parts}


def _paired(
    function: Callable[[float, float], float], a: Mapping[int, float], b: Mapping[int, float]
) -> dict[int, float]:
    return {seed: function(value, b[seed]) for seed, value in a.items() if seed in b}


def _measured(name: str, scores: Sequence[Score], trial: Trial) -> dict[str, Json]:
    """How one accuracy was measured: on what, with which labels and augmentation, and the raw scores."""
    hard = name == "whole" or trial.label_kind == "hard"
    return {
        "labels": "hard" if hard else trial.protocol.labels,
        "augment": list(trial.protocol.augment),
        "scores": [asdict(row) for row in scores],
        "summary": summary(scores),
    }
