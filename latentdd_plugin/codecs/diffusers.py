"""Any image autoencoder of the diffusers library behind the codec contract; the only module that imports diffusers.

    Diffusers(repo="stabilityai/sd-vae-ft-mse")     from the hub, or from its cache
    Diffusers(path="my/folder")                     a folder with config.json and diffusion_pytorch_model.safetensors

Every model is loaded from a local folder in one way; a hub id is first turned into a folder of the hub's cache. The
folder's own `_class_name` chooses the class: asked for another class, diffusers would fill it with random weights.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.hub import reachable
from latentdd_plugin.core.plugins import Preset
from latentdd_plugin.core.types import Json, hash_json

WEIGHTS = "diffusion_pytorch_model.safetensors"
SHARDS = "diffusion_pytorch_model.safetensors.index.json"
PROBED_SIDES = (64, 128, 256, 512)  # pixels; the first one that the encoder takes is used
NO_WEIGHTS = "diffusers: give codec.path=FOLDER (local weights) or codec.repo=OWNER/NAME (hub id)"
TINY_BLOCKS = (1, 2)  # of an autoencoder of our own: residual blocks at twice the code's size, and at the code's
NO_ARCHITECTURE = frozenset({"sample_size", "force_upcast"})  # settings of a model that do not change what it computes


class Diffusers(Codec):
    """A frozen diffusers autoencoder: code = (E(2x - 1) - shift) * scale, image = (G(code / scale + shift) + 1) / 2.

    E is the encoder's mode, never a sample; shift and scale are the ones that diffusers' own pipelines use for the
    class: `scaling_factor` and `shift_factor`, `latents_mean` and `latents_std`, or Flux2's batch-norm statistics
    (which differ by position in a 2x2 patch; the code stays unpatchified, so that it is spatial). Codes are float32
    (N, c, H/f, W/f). The number of image channels and the factor f are probed with a blank image.

    A VQModel decodes as in diffusers: the code is first replaced by its nearest codebook entry, and the gradient is
    passed straight through. A ConsistencyDecoderVAE starts each image from the same noise, drawn with seed 0.

    Args:
        repo: hub id of the weights.
        revision: hub commit, tag or branch; None means `main`.
        subfolder: folder inside the repository, or inside `path` where `path` itself has no config.json.
        path: local folder; wins over `repo`.
        architecture: class and digest of the model's own configuration, filled in from the weights; given (from a
            record), the weights must have it.
        trained_on: names of the data sets the weights have seen, for the record. None asks the folder's training.json,
            which `dd-bench codec train` leaves; `unknown` where nobody says.

    Attributes:
        source: where the weights came from, without absolute paths: folder, or repo, revision, commit and subfolder.
        weights_sha256: sha256 of the weight file (of the shards' sha256, one a line, if there are several).

    Raises:
        UsageError: weights that cannot be had, are of another class, are incomplete, or are not an image autoencoder.
    """

    codec_id: ClassVar[str] = "diffusers"
    spatial = True
    costly = True
    locations: ClassVar[tuple[str, ...]] = ("repo", "revision", "subfolder", "path", "trained_on")
    shift: Tensor  # (1, c | 1, p, q), repeated over the latent's grid; p = q = 1 except for patch-wise statistics
    scale: Tensor

    def __init__(
        self,
        repo: str | None = None,
        revision: str | None = None,
        subfolder: str | None = None,
        path: str | None = None,
        *,
        architecture: str | None = None,
        trained_on: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.repo, self.revision, self.subfolder, self.path = repo, revision, subfolder, path
        if path is not None:
            folder = _local_folder(Path(path), subfolder)
            self.source: dict[str, Json] = {"folder": folder.resolve().name}
        elif repo is not None:
            folder = _hub_folder(repo, revision, subfolder)
            commit = [folder, *folder.parents][len(Path(subfolder or "").parts)].name
            self.source = {"repo": repo, "revision": revision or "main", "commit": commit, "subfolder": subfolder}
        else:
            raise UsageError(NO_WEIGHTS)
        self.trained_on = _trained_on(folder) if trained_on is None else tuple(trained_on)
        self.model = _load(folder)
        self.weights_sha256: str = _sha256(folder)
        self.source["sha256"] = self.weights_sha256
        self.architecture = _architecture(self.model)
        if architecture not in (None, self.architecture):
            raise UsageError(f"diffusers: {folder} holds {self.architecture}, wanted was {architecture}")
        shift, scale = _shift_and_scale(self.model)
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)
        self._draws = type(self.model).__name__ == "ConsistencyDecoderVAE"
        self.spatial = not self._draws  # its noise is not flipped with the code
        self.channels, self.multiple = self._probe()
        self.train(False)

    @classmethod
    def option_faults(cls, options: Mapping[str, Json]) -> list[str]:
        """Return a fault if neither a folder nor a hub id is named."""
        return [] if options.get("path") is not None or options.get("repo") is not None else [NO_WEIGHTS]

    @classmethod
    def weight_faults(cls, options: Mapping[str, Json]) -> list[str]:
        """Return why the folder or the hub's repository cannot give the weights; loads and downloads nothing."""
        path, repo, subfolder = (options.get(key) for key in ("path", "repo", "subfolder"))
        if path is not None:
            try:
                _check_folder(_local_folder(Path(str(path)), subfolder))
            except UsageError as error:
                return list(error.faults)
        elif repo is not None and _cached_folder(str(repo), options.get("revision"), subfolder) is None:
            fault = _unreachable(str(repo), options.get("revision"), subfolder)
            return [fault] if fault is not None else []
        return []

    def train(self, mode: bool = True) -> Diffusers:
        """Always evaluation mode: the weights are frozen and some encoders add noise while training."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1], sides multiples of `multiple`, to codes float32 (N, c, H/f, W/f)."""
        latents = _latents(self.model.encode(2 * images - 1)).float()
        return (latents - self._tiled(self.shift, latents)) * self._tiled(self.scale, latents)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (N, c, h, w) to images (N, C, f h, f w), differentiable in the codes, not clamped."""
        latents = codes / self._tiled(self.scale, codes) + self._tiled(self.shift, codes)
        options = {}
        if self._draws:
            options["generator"] = [torch.Generator(codes.device).manual_seed(0) for _ in range(codes.shape[0])]
        image: Tensor = self.model.decode(latents, **options).sample
        return (image.float() + 1) / 2

    def state(self) -> dict[str, Tensor]:
        """The model's tensors under their own names, the outer convolutions filed with the half they belong to."""
        return {_filed(name.removeprefix("model.")): tensor.detach() for name, tensor in self.state_dict().items()}

    @staticmethod
    def _tiled(buffer: Tensor, latents: Tensor) -> Tensor:
        p, q = buffer.shape[2:]
        return buffer if p == q == 1 else buffer.repeat(1, 1, latents.shape[2] // p, latents.shape[3] // q)

    def _probe(self) -> tuple[int, int]:
        """Image channels and side multiple, from what comes back for a blank image."""
        config = self.model.config
        channels = int(config.get("in_channels") or config.get("encoder_in_channels") or 3)
        patch, reason = int(self.shift.shape[2]), ""
        for side in PROBED_SIDES:
            try:
                with torch.no_grad():
                    codes = self.encode(torch.zeros(1, channels, side, side))
                    back = tuple(self.decode(codes).shape)
            except (RuntimeError, ValueError) as error:  # perhaps too small a picture for so deep an encoder
                reason = _first_line(error)
                continue
            except (TypeError, AttributeError, IndexError) as error:
                reason = _first_line(error)
                break
            factor = side // max(1, codes.shape[-1])
            if codes.ndim == 4 and back == (1, channels, side, side) and factor * codes.shape[-1] == side:
                return channels, factor * patch
            reason = f"(1, {channels}, {side}, {side}) becomes {tuple(codes.shape)} and comes back as {back}"
            break
        raise UsageError(f"diffusers: {type(self.model).__name__} is no autoencoder of single images: {reason}")


def _filed(name: str) -> str:
    if name.startswith(("encoder", "quant_conv")):
        return name if name.startswith("encoder.") else f"encoder.{name}"
    if name.startswith(("decoder", "post_quant_conv")):
        return name if name.startswith("decoder.") else f"decoder.{name}"
    return f"shared.{name}"


def _latents(output: Any) -> Tensor:
    """The latent in what `encode` answers: a distribution's mode, `latents` (Tiny, VQ) or `latent` (DC)."""
    if hasattr(output, "latent_dist"):
        mode: Tensor = output.latent_dist.mode()
        return mode
    latents: Tensor = output.latents if hasattr(output, "latents") else output.latent
    return latents


def _shift_and_scale(model: Any) -> tuple[Tensor, Tensor]:
    """What turns the model's latent into the code, as diffusers' pipelines do it; each (1, c | 1, p, q)."""
    config = model.config
    if isinstance(getattr(model, "bn", None), torch.nn.BatchNorm2d):  # pipelines/flux2: normalised in patches
        patch = tuple(config.patch_size)
        std = (model.bn.running_var + config.batch_norm_eps).sqrt()
        return model.bn.running_mean.view(1, -1, *patch).clone(), (1 / std).view(1, -1, *patch)
    factor, shift = config.get("scaling_factor"), config.get("shift_factor")
    mean, std = config.get("latents_mean"), config.get("latents_std")
    scale = torch.full((1, 1, 1, 1), 1.0 if factor is None else float(factor))
    if mean is not None and std is not None:  # pipelines/stable_diffusion_xl
        return torch.tensor(mean).view(1, -1, 1, 1), scale / torch.tensor(std).view(1, -1, 1, 1)
    return torch.full((1, 1, 1, 1), 0.0 if shift is None else float(shift)), scale


def _architecture(model: Any) -> str:
    """Class name and digest of the constructor arguments that differ from their defaults."""
    known = {n: p.default for n, p in inspect.signature(type(model).__init__).parameters.items()}
    values = {n: v for n, v in json.loads(json.dumps(dict(model.config), default=str)).items() if n in known}
    defaults = json.loads(json.dumps({n: known[n] for n in values}, default=str))
    chosen = {n: v for n, v in values.items() if v != defaults[n] and n not in NO_ARCHITECTURE}
    return f"{type(model).__name__}:{hash_json(chosen)[:16]}"


def _load(folder: Path) -> Any:
    """The folder's model: its own class, complete, float32, frozen."""
    import diffusers

    name = _read_config(folder).get("_class_name")
    kind = getattr(diffusers, str(name), None)
    if kind is None or not str(getattr(kind, "__module__", "")).startswith("diffusers.models.autoencoders"):
        raise UsageError(f"diffusers: {folder} holds a {name}, which is no autoencoder class of diffusers here")
    _check_folder(folder)
    logging = diffusers.utils.logging
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what it would remark on is refused below, or is a key of another version
    try:
        model, report = kind.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False, output_loading_info=True
        )
    except Exception as error:
        raise UsageError(f"diffusers: the weights in {folder} do not load as {name}: {_first_line(error)}") from error
    finally:
        logging.set_verbosity(verbosity)
    faults = [f"{what} {', '.join(map(str, keys[:3]))}" for what, keys in report.items() if keys]
    if faults:
        raise UsageError(f"diffusers: the weights in {folder} do not fit {name}: {'; '.join(faults)}")
    return model.float().requires_grad_(False)


def _check_folder(folder: Path) -> None:
    """Raise UsageError if a model folder's configuration cannot be read or its weights are missing."""
    _read_config(folder)
    if not _weight_files(folder):
        found = ", ".join(sorted(p.name for p in folder.iterdir())) or "nothing"
        raise UsageError(f"diffusers: {folder} has no {WEIGHTS} (found {found}; pickled .bin files are never read)")


KINDS = ("tiny", "kl")


def untrained(kind: str, *, f: int, channels: int, width: int, colours: int) -> Any:
    """A fresh autoencoder, drawn from torch's global generator: f (a power of 2) pixels a side to one of the code.

    `tiny` is an AutoencoderTiny without blocks at the image's own size, where they cost most: one at twice the code's
    size, two at the code's. `kl` is an AutoencoderKL without attention: width, then twice as many channels inside.

    Args:
        kind: one of KINDS.
        f: the factor.
        channels: of the code.
        width: channels inside; a multiple of 8 for `kl`.
        colours: channels of the images.
    """
    import diffusers

    stages = f.bit_length()
    images = {"in_channels": colours, "out_channels": colours, "latent_channels": channels, "scaling_factor": 1.0}
    if kind == "tiny":
        widths, blocks = (width,) * stages, ((0,) * stages + TINY_BLOCKS)[-stages:]
        blocks = (0, *blocks[1:])
        return diffusers.AutoencoderTiny(
            encoder_block_out_channels=widths,
            decoder_block_out_channels=widths,
            num_encoder_blocks=blocks,
            num_decoder_blocks=blocks[::-1],
            **images,
        )
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * stages,
        up_block_types=("UpDecoderBlock2D",) * stages,
        block_out_channels=(width, *(2 * width,) * (stages - 1)),
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
        **images,
    )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _read_config(folder: Path) -> Mapping[str, Json]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"diffusers: {folder}/config.json cannot be read: {error}") from error
    return config if isinstance(config, dict) else {}


def _trained_on(folder: Path) -> tuple[str, ...]:
    """The data sets that the folder's training.json names."""
    try:
        names = json.loads((folder / "training.json").read_text(encoding="utf-8"))["trained_on"]
    except (OSError, ValueError, KeyError, TypeError):
        return ("unknown",)
    return tuple(map(str, names))


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / SHARDS).is_file():
        return []
    try:
        return sorted({folder / str(n) for n in json.loads((folder / SHARDS).read_text())["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"diffusers: {folder / SHARDS} cannot be read: {error}") from error


def _sha256(folder: Path) -> str:
    """sha256 (hex) of the weight file; of several, of their digests one a line."""
    digests = []
    for file in _weight_files(folder):
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 22):
                digest.update(chunk)
        digests.append(digest.hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _local_folder(path: Path, subfolder: str | None) -> Path:
    path = path.expanduser()
    candidates = [path, path / subfolder] if subfolder else [path]
    for folder in candidates:
        if (folder / "config.json").is_file():
            return folder
    tried = " or ".join(f"{folder}/config.json" for folder in candidates)
    raise UsageError(f"diffusers: codec.path={path} is no diffusers model folder: there is no {tried}")


def _inner(subfolder: str | None) -> str:
    return f"{subfolder}/" if subfolder else ""


def _wanted(subfolder: str | None) -> list[str]:
    """Return the patterns of the files that a model folder needs."""
    files = ("config.json", WEIGHTS, SHARDS, WEIGHTS.replace(".", "-?????-of-?????."))
    return [_inner(subfolder) + name for name in files]


def _cached_folder(repo: str, revision: str | None, subfolder: str | None) -> Path | None:
    """Return the weights in the hub's cache, or None if they are not there."""
    from huggingface_hub import snapshot_download

    with contextlib.suppress(OSError, ValueError):  # not there, or not all of it
        cached = snapshot_download(repo, revision=revision, allow_patterns=_wanted(subfolder), local_files_only=True)
        folder = Path(cached) / _inner(subfolder)
        if (folder / "config.json").is_file() and _weight_files(folder):
            return folder
    return None


def _advice(repo: str, subfolder: str | None) -> str:
    return (
        f"Where there is network, `hf download {repo} --include '{_inner(subfolder)}*'` fetches it; then name the "
        "folder that holds config.json: codec.path=FOLDER"
    )


def _unreachable(repo: str, revision: str | None, subfolder: str | None) -> str | None:
    """Return why weights that are not in the cache cannot be fetched; None if the hub answers."""
    from huggingface_hub import constants

    if reachable(constants.ENDPOINT):
        return None
    gate = " Its licence must be accepted on its page, with an account, first." if repo in GATED else ""
    return (
        f"diffusers: the weights of {repo} (revision {revision or 'main'}) are not on this machine and "
        f"{constants.ENDPOINT} does not answer. {_advice(repo, subfolder)}.{gate}"
    )


def _hub_folder(repo: str, revision: str | None, subfolder: str | None) -> Path:
    """Return the weights in the hub's cache, downloaded if need be; UsageError within seconds if there is no hub."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError

    cached = _cached_folder(repo, revision, subfolder)
    if cached is not None:
        return cached
    if (fault := _unreachable(repo, revision, subfolder)) is not None:
        raise UsageError(fault)
    name, advice = f"diffusers: the weights of {repo} (revision {revision or 'main'})", _advice(repo, subfolder)
    try:
        downloaded = snapshot_download(repo, revision=revision, allow_patterns=_wanted(subfolder))
    except GatedRepoError as error:
        page = f"{constants.ENDPOINT}/{repo}"
        raise UsageError(f"{name} are gated: accept the licence on {page}, then `hf auth login`. {advice}") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{name} cannot be downloaded: {_first_line(error)}. {advice}") from error
    return Path(downloaded) / _inner(subfolder)


GATED = frozenset({"stabilityai/stable-diffusion-3-medium-diffusers", "black-forest-labs/FLUX.1-dev"})


def _preset(repo: str, revision: str = "main", **more: Json) -> Preset:
    return Preset(Diffusers, {"repo": repo, "revision": revision, **more})


# Revisions are commits named in public sources; where none was found, `main` (the record has the weights' sha256).
# `trained_on` is what the weights' own pages say; "unknown" stands first where they do not say all of it.
SD_VAE = _preset(
    "stabilityai/sd-vae-ft-mse",
    "31f26fdeee1355a5c34592e401dd41e45d25a493",
    trained_on=["OpenImages", "LAION-Aesthetics", "LAION-Humans"],  # its README
)
SDXL_VAE = _preset("stabilityai/sdxl-vae")
SD3_VAE = _preset(
    "stabilityai/stable-diffusion-3-medium-diffusers", "ea42f8cef0f178587cf766dc8129abd379c90671", subfolder="vae"
)
FLUX_VAE = _preset("black-forest-labs/FLUX.1-schnell", "741f7c3ce8b383c54771c7003378a50191e9efe9", subfolder="vae")
# The author on the whole tiny family, naming no weights in particular: github.com/madebyollin/taesd/issues/27.
_TINY = ["unknown", "megalith-10m", "LAION (subset)", "Danbooru (subset)"]
TAESD = _preset("madebyollin/taesd", "614f76814bbe30edbe2e627ace1c2234c81a2c0e", trained_on=_TINY)
TAESDXL = _preset("madebyollin/taesdxl", "b20258aaef75ef61e659c1e0f14f251cf0ad153e", trained_on=_TINY)
TAESD3 = _preset("madebyollin/taesd3", trained_on=_TINY)
DC_AE = _preset("mit-han-lab/dc-ae-f32c32-in-1.0-diffusers", trained_on=["ImageNet"])  # its README's table
