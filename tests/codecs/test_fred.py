import math

import pytest
import torch

from latentdd_plugin.codecs.base import fingerprint
from latentdd_plugin.codecs.fred import FreD
from latentdd_plugin.core.errors import UsageError


def images(n=40, shape=(2, 5, 6)):
    """Smooth pictures, the second channel ten times fainter."""
    x = torch.rand((n, *shape), generator=torch.Generator().manual_seed(0)).cumsum(2).cumsum(3) / 30
    return x * torch.tensor([1.0, 0.1]).view(2, 1, 1)


def fitted(x, keep=None, part=7):
    codec = FreD(keep=keep, image_shape=tuple(x.shape[1:]))
    codec.fit(lambda: iter(x.split(part)))
    return codec


def spectrum(image):
    """The transform from its definition, a sum for each frequency."""
    h, w = image.shape
    found = torch.zeros(h, w)
    for u in range(h):
        for v in range(w):
            scale = math.sqrt((1 if u == 0 else 2) / h) * math.sqrt((1 if v == 0 else 2) / w)
            rows = torch.cos(math.pi * (2 * torch.arange(h) + 1) * u / (2 * h))
            columns = torch.cos(math.pi * (2 * torch.arange(w) + 1) * v / (2 * w))
            found[u, v] = scale * (image * rows[:, None] * columns).sum()
    return found


def test_the_codes_are_the_strongest_frequencies():
    x = images()
    every = torch.stack([torch.stack([spectrum(channel) for channel in image]) for image in x]).flatten(1)
    strongest = every.square().sum(0).topk(9).indices.sort().values
    codec = fitted(x, keep=9)
    assert codec.mask.tolist() == strongest.tolist()
    torch.testing.assert_close(codec.encode(x)[:, :, 0, 0], every[:, strongest], atol=1e-4, rtol=1e-4)


def test_no_other_mask_of_that_size_loses_less():
    x = images()
    best, other = fitted(x, keep=6), fitted(x, keep=6)
    error = float((best(x) - x).square().sum())
    for place in range(6):
        other.mask.copy_(best.mask)
        other.mask[place] = next(i for i in range(60) if i not in best.mask.tolist())
        assert float((other(x) - x).square().sum()) >= error


def test_with_every_frequency_nothing_is_lost():
    x = images()
    torch.testing.assert_close(fitted(x, keep=60)(x), x, atol=1e-5, rtol=0)
    assert fitted(x).keep == 5


def coloured(n=40):
    """Grey ramps with a little colour, (n, 3, 5, 6)."""
    grey = images(n, (2, 5, 6))[:, :1]
    return grey + 0.1 * torch.rand(n, 3, 1, 1, generator=torch.Generator().manual_seed(1))


def ycc(x, keep):
    codec = FreD(keep=keep, colour="ycc", image_shape=tuple(x.shape[1:]))
    codec.fit(lambda: iter([x]))
    return codec


def test_luma_and_chroma_lose_nothing_with_every_frequency_and_less_with_few():
    x = coloured()
    torch.testing.assert_close(ycc(x, 90)(x), x, atol=1e-5, rtol=0)
    plain, turned = (float((codec(x) - x).square().mean()) for codec in (fitted(x, keep=9), ycc(x, 9)))
    assert turned < plain / 2


def test_chroma_has_twice_the_step():
    codec = ycc(coloured(), 90)
    assert codec.step_weights(90).tolist() == [1.0] * 30 + [2.0] * 60
    assert fitted(coloured(), keep=90).step_weights(90).tolist() == [1.0] * 90
    assert "colour" not in fitted(coloured(), keep=9).config(), "the fingerprint of a published codec stays"
    assert codec.config()["colour"] == "ycc"


def test_batches_do_not_matter_and_data_do():
    x = images()
    assert fingerprint(fitted(x)) == fingerprint(fitted(x, part=40)) != fingerprint(fitted(x.flip(1)))


def test_faults():
    with pytest.raises(UsageError, match=r"fred: codec.keep=61: choose 1 to 60, the values of an image"):
        FreD(keep=61, image_shape=(2, 5, 6))
    with pytest.raises(UsageError, match=r"fred: codec.colour=hsv: choose one of rgb, ycc"):
        FreD(colour="hsv")
    with pytest.raises(UsageError, match="choose 1 to 60"):
        FreD(keep=0, image_shape=(2, 5, 6))
    with pytest.raises(UsageError, match="not fitted yet"):
        FreD(image_shape=(2, 5, 6)).encode(images())
    with pytest.raises(UsageError, match="given"):
        fitted(images()).encode(images(shape=(2, 6, 5)))
    with pytest.raises(UsageError, match="is needed"):
        FreD().decode(torch.zeros(1, 5, 1, 1))
