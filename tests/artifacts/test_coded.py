"""Coded storage: codes as fine as a number of bytes allows, from the quantiser to a run on the command line."""

import json

import pytest
import tiny
import torch

from latentdd_plugin import RunConfig, load_artifact, run
from latentdd_plugin.artifacts.budget import budget_for, codes_by_rule, image_bytes
from latentdd_plugin.artifacts.file import save_artifact
from latentdd_plugin.artifacts.packing import pack, pack_coded, unpack
from latentdd_plugin.cli import main
from latentdd_plugin.codecs.dct import DCT
from latentdd_plugin.core.errors import ArtifactError, UsageError

pytestmark = pytest.mark.usefixtures("tiny_protocol")


def codes(n=40, side=8):
    """Smooth codes, as images are: most of their energy is in low frequencies."""
    draw = torch.randn((n, 3, side, side), generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.avg_pool2d(draw, 5, 1, 2) * 3


def error(packed, wanted):
    return float((unpack(packed) - wanted).square().mean())


@pytest.mark.parametrize("limit", [400, 1000, 3000])
def test_the_stream_fills_its_bytes_and_no_more(limit):
    packed = pack_coded(codes(), torch.ones(3), limit)
    assert packed.nbytes <= limit
    assert packed.nbytes > 0.9 * limit
    assert packed.precision == "coded"


def test_more_bytes_give_finer_codes():
    errors = [error(pack_coded(codes(), torch.ones(3), limit), codes()) for limit in (300, 1000, 3000)]
    assert errors[0] > errors[1] > errors[2]


def test_at_equal_bytes_codes_come_back_nearer_than_from_int4():
    plain = pack(codes(), "int4")
    coded = pack_coded(codes(), torch.ones(3), plain.nbytes)
    assert coded.nbytes <= plain.nbytes
    assert error(coded, codes()) < 0.5 * error(plain, codes())


def test_a_channel_with_a_larger_weight_is_stored_more_coarsely():
    packed = pack_coded(codes(), torch.tensor([1.0, 1.0, 8.0]), 1000)
    apart = (unpack(packed) - codes()).square().mean((0, 2, 3))
    assert apart[2] > 2 * apart[0]
    assert torch.equal(packed.scale[0] / packed.scale[0, 0], torch.tensor([1.0, 1.0, 8.0]))


def test_codes_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="do not fit in 8 bytes, however coarsely"):
        pack_coded(codes(), torch.ones(3), 8)


def test_chroma_is_stored_at_twice_the_step():
    assert DCT(size=4, image_shape=(3, 8, 8)).step_weights(3).tolist() == [1, 2, 2]
    assert DCT(size=4, image_shape=(1, 8, 8)).step_weights(1).tolist() == [1]
    assert DCT(size=2, block=4, image_shape=(3, 8, 8)).step_weights(12).tolist() == [1] * 4 + [2] * 8


@pytest.mark.parametrize(
    ("shape", "ipc", "wanted"), [((3, 32, 32), 1, 192), ((1, 8, 8), 1, 28), ((3, 32, 32), 10, 607)]
)
def test_the_number_of_codes_follows_the_rule_unless_it_is_given(shape, ipc, wanted):
    assert codes_by_rule(ipc * image_bytes(shape)) == wanted
    budget = budget_for(shape, (3, 4, 4), "coded", ipc=ipc)
    assert (budget.codes_per_class, budget.bytes_per_class) == (wanted, ipc * 4 * shape[0] * shape[1] * shape[2])
    assert budget_for(shape, (3, 4, 4), "coded", ipc=ipc, lpc=7).codes_per_class == 7


@pytest.mark.parametrize(
    ("shape", "label_bits", "wanted"),
    [((1, 8, 8), 80, 12), ((3, 32, 32), 80, 192), ((3, 32, 32), 808, 60), ((1, 8, 8), 4 * 256, 1)],
)
def test_labels_take_at_most_half_of_the_bytes_unless_the_number_of_codes_is_given(shape, label_bits, wanted):
    budget = budget_for(shape, (3, 4, 4), "coded", ipc=1, label_bits=label_bits)
    assert budget.codes_per_class == wanted
    assert budget.packed_bytes(wanted) >= budget.bytes_per_class / 2


def test_codes_and_labels_that_do_not_fit_are_refused_with_what_helps():
    with pytest.raises(
        UsageError, match=r"28 per class\).* 256 bytes per class, of which each label takes 10 bytes; raise"
    ):
        budget_for((1, 8, 8), (1, 4, 4), "coded", lpc=28, label_bits=80)


def test_labels_are_paid_from_the_same_bytes():
    budget = budget_for((3, 32, 32), (3, 16, 16), "coded", lpc=100, label_bits=160)
    assert budget.packed_bytes(1000, 10) == 122_880 - 20_000


def test_a_run_keeps_to_its_bytes_and_its_artifact_comes_back(tmp_path):
    record = run(tiny.config(precision="coded", lpc=9, controls=True), out=tmp_path / "run")
    data = json.loads((tmp_path / "run" / "result.json").read_text())
    budget = data["budget"]
    assert (budget["precision"], budget["codes_per_class"], budget["bytes_per_class"]) == ("coded", 9, 256)
    assert 0.8 * 2560 < budget["bytes"]["codes"] <= 2560
    controls = data["controls"]
    assert controls["random-codes"]["budget"]["codes_per_class"] == 9
    assert controls["random-pixels"]["budget"]["codes_per_class"] == 9
    assert controls["random-pixels-fp32"]["budget"]["codes_per_class"] == 1
    stored = load_artifact(record.folder / "distilled.safetensors")
    assert stored.packed.nbytes == budget["bytes"]["codes"]
    assert stored.decode().shape == (90, 1, 8, 8)
    save_artifact(stored, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (record.folder / "distilled.safetensors").read_bytes()


@pytest.mark.parametrize(
    "codec", ["identity", "dct", "downscale", {"name": "pca", "dim": 6}, {"name": "fred", "keep": 9}]
)
def test_every_codec_can_be_stored_coded(tmp_path, codec):
    config = tiny.config(codec=codec, algo={"name": "random"}, precision="coded", lpc=12)
    run(config, out=tmp_path / "run")
    stored = load_artifact(tmp_path / "run" / "distilled.safetensors")
    assert stored.packed.nbytes <= 2560
    images, real = stored.decode(), tiny.digits().train.pixels.float() / 255
    assert float(images.mean()) == pytest.approx(float(real.mean()), abs=0.1)


def test_a_damaged_stream_is_an_error_of_the_artifact(tmp_path):
    run(tiny.config(precision="coded", lpc=9), out=tmp_path / "run")
    stored = load_artifact(tmp_path / "run" / "distilled.safetensors")
    stored.packed.data[20:60] = 255
    path = tmp_path / "damaged.safetensors"
    save_artifact(stored, path)  # a hostile file: its own hash is right
    with pytest.raises(ArtifactError, match="coded stream"):
        load_artifact(path).decode()


def test_compare_sets_coded_codes_beside_others_and_says_why_a_count_is_impossible(tmp_path, capsys):
    words = "compare --codec dct --algo random --precision int4,coded --protocol tiny.test --evaluator convnet_d1"
    assert main.main([*words.split(), "--in-process", "--quiet", "threads=1", "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "coded" in out
    assert "precision=coded needs a budget in bytes" in out


def test_ipc_and_lpc_go_together_for_coded_codes_alone():
    assert RunConfig(ipc=1, lpc=64, precision="coded").faults() == []
    assert RunConfig(lpc=64, precision="coded").ipc == 1
    assert any("give ipc or lpc" in fault for fault in RunConfig(ipc=1, lpc=64, precision="int4").faults())
