"""`dd-bench codec train`: your own small autoencoder, from the command line to `codec.path=`."""

import json
import logging
import signal

import children
import pytest
import tiny
import torch
import yaml

from latentdd_plugin.cli.main import main
from latentdd_plugin.codecs.untrained import untrained
from latentdd_plugin.core import checkpoint
from latentdd_plugin.core.config import DatasetConfig
from latentdd_plugin.experiments.codec_training import TrainingConfig
from latentdd_plugin.experiments.codec_training.reconstruction import mean_psnr, reconstruct, reconstruction_loss
from latentdd_plugin.latent.sized_codec import build_codec

TRAIN = "codec train --dataset digits --f 2 --steps 8 --batch 4 --width 8 --quiet --device cpu threads=1"
FILES = {
    "checksums.json",
    "config.json",
    "config.yaml",
    "diffusion_pytorch_model.safetensors",
    "log.txt",
    "samples.png",
    "training.json",
}


def called(words):
    return main(words.split())


def weights(folder):
    return (folder / "diffusion_pytorch_model.safetensors").read_bytes()


@pytest.fixture(autouse=True, scope="module")
def log_level():
    """`--quiet` is for one command, not for the tests that follow."""
    logger = logging.getLogger("latentdd_plugin")
    before = logger.level
    yield
    logger.setLevel(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "vae"
    assert called(f"{TRAIN} --out {folder}") == 0
    return folder


def test_it_leaves_a_folder_that_codec_path_loads(trained, capsys):
    assert {path.name for path in trained.iterdir()} == FILES | {".lock"}
    codec = build_codec({"name": "diffusers", "path": str(trained)}, (1, 8, 8))
    assert codec.code_shape == (4, 4, 4)
    assert codec.codec.trained_on == ("digits",)
    assert codec.decode(torch.zeros(2, 4, 4, 4)).shape == (2, 1, 8, 8)
    record = json.loads((trained / "training.json").read_text())
    assert record["config"]["f"] == 2
    assert record["datasets"][0]["validation_size"] == 143
    assert record["psnr"].keys() == {"digits 8x8"}
    assert [point["step"] for point in record["curve"]] == [*range(1, 9)]
    assert record["command"] == f"dd-bench {TRAIN} --out {trained}"


def test_the_psnr_in_the_record_is_that_of_the_saved_weights(trained):
    from latentdd_plugin.data.load import load_dataset

    codec = build_codec({"name": "diffusers", "path": str(trained)}, (1, 8, 8))
    held = load_dataset(DatasetConfig(validation=0.1)).held_out("validation").pixels.float() / 255
    back = codec.decode(codec.encode(held)).clamp(0, 1)
    psnr = (-10 * (back - held).square().mean((1, 2, 3)).log10()).mean()
    recorded = json.loads((trained / "training.json").read_text())["psnr"]["digits 8x8"]
    assert float(psnr) == pytest.approx(recorded, abs=1e-3)


def test_training_learns(tmp_path, capsys):
    words = TRAIN.replace("--steps 8 --batch 4", "--steps 60 --batch 16")
    assert called(f"{words} --out {tmp_path}/vae --precision fp32") == 0
    curve = json.loads((tmp_path / "vae/training.json").read_text())["curve"]
    assert curve[-1]["psnr"]["digits 8x8"] > curve[0]["psnr"]["digits 8x8"] + 2


def test_a_finished_training_is_returned_and_another_is_refused(trained, capsys):
    before = weights(trained)
    assert called(f"{TRAIN} --out {trained}") == 0
    out = capsys.readouterr().out
    assert "f=2, 4 channels" in out
    assert f"\n{trained}\n" in out
    assert called(f"{TRAIN} --seed 1 --out {trained}") == 2
    assert "seed: 0 there, 1 asked for" in capsys.readouterr().err
    assert weights(trained) == before


@pytest.mark.parametrize("sabotage", [children.killed_in_distillation, children.killed_while_saving])
def test_a_killed_training_goes_on_to_the_same_bits(trained, tmp_path, sabotage):
    words = f"{TRAIN} --out vae"
    assert children.ended(children.start(children.command, words, tmp_path, sabotage)) == -signal.SIGKILL
    assert (tmp_path / "vae/checkpoint/distill.safetensors").exists()
    assert not (tmp_path / "vae/training.json").exists()
    assert children.ended(children.start(children.command, words, tmp_path)) == 0
    assert weights(tmp_path / "vae") == weights(trained)
    assert not (tmp_path / "vae/checkpoint").exists()


def test_ctrl_c_keeps_what_was_done(trained, tmp_path):
    words = f"{TRAIN} --out vae"
    assert (
        children.ended(children.start(children.command, words, tmp_path, children.interrupted_in_distillation)) == 130
    )
    assert checkpoint.load(tmp_path / "vae/checkpoint/distill.safetensors").content["step"] == 5
    assert "the same command goes on from there" in (tmp_path / "err").read_text()
    assert children.ended(children.start(children.command, words, tmp_path)) == 0
    assert weights(tmp_path / "vae") == weights(trained)


def test_two_data_sets_at_several_sizes(tmp_path, capsys):
    words = TRAIN.replace("digits", "digits,digits@12").replace("--quiet", "")
    assert called(f"{words} --out {tmp_path}/vae --crop 8") == 0
    config = yaml.safe_load((tmp_path / "vae/config.yaml").read_text())
    assert [one["image_size"] for one in config["datasets"]] == [None, 12]
    record = json.loads((tmp_path / "vae/training.json").read_text())
    assert record["trained_on"] == ["digits"]
    assert record["psnr"].keys() == {"digits 8x8", "digits 12x12"}
    assert "step 8 of 8: loss" in capsys.readouterr().err


def test_a_kl_autoencoder_samples_its_posterior(tmp_path, capsys):
    words = TRAIN.replace("--steps 8", "--steps 2")
    for kl in ("0", "0.01"):
        assert called(f"{words} --kind kl --kl {kl} --out {tmp_path}/{kl}") == 0
    assert weights(tmp_path / "0") != weights(tmp_path / "0.01")
    assert build_codec({"name": "diffusers", "path": f"{tmp_path}/0.01"}, (1, 8, 8)).code_shape == (4, 4, 4)


@pytest.mark.parametrize("f", [2, 4, 8, 16])
@pytest.mark.parametrize("kind", ["tiny", "kl"])
def test_every_kind_and_factor_has_a_model(kind, f):
    model = untrained(kind, f=f, channels=3, width=8, colours=1)
    codes = []
    model.decoder.register_forward_pre_hook(lambda _, given: codes.append(given[0].shape))
    with torch.no_grad():
        assert reconstruct(model, torch.zeros(1, 1, 32, 48))[0].shape == (1, 1, 32, 48)
    assert codes == [(1, 3, 32 // f, 48 // f)]


def test_a_flipped_code_has_to_give_the_flipped_image(tmp_path, capsys):
    words = TRAIN.replace("--steps 8 --batch 4", "--steps 120 --batch 16")
    ratios = {}
    for flips in ("0", "0.5"):
        assert called(f"{words} --flips {flips} --out {tmp_path}/{flips}") == 0
        codec = build_codec({"name": "diffusers", "path": f"{tmp_path}/{flips}"}, (1, 8, 8))
        x = tiny.held_out().pixels[:100].float() / 255
        codes = codec.encode(x)
        there, back = codec.decode(codes.flip(3)), codec.decode(codes)
        ratios[flips] = float((there - back.flip(3)).abs().mean() / (there - back).abs().mean())
    assert ratios["0.5"] < 0.6 * ratios["0"]


def test_all_faults_are_told_and_nothing_is_written(tmp_path, capsys):
    words = "codec train --dataset digitz --f 3 --kl 1 --steps 0 --precision int8 dataset.validation=0 codec.size=3"
    assert called(f"{words} --out {tmp_path}/vae") == 2
    told = capsys.readouterr().err
    for fault in (
        "unknown dataset 'digitz' (did you mean digits?)",
        "f=3: choose one of 2, 4, 8, 16",
        "kl=1.0: only kind=kl has a posterior",
        "steps=0: must be at least 1",
        "precision=int8: choose one of fp16, fp32",
        "dataset.validation=0: a fraction must be held out",
        "codec.size: is not used here",
    ):
        assert fault in told
    assert called(f"codec train --dataset , --out {tmp_path}/vae") == 2
    assert "dataset: name at least one" in capsys.readouterr().err
    assert called(f"codec train --dataset digits@0 --out {tmp_path}/vae") == 2
    assert "dataset.image_size=0: must be at least 1" in capsys.readouterr().err
    assert called(f"codec train --f 16 --quiet --out {tmp_path}/vae") == 2
    assert "its 8x8 images are smaller than f=16" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"crop": 3}, "crop=3: must be at least f=4"),
        ({"kind": "vq"}, "kind=vq: choose one of tiny, kl"),
        ({"kind": "kl", "width": 12}, "width=12: must be a multiple of 8"),
        ({"flips": 2.0}, "flips=2.0: a probability in [0, 1]"),
        ({"lr": -1.0}, "lr=-1.0: must not be negative"),
    ],
)
def test_faults_of_a_configuration(change, fault):
    assert TrainingConfig((DatasetConfig(validation=0.1),), **change).faults()[0].startswith(fault)


def test_the_loss_is_its_formula():
    draws = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 3, 4, 5, generator=draws), torch.rand(2, 3, 4, 5, generator=draws)
    expected = 0.0
    for a, b in zip(x, y, strict=True):
        e = b - a
        down, across = (e[:, 1:] - e[:, :-1]).abs().mean(), (e[:, :, 1:] - e[:, :, :-1]).abs().mean()
        expected += float(((e * e).mean() + 1e-6).sqrt() + 0.3 * (down + across) / 2) / 2
    assert float(reconstruction_loss(x, y, 0.3)) == pytest.approx(expected, rel=1e-5)


def test_psnr_is_of_the_clamped_image():
    x = torch.zeros(2, 1, 2, 2)
    assert mean_psnr(x, torch.stack([x[0] + 0.1, x[1] - 5])) == pytest.approx((20 + 120) / 2)
