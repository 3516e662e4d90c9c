from __future__ import annotations

import json

import pytest
import torch

from latentdd_plugin.codecs.base import decoder_bytes, fingerprint
from latentdd_plugin.codecs.dct import COLOURS, DCT, dct_matrix
from latentdd_plugin.core.errors import UsageError


def images(*shape: int, n: int = 2) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))


def test_the_matrix_is_the_orthonormal_dct() -> None:
    d = dct_matrix(7)
    torch.testing.assert_close(d @ d.T, torch.eye(7, dtype=torch.float64))
    torch.testing.assert_close(d[0], torch.full((7,), 7**-0.5, dtype=torch.float64))


@pytest.mark.parametrize(
    ("shape", "options", "code"),
    [
        ((3, 32, 32), {}, (3, 16, 16)),
        ((3, 128, 128), {}, (3, 32, 32)),
        ((1, 8, 8), {}, (1, 4, 4)),
        ((1, 28, 28), {"colour": "split"}, (1, 14, 14)),
        ((3, 31, 45), {}, (3, 16, 23)),
        ((3, 32, 32), {"colour": "split"}, (6, 8, 8)),
        ((3, 32, 32), {"block": 8, "size": 3, "colour": "rgb"}, (27, 4, 4)),
        ((3, 32, 32), {"block": 8, "colour": "split"}, (16 + 4 + 4, 4, 4)),
    ],
)
def test_shapes_there_and_back(shape: tuple[int, ...], options: dict, code: tuple[int, ...]) -> None:
    codec = DCT(image_shape=shape, **options)
    x = images(*shape)
    z = codec.encode(x)
    assert tuple(z.shape[1:]) == code
    assert codec.decode(z).shape == x.shape
    torch.testing.assert_close(codec.encode(codec.decode(z)), z, atol=2e-6, rtol=0)  # a projection


@pytest.mark.parametrize("colour", COLOURS[:2])
@pytest.mark.parametrize(("shape", "size"), [((3, 32, 32), 32), ((3, 9, 15), 9), ((1, 8, 8), 8)])
def test_full_size_keeps_the_image(shape: tuple[int, ...], size: int, colour: str) -> None:
    codec = DCT(size=size, colour=colour, image_shape=shape)
    torch.testing.assert_close(codec(images(*shape)), images(*shape), atol=1e-5, rtol=0)


def test_full_blocks_keep_the_image() -> None:
    codec = DCT(size=4, block=4, image_shape=(3, 12, 8))
    torch.testing.assert_close(codec(images(3, 12, 8)), images(3, 12, 8), atol=1e-5, rtol=0)
    assert codec.multiple == 4


@pytest.mark.parametrize("block", [None, 4])
@pytest.mark.parametrize("colour", COLOURS)
def test_a_constant_image_has_a_constant_code(colour: str, block: int | None) -> None:
    codec = DCT(colour=colour, block=block, image_shape=(3, 16, 24))
    colours = torch.tensor([0.2, 0.5, 0.9])[:, None, None].expand(3, 16, 24)[None]
    z = codec.encode(colours)
    assert float(z.std(dim=(2, 3)).max()) < 1e-6
    torch.testing.assert_close(codec.decode(z), colours, atol=1e-5, rtol=0)
    grey = codec.encode(torch.full((1, 3, 16, 24), 0.4))
    torch.testing.assert_close(grey[:, 0], torch.full_like(grey[:, 0], 0.4))
    if colour != "rgb":
        assert float(grey[:, -1].abs().max()) < 1e-6


def test_luma_keeps_twice_the_resolution_of_chroma_in_split() -> None:
    x = images(3, 32, 32)
    split, ycc = DCT(size=16, colour="split", image_shape=x.shape[1:]), DCT(size=16, image_shape=x.shape[1:])
    torch.testing.assert_close(luma(split(x)), luma(ycc(x)), atol=1e-5, rtol=0)
    assert split.encode(x).numel() == ycc.encode(x).numel() // 2


def luma(x: torch.Tensor) -> torch.Tensor:
    return torch.einsum("c,nchw->nhw", torch.tensor([0.299, 0.587, 0.114]), x)


@pytest.mark.parametrize("options", [{}, {"colour": "rgb"}, {"colour": "split"}, {"block": 4, "size": 1}])
@pytest.mark.parametrize("axis", [-1, -2])
def test_spatial_codes_flip_with_the_image(options: dict, axis: int) -> None:
    codec = DCT(image_shape=(3, 32, 16), **options)
    assert codec.spatial
    z = codec.encode(images(3, 32, 16))
    torch.testing.assert_close(codec.decode(z.flip(axis)), codec.decode(z).flip(axis), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "shape"), [({"block": 4}, (3, 16, 16)), ({"colour": "split", "size": 6}, (3, 16, 16))]
)
def test_codes_that_do_not_flip_say_so(options: dict, shape: tuple[int, ...]) -> None:
    codec = DCT(image_shape=shape, **options)
    assert not codec.spatial
    z = codec.encode(images(*shape))
    assert float((codec.decode(z.flip(-1)) - codec.decode(z).flip(-1)).abs().max()) > 0.01


@pytest.mark.parametrize("options", [{}, {"colour": "split"}, {"block": 4}])
def test_the_gradient_is_the_adjoint(options: dict) -> None:
    codec = DCT(image_shape=(3, 16, 16), **options)
    z = codec.encode(images(3, 16, 16)).requires_grad_()
    codec.decode(z).sum().backward()
    assert z.grad is not None
    assert bool(z.grad.isfinite().all())
    assert float(z.grad.abs().sum()) > 0


@pytest.mark.parametrize("options", [{}, {"colour": "split"}, {"block": 4, "size": 2, "colour": "rgb"}])
def test_config_round_trip_and_nothing_stored(options: dict) -> None:
    codec = DCT(image_shape=[3, 16, 16], **options)
    again = DCT(**json.loads(json.dumps(codec.config())))
    assert fingerprint(again) == fingerprint(codec)
    assert codec.state() == {}
    assert decoder_bytes(codec) == 0
    assert torch.equal(again.encode(images(3, 16, 16)), codec.encode(images(3, 16, 16)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 33}, r"codec.size=33 is larger than the shorter side of the 32x40 image: choose 1 to 32"),
        ({"size": 9, "block": 8}, r"codec.size=9 is larger than the block: choose 1 to 8"),
        ({"size": 7, "colour": "split"}, r"codec.size=7 is odd"),
        ({"size": 0}, r"codec.size=0: must be at least 1"),
        ({"colour": "lab"}, r"codec.colour=lab: choose one of rgb, ycc, split"),
        ({"block": 1}, r"codec.block=1: must be at least 2"),
    ],
)
def test_refusals(options: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        DCT(image_shape=(3, 32, 40), **options)


def test_use_on_other_images_is_refused() -> None:
    with pytest.raises(UsageError, match=r"built for images of shape \(3, 16, 16\), given \(3, 8, 8\)"):
        DCT(image_shape=(3, 16, 16)).encode(images(3, 8, 8))
    with pytest.raises(UsageError, match="image_shape"):
        DCT().decode(torch.zeros(1, 3, 4, 4))
    with pytest.raises(UsageError, match=r"codec.block=5 does not divide the 16x16 image"):
        DCT(block=5, image_shape=(3, 16, 16)).encode(images(3, 16, 16))
