"""DD-Ranking's scores against their formulas, and the properties that make them scores."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentdd_plugin.experiments.metrics import (
    augmentation_robust_score,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
)

accuracy = st.floats(0, 1)
difference = st.floats(-1, 1)
weight = st.floats(0, 1)


@given(accuracy, accuracy, accuracy, weight)
def test_lrs_is_its_formula_and_lies_in_0_1(whole, synthetic, random, w):
    hlr = hard_label_recovery(whole, synthetic)
    ior = improvement_over_random(synthetic, random)
    a = w * (synthetic - random) - (1 - w) * (whole - synthetic)
    expected = (math.exp(a) - 1 / math.e) / (math.e - 1 / math.e)
    score = label_robust_score(hlr, ior, w)
    assert score == pytest.approx(expected, abs=1e-12)
    assert -1e-12 <= score <= 1 + 1e-12


@given(accuracy, accuracy, accuracy, accuracy, weight)
def test_ars_is_its_formula_and_lies_in_0_1(syn_aug, random_aug, syn, random, w):
    b = w * (syn_aug - random_aug) + (1 - w) * (syn - random)
    expected = (math.exp(b) - 1 / math.e) / (math.e - 1 / math.e)
    score = augmentation_robust_score(
        improvement_over_random(syn_aug, random_aug), improvement_over_random(syn, random), w
    )
    assert score == pytest.approx(expected, abs=1e-12)
    assert -1e-12 <= score <= 1 + 1e-12


@given(difference, difference, difference)
def test_better_is_more(hlr, ior, more):
    step = abs(more)
    assert label_robust_score(hlr, ior + step) >= label_robust_score(hlr, ior)
    assert label_robust_score(hlr + step, ior) <= label_robust_score(hlr, ior)
    assert augmentation_robust_score(ior + step, hlr) >= augmentation_robust_score(ior, hlr)


def test_known_values():
    assert label_robust_score(1, -1) == pytest.approx(0)
    assert label_robust_score(-1, 1) == pytest.approx(1)
    assert label_robust_score(0, 0) == pytest.approx(0.2689414213699951)  # (1 - 1/e) / (e - 1/e)
    assert augmentation_robust_score(0.2, 0.1) == pytest.approx(0.337795, abs=1e-6)


@pytest.mark.parametrize("wrong", [44.2, -0.1, float("nan")])
def test_percentages_are_refused(wrong):
    with pytest.raises(ValueError, match=r"a fraction in \[0, 1\] is needed"):
        hard_label_recovery(0.8, wrong)
