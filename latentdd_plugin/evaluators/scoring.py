"""Train and test every evaluator under every seed; what was scored before an interruption is not scored again."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from latentdd_plugin.artifacts.artifact import Artifact
from latentdd_plugin.core.compute import Numerics
from latentdd_plugin.core.errors import RunFailed
from latentdd_plugin.core.storage import atomic_write
from latentdd_plugin.core.types import ImageData, Images, Score, Skipped
from latentdd_plugin.evaluators.base import Evaluator, Trial, Unsuitable
from latentdd_plugin.evaluators.protocols import Protocol
from latentdd_plugin.latent.space import Real

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoreFile:
    """Scores made so far, on disk."""

    path: Path

    def read(self) -> list[Score]:
        """The scores of networks already trained and tested; none where there is no file."""
        return [Score(**row) for row in json.loads(self.path.read_text())] if self.path.exists() else []

    def write(self, scores: list[Score]) -> None:
        """Keep these scores, all or nothing."""
        with atomic_write(self.path) as temporary:
            temporary.write_text(json.dumps([asdict(score) for score in scores]))


def _sound(score: Score, name: str) -> Score:
    if not isinstance(score, Score) or not 0 <= score.accuracy <= 1:
        told = f"accuracy {score.accuracy}" if isinstance(score, Score) else f"a {type(score).__name__}"
        raise RunFailed(f"evaluator {name} returned {told}; a Score with an accuracy from 0 to 1 is wanted")
    return score


def trial_of(
    stored: Artifact,
    decoded: Tensor,
    images: ImageData,
    pixels: Real,
    held_out: Images,
    protocol: Protocol,
    numerics: Numerics,
) -> Trial:
    """An artifact, ready to be judged.

    Args:
        stored: the artifact: its labels and its learned learning rate.
        decoded: its images (M, C, H, W) in [0, 1] units, on the device.
        images: the data set it is judged on.
        pixels: that data set's training images, whose mean and deviation standardise what networks see.
        held_out: the images that judge.
        protocol: the recipe.
        numerics: device and arithmetic.
    """
    return Trial(
        images=decoded,
        labels=stored.labels,
        label_kind=stored.header["label_kind"],
        lr=stored.lr,
        held_out=held_out,
        num_classes=len(images.classes),
        mean=pixels.mean,
        std=pixels.std,
        flip=images.flip,
        protocol=protocol,
        numerics=numerics,
    )


def score(
    evaluators: Mapping[str, Evaluator], trial: Trial, seed: int, kept: ScoreFile, *, progress: bool = False
) -> tuple[list[Score], list[Skipped]]:
    """One score for each evaluator and each of the protocol's seeds, and the evaluators that could not take the job.

    Args:
        evaluators: fresh objects, by the name that was asked for; they serve this trial alone.
        trial: what to train on and what to test with.
        seed: the run's seed; networks are trained under 1000 * seed + 0, 1, …
        kept: where finished scores are looked for and kept.
        progress: show a bar on stderr.
    """
    seeds = [1000 * seed + i for i in range(trial.protocol.seeds)]
    found = {(row.evaluator, row.seed): row for row in kept.read()}
    skipped = []
    total = len(seeds) * len(evaluators)
    with tqdm(total=total, unit="net", desc="evaluate", disable=not progress, leave=False) as bar:
        for name, evaluator in evaluators.items():
            try:
                for each in seeds:
                    if (name, each) not in found:
                        found[name, each] = replace(_sound(evaluator.evaluate(trial, each), name), evaluator=name)
                        kept.write(list(found.values()))
                        log.info("%s, seed %d: accuracy %.4f", name, each, found[name, each].accuracy)
                    bar.update()
            except Unsuitable as reason:
                skipped.append(Skipped(name, str(reason)))
                log.info("%s skipped: %s", name, reason)
    return [found[name, each] for name in evaluators for each in seeds if (name, each) in found], skipped
