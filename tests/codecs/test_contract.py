"""What every registered codec that works offline keeps to. Registering is being tested."""

import json
from functools import cache

import pytest
import torch

from latentdd_plugin import plugins
from latentdd_plugin.codecs.base import Codec, decoder_bytes, decoder_state, fingerprint, is_fitted
from latentdd_plugin.entries import WEIGHTS
from latentdd_plugin.space import build_codec
from latentdd_plugin.types import Images

NAMES = [name for name, entry in plugins.entries("codecs").items() if WEIGHTS not in entry.extras]
SHAPES = [(1, 8, 8), (3, 16, 16), (3, 13, 21), (1, 7, 9)]
each_codec = pytest.mark.parametrize("name", NAMES)
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def pictures(shape, n=80, seed=0):
    """Smooth images in [0, 1]: noise at a quarter of the size, enlarged."""
    c, h, w = shape
    small = torch.rand((n, c, -(-h // 4) + 1, -(-w // 4) + 1), generator=torch.Generator().manual_seed(seed))
    images = torch.nn.functional.interpolate(small, (h, w), mode="bicubic", align_corners=True).clamp(0, 1)
    return (images * 255).round().to(torch.uint8)


def made(name, shape):
    """The codec made to fit images of this shape; fitted where it learns."""
    sized = build_codec({"name": name}, shape)
    sized.fit(Images(pictures(shape), torch.zeros(80, dtype=torch.long)), "cpu")
    return sized


@cache
def ready(name, shape):
    """(such a codec, images it can encode), made once."""
    return made(name, shape), pictures(shape)[:6].float() / 255


def test_there_are_codecs_to_test():
    assert {"identity", "downscale", "dct", "fred", "pca", "tiny-vae"} <= set(NAMES)


@each_shape
@each_codec
def test_shapes_there_and_back(name, shape):
    sized, x = ready(name, shape)
    codes = sized.encode(x)
    assert codes.shape == (6, *sized.code_shape)
    assert codes.dtype == torch.float32
    assert sized.decode(codes).shape == x.shape
    assert float((sized.decode(codes) - x).square().mean().sqrt()) < 0.2, "a reconstruction"


@each_shape
@each_codec
def test_encoding_is_deterministic_and_knows_no_batch(name, shape):
    sized, x = ready(name, shape)
    codes = sized.encode(x)
    torch.rand(3)
    assert torch.equal(sized.encode(x), codes)
    one_by_one = torch.cat([sized.encode(x[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(one_by_one, codes, atol=1e-5, rtol=1e-5)
    decoded = torch.cat([sized.decode(codes[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(decoded, sized.decode(codes), atol=1e-5, rtol=1e-5)


@each_shape
@each_codec
def test_the_gradient_reaches_every_code(name, shape):
    sized, x = ready(name, shape)
    codes = sized.encode(x).detach().requires_grad_()
    sized.decode(codes).square().sum().backward()
    assert bool(torch.isfinite(codes.grad).all())
    assert bool((codes.grad.flatten(1).abs().amax(1) > 0).all())
    direction = torch.randn(codes.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        step = 1e-3 * direction  # small, because a network has kinks
        change = sized.decode(codes + step).double().square().sum() - sized.decode(codes - step).double().square().sum()
    torch.testing.assert_close((codes.grad * step).double().sum() * 2, change, rtol=0.02, atol=0.002)


@each_codec
def test_images_and_weights_are_left_alone(name):
    sized, x = ready(name, (3, 16, 16))
    before, state = x.clone(), {k: v.clone() for k, v in sized.codec.state().items()}
    sized.decode(sized.encode(x).detach().clone().requires_grad_()).sum().backward()
    assert torch.equal(x, before)
    assert all(torch.equal(v, state[k]) for k, v in sized.codec.state().items())
    assert not sized.codec.training
    assert not any(p.requires_grad for p in sized.codec.parameters())


@each_shape
@each_codec
def test_from_its_configuration_comes_the_same_codec(name, shape):
    sized, x = ready(name, shape)
    kept = json.loads(json.dumps(sized.codec.config()))
    again = type(sized.codec)(**kept)
    assert again.config() == kept == sized.codec.config()
    again.load_state_dict(sized.codec.state_dict())
    assert fingerprint(again) == fingerprint(sized.codec) == sized.fingerprint
    codes = sized.encode(x)
    torch.testing.assert_close(again.decode(codes), sized.codec.decode(codes))


@each_codec
def test_the_fingerprint_is_stable_and_knows_the_configuration(name):
    sized = made(name, (3, 16, 16))
    assert sized.fingerprint == ready(name, (3, 16, 16))[0].fingerprint
    assert len(bytes.fromhex(sized.fingerprint)) == 32
    if name in FROZEN:
        assert sized.fingerprint == FROZEN[name], "artifacts made before would no longer decode"
    if "image_shape" in sized.codec.config():
        assert made(name, (3, 12, 12)).fingerprint != sized.fingerprint


FROZEN = {  # those that learn nothing from a run, at (3, 16, 16): class, place, configuration and weights never change
    "identity": "2e64266cb6012302d3e4f7e6f925c0fc61787e7a5d364ac2e74bca4b4f36b188",
    "downscale": "93883c03650e3553e02040bc86eda31a559d7c1fae05f4ad1cc7eb50ddee77f6",
    "dct": "8b1e4cc648aaf37006d3b541d07e9a6a0fbe6028d6c4f35b7b463021ba2d6c40",
    "tiny-vae": "366d0199e038a881ddcaf25d2a5437d73fd1d9ed3635cdac23f7927866ee8966",
}


@each_shape
@each_codec
def test_spatial_means_that_flips_commute(name, shape):
    sized, x = ready(name, shape)
    if not sized.spatial:
        assert not sized.codec.spatial or min(sized.code_shape[1:]) < 2
        return
    codes, decode = sized.encode(x), sized.codec.decode  # with what was padded, which lies on one side only
    learned = bool(list(sized.codec.parameters()))
    for axis in (2, 3):
        flipped, expected = decode(codes.flip(axis)), decode(codes).flip(axis)
        bound = (0.3 if learned else 0.1) * float((decode(codes) - flipped).abs().mean())
        assert float((flipped - expected).abs().mean()) < bound


@each_codec
def test_the_decoder_is_counted(name):
    sized, _ = ready(name, (3, 16, 16))
    assert decoder_bytes(sized.codec) == sum(t.numel() * t.element_size() for t in decoder_state(sized.codec).values())
    if is_fitted(sized.codec):
        assert decoder_bytes(sized.codec) > 0


@each_codec
def test_an_option_it_does_not_have_is_refused(name):
    from latentdd_plugin.errors import UsageError

    with pytest.raises(UsageError, match=f"codec.{name}: .* has no option 'no_such_option'"):
        build_codec({"name": name, "no_such_option": 1}, (1, 8, 8))


def test_the_contract_is_small():
    assert Codec.__abstractmethods__ == {"encode", "decode"}
