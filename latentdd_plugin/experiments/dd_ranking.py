"""DD-Ranking's scores, from accuracies measured under the protocol that judges the distilled set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from latentdd_plugin.core.config import ResolvedEvaluation
from latentdd_plugin.core.random import generator
from latentdd_plugin.core.types import ImageData, Score
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
from latentdd_plugin.results.evaluation import Measured, Metrics
from latentdd_plugin.results.statistics import Statistics, by_evaluator, summarise

METRICS = ("lrs", "ars")
Rows = Mapping[str, Sequence[Score]]  # what was trained on -> scores


def metric_faults(asked: Sequence[str], protocol: Protocol | None) -> list[str]:
    """Return every fault of the metrics that were asked for; empty if there is none."""
    faults = [f"metrics: {name!r}; choose of {', '.join(METRICS)}" for name in asked if name not in METRICS]
    if "ars" in asked and protocol is not None and not protocol.augment:
        faults.append(f"metrics=ars: protocol {protocol.name} has no augmentation to do without")
    return faults


def robustness(
    wanted: ResolvedEvaluation, images: ImageData, trial: Trial, scores: Sequence[Score], kept: Path, *, progress: bool
) -> Metrics:
    """Measure every accuracy that the metrics need, and return the metrics per evaluator, paired by seed.

    `random` is one draw of as many real images per class, with hard labels and the protocol's own learning rate; only
    the networks differ between seeds. If the set has soft labels, HLR takes their largest entry.

    Args:
        wanted: the evaluation.
        images: the dataset.
        trial: the distilled set's trial.
        scores: the distilled set's scores under the protocol as it is.
        kept: folder for finished scores.
        progress: show bars on stderr.
    """
    scoring, seed = wanted.scoring, wanted.seed
    trials = _trials(wanted.metrics, trial, random_subset(images, trial, seed))
    rows: dict[str, Sequence[Score]] = {"synthetic": scores}
    for name, one in trials.items():
        file = ScoreFile(kept / f"scores-{name}.json")
        rows[name] = score(build_evaluators(scoring).evaluators, one, seed, file, progress=progress)[0]
    if "lrs" in wanted.metrics:
        evaluators = build_evaluators(scoring).evaluators
        rows["whole"] = reference(evaluators, images, trial, scoring.split, seed, progress=progress).scores
    return Metrics(
        scale="accuracies are fractions",
        weight=WEIGHT,
        values=_values(wanted.metrics, rows),
        measured={name: _measured(name, found, trials.get(name, trial)) for name, found in rows.items()},
    )


def random_subset(images: ImageData, trial: Trial, seed: int) -> Trial:
    """Return the trial on random real images: of each class as many as the distilled set has, or all there are."""
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
    """Return the trials that are still to be trained, by name."""
    plain = replace(trial.protocol, augment=())
    found = {"random": random}
    if "lrs" in asked and trial.label_kind != "hard" and trial.protocol.labels != "hard":
        found["synthetic-hard"] = replace(trial, protocol=replace(trial.protocol, labels="hard"))
    if "ars" in asked:
        found["synthetic-plain"] = replace(trial, protocol=plain)
        found["random-plain"] = replace(random, protocol=plain)
    return found


def _values(asked: Sequence[str], rows: Rows) -> dict[str, dict[str, Statistics]]:
    """Return each metric over seeds, by evaluator; an evaluator that lacks one of the accuracies has none."""
    table = {name: by_evaluator(scores) for name, scores in rows.items()}
    found: dict[str, dict[str, Statistics]] = {}
    for evaluator in table["synthetic"]:
        seeds = {name: of[evaluator] for name, of in table.items() if evaluator in of}
        if len(seeds) == len(table):
            found[evaluator] = {}
            for metric in asked:
                found[evaluator] |= {"lrs": _lrs, "ars": _ars}[metric](seeds)
    return found


Seeds = Mapping[str, Mapping[int, float]]  # what was trained on -> accuracy by seed


def _lrs(seeds: Seeds) -> dict[str, Statistics]:
    hard = seeds.get("synthetic-hard", seeds["synthetic"])
    hlr = _paired(hard_label_recovery, seeds["whole"], hard)
    ior = _paired(improvement_over_random, seeds["synthetic"], seeds["random"])
    lrs = _paired(label_robust_score, hlr, ior)
    return {name: Statistics.of(list(of.values())) for name, of in (("hlr", hlr), ("ior", ior), ("lrs", lrs))}


def _ars(seeds: Seeds) -> dict[str, Statistics]:
    augmented = _paired(improvement_over_random, seeds["synthetic"], seeds["random"])
    plain = _paired(improvement_over_random, seeds["synthetic-plain"], seeds["random-plain"])
    ars = _paired(augmentation_robust_score, augmented, plain)
    parts = (("ior", augmented), ("ior-plain", plain), ("ars", ars))
    return {name: Statistics.of(list(of.values())) for name, of in parts}


def _paired(
    function: Callable[[float, float], float], a: Mapping[int, float], b: Mapping[int, float]
) -> dict[int, float]:
    return {seed: function(value, b[seed]) for seed, value in a.items() if seed in b}


def _measured(name: str, scores: Sequence[Score], trial: Trial) -> Measured:
    hard = name == "whole" or trial.label_kind == "hard"
    return Measured(
        labels="hard" if hard else trial.protocol.labels,
        augment=tuple(trial.protocol.augment),
        scores=tuple(scores),
        summary=summarise(scores),
    )
