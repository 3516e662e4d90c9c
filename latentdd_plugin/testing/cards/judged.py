"""Train networks on pixels, on reconstructions and on codes, to compare classification in a latent space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from latentdd_plugin.core.cache import cache_dir
from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.storage import locked
from latentdd_plugin.core.types import ImageData, Images, Json, Skipped, hash_json
from latentdd_plugin.core.version import __version__
from latentdd_plugin.evaluators.base import Evaluator, Trial
from latentdd_plugin.evaluators.protocols import Protocol
from latentdd_plugin.evaluators.scoring import ScoreFile, score
from latentdd_plugin.evaluators.train_scratch import TrainScratch
from latentdd_plugin.evaluators.trial import shrink
from latentdd_plugin.experiments.build import build_evaluator
from latentdd_plugin.experiments.full_dataset import reference
from latentdd_plugin.latent.space import CodeSpace, Real
from latentdd_plugin.nn.augment import operations_for
from latentdd_plugin.nn.convnet import MLP
from latentdd_plugin.results.cards import ComparedSpace, SpaceAccuracies, TrainedOnSpace
from latentdd_plugin.results.statistics import gains, summarise


@dataclass(frozen=True, kw_only=True)
class CodeTrial(Trial):
    """A trial whose network takes standardised codes: `images` are the training codes."""

    test_codes: Tensor  # float32 (T, c, h, w), standardised, of the held-out images

    @cached_property
    def test_inputs(self) -> Tensor:
        """Codes of the held-out images, treated as the training codes are."""
        return shrink(self.test_codes, self.shape)


class OnCodes(TrainScratch):
    """Training from scratch on codes; codes without a layout get the MLP that distillers match in."""

    def network(self, trial: Trial) -> tuple[nn.Module, str, dict[str, Json]]:
        """Return a fresh network for the codes."""
        if min(trial.shape[1:]) < 2:
            return MLP(trial.shape, trial.num_classes), "mlp", {"width": 128}
        return super().network(trial)


def accuracies(
    config: RunConfig, images: ImageData, held_out: Images, space: CodeSpace, codes: Real, trial: Trial, progress: bool
) -> SpaceAccuracies:
    """Return scores on pixels, reconstructions and codes, and the differences from pixels, paired by seed.

    Args:
        config: evaluators, seed and split.
        images: the dataset, its training part.
        held_out: the images that judge.
        space: the fitted codec.
        codes: the training set's codes.
        trial: without images to train on: pixels, their statistics, the protocol.
        progress: show bars on stderr.
    """
    whole = reference(evaluators_for(config), images, trial, config.split, config.seed, progress=progress)
    pixels = TrainedOnSpace(
        train_size=whole.train_size, scores=whole.scores, skipped=whole.skipped, summary=whole.summary
    )
    key = [images.fingerprint, dict(images.source), space.codec.identity, space.codec.upsample, config.split]
    key += [trial.protocol.to_json(), config.evaluators, config.seed, trial.numerics.to_json(), __version__]
    folder = cache_dir() / "cards" / hash_json(key)[:32]

    def trained(name: str, of: Trial) -> ComparedSpace:
        kept = ScoreFile(folder / f"{name}.json")
        evaluators = evaluators_for(config, on_codes=name == "codes")
        scores, skipped = score(evaluators, of, config.seed, kept, progress=progress)
        return ComparedSpace(
            scores=tuple(scores),
            skipped=tuple(skipped),
            summary=summarise(scores),
            difference=gains(scores, pixels.scores),
        )

    with locked(folder):
        back = trained("reconstructions", reconstructions(space, codes, trial))
        comparable = space.codec.comparable
        in_space = trained("codes", in_codes(space, codes, trial)) if comparable else _no_scores(config)
    return SpaceAccuracies(
        protocol=trial.protocol.name,
        scored_on=config.split,
        scored_images=len(held_out),
        steps=trial.protocol.steps_for(trial.side),
        augment_codes=tuple(code_protocol(space, trial).augment),
        pixels=pixels,
        reconstructions=back,
        codes=in_space,
    )


def _no_scores(config: RunConfig) -> ComparedSpace:
    """Return the row of codes that cannot be compared, such as tokens: no network is trained on them."""
    why = "codes of this codec cannot be compared: distances between them mean nothing"
    skipped = tuple(Skipped(name, why) for name in config.evaluators)
    return ComparedSpace(scores=(), skipped=skipped, summary={}, difference={})


def evaluators_for(config: RunConfig, *, on_codes: bool = False) -> Mapping[str, Evaluator]:
    """Return fresh evaluators by name, for codes if asked for."""
    found = {name: build_evaluator(name) for name in config.evaluators}
    return {n: OnCodes(e.arch) if on_codes and isinstance(e, TrainScratch) else e for n, e in found.items()}


def reconstructions(space: CodeSpace, codes: Real, trial: Trial) -> Trial:
    """Return a trial on decoded training images at the protocol's size; the real held-out images judge."""
    with torch.no_grad():
        every = torch.arange(len(codes.labels))
        parts = [shrink(space.decode(codes.take(rows), codes.labels[rows]), trial.shape) for rows in every.split(1024)]
    return replace(trial, images=torch.cat(parts), labels=codes.labels)


def in_codes(space: CodeSpace, codes: Real, trial: Trial) -> CodeTrial:
    """Return a trial on standardised training codes; codes of the held-out images judge."""
    with torch.no_grad():
        device = trial.numerics.device
        parts = [space.codec.encode(part.to(device).float() / 255) for part in trial.held_out.pixels.split(256)]
    values = {field.name: getattr(trial, field.name) for field in fields(Trial)}
    values |= {
        "images": codes.all()[0],
        "labels": codes.labels,
        "mean": torch.zeros_like(space.mean),
        "std": torch.ones_like(space.std),
        "protocol": code_protocol(space, trial),
    }
    return CodeTrial(**values, test_codes=(torch.cat(parts).float() - space.mean) / space.std)


def code_protocol(space: CodeSpace, trial: Trial) -> Protocol:
    """Return the recipe for pixels with as many steps, without augmentations that these codes do not support."""
    colour = space.codec.pixels and trial.shape[0] == 3
    usable = operations_for(colour=colour, spatial=space.codec.spatial, flip=trial.flip)
    steps = trial.protocol.steps_for(trial.side)
    return replace(
        trial.protocol,
        steps=() if steps is None else ((trial.side, steps),),
        augment=tuple(op for op in trial.protocol.augment if op in usable),
    )
