"""Rules for evaluators, tested on 20 training digits and all test digits, with three steps."""

from __future__ import annotations

import json

import torch

from latentdd_plugin.core import plugins
from latentdd_plugin.core.types import Score, as_tensor
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
    """Check that every option has a default, and a misspelt one is refused."""
    require_options(subject.cls)
    require(plugins.check_arguments(subject.cls, {"no_such_option": 1}), "no_such_option=1 is accepted")


@contract(EVALUATOR_CONTRACTS)
def config_round_trip(subject: EvaluatorSubject) -> None:
    """Check that config() is plain JSON and rebuilds the same evaluator."""
    require_round_trip(subject.build())


@contract(EVALUATOR_CONTRACTS)
def score_range(subject: EvaluatorSubject) -> None:
    """Check that the accuracy is a fraction of the held-out images: in [0, 1], and a whole number of them."""
    total = len(trial().held_out)
    for seed, score in subject.scores.items():
        require(0 <= score.accuracy <= 1, f"seed {seed}: accuracy {score.accuracy} lies outside [0, 1]")
        right = score.accuracy * total
        whole = abs(right - round(right)) < 1e-6 * total
        require(whole, f"seed {seed}: accuracy {score.accuracy} on {total} images means {right:.3f} correct images")


@contract(EVALUATOR_CONTRACTS)
def score_record(subject: EvaluatorSubject) -> None:
    """Check that the result is a `Score` that JSON can hold, with the seed and the number of parameters."""
    for seed, score in subject.scores.items():
        require(isinstance(score, Score), f"seed {seed}: it returned a {type(score).__name__}, not a Score")
        require(score.seed == seed, f"seed {seed}: the score says seed {score.seed}")
        counted = isinstance(score.params, int) and score.params >= 0
        require(counted, f"seed {seed}: params is {score.params!r}, not the number of trained parameters")
        json.dumps(score.to_json(), allow_nan=False)


@contract(EVALUATOR_CONTRACTS)
def deterministic(subject: EvaluatorSubject) -> None:
    """Check that the same seed gives the same score, in a new object and after earlier trials."""
    first = subject.scores
    fresh = subject.build()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for seed in reversed(SEEDS):
            again = subject.score(fresh, seed)
            same = again == first[seed]
            require(same, f"seed {seed}: accuracy {first[seed].accuracy}, then {again.accuracy} ({again})")


@contract(EVALUATOR_CONTRACTS)
def global_state(subject: EvaluatorSubject) -> None:
    """Check that torch's global generator is not changed; `core.random.seeded` forks it for code that needs it."""
    with torch.random.fork_rng():
        before = torch.get_rng_state()
        subject.score(subject.build(), SEEDS[0])
        require(torch.equal(before, torch.get_rng_state()), "torch's global generator was used")


@contract(EVALUATOR_CONTRACTS)
def soft_labels(subject: EvaluatorSubject) -> None:
    """Check that probabilities and logits work as labels, or are refused with Unsuitable and a reason."""
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
    """Check that the distilled images and labels are not changed."""
    given = trial()
    images, labels = as_tensor(given.images).clone(), given.labels.clone()
    subject.score(subject.build(), SEEDS[0], given)
    same = torch.equal(as_tensor(given.images), images) and torch.equal(given.labels, labels)
    require(same, "the distilled images or labels were changed in place")
