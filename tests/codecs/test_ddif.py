import pytest
import tiny
import torch
from torch import nn

from latentdd_plugin import load_artifact, run
from latentdd_plugin.cli.main import main
from latentdd_plugin.codecs.ddif import DDiF
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.latent.encode import code_set
from latentdd_plugin.latent.sized_codec import build_codec

pytestmark = pytest.mark.usefixtures("tiny_protocol")
QUICK = {"name": "ddif", "steps": 20}


def pictures(count, shape=(3, 9, 12)):
    ramp = torch.linspace(0.2, 0.8, shape[2]).expand(count, *shape)
    return ramp * torch.rand(count, shape[0], 1, 1, generator=torch.Generator().manual_seed(0))


def test_decoding_is_a_network_of_sines_on_coordinates():
    codec = DDiF(width=5, depth=2, image_shape=(3, 4, 6))
    code = torch.randn(1, 5 * 3 + 5 * 6 + 3 * 6, 1, 1, generator=torch.Generator().manual_seed(1))
    layers, place = [nn.Linear(2, 5), nn.Linear(5, 5), nn.Linear(5, 3)], 0
    with torch.no_grad():
        for layer in layers:
            weights = layer.in_features * layer.out_features
            part = code.flatten()[place : place + weights + layer.out_features]
            layer.weight.copy_(part[:weights].view(layer.in_features, layer.out_features).T)
            layer.bias.copy_(part[weights:])
            place += len(part)
        for row, column in ((0, 0), (3, 5), (1, 2)):
            point = torch.tensor([-1 + 2 * row / 3, -1 + 2 * column / 5])
            wanted = layers[2](layers[1](layers[0](point).sin()).sin())
            torch.testing.assert_close(2 * codec.decode(code)[0, :, row, column] - 1, wanted)


def test_a_fit_comes_near_and_does_not_depend_on_its_company():
    images = pictures(11)
    codec = DDiF(image_shape=(3, 9, 12))
    codes = codec.encode(images)
    assert float((codec.decode(codes) - images).abs().max()) < 0.1
    assert torch.equal(codec.encode(images[9:]), codes[9:])
    assert torch.equal(codec.encode(images.flip(0)), codes.flip(0))


def test_the_default_width_takes_a_weight_for_24_values():
    assert DDiF(image_shape=(3, 32, 32)).encode(torch.zeros(1, 3, 32, 32)).shape == (1, 123, 1, 1)
    assert 123 <= 3 * 32 * 32 / 24
    assert DDiF(image_shape=(1, 8, 8)).width == 4


def test_only_the_images_that_are_taken_are_fitted():
    data = tiny.digits()
    codec = build_codec({**QUICK, "steps": 2}, data.image_shape)
    _, codes = code_set(data, codec, tiny.plain())
    fitted = len(codes.store._fitted)
    assert fitted < len(data.train) / 2
    first = codes.take(torch.tensor([0, 1, 0]))
    assert torch.equal(first[0], first[2])
    assert len(codes.store._fitted) <= fitted + 2


def test_a_run_optimises_fields_and_stores_them(tmp_path):
    first = run(tiny.config(codec=QUICK, match="pixel", precision="int8", controls=True), out=tmp_path / "run")
    stored = load_artifact(tmp_path / "run" / "distilled.safetensors")
    assert stored.decode().shape == (len(stored.labels), 1, 8, 8)
    assert stored.packed.shape[1] == 37, "2 to 4, 4 to 4 and 4 to 1, with biases"
    again = run(tiny.config(codec=QUICK, match="pixel", precision="int8"), out=tmp_path / "again")
    assert again.artifact.sha256 == first.artifact.sha256


def test_comparing_its_codes_is_refused_before_any_work(capsys):
    assert main(["run", "--codec", "ddif", "--algo", "dm"]) == 2
    assert "match=code: dm compares samples, and codes of ddif cannot be compared" in capsys.readouterr().err


def test_a_comparison_skips_it_with_the_reason(tmp_path, capsys):
    call = [
        "compare",
        "--codec",
        "ddif",
        "--algo",
        "herding",
        "--match",
        "code,pixel",
        "--protocol",
        tiny.PROTOCOL.name,
    ]
    call += ["--evaluator", "convnet_d1", "--out", str(tmp_path), "codec.ddif.steps=5"]
    assert main(call) == 0
    shown = capsys.readouterr().out
    assert "herding compares samples" in shown
    assert "herding" in shown.split("cannot be compared")[0]


def test_faults_are_reported_together():
    with pytest.raises(UsageError) as caught:
        DDiF(width=-1, depth=0, omega=0.0)
    assert list(caught.value.faults) == [
        "ddif: codec.width=-1: must be at least 1",
        "ddif: codec.depth=0: must be at least 1",
        "ddif: codec.omega=0: must be positive",
    ]
