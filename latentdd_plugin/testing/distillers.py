"""What a distiller keeps to. It is tried on the digits: spatial and non-spatial codes and pixels, two codes a class."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from latentdd_plugin.core import plugins
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import MATCH_SPACES, SyntheticSet
from latentdd_plugin.distillers.loop import Matching
from latentdd_plugin.distillers.task import checked
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

CODES = 2  # codes a class
CLASSES = 10
DISTILLER_CONTRACTS: list[Contract] = []


def hard(found: SyntheticSet) -> Tensor:
    """Labels int64 (M,), the likeliest class where they are soft."""
    return found.labels if found.label_kind == "hard" else found.labels.argmax(1)


def changed(found: SyntheticSet, other: SyntheticSet) -> str:
    """How two sets differ, in words; empty where they are equal to the bit."""
    codes, labels = difference(other.codes, found.codes), difference(other.labels, found.labels)
    return f"codes: {codes}" if codes else f"labels: {labels}" if labels else ""


@contract(DISTILLER_CONTRACTS)
def options(subject: DistillerSubject) -> None:
    """Every option has a default, a misspelt one is refused, and the presets `paper` and `quick` can be made."""
    require_options(subject.cls)
    require(plugins.check_arguments(subject.cls, {"no_such_option": 1}), "no_such_option=1 is taken")
    missing = {"paper", "quick"} - set(subject.cls.presets)
    require(not missing, f"there is no preset {' and '.join(sorted(missing))}")
    for preset in subject.cls.presets:
        build_distiller({"name": subject.name, "preset": preset})


@contract(DISTILLER_CONTRACTS)
def config_round_trip(subject: DistillerSubject) -> None:
    """config() is plain JSON and makes the same method again."""
    require_round_trip(subject.build())


@contract(DISTILLER_CONTRACTS)
def match_spaces(subject: DistillerSubject) -> None:
    """`match_spaces` names code, pixel or both; any other is refused before work."""
    known = subject.cls.match_spaces
    right = known and set(known) <= set(MATCH_SPACES)
    require(right, f"match_spaces is {known!r}, of which {', '.join(MATCH_SPACES)} are known")
    for match in set(MATCH_SPACES) - set(known):
        try:
            subject.build(match)
        except UsageError:
            continue
        require(False, f"match={match} is not refused")


@contract(DISTILLER_CONTRACTS)
def budget(subject: DistillerSubject) -> None:
    """It returns a SyntheticSet of codes_per_class codes a class, of the code's shape, with a label each."""
    for codec, match in subject.spaces():
        found, where = subject.distilled(codec, match), f"{codec}, match={match}"
        require(isinstance(found, SyntheticSet), f"{where}: it returned a {type(found).__name__}, not a SyntheticSet")
        wanted = (CODES * CLASSES, *task(codec, match).code_shape)
        got = tuple(found.codes.shape)
        require(got == wanted, f"{where}: codes {got} for {CODES} codes in each of {CLASSES} classes, not {wanted}")
        require(not found.codes.requires_grad, f"{where}: the codes still want a gradient")
        require(
            len(found.labels) == len(found.codes), f"{where}: {len(found.labels)} labels for {len(found.codes)} codes"
        )


@contract(DISTILLER_CONTRACTS)
def finite(subject: DistillerSubject) -> None:
    """Codes and labels are finite, and labels name classes."""
    for codec, match in subject.spaces():
        checked(subject.distilled(codec, match), task(codec, match))


@contract(DISTILLER_CONTRACTS)
def label_balance(subject: DistillerSubject) -> None:
    """Every class gets equally many codes."""
    for codec, match in subject.spaces():
        counts = torch.bincount(hard(subject.distilled(codec, match)).long(), minlength=CLASSES).tolist()
        require(len(set(counts)) == 1, f"{codec}, match={match}: codes by class {counts}")


@contract(DISTILLER_CONTRACTS)
def small_classes(subject: DistillerSubject) -> None:
    """A class with fewer images than the budget has codes gets at most the budget, and as many as the others."""
    if "code" not in subject.cls.match_spaces:
        raise NotApplicable("it does not look at codes")
    whole = task("dct", codes_per_class=5)
    keep = torch.cat([rows[:3] for rows in whole.codes.by_class])
    labels = whole.codes.labels[keep]
    few = replace(whole.codes, store=whole.codes.store[keep], labels=labels, by_class=members(labels, CLASSES))
    given = replace(whole, real=few, codes=few)
    found = checked(subject.build().distill(given), given)
    counts = torch.bincount(hard(found), minlength=CLASSES).tolist()
    right = len(set(counts)) == 1 and 3 <= counts[0] <= 5
    require(right, f"3 images a class and a budget of 5 codes give, by class, {counts}")


@contract(DISTILLER_CONTRACTS)
def deterministic(subject: DistillerSubject) -> None:
    """The same seed gives the same bits, whatever the global generators hold."""
    for codec, match in subject.spaces():
        found = subject.distilled(codec, match)
        with torch.random.fork_rng():
            torch.manual_seed(2)
            again = subject.distil(codec, match)
        differs = changed(found, again)
        require(not differs, f"{codec}, match={match}, seed 0 twice: {differs}")


@contract(DISTILLER_CONTRACTS)
def global_state(subject: DistillerSubject) -> None:
    """The global generators of torch, NumPy and Python stay as they were: draws come from task.generator."""
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
    """The real samples are left as they are."""
    given = task("dct")
    before = given.codes.store.clone()
    subject.build().distill(given)
    off = difference(given.codes.store, before)
    require(not off, f"the training set's codes were changed: {off}")


@contract(DISTILLER_CONTRACTS)
def one_space_in_pixels(subject: DistillerSubject) -> None:
    """With `identity`, match=code and match=pixel give the same bits: both are the pixels."""
    if len(subject.cls.match_spaces) < 2:
        raise NotApplicable(f"it looks at {' and '.join(subject.cls.match_spaces)} only")
    differs = changed(subject.distilled("identity", "code"), subject.distilled("identity", "pixel"))
    require(not differs, f"identity, match=pixel against match=code: {differs}")


@contract(DISTILLER_CONTRACTS)
def resume(subject: DistillerSubject) -> None:
    """Continued from the checkpoint of any step, a method in the shared loop gives the same bits."""
    if not issubclass(subject.cls, Matching):
        raise NotApplicable("it does not run in the shared loop, which keeps the checkpoints")
    kept = Kept()
    whole = subject.build(iterations=3).distill(task(checkpoint=kept))
    steps = [payload["step"] for payload in kept.saved]
    require(steps == [0, 1, 2, 3], f"checkpoints at steps {steps}, not before each of 3 and at the end")
    for payload in kept.saved[1:]:
        resumed = subject.build(iterations=3).distill(task(checkpoint=Kept(payload)))
        differs = changed(whole, resumed)
        require(not differs, f"continued after step {payload['step']} of 3: {differs}")
        same = (resumed.lr, resumed.losses) == (whole.lr, whole.losses)
        require(same, f"continued after step {payload['step']} of 3: lr or losses {resumed.losses}, not {whole.losses}")
