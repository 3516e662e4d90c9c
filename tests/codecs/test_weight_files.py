"""Weights as people have them: variants, pipelines, single files, older names; a refusal says what to do."""

import json
import logging
import os
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third-party import
    import diffusers

from latentdd_plugin.cli import main
from latentdd_plugin.codecs import hub
from latentdd_plugin.codecs.base import fingerprint
from latentdd_plugin.codecs.convert import convert_weights
from latentdd_plugin.codecs.diffusers import Diffusers
from latentdd_plugin.codecs.weight_files import SHARDS, WEIGHTS, find_weights
from latentdd_plugin.codecs.weight_loading import inferred_config
from latentdd_plugin.core.errors import UsageError

FIELD = Path(__file__).parents[3] / "shared" / "field" / "weights"
KL = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "latent_channels": 4,
}
OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return diffusers.AutoencoderKL(**KL).eval()


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"


def pictures():
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def same(path, model, atol=1e-5, **options):
    codec = Diffusers(path=str(path), **options)
    with torch.no_grad():
        expected = model.encode(2 * pictures() - 1).latent_dist.mode() * 0.18215
    torch.testing.assert_close(codec.encode(pictures()), expected, atol=atol, rtol=0)
    return codec


def refused(path, words, **options):
    with pytest.raises(UsageError, match=words) as caught:
        Diffusers(path=str(path), **options)
    faults = Diffusers.weight_faults({"path": str(path), **options})
    return str(caught.value), faults


# --- cases as they lie about ------------------------------------------------------------------------------------------

CASES = {  # folder -> what is said, or None if it loads
    "fp16_variant": None,
    "pipeline": None,
    "vae-ft-single.safetensors": r"no config.json beside it, .* codec.model_config=FILE",
    "bin_only": r"found config.json, .*`dd-bench codec convert .*bin_only/diffusion_pytorch_model.bin --out FOLDER`",
    "nan_encoder": r"nan_encoder are damaged: \d+ of the \d+ values of encoder\.\S+ are not finite",
    "nan_decoder": r"nan_decoder are damaged: \d+ of the \d+ values of decoder\.\S+ are not finite",
    "scale_zero": r"scale_zero: a scaling factor of 0 in its config.json makes the codes useless; 0.0001 to 10000",
}


@pytest.mark.parametrize("case", CASES)
def test_each_case_of_the_field(case):
    if not FIELD.is_dir():
        pytest.skip(f"{FIELD} is not there")
    if CASES[case] is None:
        codec = Diffusers(path=str(FIELD / case))
        assert bool(torch.isfinite(codec(pictures())).all())
        assert codec.source.get("variant") == ("fp16" if case == "fp16_variant" else None)
        assert codec.source["folder"] == ("vae" if case == "pipeline" else case)
    else:
        refused(FIELD / case, CASES[case])


def test_the_single_file_of_the_field_loads_with_a_configuration():
    if not FIELD.is_dir():
        pytest.skip(f"{FIELD} is not there")
    file, config = FIELD / "vae-ft-single.safetensors", FIELD / "fp16_variant"
    for given in (config, config / "config.json"):
        codec = Diffusers(path=str(file), model_config=str(given))
        assert codec.source["file"] == "vae-ft-single.safetensors"
        assert bool(torch.isfinite(codec(pictures())).all())
    assert "model_config" not in codec.config()


# --- variants and pipelines -------------------------------------------------------------------------------------------


def test_full_precision_is_preferred_and_a_variant_can_be_asked_for(model, folder, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    half = diffusers.AutoencoderKL.from_pretrained(folder, low_cpu_mem_usage=False).half()
    half.save_pretrained(folder, variant="fp16")
    assert same(folder, model).source.get("variant") is None
    variant = same(folder, model, atol=5e-3, variant="fp16")
    assert variant.source["variant"] == "fp16"
    assert "the fp16 variant is loaded, in float32" in caplog.text
    assert {t.dtype for t in variant.state().values()} == {torch.float32}
    refused(folder, r"codec.variant=bf16: .*vae has fp16", variant="bf16")


def test_of_several_variants_fp16_is_taken_and_unknown_ones_are_asked_about(model, folder):
    for name in ("fp16", "bf16"):
        model.save_pretrained(folder, variant=name)
    (folder / WEIGHTS).unlink()
    assert same(folder, model).source["variant"] == "fp16"
    for name in ("fp16", "bf16"):
        (folder / f"diffusion_pytorch_model.{name}.safetensors").rename(
            folder / f"diffusion_pytorch_model.x{name}.safetensors"
        )
    _, faults = refused(folder, r"has the variants xbf16, xfp16; choose one with codec.variant")
    assert faults, "seen before the weights are loaded"


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_shards_load_and_missing_ones_are_named(model, tmp_path, variant):
    model.save_pretrained(tmp_path, max_shard_size="100KB", variant=variant)
    same(tmp_path, model)
    shards = sorted(tmp_path.glob("*-of-*.safetensors"))
    assert len(shards) > 1
    shards[1].unlink()
    refused(tmp_path, rf"names {len(shards)} files, of which {shards[1].name} are missing; fetch all of them")
    index = next(tmp_path.glob("*.json"))
    index = next(p for p in tmp_path.glob("*index*.json"))
    index.write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}))
    refused(tmp_path, r"\.\./elsewhere.safetensors lie outside the folder")


def test_the_vae_of_a_pipeline_is_taken_and_said(model, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    model.save_pretrained(tmp_path / "vae")
    (tmp_path / "model_index.json").write_text('{"vae": ["diffusers", "AutoencoderKL"], "scheduler": [null, null]}')
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    same(tmp_path, model)
    assert "is a pipeline; its vae is taken" in caplog.text
    said, _ = refused(tmp_path / "unet", r"unet holds a UNet2DConditionModel, which is not an autoencoder")
    assert f"did you mean codec.path={tmp_path / 'vae'}?" in said


def test_an_autoencoder_under_another_name(model, tmp_path):
    model.save_pretrained(tmp_path / "movq")
    (tmp_path / "model_index.json").write_text('{"movq": ["diffusers", "AutoencoderKL"], "_class_name": "X"}')
    same(tmp_path, model)
    (tmp_path / "model_index.json").unlink()
    said, _ = refused(tmp_path, "is not a diffusers model folder")
    assert f"did you mean codec.path={tmp_path / 'movq'}?" in said


def test_a_pipeline_of_the_hub_gives_its_vae(model, tmp_path, monkeypatch):
    model.save_pretrained(tmp_path / "c0ffee" / "vae", variant="fp16")
    (tmp_path / "c0ffee" / "model_index.json").write_text('{"vae": ["diffusers", "AutoencoderKL"]}')
    rounds = []

    def download(repo, *, allow_patterns, local_files_only=False, **_):
        if local_files_only:
            raise FileNotFoundError(repo)
        rounds.append(allow_patterns)
        return str(tmp_path / "c0ffee")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr(hub, "reachable", lambda _: True)
    codec = Diffusers(repo="me/pipeline")
    assert (codec.source["subfolder"], codec.source["variant"], codec.source["commit"]) == ("vae", "fp16", "c0ffee")
    assert f"vae/{WEIGHTS}" in rounds[0]
    assert not any("unet" in pattern or pattern == "*" for one in rounds for pattern in one)


# --- single files -----------------------------------------------------------------------------------------------------


def original(tensors):
    """A model's tensors in the layout of the original Stable Diffusion code, by the inverse of the known renaming."""
    changed = {}
    for name, tensor in tensors.items():
        new = name.replace("conv_norm_out", "norm_out").replace("mid_block.attentions.0", "mid.attn_1")
        for half, stage, stages in (("down_blocks", "down", None), ("up_blocks", "up", 2)):
            for i in range(2):
                block = i if stages is None else stages - 1 - i
                new = new.replace(f"{half}.{i}.resnets.", f"{stage}.{block}.block.")
                new = new.replace(f"{half}.{i}.downsamplers.0", f"{stage}.{block}.downsample")
                new = new.replace(f"{half}.{i}.upsamplers.0", f"{stage}.{block}.upsample")
        for i in (0, 1):
            new = new.replace(f"mid_block.resnets.{i}", f"mid.block_{i + 1}")
        new = new.replace("conv_shortcut", "nin_shortcut")
        if "attn_1" in new:
            for ours, theirs in {
                "group_norm": "norm",
                "to_q": "q",
                "to_k": "k",
                "to_v": "v",
                "to_out.0": "proj_out",
            }.items():
                new = new.replace(f".{ours}.", f".{theirs}.")
            tensor = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        changed[new] = tensor.contiguous()
    return changed


@pytest.mark.parametrize("prefix", ["", "first_stage_model.", "vae."])
@pytest.mark.parametrize("layout", ["diffusers", "original"])
def test_one_file_in_either_layout(model, tmp_path, layout, prefix, caplog):
    caplog.set_level(logging.INFO)
    tensors = dict(model.state_dict())
    tensors = original(tensors) if layout == "original" else tensors
    extra = {"model.diffusion_model.input_blocks.0.weight": torch.zeros(1)} if prefix else {}
    save_file({**{prefix + n: t for n, t in tensors.items()}, **extra}, tmp_path / "my-vae.safetensors")
    codec = same(tmp_path / "my-vae.safetensors", model)
    assert codec.source == {
        "file": "my-vae.safetensors",
        "config": "inferred from the tensors",
        "sha256": codec.weights_sha256,
    }
    assert "has no config.json; its architecture is read off its tensors" in caplog.text
    model.save_config(tmp_path)
    again = same(tmp_path / "my-vae.safetensors", model)
    assert fingerprint(again) == fingerprint(codec)


def test_the_only_file_of_a_folder_whatever_its_name(model, folder, tmp_path):
    (folder / WEIGHTS).rename(folder / "kl-f2.safetensors")
    same(folder, model)
    (folder / "config.json").unlink()
    same(folder, model)
    shutil.copy(folder / "kl-f2.safetensors", folder / "other.safetensors")
    refused(folder, r"name one of the files: codec.path=.*kl-f2.safetensors")


def test_older_names_of_attention(model, folder):
    tensors = load_file(folder / WEIGHTS)
    for new, old in OLD.items():
        tensors = {name.replace(f".{new}.", f".{old}."): tensor for name, tensor in tensors.items()}
    assert any(".proj_attn." in name for name in tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    same(folder, model)
    (folder / "config.json").unlink()
    same(folder / WEIGHTS, model)


def test_half_a_model_is_not_filled_up(model, tmp_path):
    tensors = {n: t for n, t in original(model.state_dict()).items() if n != "decoder.mid.attn_1.q.bias"}
    save_file(tensors, tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", r"a.safetensors do not fit AutoencoderKL: missing_keys .*to_q.bias")
    save_file({n: t for n, t in tensors.items() if n.startswith("decoder")}, tmp_path / "b.safetensors")
    refused(tmp_path / "b.safetensors", r"not a whole AutoencoderKL's .* codec.model_config=FILE")
    (tmp_path / "c.safetensors").write_bytes(b"no weights")
    refused(tmp_path / "c.safetensors", "not a readable safetensors file")


def test_what_the_tensors_tell():
    torch.manual_seed(0)
    given = {**KL, "block_out_channels": (32, 64, 64), "layers_per_block": 2, "latent_channels": 8}
    given |= {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    made = diffusers.AutoencoderKL(
        **given, mid_block_add_attention=False, use_quant_conv=False, in_channels=1, out_channels=1
    )
    config = inferred_config({n: tuple(t.shape) for n, t in made.state_dict().items()}, Path("x"))
    again = diffusers.AutoencoderKL(**{k: v for k, v in config.items() if not k.startswith("_")})
    assert {n: t.shape for n, t in again.state_dict().items()} == {n: t.shape for n, t in made.state_dict().items()}


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.bin", "a.ckpt", "a.pt"])
def test_a_pickled_file_is_refused_with_the_command(tmp_path, name):
    torch.save({}, tmp_path / name)
    _, faults = refused(tmp_path / name, rf"`dd-bench codec convert {tmp_path / name} --out FOLDER`")
    assert faults


def test_a_pointer_is_not_the_weights(folder):
    (folder / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    refused(folder, "is a git-lfs pointer, not the weights: run `git lfs pull`")


def test_a_configuration_without_weights_says_what_is_there(folder):
    (folder / WEIGHTS).unlink()
    (folder / "README.md").touch()
    said, faults = refused(folder, r"vae has a config.json but no diffusion_pytorch_model.safetensors")
    assert "found README.md, config.json" in said
    assert faults == [said]


@pytest.mark.parametrize("factor", [0, 1e-12, -0.18215, 1e9, "NaN", float("inf"), "big"])
def test_an_absurd_scaling_factor_is_refused(folder, factor):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "scaling_factor": factor}))
    refused(folder, r"scaling.factor")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_damaged_tensor_is_named(folder, dtype, value):
    tensors = {n: t.to(dtype) for n, t in load_file(folder / WEIGHTS).items()}
    tensors["decoder.conv_out.bias"][1] = value
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    refused(folder, r"1 of the 3 values of decoder.conv_out.bias are not finite")


# --- conversion -------------------------------------------------------------------------------------------------------


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


@pytest.mark.parametrize("nested", [None, "state_dict"])
def test_a_pickled_checkpoint_is_converted(model, tmp_path, nested, capsys):
    (tmp_path / "there").mkdir()
    tensors = model.state_dict()
    torch.save({nested: tensors, "epoch": 3} if nested else tensors, tmp_path / "there" / "diffusion_pytorch_model.bin")
    model.save_config(tmp_path / "there")
    words = [
        "codec",
        "convert",
        str(tmp_path / "there" / "diffusion_pytorch_model.bin"),
        "--out",
        str(tmp_path / "vae"),
    ]
    assert main.main(words) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "vae" / WEIGHTS)
    same(tmp_path / "vae", model)
    assert main.main(words) == 2
    assert "is there already; choose another --out" in capsys.readouterr().err
    assert main.main(["codec", "convert", "--out", str(tmp_path / "x")]) == 2


def test_nothing_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, tmp_path / "a.ckpt")
    with pytest.raises(UsageError, match="holds more than tensors, or is damaged, and is not loaded"):
        convert_weights("a.ckpt", "out")
    torch.save([1, 2], tmp_path / "a.ckpt")
    with pytest.raises(UsageError, match="holds no named tensors"):
        convert_weights("a.ckpt", "out")
    with pytest.raises(UsageError, match=r"name one pickled file .* found: none"):
        convert_weights("nowhere", "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_tied_tensors_are_written_each(tmp_path):
    shared = torch.ones(2)
    torch.save({"a": shared, "b": shared}, tmp_path / "a.pt")
    assert set(load_file(convert_weights(tmp_path / "a.pt", tmp_path / "out"))) == {"a", "b"}


def test_the_files_found_are_hashed_as_before(folder):
    import hashlib

    found = find_weights(folder)
    assert found.sha256 == hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    assert not (folder / SHARDS).exists()
