"""Scores of every evaluator under every seed of a protocol, kept on disk network by network."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from latentdd_plugin.artifacts.artifact import Artifact, labelled
from latentdd_plugin.core import checkpoint
from latentdd_plugin.core.compute import Numerics
from latentdd_plugin.core.config import LabelConfig
from latentdd_plugin.core.errors import RunFailed, UsageError
from latentdd_plugin.core.plugins import code_of
from latentdd_plugin.core.processes import group
from latentdd_plugin.core.types import ImageData, Images, Json, Score, Skipped
from latentdd_plugin.core.version import __version__
from latentdd_plugin.data.store import PartStore, summary_of
from latentdd_plugin.evaluators.base import Evaluator, Trial, Unsuitable
from latentdd_plugin.evaluators.protocols import Protocol
from latentdd_plugin.latent.space import Real
from latentdd_plugin.nn.teacher import Teacher
from latentdd_plugin.nn.views import Views

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoreFile:
    """The scores of an evaluation so far, on disk; read back only for the trial that they were made of."""

    path: Path
    owner: Mapping[str, Json] = field(default_factory=dict)  # `owner_of` a trial

    def read(self) -> list[Score]:
        """Return the scores of networks already trained and tested; none if the file is missing or does not fit."""
        stored = checkpoint.read_json(self.path, self.owner)
        return [Score.from_json(row) for row in stored.content] if stored is not None else []

    def write(self, scores: list[Score]) -> None:
        """Keep these scores, all or nothing."""
        checkpoint.write_json(self.path, [score.to_json() for score in scores], self.owner)


def owner_of(evaluators: Mapping[str, Evaluator], trial: Trial, seed: int) -> dict[str, Json]:
    """Return everything that decides a score beside the evaluator's name: images, labels, protocol, code, versions."""
    parts = {each.name: getattr(trial, each.name) for each in fields(trial)}
    codes = {name: code_of(type(evaluator)) for name, evaluator in evaluators.items()}
    return {
        "code": {name: code for name, code in codes.items() if code is not None},
        "trial": {name: _identity(part) for name, part in parts.items()},
        "seed": seed,
        "versions": [__version__, version("timm")],
    }


def _identity(part: Any) -> Json:
    if isinstance(part, Tensor):
        return [str(part.dtype), list(part.shape), checkpoint.sha256_of(part)]
    if isinstance(part, PartStore):
        return [str(part.dtype), list(part.shape), summary_of(part).sha256]
    if isinstance(part, Teacher):
        return part.card.sha256
    if isinstance(part, Views):
        return _identity(part.to_bytes())
    if isinstance(part, Images):
        return [_identity(part.pixels), _identity(part.labels)]
    return part.to_json() if isinstance(part, Protocol | Numerics) else part


def _check_score(score: Score, name: str) -> Score:
    """Return the score under the evaluator's requested name; RunFailed if it is not a valid score."""
    if not isinstance(score, Score):
        raise RunFailed(f"evaluator {name} returned a {type(score).__name__} instead of a Score")
    if not 0 <= score.accuracy <= 1:
        raise RunFailed(f"evaluator {name} returned accuracy {score.accuracy}; a fraction from 0 to 1 is required")
    return replace(score, evaluator=name)


def trial_of(
    stored: Artifact,
    decoded: Tensor,
    images: ImageData,
    pixels: Real,
    held_out: Images,
    protocol: Protocol,
    numerics: Numerics,
    *,
    labels: LabelConfig | None = None,
    teacher: Teacher | None = None,
) -> Trial:
    """Return the trial of an artifact.

    Args:
        stored: the artifact: its labels and its learned learning rate.
        decoded: its images (M, C, H, W) in [0, 1] units, on the device.
        images: the dataset it is scored on.
        pixels: that dataset's training images; their mean and deviation standardise the inputs of networks.
        held_out: the images to test on.
        protocol: the recipe.
        numerics: device and arithmetic.
        labels: the regime to train under; `own`, the default, is what the artifact holds.
        teacher: what `soft`, `teacher`, and an artifact that asks for its teacher need.

    Raises:
        UsageError: the teacher is missing, or it is another than the artifact's.
    """
    return Trial(
        **training_labels(stored, decoded, labels or LabelConfig(), teacher),
        images=decoded,
        lr=stored.lr,
        held_out=held_out,
        num_classes=len(images.classes),
        mean=pixels.mean,
        std=pixels.std,
        flip=images.flip,
        protocol=protocol,
        numerics=numerics,
    )


def training_labels(stored: Artifact, decoded: Tensor, labels: LabelConfig, teacher: Teacher | None) -> dict[str, Any]:
    """Return the fields of a trial that hold its labels under a regime."""
    soft, form = stored.soft, stored.header.labels
    if labels.regime == "own" and form is not None and form.regime == "teacher":
        labels = LabelConfig("teacher", temperature=form.temperature, truth=form.truth or 0.0)
        if teacher is not None and teacher.card.sha256 != form.teacher:
            raise UsageError(f"the artifact's teacher is {form.teacher[:12]}…, this one {teacher.card.sha256[:12]}…")
    if labels.regime == "own" and soft is not None:
        logits = soft.log_probabilities(len(stored.labels), len(stored.classes))
        logits = with_truth(logits, stored.labels, soft.form.truth or 0.0)
        return {"labels": logits, "label_kind": "logits", "views": soft.to_views()}
    if labels.regime == "own":
        return {"labels": stored.labels, "label_kind": stored.header.label_kind}
    if labels.regime == "hard":
        return {"labels": stored.class_numbers, "label_kind": "hard"}
    if teacher is None:
        raise UsageError("the labels come from a teacher: name it, with --teacher convnet or teacher.path=FOLDER")
    if labels.stored:  # as a file would hold them
        return training_labels(labelled(stored, decoded, labels, teacher, 0), decoded, LabelConfig(), None)
    how = {"teacher": teacher, "softness": labels.temperature, "truth": labels.truth}
    return {"labels": stored.class_numbers, "label_kind": "hard", **how}


def with_truth(logits: Tensor, labels: Tensor, weight: float) -> Tensor:
    """Return log-probabilities (M, classes) of a mixture: the class itself with this weight, else the distribution."""
    if not weight:
        return logits
    known = F.one_hot(labels, logits.shape[1]).float()
    return ((1 - weight) * logits.softmax(1) + weight * known).clamp(min=1e-12).log()


def score(
    evaluators: Mapping[str, Evaluator],
    trial: Trial,
    seed: int,
    kept: ScoreFile,
    *,
    progress: bool = False,
    on_network: Callable[[int, int], None] | None = None,
) -> tuple[list[Score], list[Skipped]]:
    """Train and test every evaluator under each of the protocol's seeds, one session per evaluator.

    Args:
        evaluators: evaluators by the name that was asked for.
        trial: the distilled set to train on and the images to test on.
        seed: the run's seed; networks are trained under 1000 * seed + 0, 1, …
        kept: file of finished scores, which are not computed again.
        progress: show a bar on stderr.
        on_network: called after each network with the number of those done, and of all.

    Returns:
        The scores, and the evaluators that are unsuitable for this trial with their reasons.
    """
    seeds, ours = [1000 * seed + i for i in range(trial.protocol.seeds)], group()
    every = [(name, each) for name in evaluators for each in seeds]
    owner = owner_of(evaluators, trial, seed)
    found = {(row.evaluator, row.seed): row for row in ours.from_first(_finished(kept.path, owner))}
    kept = ScoreFile(kept.path.with_name(f"scores-{ours.rank}.json") if ours.rank else kept.path, owner)
    mine = ours.share([one for one in every if one not in found])
    skipped: list[Skipped] = []
    with tqdm(total=len(mine), unit="net", desc="evaluate", disable=not progress, leave=False) as bar:
        for name, evaluator in evaluators.items():
            missing = [each for asked, each in mine if asked == name]
            try:
                for each, result in zip(missing, _scores(evaluator, name, trial, missing), strict=True):
                    found[name, each] = result
                    kept.write(list(found.values()))
                    log.info("%s, seed %d: accuracy %.4f", name, each, result.accuracy)
                    bar.update()
                    if on_network is not None:
                        on_network(int(bar.n), len(mine))
            except Unsuitable as reason:
                skipped.append(Skipped(name, str(reason)))
                log.info("%s skipped: %s", name, reason)
    found = {key: row for some in ours.gather(found) for key, row in some.items()}
    reasons = {one.evaluator: one for some in ours.gather(skipped) for one in some}
    return [found[one] for one in every if one in found], [reasons[name] for name in evaluators if name in reasons]


def _finished(path: Path, owner: Mapping[str, Json]) -> list[Score]:
    """Return the scores that this run's processes have kept so far, however many they were."""
    return [row for each in (path, *sorted(path.parent.glob("scores-*.json"))) for row in ScoreFile(each, owner).read()]


def _scores(evaluator: Evaluator, name: str, trial: Trial, seeds: Sequence[int]) -> Iterator[Score]:
    """Yield a score per seed from one session, which is dropped at the end."""
    if not seeds:
        return
    session = evaluator.session(trial)
    for seed in seeds:
        yield _check_score(session(seed), name)
