from __future__ import annotations

import io
import json
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third-party import
    import diffusers

from latentdd_plugin.codecs import diffusers as ours
from latentdd_plugin.codecs import hub
from latentdd_plugin.codecs.base import decoder_bytes, decoder_state, fingerprint
from latentdd_plugin.codecs.diffusers import Diffusers
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.plugins import Preset


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small only lose time to a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


SHARED = Path(__file__).parents[3] / "shared"
DOWN, UP = ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2
KL = {
    "down_block_types": DOWN,
    "up_block_types": UP,
    "block_out_channels": (4, 8),
    "norm_num_groups": 2,
    "layers_per_block": 1,
    "latent_channels": 3,
}


def kl(**more: Any) -> Any:
    return diffusers.AutoencoderKL(**{**KL, **more})


def tiny() -> Any:
    return diffusers.AutoencoderTiny(
        encoder_block_out_channels=(4, 4, 4),
        decoder_block_out_channels=(4, 4, 4),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
        latent_channels=2,
    )


def dc() -> Any:
    return diffusers.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "ResBlock", "ResBlock"),
        decoder_block_types=("ResBlock", "ResBlock", "ResBlock"),
        encoder_block_out_channels=(8, 8, 16),
        decoder_block_out_channels=(8, 8, 16),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), ()),
        decoder_qkv_multiscales=((), (), ()),
        scaling_factor=0.41,
    )


def vq() -> Any:
    return diffusers.VQModel(
        block_out_channels=(4, 8),
        down_block_types=DOWN,
        up_block_types=UP,
        norm_num_groups=2,
        num_vq_embeddings=16,
        latent_channels=3,
    )


def asymmetric() -> Any:
    return diffusers.AsymmetricAutoencoderKL(
        down_block_types=DOWN,
        down_block_out_channels=(4, 8),
        up_block_types=UP,
        up_block_out_channels=(8, 8),
        norm_num_groups=2,
        latent_channels=2,
    )


def flux2() -> Any:
    if not hasattr(diffusers, "AutoencoderKLFlux2"):
        pytest.skip(f"diffusers {diffusers.__version__} has no AutoencoderKLFlux2")
    model = diffusers.AutoencoderKLFlux2(**KL)
    generator = torch.Generator().manual_seed(1)
    model.bn.running_mean.copy_(torch.randn(12, generator=generator))
    model.bn.running_var.copy_(torch.rand(12, generator=generator) + 0.5)
    return model


def consistency() -> Any:
    return diffusers.ConsistencyDecoderVAE(
        encoder_block_out_channels=(4, 8),
        encoder_down_block_types=DOWN,
        encoder_norm_num_groups=2,
        encoder_layers_per_block=1,
        decoder_block_out_channels=(4, 8),
        decoder_down_block_types=("ResnetDownsampleBlock2D",) * 2,
        decoder_up_block_types=("ResnetUpsampleBlock2D",) * 2,
        decoder_layers_per_block=1,
        decoder_norm_num_groups=2,
    )


MODELS: dict[str, tuple[Callable[[], Any], int, tuple[int, int, int], float, float]] = {
    # builder, multiple, code shape at 32 px, shift, scale
    "kl": (kl, 2, (3, 16, 16), 0.0, 0.18215),
    "kl-shifted": (lambda: kl(scaling_factor=1.5305, shift_factor=0.0609), 2, (3, 16, 16), 0.0609, 1.5305),
    "kl-bare": (lambda: kl(use_quant_conv=False, use_post_quant_conv=False), 2, (3, 16, 16), 0.0, 0.18215),
    "kl-grey": (lambda: kl(in_channels=1, out_channels=1), 2, (3, 16, 16), 0.0, 0.18215),
    "tiny": (tiny, 4, (2, 8, 8), 0.0, 1.0),
    "dc": (dc, 4, (4, 8, 8), 0.0, 0.41),
    "vq": (vq, 2, (3, 16, 16), 0.0, 0.18215),
    "asymmetric": (asymmetric, 2, (2, 16, 16), 0.0, 0.18215),
}


def saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def build(name: str) -> Any:
    torch.manual_seed(0)
    return MODELS[name][0]().eval()


def images(channels: int = 3, n: int = 2, side: int = 32) -> torch.Tensor:
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(0))


def latent(output: Any) -> torch.Tensor:
    for name in ("latents", "latent"):
        if hasattr(output, name):
            return getattr(output, name)
    return output.latent_dist.mode()


@pytest.mark.parametrize("name", MODELS)
def test_equals_the_model_itself(name: str, tmp_path: Path) -> None:
    model, (_, multiple, shape, shift, scale) = build(name), MODELS[name]
    codec = Diffusers(path=str(saved(model, tmp_path)))
    x = images(model.config.in_channels)
    assert (codec.channels, codec.multiple) == (model.config.in_channels, multiple)
    assert (codec.spatial, codec.costly) == (True, True)
    z = codec.encode(x)
    assert tuple(z.shape[1:]) == shape
    assert not z.requires_grad
    with torch.no_grad():
        raw = latent(model.encode(2 * x - 1))
        torch.testing.assert_close(z, (raw - shift) * scale)
        torch.testing.assert_close(codec.decode(z), (model.decode(raw).sample + 1) / 2, atol=1e-5, rtol=1e-5)
    assert torch.equal(codec.encode(x), z)
    assert not any(p.requires_grad for p in codec.parameters())
    assert not codec.train().model.training


@pytest.mark.parametrize("name", [*MODELS, "flux2", "consistency"])
def test_gradients_reach_the_codes(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = {"flux2": flux2, "consistency": consistency}.get(name, lambda: build(name))()
    codec = Diffusers(path=str(saved(model, tmp_path)))
    z = codec.encode(images(codec.channels or 3)).requires_grad_()
    codec.decode(z).square().mean().backward()
    assert z.grad is not None
    assert bool(z.grad.isfinite().all())
    assert float(z.grad.abs().sum()) > 0


def test_vq_quantises_in_decode_and_passes_the_gradient_straight_through(tmp_path: Path) -> None:
    codec = Diffusers(path=str(saved(build("vq"), tmp_path)))
    z = codec.encode(images())
    nudged = codec.decode(z + 1e-7)
    torch.testing.assert_close(nudged, codec.decode(z), atol=1e-5, rtol=0)  # the same codebook entries
    entries = codec.model.quantize.embedding.weight
    flat = (z / codec.scale).permute(0, 2, 3, 1).reshape(-1, 3)
    nearest = entries[torch.cdist(flat, entries).argmin(1)].view(2, 16, 16, 3).permute(0, 3, 1, 2)
    torch.testing.assert_close(codec.decode(nearest * codec.scale), codec.decode(z), atol=1e-5, rtol=0)


def test_latents_mean_and_std(tmp_path: Path) -> None:
    mean, std = [0.1, -0.2, 0.3], [0.5, 1.0, 2.0]
    torch.manual_seed(0)
    model = kl(latents_mean=mean, latents_std=std, scaling_factor=0.5).eval()
    codec = Diffusers(path=str(saved(model, tmp_path)))
    with torch.no_grad():
        raw = model.encode(2 * images() - 1).latent_dist.mode()
        expected = (raw - torch.tensor(mean).view(1, 3, 1, 1)) * 0.5 / torch.tensor(std).view(1, 3, 1, 1)
        torch.testing.assert_close(codec.encode(images()), expected)
        torch.testing.assert_close(codec(images()), (model.decode(raw).sample + 1) / 2, atol=1e-5, rtol=1e-5)


def test_flux2_normalises_as_its_pipeline_does(tmp_path: Path) -> None:
    # pipeline_flux2.py (not imported: it needs transformers): 2x2 patches as channels, then the batch-norm statistics
    torch.manual_seed(0)
    model = flux2().eval()
    codec = Diffusers(path=str(saved(model, tmp_path)))
    assert codec.multiple == 4
    with torch.no_grad():
        patches = F.pixel_unshuffle(model.encode(2 * images() - 1).latent_dist.mode(), 2)
        std = (model.bn.running_var + model.config.batch_norm_eps).sqrt().view(1, -1, 1, 1)
        normal = (patches - model.bn.running_mean.view(1, -1, 1, 1)) / std
        z = codec.encode(images())
        torch.testing.assert_close(z, F.pixel_shuffle(normal, 2))
        raw = model.encode(2 * images() - 1).latent_dist.mode()
        torch.testing.assert_close(codec.decode(z), (model.decode(raw).sample + 1) / 2, atol=1e-5, rtol=1e-5)


def test_the_consistency_decoder_draws_the_same_noise_for_every_image(tmp_path: Path) -> None:
    torch.manual_seed(0)
    codec = Diffusers(path=str(saved(consistency(), tmp_path)))
    z = codec.encode(images())
    assert not codec.spatial
    assert torch.equal(codec.decode(z), codec.decode(z))
    torch.testing.assert_close(codec.decode(z[1:]), codec.decode(z)[1:], atol=1e-5, rtol=0)  # whatever the chunk


def test_fingerprint_does_not_depend_on_the_place(tmp_path: Path) -> None:
    folder = saved(build("kl"), tmp_path / "a")
    shutil.copytree(folder, tmp_path / "b" / "vae")
    first = Diffusers(path=str(folder))
    second = Diffusers(repo="nobody/nothing", revision="main", subfolder="vae", path=str(tmp_path / "b"))
    assert fingerprint(first) == fingerprint(second)
    assert first.config() == second.config()
    again = Diffusers(**json.loads(json.dumps(first.config())), path=str(folder))
    assert fingerprint(again) == fingerprint(first)
    assert first.source == {"folder": "a", "sha256": first.weights_sha256}
    assert len(first.weights_sha256) == 64
    other = Diffusers(path=str(saved(kl(scaling_factor=1.0), tmp_path / "c")))
    assert fingerprint(other) != fingerprint(first)


def test_architecture_is_part_of_the_identity(tmp_path: Path) -> None:
    model = kl(act_fn="silu")
    silu = Diffusers(path=str(saved(model, tmp_path / "silu")))
    config = json.loads((tmp_path / "silu" / "config.json").read_text())
    shutil.copytree(tmp_path / "silu", tmp_path / "relu")
    (tmp_path / "relu" / "config.json").write_text(json.dumps({**config, "act_fn": "relu"}))
    relu = Diffusers(path=str(tmp_path / "relu"))
    assert relu.weights_sha256 == silu.weights_sha256
    assert fingerprint(relu) != fingerprint(silu)
    with pytest.raises(UsageError, match=r"holds AutoencoderKL:\w+, wanted was AutoencoderKL:"):
        Diffusers(path=str(tmp_path / "relu"), architecture=silu.architecture)


def test_the_state_knows_what_decoding_needs(tmp_path: Path) -> None:
    model = build("kl")
    codec = Diffusers(path=str(saved(model, tmp_path)))
    assert {n.split(".")[0] for n in codec.state()} == {"encoder", "decoder", "shared"}
    assert {"encoder.quant_conv.weight", "decoder.post_quant_conv.weight", "shared.scale"} <= set(codec.state())
    needed = [*model.decoder.parameters(), *model.post_quant_conv.parameters()]
    assert decoder_bytes(codec) == 4 * (sum(p.numel() for p in needed) + 2)
    vq_codec = Diffusers(path=str(saved(build("vq"), tmp_path / "vq")))
    assert "shared.quantize.embedding.weight" in decoder_state(vq_codec)


def test_half_precision_weights_run_in_float32(tmp_path: Path) -> None:
    codec = Diffusers(path=str(saved(build("kl").half(), tmp_path)))
    assert {t.dtype for t in codec.state().values()} == {torch.float32}
    assert codec(images()).dtype == torch.float32


def test_a_folder_of_another_class_is_never_filled_with_random_weights(tmp_path: Path) -> None:
    saved(build("kl"), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for name, words in [
        ("UNet2DModel", "holds a UNet2DModel, which is not an autoencoder class"),
        (None, "holds a None, which is not an autoencoder class"),
        ("AutoencoderTiny", "do not fit AutoencoderTiny: missing_keys"),
    ]:
        (tmp_path / "config.json").write_text(json.dumps({**config, "_class_name": name}))
        with pytest.raises(UsageError, match=words):
            Diffusers(path=str(tmp_path))


def test_incomplete_weights_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    saved(build("kl"), tmp_path)
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    short = {n: t for n, t in tensors.items() if n != "decoder.conv_out.bias"}
    for changed, words in [
        (short, "missing_keys decoder.conv_out.bias"),
        ({**tensors, "extra": torch.zeros(1)}, "unexpected_keys extra"),
        ({**short, "decoder.conv_out.bias": torch.zeros(7)}, "do not load as AutoencoderKL|mismatched"),
    ]:
        save_file(changed, weights)
        with pytest.raises(UsageError, match=words):
            Diffusers(path=str(tmp_path))
    weights.write_bytes(b"no weights")
    with pytest.raises(UsageError, match="do not load as AutoencoderKL"):
        Diffusers(path=str(tmp_path))
    weights.rename(tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(
        UsageError,
        match=r"no diffusion_pytorch_model.safetensors .*: `dd-bench codec convert .*\.bin",
    ):
        Diffusers(path=str(tmp_path))


def test_sharded_weights_load(tmp_path: Path) -> None:
    model = build("kl")
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    assert not (tmp_path / "diffusion_pytorch_model.safetensors").exists()
    codec = Diffusers(path=str(tmp_path))
    assert len(codec.weights_sha256) == 64
    assert torch.equal(codec.model.decoder.conv_out.weight, model.decoder.conv_out.weight)


def test_what_is_no_image_autoencoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"codec.path=.*nowhere is not a diffusers model folder"):
        Diffusers(path=str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"give codec.path=FOLDER .* or codec.repo="):
        Diffusers()
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UsageError, match=r"config.json cannot be read"):
        Diffusers(path=str(tmp_path))
    video = diffusers.AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=DOWN, layers_per_block=1
    )
    with pytest.raises(UsageError, match="AutoencoderKLTemporalDecoder is not an autoencoder of single images"):
        Diffusers(path=str(saved(video, tmp_path / "video")))


PRESETS = {n: p for n, p in vars(ours).items() if isinstance(p, Preset)}


def test_presets_are_valid_arguments() -> None:
    assert set(PRESETS) == {"SD_VAE", "SDXL_VAE", "SD3_VAE", "FLUX_VAE", "TAESD", "TAESDXL", "TAESD3", "DC_AE"}
    for preset in PRESETS.values():
        assert preset.cls is Diffusers
        assert json.loads(json.dumps(dict(preset.config))) == dict(preset.config)
        assert set(preset.config) <= {"repo", "revision", "subfolder", "trained_on"}


@pytest.mark.parametrize("name", ["SD_VAE", "SD3_VAE"])
def test_without_a_hub_the_answer_comes_at_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://192.0.2.1")  # never answers (RFC 5737)
    config, start = PRESETS[name].config, time.monotonic()
    with pytest.raises(UsageError) as caught:
        Diffusers(**config)
    assert time.monotonic() - start < 8
    message = str(caught.value)
    assert config["repo"] in message
    assert "codec.path=FOLDER" in message
    assert ("licence" in message) == (name == "SD3_VAE")


def test_a_cached_hub_id_needs_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    cache = tmp_path / "models--me--mine"
    saved(build("kl"), cache / "snapshots" / commit / "vae")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    codec = Diffusers(repo="me/mine", subfolder="vae")
    assert codec.source == {
        "repo": "me/mine",
        "revision": "main",
        "commit": commit,
        "subfolder": "vae",
        "sha256": codec.weights_sha256,
    }


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("GatedRepoError", "are gated: accept the licence on .*me/mine"),
        ("RevisionNotFoundError", "cannot be downloaded: no"),
    ],
)
def test_what_the_hub_refuses(error: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.errors

    class Refused(getattr(huggingface_hub.errors, error)):
        def __init__(self) -> None:
            OSError.__init__(self, "no")

    def refuse(*_: Any, local_files_only: bool = False, **__: Any) -> str:
        raise FileNotFoundError if local_files_only else Refused()

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    monkeypatch.setattr(hub, "reachable", lambda _: True)
    with pytest.raises(UsageError, match=words):
        Diffusers(repo="me/mine")


def test_a_download_is_loaded_like_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(build("kl"), tmp_path / "abc123" / "a" / "vae")
    asked = []

    def download(repo: str, *, allow_patterns: list[str], local_files_only: bool = False, **_: Any) -> str:
        if local_files_only:
            raise FileNotFoundError(repo)
        asked.extend(allow_patterns)
        return str(tmp_path / "abc123")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr(hub, "reachable", lambda _: True)
    codec = Diffusers(repo="me/mine", revision="v1", subfolder="a/vae")
    assert (codec.source["commit"], codec.source["revision"]) == ("abc123", "v1")
    assert "a/vae/diffusion_pytorch_model.safetensors" in asked
    assert "a/vae/diffusion_pytorch_model-?????-of-?????.safetensors" in asked


@pytest.mark.realdata
def test_taesd_on_real_pictures() -> None:
    folder, data = SHARED / "weights" / "taesd", SHARED / "data" / "imagenette128"
    if not (folder.is_dir() and data.is_dir()):
        pytest.skip(f"{SHARED} with the real weights and pictures is not there")
    import numpy as np
    import pyarrow.parquet as pq
    from PIL import Image

    rows = next(pq.ParquetFile(next(data.glob("test-*.parquet"))).iter_batches(16, columns=["image"])).to_pylist()
    pixels = [np.array(Image.open(io.BytesIO(r["image"]["bytes"])).convert("RGB")) for r in rows]
    x = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    codec = ours.TAESD.cls(**ours.TAESD.config, path=str(folder))
    assert codec.weights_sha256 == "f4cfc126eaf83b3f93136ea92ff5f6b044d3724a2282c472b0d2b08fdc089b88"
    with torch.no_grad():
        z = codec.encode(x)
        back = codec.decode(z).clamp(0, 1)
        flipped = codec.decode(z.flip(-1)).clamp(0, 1)
    psnr = -10 * (back - x).square().mean(dim=(1, 2, 3)).log10().mean()
    assert z.shape == (16, 4, 16, 16)
    assert 21 < float(psnr) < 24
    mirrored, same = (flipped - back.flip(-1)).square().mean(), (flipped - back).square().mean()
    assert float(mirrored) < 0.3 * float(same)
