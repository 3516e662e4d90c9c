"""Value spaces: the numbers that a project writes for a pixel of [0, 1]. Constants are the projects' own.

Two projects may normalise one dataset differently, and one project may use another dataset's constants, so a name
here says both. Nothing is inferred from the numbers themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.plugins import near
from latentdd_plugin.core.types import ImageData, as_tensor

CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR100 = ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762))
DDRANKING = {  # its datasets, as it spells them
    "CIFAR10": CIFAR,
    "CIFAR100": CIFAR,
    **dict.fromkeys(("TinyImageNet", "ImageNet1K", "ImageNette", "ImageWoof"), IMAGENET),
    **dict.fromkeys(("ImageMeow", "ImageSquawk", "ImageFruit", "ImageYellow"), IMAGENET),
}

NORMALISED = {  # name -> mean and standard deviation per channel
    "dc-mnist": ((0.1307,), (0.3081,)),
    "dc-fashionmnist": ((0.2861,), (0.3530,)),
    "dc-svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "dc-cifar10": CIFAR,
    "dc-cifar100": CIFAR100,
    "dc-tinyimagenet": IMAGENET,
    "mtt-cifar10": CIFAR,
    "mtt-cifar100": CIFAR,
    "mtt-tiny": IMAGENET,
    "mtt-imagenet": IMAGENET,
    "glad-cifar10": CIFAR,
    "glad-imagenet": ((0.4377, 0.4438, 0.4728), (0.229, 0.224, 0.225)),  # what its generator's images are given
    **{f"ddranking-{name.lower()}": constants for name, constants in DDRANKING.items()},
}
PLAIN, ZCA, KIP = "none", "zca", "kip-zca"
NAMES = (PLAIN, *NORMALISED, ZCA)
ZCA_EPS = 0.1  # of MTT, DATM and DD-Ranking
LARGEST_WHITENED = 3 * 64 * 64  # values of an image: the covariance has the square of it


@dataclass(frozen=True)
class ValueSpace:
    """The encoding of a pixel of [0, 1]: `(pixel - mean) / std` per channel, or ZCA-whitened by the training set."""

    name: str
    mean: tuple[float, ...]  # one per channel, or one for all
    std: tuple[float, ...]
    zca: bool = False

    def sides(self, channels: int) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation, float32 (C, 1, 1); raise UsageError for another number of channels."""
        common = len(self.mean) == 1 and self.name not in NORMALISED
        if len(self.mean) != channels and not common:
            raise UsageError(f"values={self.name} has {len(self.mean)} channels, the images have {channels}")
        mean, std = (torch.tensor(side).expand(channels).view(-1, 1, 1) for side in (self.mean, self.std))
        return mean, std


def find(name: str | None, where: str) -> ValueSpace:
    """Return the value space of a name, or of `MEAN/STD`: numbers with commas, one per channel or one for all.

    Args:
        name: the name that was given; None if none was.
        where: the file, for the message.

    Raises:
        UsageError: no name was given, or it is unknown; the names are listed.
    """
    listed = f"{', '.join(NAMES)}, or MEAN/STD as in 0.5,0.5,0.5/0.2,0.2,0.2"
    if name is None:
        raise UsageError(f"{where} does not say how its values were normalised: give --values, one of {listed}")
    if name == KIP:
        raise UsageError(
            "values=kip-zca: KIP subtracts each image's own mean and divides by its own norm before it whitens; the "
            "file keeps neither, so its pixels cannot be restored"
        )
    if name in (PLAIN, ZCA):
        return ValueSpace(name, (0.0,), (1.0,), name == ZCA)
    if name in NORMALISED:
        return ValueSpace(name, *NORMALISED[name])
    try:
        mean, std = (tuple(float(number) for number in side.split(",")) for side in name.split("/"))
    except ValueError:
        raise UsageError(f"unknown value space {name!r}{near(name, NAMES)}; there are: {listed}") from None
    if len(mean) != len(std) or not all(map(_is_usable, std)) or not all(abs(m) < 1e6 for m in mean):
        raise UsageError(f"values={name}: as many means as positive deviations are needed, all finite")
    return ValueSpace(name, mean, std)


def _is_usable(std: float) -> bool:
    return 1e-6 < std < 1e6


@dataclass(frozen=True)
class Whitening:
    """ZCA, refitted: `(x - mean) @ covariance_eps^(-1/2)` on flattened images, and its inverse.

    With `covariance_eps = covariance + eps * I`, the covariance unbiased; the transform that kornia's `ZCAWhitening`
    with `compute_inv=True` gives MTT, DATM and DD-Ranking. Both roots are symmetric, so the decomposition's own
    ambiguities cancel.
    """

    mean: Tensor  # float64 (D,), D = C*H*W
    values: Tensor  # float64 (D,), eigenvalues of covariance_eps
    vectors: Tensor  # float64 (D, D)

    @classmethod
    def fitted(cls, data: ImageData) -> Whitening:
        """Return the whitening fitted on the pixels, in [0, 1], of these training images, in float64."""
        pixels = as_tensor(data.train.pixels).flatten(1)
        total, size = pixels.shape
        if total < 2 or size > LARGEST_WHITENED:
            raise UsageError(
                f"values=zca: {total} images of {size} values; two at least, of at most {LARGEST_WHITENED}"
            )
        mean = torch.stack([part.double().sum(0) for part in pixels.split(4096)]).sum(0) / (255 * total)
        covariance = torch.zeros((size, size), dtype=torch.float64)
        for part in pixels.split(4096):
            centred = part.double() / 255 - mean
            covariance.addmm_(centred.T, centred)
        values, vectors = torch.linalg.eigh(covariance / (total - 1))
        return cls(mean, values.clamp_min(0) + ZCA_EPS, vectors)

    def whiten(self, images: Tensor) -> Tensor:
        """Return pixels (N, C, H, W) of [0, 1] in ZCA space."""
        flat = (images.double().flatten(1) - self.mean) @ self._power(-0.5)
        return flat.view_as(images).float()

    def restore(self, images: Tensor) -> Tensor:
        """Return pixels of [0, 1] of images (N, C, H, W) in ZCA space."""
        flat = images.double().flatten(1) @ self._power(0.5) + self.mean
        return flat.view_as(images).float()

    def _power(self, exponent: float) -> Tensor:
        return (self.vectors * self.values**exponent) @ self.vectors.T
