"""Decoders that are trained with the codes: in the loop, in the file, in the budget, and in another process."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import tiny
import torch

from latentdd_plugin import evaluate, run
from latentdd_plugin.artifacts.file import load_artifact, save_artifact
from latentdd_plugin.artifacts.trained_decoder import pack_decoder
from latentdd_plugin.codecs.tiny_vae import TinyVAE
from latentdd_plugin.core.config import EvaluationConfig, PartSpec
from latentdd_plugin.core.errors import ArtifactError, UsageError
from latentdd_plugin.evaluators import protocols
from latentdd_plugin.experiments.build import resolve_run
from latentdd_plugin.experiments.compare.grid import Grid, cells
from latentdd_plugin.latent.joint import JointTraining, trained_part
from latentdd_plugin.latent.sized_codec import build_codec
from latentdd_plugin.leaderboard.consistency import inconsistencies
from latentdd_plugin.results.record import Record

pytestmark = pytest.mark.usefixtures("tiny_protocol")
JOINT = {"name": "tiny-vae", "joint": True, "share": 0.4}
LAST = ["decoder.layers.9.weight", "decoder.layers.9.bias"]  # all that 40% of 4 x 2560 bytes hold at 16 bits


def joint(**more):
    given = {"codec": JOINT, "match": "pixel", "ipc": 4, "precision": "int8", **more}
    return tiny.config(**given)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("joint") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(protocols.PROTOCOLS, tiny.PROTOCOL.name, tiny.PROTOCOL)
        run(joint(controls=True), out=out)
    return out


@pytest.mark.parametrize("algo", ["dm", "dc", "mtt"])
def test_every_matching_method_moves_the_decoder_and_leaves_the_codec_as_it_was(algo):
    task = tiny.task("tiny-vae", "pixel", options={"joint": True})
    frozen = task.space.codec
    before = frozen.codec.state()["decoder.layers.9.weight"].clone()
    task = replace(task, space=replace(task.space, codec=frozen.learning(LAST)))
    options = {
        "dm": {"iterations": 2, "batch_real": 8},
        "dc": {"iterations": 1, "batch_real": 8, "outer_loops": 2},
        "mtt": {"iterations": 1, "syn_steps": 2, "experts": 1, "max_start_epoch": 1},
    }[algo]
    found = tiny.distiller(algo, "pixel", "tiny-vae", **options).distill(task)
    assert sorted(found.decoder) == sorted(LAST)
    assert not torch.equal(found.decoder["decoder.layers.9.weight"], before)
    assert torch.equal(frozen.codec.state()["decoder.layers.9.weight"], before), "other runs share this codec"


def test_an_interrupted_training_of_codes_and_decoder_goes_on_as_if_it_had_not_been():
    def task(checkpoint):
        made = tiny.task("tiny-vae", "pixel", options={"joint": True}, checkpoint=checkpoint)
        return replace(made, space=replace(made.space, codec=made.space.codec.learning(LAST)))

    method = tiny.distiller("dm", "pixel", "tiny-vae", iterations=4, batch_real=8)
    whole = tiny.Kept()
    expected = method.distill(task(whole))
    again = method.distill(task(tiny.Kept(whole.saved[2])))
    assert torch.equal(again.codes, expected.codes)
    assert all(torch.equal(again.decoder[name], expected.decoder[name]) for name in LAST)


def test_the_decoder_is_counted_in_the_budget_and_left_out_of_the_rest(folder):
    record = json.loads((folder / "result.json").read_text())
    budget, spent = record["budget"], record["budget"]["bytes"]
    values = 3 * 32 * 9 + 3
    assert spent["trained"] == 2 * values
    assert spent["decoder"] == record["codec"]["decoder_bytes"] - 4 * values
    assert spent["total"] == spent["codes"] + spent["trained"] <= 10 * budget["bytes_per_class"]
    assert budget["codes_per_class"] == (budget["bytes_per_class"] - -(-2 * values // 10)) // 16
    plain = record["controls"]["random-codes"]
    assert "joint" not in plain["config"]["codec"]
    assert "trained" not in plain["budget"]["bytes"], "nothing trains a decoder: all bytes are for codes"
    assert plain["budget"]["codes_per_class"] == 1024 // 16


def test_the_file_decodes_to_the_same_bits_in_another_process(folder):
    stored = load_artifact(folder / "distilled.safetensors")
    ours = stored.decode()
    frozen = replace(stored, trained=None).decode()
    assert not torch.equal(ours, frozen)
    script = (
        "import hashlib, sys, torch\n"
        "torch.set_num_threads(2)\n"
        "from latentdd_plugin.artifacts.file import load_artifact\n"
        "images = load_artifact(sys.argv[1]).decode()\n"
        "print(hashlib.sha256(images.numpy().tobytes()).hexdigest())\n"
    )
    import hashlib

    done = subprocess.run(
        [sys.executable, "-c", script, str(folder / "distilled.safetensors")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == hashlib.sha256(ours.numpy().tobytes()).hexdigest()


def test_an_evaluation_finds_the_accuracy_and_the_bytes_of_the_run(folder):
    record = json.loads((folder / "result.json").read_text())
    again = evaluate(folder, EvaluationConfig(evaluators="convnet_d1", protocol=tiny.PROTOCOL.name, **tiny.PLAIN))
    assert [row.accuracy for row in again.scores] == [row["accuracy"] for row in record["scores"]]
    assert again.budget.bytes.to_json() == record["budget"]["bytes"]
    assert again.codec.to_json()["fingerprint"] == record["codec"]["fingerprint"]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4"])
def test_a_decoder_comes_back_from_its_file_at_every_precision(folder, tmp_path, precision):
    tensors = {"decoder.layers.9.weight": torch.linspace(-1, 1, 864).view(3, 32, 3, 3)}
    packed = pack_decoder(tensors, precision)
    stored = load_artifact(folder / "distilled.safetensors")
    made = replace(stored, trained=packed, header=replace(stored.header.sealed(None), decoder=packed.form))
    save_artifact(made, tmp_path / "set.safetensors")
    back = load_artifact(tmp_path / "set.safetensors").trained
    assert torch.equal(back.tensors()["decoder.layers.9.weight"], packed.tensors()["decoder.layers.9.weight"])
    assert back.nbytes == JointTraining(precision=precision).size(tensors["decoder.layers.9.weight"])


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ({"decoder.layers.9.weight": [3, 32, 3, 2]}, "is needed"),
        ({"decoder.layers.9.weight": [2**20, 2**20]}, "too large"),
        ({"decoder.other": [864]}, "not those that the header names"),
        ({}, "not those that the header names"),
    ],
)
def test_a_file_whose_header_and_decoder_do_not_fit_is_refused(folder, tmp_path, shapes, says):
    packed = pack_decoder({"decoder.layers.9.weight": torch.zeros(3, 32, 3, 3)}, "fp16")
    stored = load_artifact(folder / "distilled.safetensors")
    header = replace(stored.header.sealed(None), decoder=replace(packed.form, shapes=shapes))
    save_artifact(replace(stored, trained=packed, header=header), tmp_path / "set.safetensors")
    with pytest.raises(ArtifactError, match=says):
        load_artifact(tmp_path / "set.safetensors")


def test_a_decoder_of_another_shape_than_the_codec_has_is_refused(folder):
    stored = load_artifact(folder / "distilled.safetensors")
    other = pack_decoder({"decoder.layers.9.weight": torch.zeros(864)}, "fp16")
    with pytest.raises(ArtifactError, match=r"does not have the decoder.*\(3, 32, 3, 3\)"):
        replace(stored, trained=other).decode()


def test_layers_nearest_to_the_image_are_trained_as_far_as_the_share_reaches():
    codec, how = TinyVAE(), JointTraining(share=0.5, precision="int8")
    every = list(codec.trainable_parameters())
    sizes = [how.size(tensor) for tensor in codec.trainable_parameters().values()]
    assert trained_part(codec, "tiny-vae", how, 2 * sum(sizes)).names == tuple(every)
    part = trained_part(codec, "tiny-vae", how, 2 * sum(sizes[-3:]))
    assert (list(part.names), part.nbytes) == (every[-3:], sum(sizes[-3:]))
    assert trained_part(codec, "tiny-vae", how, 2 * sum(sizes[-3:]) - 1).names == tuple(every[-2:])
    with pytest.raises(UsageError, match=r"at least 11 bytes must be stored at int8, but codec.share=0.5 of 20 bytes"):
        trained_part(codec, "tiny-vae", how, 20)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"match": "code"}, "needs match=pixel"),
        ({"algo": "random", "match": "code"}, "algo=random: it trains nothing"),
        ({"ipc": None, "lpc": 3}, "give ipc or bytes instead of lpc"),
        ({"codec": {"name": "dct", "joint": True}}, "dct has no decoder that could be trained"),
        ({"codec": {**JOINT, "share": 1.5}}, "codec.share=1.5: must be a number between 0 and 1"),
        ({"codec": {**JOINT, "decoder_precision": "coded"}}, "choose one of fp32"),
        ({"codec": {"name": "tiny-vae", "share": 0.2}}, "it is read with codec.joint=true only"),
    ],
)
def test_what_cannot_be_trained_is_said_before_any_work(more, says):
    with pytest.raises(UsageError, match=says):
        resolve_run(joint(**more))


def test_training_does_not_change_who_the_codec_is():
    plain, trained = (build_codec(spec, (1, 8, 8)) for spec in ({"name": "tiny-vae"}, JOINT))
    assert trained.fingerprint == plain.fingerprint
    moved = trained.trained({"decoder.layers.9.bias": torch.ones(3)})
    assert moved.fingerprint == plain.fingerprint
    assert moved.describe("tiny-vae") == plain.describe("tiny-vae")
    codes = torch.zeros(1, 4, 2, 2)
    assert not torch.equal(moved.decode(codes), trained.decode(codes))


def test_the_record_contradicts_itself_nowhere_and_a_decoder_that_is_left_out_is_seen(folder):
    record = Record.from_json(json.loads((folder / "result.json").read_text()))
    assert inconsistencies(record) == []
    size = replace(record.budget.bytes, trained=None)
    (fault,) = inconsistencies(replace(record, budget=replace(record.budget, bytes=size)))
    assert fault == "budget.bytes.trained: None, but config.codec.joint is true"


def test_a_comparison_trains_decoders_where_it_can_and_says_where_it_cannot():
    grid = Grid(
        codecs=(PartSpec.of(JOINT),),
        algos=(PartSpec.of(tiny.DM), PartSpec("random")),
        matches=("code", "pixel"),
        precisions=("int8",),
        base=tiny.config(ipc=4),
    )
    found = {cell.name: cell for cell in cells(grid)}
    assert found["tiny-vae-dm-code-int8-bytes"].reason == "codec.joint=true needs match=pixel"
    assert found["tiny-vae-dm-pixel-int8-bytes"].config.codec["joint"] is True
    assert "joint" not in found["tiny-vae-random-int8-bytes"].config.codec
