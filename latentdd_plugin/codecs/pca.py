"""Principal components of the run's own training images: the best linear code, and the example of a fitted codec.

Pearson 1901; for large images the randomised subspace iteration of Halko, Martinsson and Tropp
(https://arxiv.org/abs/0909.4061), streamed over batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from latentdd_plugin.codecs.base import Batches, Codec
from latentdd_plugin.core.errors import UsageError

if TYPE_CHECKING:
    from latentdd_plugin.core.types import Shape


EXACT_FEATURES = 4096  # up to this size the covariance matrix is held: 128 MiB, seconds to decompose
OVERSAMPLING = 16
PASSES = 5  # passes over the data of the randomised method, after one for the mean


class PCA(Codec):
    """Principal components: z = P (x - mean), x' = P^T z + mean, P the `dim` leading eigenvectors of the covariance.

    Codes are float32 (N, dim, 1, 1). Fitting reads the training images in batches, in float64 and with fixed seeds,
    so that equal data give equal components; each component's largest entry is positive.

    Args:
        dim: components kept; None keeps 64, or every feature if there are fewer.
        image_shape: (C, H, W) of the images; None takes it from the images given to `fit`.
    """

    codec_id: ClassVar[str] = "pca"

    mean: Tensor  # (F,) with F = C*H*W
    components: Tensor  # (dim, F), orthonormal rows

    def __init__(self, dim: int | None = None, image_shape: Sequence[int] | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.image_shape: Shape | None = None
        if dim is not None and dim < 1:
            raise UsageError(f"pca: codec.dim={dim}: must be at least 1")
        if image_shape is not None:
            self._allocate((image_shape[0], image_shape[1], image_shape[2]))

    def _allocate(self, shape: Shape) -> None:
        self.image_shape = shape
        features = math.prod(shape)
        self.dim = min(64, features) if self.dim is None else self.dim
        if self.dim > features:
            raise UsageError(
                f"pca: codec.dim={self.dim} exceeds the {features} values of an image: choose 1 to {features}"
            )
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("components", torch.zeros(self.dim, features))

    def fit(self, batches: Batches) -> None:
        """Learn mean and components from training images float32 (n, C, H, W).

        Raises:
            UsageError: `dim` exceeds the number of training images.
        """
        rows = _Rows(batches)
        if self.image_shape is None:
            self._allocate(rows.shape)
        dim = self.components.shape[0]
        if dim > rows.count:
            raise UsageError(f"pca: codec.dim={dim} exceeds the {rows.count} training images: choose 1 to {rows.count}")
        exact = self.mean.numel() <= EXACT_FEATURES
        components = exact_components(rows, dim) if exact else randomised_components(rows, dim)
        self.mean.copy_(rows.mean)
        self.components.copy_(components)

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (N, C, H, W) to codes (N, dim, 1, 1)."""
        if self.image_shape is None or not bool(self.components.any()):
            raise UsageError("pca: not fitted yet: call fit(batches) or load a fitted state first")
        if tuple(images.shape[1:]) != self.image_shape:
            raise UsageError(f"pca: fitted on images of shape {self.image_shape}, given {tuple(images.shape[1:])}")
        return ((images.flatten(1) - self.mean) @ self.components.T)[:, :, None, None]

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes (N, dim, 1, 1) to images (N, C, H, W)."""
        if self.image_shape is None:
            raise UsageError("pca: not fitted yet: call fit(batches) or load a fitted state first")
        return (codes.flatten(1) @ self.components + self.mean).view(-1, *self.image_shape)


class _Rows:
    """Centred training images as float64 rows (n, F), batch by batch; counted and averaged once at the start."""

    def __init__(self, batches: Batches) -> None:
        self.batches, self.count, total = batches, 0, torch.zeros(())
        for batch in batches():
            x = batch.flatten(1).to("cpu", torch.float64)
            self.count, total = self.count + x.shape[0], total + x.sum(dim=0)
            self.shape: Shape = (batch.shape[1], batch.shape[2], batch.shape[3])
        if self.count == 0:
            raise UsageError("pca: there are no training images to fit on")
        self.mean = total / self.count

    def __iter__(self) -> Iterator[Tensor]:
        for batch in self.batches():
            yield batch.flatten(1).to("cpu", torch.float64) - self.mean


def exact_components(rows: _Rows, dim: int) -> Tensor:
    """Return the `dim` leading eigenvectors of the covariance, float64 (dim, F), largest eigenvalue first."""
    features = rows.mean.numel()
    scatter = torch.zeros(features, features, dtype=torch.float64)
    for x in rows:
        scatter.addmm_(x.T, x)
    return _signed(torch.linalg.eigh(scatter)[1].T.flip(0)[:dim])


def randomised_components(rows: _Rows, dim: int) -> Tensor:
    """Return nearly the same without the (F, F) matrix, float64 (dim, F), by subspace iteration from a seeded start.

    Memory is about three times (F, dim + 16) and one batch in float64.
    """
    features = rows.mean.numel()
    width = min(dim + OVERSAMPLING, features, rows.count)
    start = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(features, width, dtype=torch.float64, generator=start))[0]
    image = basis
    for step in range(PASSES):
        basis = torch.linalg.qr(image)[0] if step else basis
        image = torch.zeros_like(basis)
        for x in rows:
            image.addmm_(x.T, x @ basis)
    rotation = torch.linalg.eigh(basis.T @ image)[1].flip(1)[:, :dim]  # Rayleigh-Ritz within the subspace
    return _signed((basis @ rotation).T)


def _signed(components: Tensor) -> Tensor:
    """Fix the sign of each component, which is arbitrary: its largest entry becomes positive."""
    largest = components.abs().argmax(dim=1, keepdim=True)
    return components * components.gather(1, largest).sign()
