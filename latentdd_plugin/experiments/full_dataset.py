"""Networks trained on the whole real training set, under the protocol that judges a distilled set."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from latentdd_plugin.core.cache import cache_dir
from latentdd_plugin.core.storage import locked
from latentdd_plugin.core.types import ImageData, hash_json
from latentdd_plugin.core.version import __version__
from latentdd_plugin.evaluators.base import Evaluator, Trial
from latentdd_plugin.evaluators.scoring import ScoreFile, score
from latentdd_plugin.experiments.build import code_of
from latentdd_plugin.results.evaluation import WholeSet
from latentdd_plugin.results.statistics import summarise

log = logging.getLogger(__name__)


def whole_set(images: ImageData, trial: Trial) -> Trial:
    """Return the trial on every real training image, read batch by batch, with its hard label."""
    real = images.train
    return replace(trial, images=real.pixels, labels=real.labels, label_kind="hard", lr=None, teacher=None, views=None)


def reference(
    evaluators: Mapping[str, Evaluator], images: ImageData, trial: Trial, split: str, seed: int, *, progress: bool
) -> WholeSet:
    """Train and test on the whole set, or return the scores that were kept.

    Scores are kept in the cache, by data, protocol, split, seed and arithmetic, and serve all artifacts.

    Args:
        evaluators: fresh objects; they serve this trial alone.
        images: the dataset.
        trial: the distilled set's trial.
        split: which held-out images are in it.
        seed: as for the distilled set, so that scores pair up.
        progress: show a bar on stderr.
    """
    protocol, total = trial.protocol, len(images.train)
    key = [protocol.to_json(), images.fingerprint, dict(images.source), split, seed, trial.numerics.to_json()]
    code = code_of({name: type(evaluator) for name, evaluator in evaluators.items()})
    folder = cache_dir() / "references" / hash_json([*key, code, __version__])[:32]
    if not protocol.steps:
        log.info("%s counts epochs: %d of %d images for each reference network", protocol.name, protocol.epochs, total)
    with locked(folder):
        kept = ScoreFile(folder / "scores.json")
        scores, skipped = score(evaluators, whole_set(images, trial), seed, kept, progress=progress)
    return WholeSet(train_size=total, scores=tuple(scores), skipped=tuple(skipped), summary=summarise(scores))
