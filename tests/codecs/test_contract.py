"""The contract suite for every registered codec that works offline: registering a codec is enough to test it."""

from functools import cache

import pytest
import torch
import torch.nn.functional as F

from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.core import plugins
from latentdd_plugin.core.entry_points import WEIGHTS
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.latent.sized_codec import build_codec
from latentdd_plugin.testing import CODEC_CONTRACTS, CodecSubject
from latentdd_plugin.testing.subjects import SHAPES

NAMES = [name for name, entry in plugins.entries("codecs").items() if WEIGHTS not in entry.extras]
each_codec = pytest.mark.parametrize("name", NAMES)
subject = cache(CodecSubject)


def test_there_are_codecs_to_test():
    assert {"identity", "downscale", "dct", "fred", "pca", "tiny-vae"} <= set(NAMES)


@pytest.mark.parametrize("contract", CODEC_CONTRACTS, ids=lambda contract: contract.__name__)
@each_codec
def test_contract(contract, name):
    contract(subject(name))


@each_codec
def test_every_offline_codec_takes_every_size(name):
    assert [sample.shape for sample in subject(name).samples] == list(SHAPES)
    for sample in subject(name).samples:
        images = smooth(sample.shape)
        with torch.no_grad():
            error = float((sample.sized.decode(sample.sized.encode(images)) - images).square().mean().sqrt())
        assert error < 0.2, f"a reconstruction of {sample.shape}"


def smooth(shape):
    """Images in [0, 1] without hard edges, as natural ones are: noise at a quarter of the size, enlarged."""
    c, h, w = shape
    small = torch.rand((6, c, -(-h // 4) + 1, -(-w // 4) + 1), generator=torch.Generator().manual_seed(0))
    return F.interpolate(small, (h, w), mode="bicubic", align_corners=True).clamp(0, 1)


FROZEN = {  # those that learn nothing from a run, at (3, 16, 16): class, place, configuration and weights never change
    "identity": "2e64266cb6012302d3e4f7e6f925c0fc61787e7a5d364ac2e74bca4b4f36b188",
    "downscale": "93883c03650e3553e02040bc86eda31a559d7c1fae05f4ad1cc7eb50ddee77f6",
    "dct": "8b1e4cc648aaf37006d3b541d07e9a6a0fbe6028d6c4f35b7b463021ba2d6c40",
    "tiny-vae": "366d0199e038a881ddcaf25d2a5437d73fd1d9ed3635cdac23f7927866ee8966",
}


@pytest.mark.parametrize("name", FROZEN)
def test_artifacts_made_before_can_still_be_decoded(name):
    assert build_codec({"name": name}, (3, 16, 16)).fingerprint == FROZEN[name]


@each_codec
def test_an_option_it_does_not_have_is_refused(name):
    with pytest.raises(UsageError, match=f"codec.{name}: .* has no option 'no_such_option'"):
        build_codec({"name": name, "no_such_option": 1}, (1, 8, 8))


def test_the_contract_is_small():
    assert Codec.__abstractmethods__ == {"encode", "decode"}
