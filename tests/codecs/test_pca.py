from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
import sklearn.datasets
import sklearn.decomposition
import torch

from latentdd_plugin.codecs import pca
from latentdd_plugin.codecs.base import Batches, decoder_bytes, fingerprint, is_fitted
from latentdd_plugin.codecs.pca import PCA
from latentdd_plugin.core.errors import UsageError


@pytest.fixture(scope="module")
def digits() -> torch.Tensor:
    return torch.from_numpy(sklearn.datasets.load_digits().images / 16).float()[:, None]


def in_batches(x: torch.Tensor, size: int = 200) -> Batches:
    def walk() -> Iterator[torch.Tensor]:
        yield from x.split(size)

    return walk


def fitted(x: torch.Tensor, dim: int | None = None, size: int = 200) -> PCA:
    codec = PCA(dim=dim, image_shape=tuple(x.shape[1:]))
    codec.fit(in_batches(x, size))
    return codec


def test_equals_scikit_learn(digits: torch.Tensor) -> None:
    codec = fitted(digits, 20)
    x = digits.flatten(1).double().numpy()
    reference = sklearn.decomposition.PCA(20, svd_solver="full").fit(x)
    signs = np.sign(np.sum(reference.components_ * codec.components.numpy(), axis=1))
    np.testing.assert_allclose(codec.components, signs[:, None] * reference.components_, atol=1e-5)
    z = codec.encode(digits)
    assert z.shape == (len(digits), 20, 1, 1)
    np.testing.assert_allclose(z[:, :, 0, 0], signs * reference.transform(x), atol=1e-5)
    back = reference.inverse_transform(reference.transform(x)).reshape(-1, 1, 8, 8)
    np.testing.assert_allclose(codec.decode(z), back, atol=1e-5)


def test_signs_are_fixed_and_batches_do_not_matter(digits: torch.Tensor) -> None:
    codec = fitted(digits, 10)
    largest = codec.components.gather(1, codec.components.abs().argmax(1, keepdim=True))
    assert bool((largest > 0).all())
    assert fingerprint(codec) == fingerprint(fitted(digits, 10))
    torch.testing.assert_close(codec.components, fitted(digits, 10, size=333).components, atol=1e-5, rtol=0)


def test_more_components_reconstruct_better(digits: torch.Tensor) -> None:
    errors = [float((fitted(digits, d)(digits) - digits).square().mean()) for d in (1, 8, 32, 64)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-10  # all 64 features


def test_the_default_dimension(digits: torch.Tensor) -> None:
    assert PCA(image_shape=(3, 32, 32)).config() == {"dim": 64, "image_shape": [3, 32, 32]}
    assert PCA(image_shape=(1, 4, 4)).dim == 16
    late = PCA()
    late.fit(in_batches(digits))
    assert late.image_shape == (1, 8, 8)


def test_state_and_config_round_trip(digits: torch.Tensor) -> None:
    codec = fitted(digits, 12)
    again = PCA(**json.loads(json.dumps(codec.config())))
    again.load_state_dict(codec.state_dict())
    assert fingerprint(again) == fingerprint(codec)
    assert torch.equal(again(digits), codec(digits))
    assert set(codec.state()) == {"shared.mean", "shared.components"}
    assert decoder_bytes(codec) == 4 * (64 + 12 * 64)
    assert is_fitted(codec)
    assert not codec.spatial


def test_gradient(digits: torch.Tensor) -> None:
    codec = fitted(digits, 5)
    z = torch.zeros(1, 5, 1, 1, requires_grad=True)
    codec.decode(z)[0, 0, 3, 3].backward()
    torch.testing.assert_close(z.grad[0, :, 0, 0], codec.components[:, 27])


def test_the_large_road_agrees_with_the_exact_one(digits: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = fitted(digits, 8)
    monkeypatch.setattr(pca, "EXACT_FEATURES", 10)
    large = fitted(digits, 8)
    assert fingerprint(large) == fingerprint(fitted(digits, 8))  # seeded
    overlap = torch.linalg.svdvals(exact.components @ large.components.T)  # cosines between the two subspaces
    assert float(overlap.min()) > 0.999
    torch.testing.assert_close(large(digits), exact(digits), atol=5e-3, rtol=0)
    assert float(large.encode(digits).var(dim=0).sum()) > 0.9999 * float(exact.encode(digits).var(dim=0).sum())


def test_large_images_fit_with_bounded_memory() -> None:
    g = torch.Generator().manual_seed(0)
    factors = torch.randn(5, 3 * 64 * 64, generator=g)
    x = (torch.randn(40, 5, generator=g) @ factors).view(-1, 3, 64, 64) / 100 + 0.5
    codec = fitted(x, 5, size=16)
    torch.testing.assert_close(codec(x), x, atol=1e-4, rtol=0)  # rank 5 is recovered


def test_refusals(digits: torch.Tensor) -> None:
    with pytest.raises(UsageError, match=r"codec.dim=65 exceeds the 64 values of an image: choose 1 to 64"):
        PCA(dim=65, image_shape=(1, 8, 8))
    with pytest.raises(UsageError, match=r"codec.dim=20 exceeds the 7 training images: choose 1 to 7"):
        fitted(digits[:7], 20)
    with pytest.raises(UsageError, match=r"codec.dim=0: must be at least 1"):
        PCA(dim=0)
    with pytest.raises(UsageError, match="not fitted yet"):
        PCA(image_shape=(1, 8, 8)).encode(digits)
    with pytest.raises(UsageError, match="no training images"):
        PCA(image_shape=(1, 8, 8)).fit(in_batches(digits[:0]))
    with pytest.raises(UsageError, match=r"shape \(1, 8, 8\), given \(1, 4, 4\)"):
        fitted(digits, 4).encode(torch.zeros(1, 1, 4, 4))
