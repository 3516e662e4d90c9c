"""What an evaluator keeps to. It is tried on twenty digits to train on and all held-out digits, in three steps."""

from __future__ import annotations

import json
from dataclasses import asdict

import torch

from latentdd_plugin.core import plugins
from latentdd_plugin.core.types import Score
from latentdd_plugin.evaluators.base import Unsuitable
from latentdd_plugin.testing.contracts import (
    Contract,
    NotApplicable,
    contract,
    require,
    require_options,
    require_round_trip,
)
from latentdd_plugin.testing.samples import trial
from latentdd_plugin.testing.subjects import SEEDS, EvaluatorSubject

EVALUATOR_CONTRACTS: list[Contract] = []


@contract(EVALUATOR_CONTRACTS)
def options(subject: EvaluatorSubject) -> None:
    """Every option has a default, and a misspelt one is refused."""
    require_options(subject.cls)
    require(plugins.check_arguments(subject.cls, {"no_such_option": 1}), "no_such_option=1 is taken")


@contract(EVALUATOR_CONTRACTS)
def config_round_trip(subject: EvaluatorSubject) -> None:
    """config() is plain JSON and makes the same evaluator again."""
    require_round_trip(subject.build())


@contract(EVALUATOR_CONTRACTS)
def score_range(subject: EvaluatorSubject) -> None:
    """The accuracy is a fraction of the held-out images: between 0 and 1, and a whole number of them."""
    total = len(trial().held_out)
    for seed, score in subject.scores.items():
        require(0 <= score.accuracy <= 1, f"seed {seed}: accuracy {score.accuracy} lies outside [0, 1]")
        right = score.accuracy * total
        whole = abs(right - round(right)) < 1e-6 * total
        require(whole, f"seed {seed}: accuracy {score.accuracy} of {total} images is {right:.3f} images")


@contract(EVALUATOR_CONTRACTS)
def score_record(subject: EvaluatorSubject) -> None:
    """The score is a `Score` that JSON can hold, with the seed it was given and the number of parameters."""
    for seed, score in subject.scores.items():
        require(isinstance(score, Score), f"seed {seed}: it returned a {type(score).__name__}, a Score is wanted")
        require(score.seed == seed, f"seed {seed}: the score says seed {score.seed}")
        counted = isinstance(score.params, int) and score.params >= 0
        require(counted, f"seed {seed}: params is {score.params!r}, the number of trained parameters is wanted")
        json.dumps(asdict(score), allow_nan=False)


@contract(EVALUATOR_CONTRACTS)
def deterministic(subject: EvaluatorSubject) -> None:
    """The same seed gives the same score, in a fresh object and whatever was trained in it before."""
    first = subject.scores
    fresh = subject.build()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for seed in reversed(SEEDS):
            again = subject.score(fresh, seed)
            same = again == first[seed]
            require(same, f"seed {seed}: accuracy {first[seed].accuracy} first, {again.accuracy} then ({again})")


@contract(EVALUATOR_CONTRACTS)
def global_state(subject: EvaluatorSubject) -> None:
    """The global generator of torch stays as it was: `randomness.seeded` forks it for code that draws from it."""
    with torch.random.fork_rng():
        before = torch.get_rng_state()
        subject.score(subject.build(), SEEDS[0])
        require(torch.equal(before, torch.get_rng_state()), "torch's global generator was used")


@contract(EVALUATOR_CONTRACTS)
def soft_labels(subject: EvaluatorSubject) -> None:
    """Probabilities and logits are taken as labels, or refused with Unsuitable and a reason."""
    refusals = []
    for kind in ("probabilities", "logits"):
        soft = torch.nn.functional.one_hot(trial().labels, trial().num_classes).float()
        try:
            score = subject.build().evaluate(trial(labels=soft, kind=kind), 0)
        except Unsuitable as reason:
            require(str(reason), f"{kind} are refused without a reason")
            refusals.append(f"{kind} are refused: {reason}")
            continue
        require(0 <= score.accuracy <= 1, f"{kind}: accuracy {score.accuracy} lies outside [0, 1]")
    if refusals:
        raise NotApplicable("; ".join(refusals))


@contract(EVALUATOR_CONTRACTS)
def trial_kept(subject: EvaluatorSubject) -> None:
    """The distilled images and labels are left as they are."""
    given = trial()
    images, labels = given.images.clone(), given.labels.clone()
    subject.score(subject.build(), SEEDS[0], given)
    same = torch.equal(given.images, images) and torch.equal(given.labels, labels)
    require(same, "the images or labels it was given were changed in place")
