import pytest
import torch
import torch.nn.functional as F

from latentdd_plugin.codecs.downscale import Downscale
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.latent.sized_codec import build_codec


def test_area_down_and_bilinear_up():
    x = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    codec = Downscale(f=4, image_shape=(3, 8, 12))
    codes = codec.encode(x)
    torch.testing.assert_close(codes, F.avg_pool2d(x, 4))
    torch.testing.assert_close(codec.decode(codes), F.interpolate(codes, scale_factor=4, mode="bilinear"))


def test_a_constant_image_comes_back():
    x = torch.full((1, 1, 7, 10), 0.3)
    torch.testing.assert_close(Downscale(f=3, image_shape=(1, 7, 10))(x), x)


@pytest.mark.parametrize(("side", "f", "code"), [(8, 2, 4), (9, 2, 5), (13, 4, 4), (3, 8, 1)])
def test_any_size_gives_its_ceiling(side, f, code):
    sized = build_codec({"name": "downscale", "f": f}, (1, side, side))
    assert sized.code_shape == (1, code, code)


def test_at_factor_one_nothing_is_lost():
    x = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Downscale(f=1, image_shape=(3, 5, 5))(x), x)


def test_faults():
    with pytest.raises(UsageError, match=r"downscale: codec.f=0: must be at least 1"):
        Downscale(f=0)
    with pytest.raises(UsageError, match="image_shape"):
        Downscale().decode(torch.zeros(1, 1, 2, 2))
