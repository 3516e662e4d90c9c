"""`vq`: the numbers of codebook entries of the real VQModel, with small trained weights and with others in a folder."""

import json
import shutil
import warnings
from pathlib import Path

import pytest
import tiny
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third-party import
    import diffusers

from latentdd_plugin import testing
from latentdd_plugin.artifacts.file import load_artifact
from latentdd_plugin.cli import main
from latentdd_plugin.codecs import vq as ours
from latentdd_plugin.codecs.base import decoder_bytes
from latentdd_plugin.codecs.diffusers import Diffusers
from latentdd_plugin.codecs.vq import VQ
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.evaluators import protocols
from latentdd_plugin.results.record import Record
from latentdd_plugin.testing.subjects import CodecSubject

WEIGHTS = Path(__file__).parents[1] / "fixtures" / "vq"
DOWN, UP = ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2
SMALL = {"down_block_types": DOWN, "up_block_types": UP, "block_out_channels": (4, 8), "norm_num_groups": 2}
FAST = "--evaluator convnet_d1 --protocol tiny.test --device cpu --quiet threads=1 amp=off compile=off"


def saved(folder, **more):
    """A folder of the real class, drawn with seed 0."""
    torch.manual_seed(0)
    diffusers.VQModel(**{**SMALL, "num_vq_embeddings": 300, "latent_channels": 3, **more}).save_pretrained(folder)
    return str(folder)


def images(n=3, side=16):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def called(words, more=FAST):
    return main.main(f"{words} {more}".split())


# --- the codec --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("contract", testing.CODEC_CONTRACTS, ids=lambda contract: contract.__name__)
def test_contract(contract, subject):
    contract(subject)


@pytest.fixture(scope="module")
def subject():
    return CodecSubject("vq", path=str(WEIGHTS))


@pytest.mark.parametrize("norm", ["group", "spatial"])
def test_tokens_are_what_diffusers_quantises_and_decode_to_what_it_decodes(tmp_path, norm):
    wide = {"block_out_channels": (32, 32), "norm_num_groups": 32}  # diffusers' spatial norm has 32 groups
    codec = VQ(path=saved(tmp_path, norm_type=norm, **(wide if norm == "spatial" else {})))
    with torch.no_grad():
        latents = codec.model.encode(2 * images() - 1).latents
        _, _, (_, _, numbers) = codec.model.quantize(latents)
        wanted = (codec.model.decode(latents).sample + 1) / 2
        tokens = codec.encode(images())
        found = codec.decode(tokens)
    assert codec.tokens == 300
    assert torch.equal(tokens.flatten().long(), numbers)
    assert torch.allclose(found, wanted, atol=1e-6)
    assert not codec.spatial
    assert not codec.decode(tokens.requires_grad_()).requires_grad


def test_distances_are_taken_in_parts(tmp_path, monkeypatch):
    codec = VQ(path=saved(tmp_path))
    whole = codec.encode(images())
    monkeypatch.setattr(ours, "DISTANCES", 7 * 300)
    assert torch.equal(codec.encode(images()), whole)


def test_the_decoder_is_counted_with_its_codebook(tmp_path):
    codec = VQ(path=saved(tmp_path))
    parts = (codec.model.decoder, codec.model.post_quant_conv, codec.model.quantize)
    counted = sum(tensor.numel() * 4 for part in parts for tensor in part.parameters())
    assert decoder_bytes(codec) == counted + 8  # shift and scale, which every autoencoder of diffusers has
    assert codec.trainable_parameters() == {}
    assert Diffusers(path=str(tmp_path)).trainable_parameters()


def test_another_class_is_refused_before_the_data_is_read(tmp_path, capsys):
    torch.manual_seed(0)
    diffusers.AutoencoderKL(**SMALL).save_pretrained(tmp_path / "kl")
    says = "holds a AutoencoderKL, a VQModel is needed; --codec diffusers takes every autoencoder"
    assert called(f"run --codec vq codec.path={tmp_path / 'kl'} --algo random --dataset no/such/folder") == 2
    assert says in capsys.readouterr().err
    with pytest.raises(UsageError, match=says):
        VQ(path=str(tmp_path / "kl"))


def test_a_file_without_its_configuration_is_refused(tmp_path):
    shutil.copy(WEIGHTS / "diffusion_pytorch_model.safetensors", tmp_path / "weights.safetensors")
    with pytest.raises(UsageError, match=r"has no config\.json that says it is a VQModel"):
        VQ(path=str(tmp_path / "weights.safetensors"))
    codec = VQ(path=str(tmp_path / "weights.safetensors"), model_config=str(WEIGHTS))
    assert torch.equal(codec.encode(images()), VQ(path=str(WEIGHTS)).encode(images()))


# --- the commands -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the digits with the trained weights and a teacher's labels, as a user types it."""
    folder = tmp_path_factory.mktemp("vq") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(protocols.PROTOCOLS, tiny.PROTOCOL.name, tiny.PROTOCOL)
        words = f"run --codec vq codec.path={WEIGHTS} --algo random --labels soft --teacher convnet_d1"
        assert called(f"{words} --precision coded --out {folder}") == 0
        yield folder


def test_the_run_says_what_it_stores(run):
    record, stored = Record.load(run), load_artifact(run / "distilled.safetensors")
    assert record.codec.tokens == stored.header.tokens == 48
    assert record.codec.code_shape == (1, 4, 4)
    assert record.budget.codes_per_class == 8 * 256 // (16 * 6 + 80)  # ten probabilities of a byte each
    assert record.budget.bytes.codes == stored.packed.nbytes <= 10 * record.budget.codes_per_class * 12
    assert set(record.baselines) == {"random-pixels", "random-pixels-fp32"}
    assert str(WEIGHTS.parent) not in json.dumps(record.to_json()["codec"])


def test_it_is_evaluated_exported_and_verified(run, tmp_path, capsys):
    weights = f"codec.path={WEIGHTS}"
    assert called(f"evaluate {run} {weights} --out {tmp_path / 'scores'}") == 0
    assert called(f"export imagefolder {run} {weights} --out {tmp_path / 'pictures'}", "") == 0
    assert len(list((tmp_path / "pictures").glob("*/*.png"))) == len(
        load_artifact(run / "distilled.safetensors").labels
    )
    assert called(f"verify {run} --level static", "--quiet") == 0, capsys.readouterr()
    assert called(f"verify {run} --level full {weights}", "--quiet") == 0, capsys.readouterr()


@pytest.mark.parametrize(
    ("keys", "value", "says"),
    [
        (("codec", "tokens"), 64, "codec.tokens: 64 claimed, the artifact has 48"),
        (("codec", "tokens"), None, "codec.tokens: None, but the codes of vq are tokens"),
        (("budget", "precision"), "int8", "budget.precision=int8: the codes of vq are tokens"),
        (("distiller", "name"), "dm", "distiller: algo=dm: it computes codes"),
    ],
)
def test_a_record_that_says_something_else_does_not_hold(run, tmp_path, capsys, keys, value, says):
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "result.json"
    tree = json.loads(path.read_text())
    tree[keys[0]].pop(keys[1])
    tree[keys[0]] |= {} if value is None else {keys[1]: value}
    path.write_text(json.dumps(tree))
    assert called(f"verify {tmp_path / 'run'} --level static", "") == 1
    assert says in capsys.readouterr().out
