"""Rules for distillers, tested on digits at two codes per class: spatial codes, codes without layout, and pixels."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import torch

from latentdd_plugin.core import plugins
from latentdd_plugin.core.errors import RunFailed, UsageError
from latentdd_plugin.core.types import MATCH_SPACES, SyntheticSet, as_tensor
from latentdd_plugin.distillers.loop import Matching
from latentdd_plugin.distillers.task import validate_result
from latentdd_plugin.experiments.build import build_distiller
from latentdd_plugin.latent.space import members
from latentdd_plugin.testing.contracts import (
    Contract,
    NotApplicable,
    contract,
    require,
    require_options,
    require_round_trip,
)
from latentdd_plugin.testing.samples import Kept, difference, task
from latentdd_plugin.testing.subjects import DistillerSubject

CODES = 2  # per class
CLASSES = 10
TOKENS = "latentdd_plugin.testing.token_codec:Levels"  # a codec whose codes are tokens
DISTILLER_CONTRACTS: list[Contract] = []


def codes_per_class(found: SyntheticSet) -> list[int]:
    """Return the number of codes of each class; soft labels lie class by class, and learning may move their largest."""
    if found.label_kind == "hard":
        return [int(count) for count in torch.bincount(found.labels.long(), minlength=CLASSES)]
    return [len(part) for part in found.labels.tensor_split(CLASSES)]


def changed(found: SyntheticSet, other: SyntheticSet) -> str:
    """Describe how two sets differ; return an empty string if they are equal to the bit."""
    codes, labels = difference(other.codes, found.codes), difference(other.labels, found.labels)
    return f"codes: {codes}" if codes else f"labels: {labels}" if labels else ""


@contract(DISTILLER_CONTRACTS)
def options(subject: DistillerSubject) -> None:
    """Check that every option has a default, a misspelt one is refused, and presets `paper` and `quick` exist."""
    require_options(subject.cls)
    require(plugins.check_arguments(subject.cls, {"no_such_option": 1}), "no_such_option=1 is accepted")
    missing = {"paper", "quick"} - set(subject.cls.presets)
    require(not missing, f"the preset {' and '.join(sorted(missing))} is missing")
    for preset in subject.cls.presets:
        build_distiller({"name": subject.name, "preset": preset})


@contract(DISTILLER_CONTRACTS)
def config_round_trip(subject: DistillerSubject) -> None:
    """Check that config() is plain JSON and rebuilds the same distiller."""
    require_round_trip(subject.build())


@contract(DISTILLER_CONTRACTS)
def match_spaces(subject: DistillerSubject) -> None:
    """Check that `match_spaces` names code, pixel or both, and a space that it does not name is refused."""
    known = subject.cls.match_spaces
    right = known and set(known) <= set(MATCH_SPACES)
    require(right, f"match_spaces is {known!r}; allowed are {', '.join(MATCH_SPACES)}")
    for match in set(MATCH_SPACES) - set(known):
        try:
            subject.build(match)
        except UsageError:
            continue
        require(False, f"match={match} is accepted, but match_spaces does not name it")


@contract(DISTILLER_CONTRACTS)
def budget(subject: DistillerSubject) -> None:
    """Check that the result is a SyntheticSet with codes_per_class codes per class, of the code's shape, and labels."""
    for codec, match in subject.spaces():
        found, where = subject.distilled(codec, match), f"{codec}, match={match}"
        require(isinstance(found, SyntheticSet), f"{where}: it returned a {type(found).__name__}, not a SyntheticSet")
        expected = (CODES * CLASSES, *task(codec, match).code_shape)
        actual = tuple(found.codes.shape)
        say = f"{where}: codes {actual} for {CODES} codes in each of {CLASSES} classes, not {expected}"
        require(actual == expected, say)
        require(not found.codes.requires_grad, f"{where}: the codes still require a gradient")
        require(
            len(found.labels) == len(found.codes), f"{where}: {len(found.labels)} labels for {len(found.codes)} codes"
        )


@contract(DISTILLER_CONTRACTS)
def finite(subject: DistillerSubject) -> None:
    """Check that codes and labels are finite, and labels are valid classes."""
    for codec, match in subject.spaces():
        validate_result(subject.distilled(codec, match), task(codec, match))


@contract(DISTILLER_CONTRACTS)
def codes_kept(subject: DistillerSubject) -> None:
    """Check that with `changes_codes = False` every code is as the codec gave it: a whole number if it is a token."""
    if subject.cls.changes_codes:
        raise NotApplicable("the distiller computes codes, so no run pairs it with a codec of tokens")
    spaces = [match for match in subject.cls.match_spaces if match == "pixel" or not subject.cls.compares]
    if not spaces:
        raise NotApplicable("the distiller compares codes, so no run pairs it with a codec of tokens")
    for match in spaces:
        found = subject.distilled(TOKENS, match)
        try:
            validate_result(found, task(TOKENS, match))
        except RunFailed as error:
            require(False, f"{TOKENS}, match={match}: {error}")


@contract(DISTILLER_CONTRACTS)
def label_balance(subject: DistillerSubject) -> None:
    """Check that every class gets the same number of codes."""
    for codec, match in subject.spaces():
        counts = codes_per_class(subject.distilled(codec, match))
        require(len(set(counts)) == 1, f"{codec}, match={match}: codes per class {counts}")


@contract(DISTILLER_CONTRACTS)
def small_classes(subject: DistillerSubject) -> None:
    """Check that classes smaller than the budget work: all get the same number of codes, at most the budget."""
    if "code" not in subject.cls.match_spaces:
        raise NotApplicable("the distiller does not match codes")
    whole = task("dct", codes_per_class=5)
    keep = torch.cat([rows[:3] for rows in whole.codes.by_class])
    labels = whole.codes.labels[keep]
    few = replace(whole.codes, store=whole.codes.store[keep], labels=labels, by_class=members(labels, CLASSES))
    given = replace(whole, real=few, codes=few)
    found = validate_result(subject.build().distill(given), given)
    counts = codes_per_class(found)
    right = len(set(counts)) == 1 and 3 <= counts[0] <= 5
    require(right, f"3 images per class and a budget of 5 codes give {counts} codes per class")


@contract(DISTILLER_CONTRACTS)
def deterministic(subject: DistillerSubject) -> None:
    """Check that the same seed gives the same bits, whatever the state of the global generators."""
    for codec, match in subject.spaces():
        found = subject.distilled(codec, match)
        with torch.random.fork_rng():
            torch.manual_seed(2)
            again = subject.distil(codec, match)
        differs = changed(found, again)
        require(not differs, f"{codec}, match={match}, seed 0 twice: {differs}")


@contract(DISTILLER_CONTRACTS)
def global_state(subject: DistillerSubject) -> None:
    """Check that draws come from task.generator, not from the global generators of torch, NumPy or Python."""
    with torch.random.fork_rng():
        before = _global_states()
        subject.distil()
        after = _global_states()
    used = [name for name, state in before.items() if after[name] != state]
    require(not used, f"the global generator of {' and '.join(used)} was used")


def _global_states() -> dict[str, str]:
    return {
        "torch": str(torch.get_rng_state().tolist()),
        "NumPy": str(np.random.get_state()),
        "Python": str(random.getstate()),
    }


@contract(DISTILLER_CONTRACTS)
def real_data_kept(subject: DistillerSubject) -> None:
    """Check that the real samples are not changed."""
    given = task("dct")
    before = as_tensor(given.codes.store).clone()
    subject.build().distill(given)
    off = difference(as_tensor(given.codes.store), before)
    require(not off, f"the codes of the training set were changed: {off}")


@contract(DISTILLER_CONTRACTS)
def one_space_in_pixels(subject: DistillerSubject) -> None:
    """Check that match=code and match=pixel give the same bits with `identity`, whose codes are pixels."""
    if len(subject.cls.match_spaces) < 2:
        raise NotApplicable(f"the distiller matches only in {' and '.join(subject.cls.match_spaces)} space")
    differs = changed(subject.distilled("identity", "code"), subject.distilled("identity", "pixel"))
    require(not differs, f"identity, match=pixel compared with match=code: {differs}")


@contract(DISTILLER_CONTRACTS)
def resume(subject: DistillerSubject) -> None:
    """Check that a distiller in the shared loop gives the same bits when resumed from any checkpoint."""
    if not issubclass(subject.cls, Matching):
        raise NotApplicable("the distiller does not use the shared loop, which writes the checkpoints")
    kept = Kept()
    whole = subject.build(iterations=3).distill(task(checkpoint=kept))
    steps = [payload["step"] for payload in kept.saved]
    require(
        steps == [0, 1, 2, 3], f"checkpoints at steps {steps}, expected one before each of 3 steps and one at the end"
    )
    for payload in kept.saved[1:]:
        resumed = subject.build(iterations=3).distill(task(checkpoint=Kept(payload)))
        differs = changed(whole, resumed)
        require(not differs, f"resumed after step {payload['step']} of 3: {differs}")
        same = (resumed.lr, resumed.losses) == (whole.lr, whole.losses)
        require(same, f"resumed after step {payload['step']} of 3: lr or losses {resumed.losses}, not {whole.losses}")
