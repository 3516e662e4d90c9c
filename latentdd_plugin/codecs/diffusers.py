"""Any image autoencoder of the diffusers library behind the codec contract.

    Diffusers(repo="stabilityai/sd-vae-ft-mse")     from the hub, or from its cache
    Diffusers(path="my/folder")                     a model's folder, a pipeline's, or one .safetensors file

`weight_files` and `hub` find the weights, `weight_loading` loads them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.codecs.hub import cached_weights, hub_weights, unreachable
from latentdd_plugin.codecs.weight_files import WeightFiles, find_weights
from latentdd_plugin.codecs.weight_loading import ASK, architecture_of, first_line, load_model
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.plugins import Preset
from latentdd_plugin.core.types import Json

log = logging.getLogger(__name__)
PROBE, PROBE_SIZE = 8, 0.1  # side of a code, and the disturbance, by which the decoder's sensitivity is measured

NO_WEIGHTS = (
    "diffusers: give codec.path=FOLDER (local weights, or one .safetensors file) or codec.repo=OWNER/NAME (hub id)"
)
PROBED_SIDES = (64, 128, 256, 512)  # pixels; the first one that the encoder takes is used
SANE_SCALE = (1e-4, 1e4)  # of a code; published scaling factors lie between 0.1 and 2, statistics of latents near them


class Diffusers(Codec):
    """A frozen diffusers autoencoder: code = (E(2x - 1) - shift) * scale, image = (G(code / scale + shift) + 1) / 2.

    E is the encoder's mode, never a sample; shift and scale are the ones that diffusers' own pipelines use for the
    class: `scaling_factor` and `shift_factor`, `latents_mean` and `latents_std`, or Flux2's batch-norm statistics
    (which differ by position in a 2x2 patch; the code stays unpatchified, so that it is spatial). Codes are float32
    (N, c, H/f, W/f). The number of image channels and the factor f are probed with a blank image.

    A VQModel decodes as in diffusers: the code is first replaced by its nearest codebook entry, and the gradient is
    passed straight through; the codec `vq` stores the entries' numbers instead. A ConsistencyDecoderVAE starts each
    image from the same noise, drawn with seed 0.

    Args:
        repo: hub id of the weights, or of a pipeline, whose `vae` is then taken.
        revision: hub commit, tag or branch; None means `main`.
        subfolder: folder inside the repository, or inside `path` if `path` itself has no config.json.
        path: a model's folder, a pipeline's folder (its `vae` is taken) or one .safetensors file; wins over `repo`.
        architecture: class and digest of the model's own configuration, filled in from the weights; if given (from a
            record), the weights must have it.
        trained_on: names of the datasets the weights have seen, for the record. None reads the folder's training.json,
            which `dd-bench codec train` leaves, and is `unknown` without one.
        variant: which variant of the weights to load, "fp16" for example. None takes full precision, else the variant
            that is there. Weights run in float32 either way.
        model_config: config.json, or its folder, of a single file that has none beside it.

    Attributes:
        source: where the weights came from, without absolute paths: folder or file, or repo, revision, commit and
            subfolder; the variant, if one was loaded.
        weights_sha256: sha256 of the weight file (of the shards' sha256, one per line, if there are several).

    Raises:
        UsageError: the weights cannot be found, are of another class, are incomplete or not finite, scale their codes
            absurdly, or are not an image autoencoder.
    """

    codec_id: ClassVar[str] = "diffusers"
    model_classes: ClassVar[tuple[str, ...]] = ()  # classes of diffusers that are taken; empty: every autoencoder
    spatial = True
    costly = True
    locations: ClassVar[tuple[str, ...]] = (
        "repo",
        "revision",
        "subfolder",
        "path",
        "trained_on",
        "variant",
        "model_config",
    )
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
        variant: str | None = None,
        model_config: str | None = None,
    ) -> None:
        super().__init__()
        self.repo, self.revision, self.subfolder, self.path = repo, revision, subfolder, path
        self.variant, self.model_config = variant, model_config
        weights, self.source = self._find()
        self.trained_on = _trained_on(weights.folder) if trained_on is None else tuple(trained_on)
        self.model = load_model(weights)
        shift, scale = _shift_and_scale(self.model)
        _check_scale(shift, scale, weights.folder)
        self.weights_sha256: str = weights.sha256
        self.source["sha256"] = self.weights_sha256
        self.architecture = architecture_of(self.model)
        if architecture not in (None, self.architecture):
            raise UsageError(f"diffusers: {weights.folder} holds {self.architecture}, wanted was {architecture}")
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)
        self._draws = type(self.model).__name__ == "ConsistencyDecoderVAE"
        self._describe()
        self.channels, self.multiple = self._probe()
        self.train(False)

    def _describe(self) -> None:
        """Set the attributes that follow from the loaded model."""
        self.spatial = not self._draws  # its noise is not flipped with the code

    def _find(self) -> tuple[WeightFiles, dict[str, Json]]:
        """Return the weights' files and where they come from, for the record; log what was chosen among several."""
        if self.path is not None:
            weights = find_weights(Path(self.path), self.subfolder, self.variant, _expanded(self.model_config))
            named = weights.files[0] if weights.single else weights.folder
            source: dict[str, Json] = {"file" if weights.single else "folder": named.resolve().name}
        elif self.repo is not None:
            snapshot, weights = hub_weights(self.repo, self.revision, self.subfolder, self.variant)
            named, inner = weights.folder, self.subfolder or weights.subfolder
            revision = self.revision or "main"
            source = {"repo": self.repo, "revision": revision, "commit": snapshot.name, "subfolder": inner}
        else:
            raise UsageError(NO_WEIGHTS)
        if fault := self._class_fault(weights):
            raise UsageError(fault)
        if weights.subfolder:
            log.info("diffusers: %s is a pipeline; its %s is taken", self.path or self.repo, weights.subfolder)
        if weights.variant:
            source["variant"] = weights.variant
            log.info("diffusers: %s: the %s variant is loaded, in float32", named, weights.variant)
        if weights.config is None:
            source["config"] = "inferred from the tensors"
            log.info("diffusers: %s has no config.json; its architecture is read off its tensors", named)
        return weights, source

    @classmethod
    def _class_fault(cls, weights: WeightFiles) -> str | None:
        """Return why weights of this class are not taken, None if they are."""
        named = None if weights.config is None else str(weights.config.get("_class_name"))
        if not cls.model_classes or named in cls.model_classes:
            return None
        place, wanted = weights.files[0] if weights.single else weights.folder, " or ".join(cls.model_classes)
        if named is None:
            return f"{cls.codec_id}: {place} has no config.json that says it is a {wanted}: {ASK}"
        return (
            f"{cls.codec_id}: {place} holds a {named}, a {wanted} is needed; --codec diffusers takes every autoencoder"
        )

    @classmethod
    def option_faults(cls, options: Mapping[str, Json]) -> list[str]:
        """Return a fault if neither a folder nor a hub id is named."""
        return [] if options.get("path") is not None or options.get("repo") is not None else [NO_WEIGHTS]

    @classmethod
    def weight_faults(cls, options: Mapping[str, Json]) -> list[str]:
        """Return why the folder or the hub's repository cannot give the weights; loads and downloads nothing."""
        path, repo, revision = (options.get(key) for key in ("path", "repo", "revision"))
        subfolder, variant = options.get("subfolder"), options.get("variant")
        if path is not None:
            try:
                found = find_weights(Path(str(path)), subfolder, variant, _expanded(options.get("model_config")))
            except UsageError as error:
                return list(error.faults)
            fault = cls._class_fault(found)
        elif repo is not None:
            cached = cached_weights(str(repo), revision, subfolder, variant)
            fault = unreachable(str(repo), revision, subfolder) if cached is None else cls._class_fault(cached[1])
        else:
            return []
        return [] if fault is None else [fault]

    def step_weights(self, channels: int) -> Tensor:
        """Store each channel as finely as the image depends on it.

        A channel's step is inverse to the root mean square change of the image when that channel alone is disturbed a
        little, measured on the code of an empty image with a fixed draw. Steps differ by at most a factor of 4.
        """
        draw = torch.randn((channels, channels, PROBE, PROBE), generator=torch.Generator().manual_seed(0))
        own = torch.eye(channels).view(channels, channels, 1, 1)
        device = self.scale.device
        with torch.no_grad():
            images = self.decode(torch.cat([torch.zeros_like(draw[:1]), PROBE_SIZE * draw * own]).to(device))
        change = (images[1:] - images[:1]).square().flatten(1).mean(1).sqrt().cpu()
        weights = change.clamp_min(1e-12).reciprocal()
        weights = weights / weights.log().mean().exp()
        return weights.clamp(0.5, 2.0)

    def train(self, mode: bool = True) -> Diffusers:
        """Stay in evaluation mode: the weights are frozen and some encoders add noise while training."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Encode images (N, C, H, W) in [0, 1], sides multiples of `multiple`, to codes float32 (N, c, H/f, W/f)."""
        latents = _latents(self.model.encode(2 * images - 1)).float()
        return (latents - self._tiled(self.shift, latents)) * self._tiled(self.scale, latents)

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes (N, c, h, w) to images (N, C, f h, f w), differentiable in the codes, not clamped."""
        latents = codes / self._tiled(self.scale, codes) + self._tiled(self.shift, codes)
        options = {}
        if self._draws:
            options["generator"] = [torch.Generator(codes.device).manual_seed(0) for _ in range(codes.shape[0])]
        image: Tensor = self.model.decode(latents, **options).sample
        return (image.float() + 1) / 2

    def state(self) -> dict[str, Tensor]:
        """Return the model's tensors by their own names, the outer convolutions with the half they belong to."""
        return {_filed(name.removeprefix("model.")): tensor.detach() for name, tensor in self.state_dict().items()}

    def trainable_parameters(self) -> dict[str, Tensor]:
        """Return the decoder's parameters, in the order of its layers."""
        named = ((_filed(name), parameter) for name, parameter in self.model.named_parameters())
        return {name: parameter for name, parameter in named if name.startswith("decoder.")}

    @staticmethod
    def _tiled(buffer: Tensor, latents: Tensor) -> Tensor:
        p, q = buffer.shape[2:]
        return buffer if p == q == 1 else buffer.repeat(1, 1, latents.shape[2] // p, latents.shape[3] // q)

    def _probe(self) -> tuple[int, int]:
        """Return image channels and side multiple, from what comes back for a blank image."""
        config = self.model.config
        channels = int(config.get("in_channels") or config.get("encoder_in_channels") or 3)
        patch, reason = int(self.shift.shape[2]), ""
        for side in PROBED_SIDES:
            try:
                with torch.no_grad():
                    codes = self.encode(torch.zeros(1, channels, side, side))
                    back = tuple(self.decode(codes).shape)
            except (RuntimeError, ValueError) as error:  # perhaps too small a picture for so deep an encoder
                reason = first_line(error)
                continue
            except (TypeError, AttributeError, IndexError) as error:
                reason = first_line(error)
                break
            factor = side // max(1, codes.shape[-1])
            if codes.ndim == 4 and back == (1, channels, side, side) and factor * codes.shape[-1] == side:
                return channels, factor * patch
            reason = f"(1, {channels}, {side}, {side}) becomes {tuple(codes.shape)} and comes back as {back}"
            break
        raise UsageError(f"diffusers: {type(self.model).__name__} is not an autoencoder of single images: {reason}")


def _filed(name: str) -> str:
    if name.startswith(("encoder", "quant_conv")):
        return name if name.startswith("encoder.") else f"encoder.{name}"
    if name.startswith(("decoder", "post_quant_conv")):
        return name if name.startswith("decoder.") else f"decoder.{name}"
    return f"shared.{name}"


def _latents(output: Any) -> Tensor:
    """Return the latent in what `encode` returned: a distribution's mode, `latents` (Tiny, VQ) or `latent` (DC)."""
    if hasattr(output, "latent_dist"):
        mode: Tensor = output.latent_dist.mode()
        return mode
    latents: Tensor = output.latents if hasattr(output, "latents") else output.latent
    return latents


def _shift_and_scale(model: Any) -> tuple[Tensor, Tensor]:
    """Return what turns the model's latent into the code, as diffusers' pipelines do it; each (1, c | 1, p, q)."""
    config = model.config
    if isinstance(getattr(model, "bn", None), torch.nn.BatchNorm2d):  # pipelines/flux2: normalised in patches
        patch = tuple(config.patch_size)
        std = (model.bn.running_var + config.batch_norm_eps).sqrt()
        return model.bn.running_mean.view(1, -1, *patch).clone(), (1 / std).view(1, -1, *patch)
    factor, shift = _number(config, "scaling_factor"), _number(config, "shift_factor")
    mean, std = config.get("latents_mean"), config.get("latents_std")
    scale = torch.full((1, 1, 1, 1), 1.0 if factor is None else factor)
    if mean is not None and std is not None:  # pipelines/stable_diffusion_xl
        return torch.tensor(mean).view(1, -1, 1, 1), scale / torch.tensor(std).view(1, -1, 1, 1)
    return torch.full((1, 1, 1, 1), 0.0 if shift is None else shift), scale


def _number(config: Any, key: str) -> float | None:
    value = config.get(key)
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        raise UsageError(f"diffusers: config.json: {key} is {value!r}, a number is needed") from None


def _check_scale(shift: Tensor, scale: Tensor, folder: Path) -> None:
    """Raise UsageError if codes would be scaled or shifted absurdly: by 0, by 1e-12, by NaN."""
    least, most = SANE_SCALE
    for name, values, sane in (
        ("scaling factor", scale, (scale >= least) & (scale <= most)),
        ("shift", shift, shift.abs() <= most),
    ):
        if not bool(sane.all()):  # NaN is not sane either
            wrong = float(values[~sane][0])
            allowed = f"{least:g} to {most:g}" if name == "scaling factor" else f"at most {most:g}"
            raise UsageError(
                f"diffusers: {folder}: a {name} of {wrong:g} in its config.json makes the codes useless; {allowed} is "
                "taken, published models have 0.1 to 2"
            )


def _expanded(path: str | None) -> Path | None:
    return None if path is None else Path(path).expanduser()


def _trained_on(folder: Path) -> tuple[str, ...]:
    """Return the datasets that the folder's training.json names."""
    try:
        names = json.loads((folder / "training.json").read_text(encoding="utf-8"))["trained_on"]
    except (OSError, ValueError, KeyError, TypeError):
        return ("unknown",)
    return tuple(map(str, names))


def _preset(repo: str, revision: str = "main", **more: Json) -> Preset:
    return Preset(Diffusers, {"repo": repo, "revision": revision, **more})


# Revisions are commits named in public sources, or `main` if none was found (the record has the weights' sha256).
# `trained_on` is what the weights' own pages say; "unknown" comes first if they do not say all of it.
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
