"""PSNR and SSIM against their formulas, written out slowly; and against scikit-image where it is installed."""

import math

import pytest
import torch

from latentdd_plugin.testing.cards.quality import EXACT, psnr, ssim, window_side
from latentdd_plugin.testing.samples import pictures


def pair(shape, n=3):
    x = pictures(shape, n).float() / 255
    return (0.8 * x + 0.3 * x.flip(3)).float(), x


def ssim_by_hand(x, y):
    """Equation 13 of Wang et al. for one channel, place by place."""
    side = window_side(*x.shape)
    half = side // 2
    weights = [
        [math.exp(-(((i - half) ** 2 + (j - half) ** 2) / (2 * 1.5**2))) for j in range(side)] for i in range(side)
    ]
    total = sum(map(sum, weights))
    found = []
    for top in range(x.shape[0] - side + 1):
        for left in range(x.shape[1] - side + 1):
            cells = [(i, j) for i in range(side) for j in range(side)]
            w = {(i, j): weights[i][j] / total for i, j in cells}
            a = {(i, j): float(x[top + i, left + j]) for i, j in cells}
            b = {(i, j): float(y[top + i, left + j]) for i, j in cells}
            ma, mb = sum(w[c] * a[c] for c in cells), sum(w[c] * b[c] for c in cells)
            va, vb = (sum(w[c] * (v[c] - m) ** 2 for c in cells) for v, m in ((a, ma), (b, mb)))
            cov = sum(w[c] * (a[c] - ma) * (b[c] - mb) for c in cells)
            c1, c2 = 0.01**2, 0.03**2
            found.append((2 * ma * mb + c1) * (2 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2)))
    return sum(found) / len(found)


@pytest.mark.parametrize(("shape", "side"), [((1, 8, 8), 7), ((3, 13, 21), 11), ((1, 7, 9), 7), ((1, 1, 5), 1)])
def test_ssim_is_the_formula(shape, side):
    found, wanted = pair(shape)
    assert window_side(*shape[1:]) == side
    by_hand = [
        sum(ssim_by_hand(a, b) for a, b in zip(x, y, strict=True)) / shape[0]
        for x, y in zip(found, wanted, strict=True)
    ]
    torch.testing.assert_close(ssim(found, wanted), torch.tensor(by_hand), atol=1e-5, rtol=1e-5)


def test_ssim_of_an_image_with_itself_is_one_and_of_its_negative_is_less():
    _, x = pair((3, 16, 16))
    torch.testing.assert_close(ssim(x, x), torch.ones(3))
    assert float(ssim(1 - x, x).max()) < 0.2


def test_ssim_is_scikit_images():
    metrics = pytest.importorskip("skimage.metrics")
    found, wanted = pair((3, 24, 32))
    options = {
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
        "data_range": 1.0,
        "channel_axis": 0,
    }
    theirs = [
        metrics.structural_similarity(x.numpy(), y.numpy(), **options) for x, y in zip(found, wanted, strict=True)
    ]
    torch.testing.assert_close(ssim(found, wanted), torch.tensor(theirs).float(), atol=1e-4, rtol=1e-4)


def test_psnr_is_of_each_image_and_knows_no_infinity():
    x = torch.rand((3, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    y = x.clone()
    y[1] += 0.1
    y[2, 0, 0, 0] += 2.0
    found = psnr(y, x).tolist()
    assert found[0] == EXACT
    assert found[1] == pytest.approx(20.0, abs=1e-3)
    assert found[2] == pytest.approx(-10 * math.log10(4 / 16), abs=1e-3), "not clamped to [0, 1]"
