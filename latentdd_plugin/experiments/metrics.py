"""DD-Ranking's scores (arXiv 2505.13300), from their formulas. Every accuracy is a fraction in [0, 1].

The `ddranking` package, version 0.2.0, puts percentages into the same formulas, so what it prints for LRS and ARS is on
no scale of [0, 1]; its HLR and IOR divided by 100 are comparable with these.
"""

from __future__ import annotations

import math

WEIGHT = 0.5  # of the first term, the paper's


def hard_label_recovery(whole: float, synthetic: float) -> float:
    """HLR: accuracy on the whole real set less that on the synthetic set, both with hard labels. Lower is better."""
    return _fraction(whole) - _fraction(synthetic)


def improvement_over_random(synthetic: float, random: float) -> float:
    """IOR: accuracy on the synthetic set less that on as many random real images, under one recipe."""
    return _fraction(synthetic) - _fraction(random)


def label_robust_score(hlr: float, ior: float, weight: float = WEIGHT) -> float:
    """LRS in [0, 1] of `weight * IOR - (1 - weight) * HLR`."""
    return _normalised(weight * ior - (1 - weight) * hlr)


def augmentation_robust_score(augmented: float, plain: float, weight: float = WEIGHT) -> float:
    """ARS in [0, 1] of `weight * IOR with augmentation + (1 - weight) * IOR without`."""
    return _normalised(weight * augmented + (1 - weight) * plain)


def _normalised(value: float) -> float:
    """(e^x - e^-1) / (e - e^-1): -1 to 0, 1 to 1."""
    return (math.exp(value) - math.exp(-1)) / (math.e - math.exp(-1))


def _fraction(accuracy: float) -> float:
    if not 0.0 <= accuracy <= 1.0:
        raise ValueError(f"accuracy {accuracy}: a fraction in [0, 1] is needed")
    return accuracy
