"""DD-Ranking's scores against their formulas, and the properties that make them scores."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentdd_plugin import metrics

accuracy = st.floats(0, 1)
difference = st.floats(-1, 1)
weight = st.floats(0, 1)


@given(accuracy, accuracy, accuracy, weight)
def test_lrs_is_its_formula_and_lies_in_0_1(whole, synthetic, random, w):
    hlr = metrics.hard_label_recovery(whole, synthetic)
    ior = metrics.improvement_over_random(synthetic, random)
    a = w * (synthetic - random) - (1 - w) * (whole - synthetic)
    expected = (math.exp(a) - 1 / math.e) / (math.e - 1 / math.e)
    score = metrics.label_robust_score(hlr, ior, w)
    assert score == pytest.approx(expected, abs=1e-12)
    assert -1e-12 <= score <= 1 + 1e-12


@given(accuracy, accuracy, accuracy, accuracy, weight)
def test_ars_is_its_formula_and_lies_in_0_1(syn_aug, random_aug, syn, random, w):
    b = w * (syn_aug - random_aug) + (1 - w) * (syn - random)
    expected = (math.exp(b) - 1 / math.e) / (math.e - 1 / math.e)
    score = metrics.augmentation_robust_score(
        metrics.improvement_over_random(syn_aug, random_aug), metrics.improvement_over_random(syn, random), w
    )
    assert score == pytest.approx(expected, abs=1e-12)
    assert -1e-12 <= score <= 1 + 1e-12


@given(difference, difference, difference)
def test_better_is_more(hlr, ior, more):
    step = abs(more)
    assert metrics.label_robust_score(hlr, ior + step) >= metrics.label_robust_score(hlr, ior)
    assert metrics.label_robust_score(hlr + step, ior) <= metrics.label_robust_score(hlr, ior)
    assert metrics.augmentation_robust_score(ior + step, hlr) >= metrics.augmentation_robust_score(ior, hlr)


def test_known_values():
    assert metrics.label_robust_score(1, -1) == pytest.approx(0)
    assert metrics.label_robust_score(-1, 1) == pytest.approx(1)
    assert metrics.label_robust_score(0, 0) == pytest.approx(0.2689414213699951)  # (1 - 1/e) / (e - 1/e)
    assert metrics.augmentation_robust_score(0.2, 0.1) == pytest.approx(0.337795, abs=1e-6)


@pytest.mark.parametrize("wrong", [44.2, -0.1, float("nan")])
def test_percentages_are_refused(wrong):
    with pytest.raises(ValueError, match=r"a fraction in \[0, 1\] is needed"):
        metrics.hard_label_recovery(0.8, wrong)
