"""Input sizes that timm architectures take, and the settings for them."""

import subprocess
import sys

import pytest
import torch

from latentdd_plugin.core.random import seeded
from latentdd_plugin.evaluators.base import Unsuitable
from latentdd_plugin.nn import architectures
from latentdd_plugin.nn.architectures import build, forward_batch, is_known

NAMED = [
    "convnet",
    "resnet18",
    "vit_tiny_patch16_224",
    "convnext_atto",
    "efficientnet_b0",
    "mobilenetv3_small_100",
    "vgg11",
    "swin_tiny_patch4_window7_224",
]
SIDES = [8, 16, 28, 32, 64, 96, 128, 224, 256]

# Settings that published scores were made with: a change of one is a new `implementation` of the protocols.
SETTINGS = [
    ("convnet", 8, "convnet_d3", {"img_size": [8, 8]}),
    ("convnet", 32, "convnet_d3", {"img_size": [32, 32]}),
    ("convnet", 64, "convnet_d4", {"img_size": [64, 64]}),
    ("convnet", 128, "convnet_d5", {"img_size": [128, 128]}),
    ("resnet18", 8, "resnet18", {}),
    ("resnet18", 32, "resnet18", {"output_stride": 8}),
    ("resnet18", 64, "resnet18", {"output_stride": 8}),
    ("resnet18", 128, "resnet18", {"output_stride": 16}),
    ("vit_tiny_patch16_224", 32, "vit_tiny_patch16_224", {"img_size": [32, 32], "patch_size": 4}),
    ("vit_tiny_patch16_224", 64, "vit_tiny_patch16_224", {"img_size": [64, 64], "patch_size": 8}),
    ("convnext_atto", 32, "convnext_atto", {"patch_size": 1}),
    ("efficientnet_b0", 32, "efficientnet_b0", {"output_stride": 8}),
]


@pytest.mark.parametrize(("arch", "side", "name", "kwargs"), SETTINGS, ids=[f"{s[0]}-{s[1]}" for s in SETTINGS])
def test_settings_by_size(arch, side, name, kwargs):
    network, found, used = build(arch, (3, side, side), 10)
    assert (found, used) == (name, kwargs)
    assert network.eval()(torch.zeros(1, 3, side, side)).shape == (1, 10)


@pytest.mark.slow
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("arch", NAMED)
def test_every_named_architecture_builds_or_says_why_not(arch, side):
    for channels in (1, 3):
        try:
            network, _, _ = build(arch, (channels, side, side), 7)
        except Unsuitable as reason:
            assert str(reason).startswith(f"{arch} cannot take {side}x{side} px (")
            assert (arch, side) in [("vgg11", 8), ("vgg11", 16), ("vgg11", 28)]
            continue
        x = torch.randn(2, channels, side, side)
        logits = network.train()(x)
        assert logits.shape == (2, 7)
        logits.square().sum().backward()
        assert all(bool(torch.isfinite(p.grad).all()) for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize(("arch", "shape"), [("convnet", (1, 12, 20)), ("resnet18", (3, 24, 32))], ids=str)
def test_images_need_not_be_square(arch, shape):
    network, _, _ = build(arch, shape, 10)
    assert network.eval()(torch.zeros(1, *shape)).shape == (1, 10)


def test_what_cannot_take_the_size_says_what_was_tried():
    with pytest.raises(Unsuitable) as reason:
        build("convnet_d6", (3, 32, 32), 10)
    assert str(reason.value) == (
        "convnet_d6 cannot take 32x32 px ({'img_size': [32, 32]}: convnet_d6 halves its input 6 times and cannot take "
        "32x32)"
    )


def test_names_are_timms_and_ours():
    assert is_known("convnet")
    assert is_known("convnet_d6")
    assert is_known("resnet18")
    assert not is_known("resnet-18")


@pytest.mark.parametrize("arch", ["convnet_d1", "resnet18"])
def test_weights_follow_from_the_seed_alone(arch):
    """ResNet-18 at 8 px takes its first setting, at 16 px too; a failed attempt before must not move the draw."""

    def first_weights(seed):
        torch.rand(5)
        with seeded(seed, "x"):
            network, _, _ = build(arch, (3, 16, 16), 10)
        return torch.cat([p.detach().flatten()[:50] for p in network.parameters()])

    assert torch.equal(first_weights(1), first_weights(1))
    assert not torch.equal(first_weights(1), first_weights(2))


def test_failed_attempts_and_the_probe_leave_no_trace(monkeypatch):
    """The first setting builds a network that cannot run: the next one's weights are those of a direct build, and its
    running statistics have seen nothing."""
    import timm

    wanted = [{"img_size": [16, 16], "patch_size": 4}, {"img_size": [32, 32], "patch_size": 8}]
    monkeypatch.setattr(architectures, "candidates", lambda *_: wanted if arch.startswith("vit") else [{}])
    for arch in ("vit_tiny_patch16_224", "resnet18"):
        torch.manual_seed(3)
        network, _, kwargs = build(arch, (3, 32, 32), 10)
        assert kwargs == (wanted[1] if arch.startswith("vit") else {})
        torch.manual_seed(3)
        direct = timm.create_model(arch, num_classes=10, in_chans=3, **kwargs)
        same_state(network, direct)


def same_state(network, direct):
    for name, tensor in direct.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name


def test_names_read_from_the_source_are_those_of_timms_registry():
    code = (
        "import sys\n"
        "from latentdd_plugin.nn.timm_names import CONVNETS, timm_names\n"
        "found = timm_names()\nassert not {'torch', 'timm'} & set(sys.modules)\n"
        "import timm\nfrom timm.models import _registry\nassert found == set(_registry._model_entrypoints), (\n"
        "    found ^ set(_registry._model_entrypoints))\n"
        "from latentdd_plugin.nn.convnet import MAX_DEPTH\nassert len(CONVNETS) == 2 * MAX_DEPTH\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_pretrained_tag_is_part_of_a_name():
    assert is_known("resnet50.a1_in1k")
    assert not is_known("resnet-50.a1_in1k")


@pytest.mark.parametrize(("side", "images"), [(8, 500), (32, 500), (64, 125), (128, 64), (224, 64)])
def test_fewer_large_images_pass_a_network_at_once(side, images):
    assert forward_batch((3, side, side)) == images
