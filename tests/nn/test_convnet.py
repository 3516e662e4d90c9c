"""The field's ConvNet: size, depth, initialisation; and the network that a match space gets."""

import math

import pytest
import timm
import torch
import torch.nn.functional as F

from latentdd_plugin.core.random import seeded
from latentdd_plugin.nn.convnet import MLP, ConvNet, convnet_depth, matching_network, register_with_timm


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def test_the_published_size():
    assert parameters(ConvNet((3, 32, 32), 10)) == 320_010
    register_with_timm()
    register_with_timm()
    assert parameters(timm.create_model("convnet_d3")) == 320_010


@pytest.mark.parametrize(
    ("side", "depth"),
    {
        1: 1,
        2: 1,
        3: 1,
        4: 2,
        7: 2,
        8: 3,
        16: 3,
        28: 3,
        32: 3,
        63: 3,
        64: 4,
        96: 4,
        128: 5,
        224: 5,
        256: 6,
        2048: 6,
    }.items(),
)
def test_depth_by_size(side, depth):
    assert convnet_depth(side, side) == convnet_depth(side, 4 * side) == convnet_depth(3 * side, side) == depth


@pytest.mark.parametrize("shape", [(4, 2, 2), (4, 4, 4), (1, 8, 8), (3, 28, 28), (3, 13, 40), (3, 64, 64)], ids=str)
def test_no_depth_kills_the_norm(shape):
    """InstanceNorm over a single place would give zeros whatever the input is."""
    network = ConvNet(shape, 7)
    x = torch.randn((3, *shape), generator=torch.Generator().manual_seed(0))
    features = network.features(x)
    assert features.shape == (3, network.num_features)
    assert network(x).shape == (3, 7)
    assert (features[0] - features[1]).detach().abs().max() > 1e-3


def test_28_pixels_are_padded_to_32():
    assert parameters(ConvNet((1, 28, 28), 10)) == parameters(ConvNet((1, 32, 32), 10))


def test_a_depth_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="convnet_d4 halves its input 4 times and cannot take 8x8"):
        ConvNet((3, 8, 8), 10, depth=4)


def test_the_layers_are_those_of_the_paper():
    network = ConvNet((3, 16, 16), 10).eval()
    x = torch.randn(2, 3, 16, 16)
    expected = x
    for conv, norm in zip(network.blocks[0::4], network.blocks[1::4], strict=True):
        expected = F.conv2d(expected, conv.weight, conv.bias, padding=1)
        mean = expected.mean((2, 3), keepdim=True)
        variance = expected.var((2, 3), unbiased=False, keepdim=True)
        expected = (expected - mean) / torch.sqrt(variance + 1e-5)
        expected = expected * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)
        n, c, h, w = expected.shape
        expected = expected.clamp_min(0).reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))
    torch.testing.assert_close(network.features(x), expected.flatten(1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("network", [ConvNet((3, 32, 32), 10), MLP((64, 1, 1), 10)], ids=["convnet", "mlp"])
def test_reset_draws_what_torch_draws(network):
    """Uniform in +-1/sqrt(fan in), biases too: torch's default for convolutions and linear layers."""
    for parameter in network.parameters():
        parameter.data.fill_(torch.nan)
    network.reset(torch.Generator().manual_seed(0))
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            bound = 1 / math.sqrt(module.weight[0].numel())
            with seeded(0, "reference"):
                theirs = type(module)(*_arguments(module))
            for ours, reference in ((module.weight, theirs.weight), (module.bias, theirs.bias)):
                assert float(ours.detach().abs().max()) <= bound
                if ours.numel() > 1000:
                    quantiles = torch.linspace(0, 1, 21)
                    draws = [
                        torch.quantile(w.detach().flatten()[:10_000], quantiles) / bound for w in (ours, reference)
                    ]
                    torch.testing.assert_close(*draws, atol=0.08, rtol=0)
        elif isinstance(module, torch.nn.GroupNorm):
            assert bool((module.weight == 1).all() and (module.bias == 0).all())


def _arguments(module):
    if isinstance(module, torch.nn.Linear):
        return module.in_features, module.out_features
    return module.in_channels, module.out_channels, module.kernel_size


def test_reset_repeats_and_owes_nothing_to_the_global_generator():
    def drawn(seed):
        network = matching_network((1, 8, 8), 10)
        torch.rand(3)
        network.reset(torch.Generator().manual_seed(seed))
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_codes_without_a_layout_get_an_mlp():
    network = matching_network((64, 1, 1), 10)
    assert isinstance(network, MLP)
    assert [layer.out_features for layer in network.hidden] == [128, 128]
    assert network.features(torch.randn(5, 64, 1, 1)).shape == (5, 128)
    assert isinstance(matching_network((4, 2, 2), 10), ConvNet)
