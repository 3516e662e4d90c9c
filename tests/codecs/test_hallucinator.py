import json

import pytest
import tiny
import torch

from latentdd_plugin import load_artifact, run
from latentdd_plugin.codecs.base import fingerprint
from latentdd_plugin.codecs.downscale import Downscale
from latentdd_plugin.codecs.hallucinator import Hallucinator
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.latent.sized_codec import build_codec

pytestmark = pytest.mark.usefixtures("tiny_protocol")
JOINT = {"name": "hallucinator", "width": 4, "depth": 2, "joint": True}
MTT = {"name": "mtt", "preset": "quick", "iterations": 2, "syn_steps": 2, "experts": 1, "expert_epochs": 1}
MTT |= {"max_start_epoch": 1}


def test_before_training_it_is_downscale():
    x = torch.rand(2, 3, 9, 12, generator=torch.Generator().manual_seed(0))
    ours, theirs = Hallucinator(f=2, image_shape=(3, 9, 12)), Downscale(f=2, image_shape=(3, 9, 12))
    assert torch.equal(ours.encode(x), theirs.encode(x))
    assert torch.equal(ours(x), theirs(x))


def test_it_is_the_same_codec_wherever_and_whenever_it_is_built():
    torch.manual_seed(5)
    found = fingerprint(Hallucinator(image_shape=(3, 8, 8)))
    assert found == "6e366359eb953699636da2f50793a9c77751dabf8b4e8f0a0c1d154120865001"


def test_decoding_is_the_equation():
    codec = Hallucinator(f=2, width=4, depth=2, image_shape=(1, 4, 4))
    first, last = codec.decoder
    with torch.no_grad():
        last.weight.fill_(0.1)
        last.bias.fill_(0.2)
    codes = torch.rand(1, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    enlarged = torch.nn.functional.interpolate(codes, (4, 4), mode="bilinear")
    wanted = enlarged + last(torch.nn.functional.leaky_relu(first(enlarged), 0.1))
    torch.testing.assert_close(codec.decode(codes), wanted)


def test_a_run_trains_it_within_the_bytes_and_its_baseline_has_no_decoder(tmp_path):
    run(tiny.config(codec=JOINT, match="pixel", precision="int8", controls=True), out=tmp_path / "run")
    data = json.loads((tmp_path / "run" / "result.json").read_text())
    spent, values = data["budget"]["bytes"], 4 * 9 + 4 + 4 * 9 + 1
    assert spent["trained"] == 2 * values
    assert spent["decoder"] == 0, "all of it was trained"
    assert spent["total"] <= 2560
    assert "trained" not in data["controls"]["random-codes"]["budget"]["bytes"]
    stored = load_artifact(tmp_path / "run" / "distilled.safetensors")
    resized = torch.nn.functional.interpolate(stored.space().codec.encode(stored.decode()), (8, 8), mode="bilinear")
    assert stored.decode().shape == (len(stored.labels), 1, 8, 8)
    assert float((stored.decode() - resized).abs().max()) > 1e-4


def test_a_decoder_that_must_be_stored_whole_and_does_not_fit_is_refused(tmp_path):
    config = tiny.config(codec={**JOINT, "width": 64, "depth": 3}, match="pixel", precision="int8")
    with pytest.raises(UsageError, match=r"hallucinator's decoder at least 76,\d+ bytes must be stored at fp16"):
        run(config, out=tmp_path / "run")


def test_faults_are_reported_together():
    with pytest.raises(UsageError) as caught:
        Hallucinator(f=0, depth=1)
    assert list(caught.value.faults) == [
        "hallucinator: codec.f=0: must be at least 1",
        "hallucinator: codec.depth=1: must be at least 2",
    ]
    with pytest.raises(UsageError, match="image_shape"):
        Hallucinator().decode(torch.zeros(1, 1, 2, 2))


def test_a_memory_is_added_to_the_codes_of_its_class():
    codec = Hallucinator(f=2, width=4, depth=2, classes=3, image_shape=(1, 4, 4))
    codes = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    without = Hallucinator(f=2, width=4, depth=2, image_shape=(1, 4, 4))
    labels = torch.tensor([2, 0, 2])
    assert torch.equal(codec.decode(codes, labels), without.decode(codes)), "zero before it is trained"
    with torch.no_grad():
        codec.memory[2] = 0.5
    assert torch.equal(codec.decode(codes, labels)[1], without.decode(codes)[1])
    assert torch.equal(codec.decode(codes, labels)[::2], without.decode(codes + 0.5)[::2])


@pytest.mark.parametrize("algo", ["dm", "dc", "mtt"])
def test_a_run_trains_the_memories_of_all_classes(algo, tmp_path):
    some = {"dm": tiny.DM, "dc": {**tiny.DM, "name": "dc", "iterations": 2}, "mtt": MTT}[algo]
    run(tiny.config(codec={**JOINT, "classes": 10}, algo=some, match="pixel", precision="int8"), out=tmp_path / "run")
    stored = load_artifact(tmp_path / "run" / "distilled.safetensors")
    memory = stored.trained.tensors()["memory"]
    assert memory.shape == (10, 1, 4, 4)
    assert bool((memory.flatten(1).abs().amax(1) > 0).all()), "the loss of each class reaches its memory"
    assert len(stored.to_dataset()) == len(stored.labels)


def test_fewer_memories_than_classes_are_one_message(tmp_path):
    with pytest.raises(UsageError, match=r"codec.classes=9: the data have a class 9"):
        run(tiny.config(codec={**JOINT, "classes": 9}, match="pixel", precision="int8"), out=tmp_path / "run")


def test_a_codec_that_decodes_by_class_says_so_where_the_labels_are_missing():
    sized = build_codec({"name": "hallucinator", "classes": 2}, (1, 8, 8))
    with pytest.raises(UsageError, match="codec hallucinator decodes by class"):
        sized.decode(torch.zeros(1, 1, 4, 4))
