"""Load an autoencoder of the diffusers library from the files that were found: complete, finite, float32, frozen.

Everything goes through `from_pretrained` on a folder in diffusers' own form, which reports missing tensors and knows
older names of attention layers. A single file becomes such a folder first, for as long as loading takes.
"""

from __future__ import annotations

import inspect
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from latentdd_plugin.codecs.weight_files import WEIGHTS, WeightFiles, suggested_folder
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import Json, hash_json

NO_ARCHITECTURE = frozenset({"sample_size", "force_upcast"})  # settings of a model that do not change what it computes
GROUPS = 32  # of AutoencoderKL's normalisation by default; no tensor tells them
PREFIXES = ("first_stage_model.", "vae.", "model.", "module.")  # of an autoencoder inside a larger checkpoint
ASK = "give its configuration: codec.model_config=FILE (its config.json, or the folder that holds it)"


def load_model(weights: WeightFiles) -> Any:
    """Return the model: of its own class, complete, float32, frozen.

    Raises:
        UsageError: another class, tensors that are missing, left over or not finite, an architecture that the file
            does not tell.
    """
    if not weights.single:
        return _from_folder(weights.folder, weights.folder, weights.config or {}, weights.variant)
    file = weights.files[0]
    tensors = _read(file)
    config = dict(weights.config or {})
    with tempfile.TemporaryDirectory() as holding:
        folder = Path(holding)
        if not _is_plain(tensors):
            tensors = _in_diffusers_layout(tensors, config, file)
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)
        else:
            (folder / WEIGHTS).symlink_to(file.resolve())
        config = config or inferred_config({name: tuple(t.shape) for name, t in tensors.items()}, file)
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return _from_folder(folder, file, config, None)


def architecture_of(model: Any) -> str:
    """Return the class name and a digest of the constructor arguments that differ from their defaults."""
    known = {n: p.default for n, p in inspect.signature(type(model).__init__).parameters.items()}
    values = {n: v for n, v in json.loads(json.dumps(dict(model.config), default=str)).items() if n in known}
    defaults = json.loads(json.dumps({n: known[n] for n in values}, default=str))
    chosen = {n: v for n, v in values.items() if v != defaults[n] and n not in NO_ARCHITECTURE}
    return f"{type(model).__name__}:{hash_json(chosen)[:16]}"


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's text, or its class's name if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def inferred_config(shapes: Mapping[str, tuple[int, ...]], file: Path) -> dict[str, Json]:
    """Return the configuration of an AutoencoderKL as its tensors tell it.

    What they do not tell takes the library's defaults: SiLU, 32 groups, and Stable Diffusion's scaling factor, which is
    only the unit of the codes.

    Args:
        shapes: of the tensors, by diffusers' names.
        file: for messages.

    Raises:
        UsageError: the tensors are not an AutoencoderKL's, or its groups cannot be 32.
    """
    try:
        stages = len({name.split(".")[2] for name in shapes if name.startswith("encoder.down_blocks.")})
        widths = [shapes[f"encoder.down_blocks.{stage}.resnets.0.conv1.weight"][0] for stage in range(stages)]
        latent = shapes["decoder.conv_in.weight"][1]
        if shapes["encoder.conv_out.weight"][0] != 2 * latent or not stages:
            raise KeyError("encoder.conv_out.weight")
        layers = len({n.split(".")[4] for n in shapes if n.startswith("encoder.down_blocks.0.resnets.")})
        colours = shapes["encoder.conv_in.weight"][1], shapes["decoder.conv_out.weight"][0]
    except (KeyError, IndexError) as error:
        raise UsageError(
            f"diffusers: {file} has no config.json beside it, and its tensors are not a whole AutoencoderKL's ({error} "
            f"is not as expected): {ASK}"
        ) from None
    if any(width % GROUPS for width in widths):
        raise UsageError(
            f"diffusers: {file} has no config.json beside it, and its widths {widths} do not tell into how many groups "
            f"its normalisation divides them: {ASK}"
        )
    return {
        "_class_name": "AutoencoderKL",
        "in_channels": colours[0],
        "out_channels": colours[1],
        "down_block_types": ["DownEncoderBlock2D"] * stages,
        "up_block_types": ["UpDecoderBlock2D"] * stages,
        "block_out_channels": widths,
        "layers_per_block": layers,
        "latent_channels": latent,
        "norm_num_groups": GROUPS,
        "mid_block_add_attention": any(name.startswith("encoder.mid_block.attentions.") for name in shapes),
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
    }


def _from_folder(folder: Path, shown: Path, config: Mapping[str, Json], variant: str | None) -> Any:
    """Load a folder in diffusers' own form; `shown` is what messages name."""
    import diffusers

    name = config.get("_class_name")
    kind = getattr(diffusers, str(name), None)
    if kind is None or not str(getattr(kind, "__module__", "")).startswith("diffusers.models.autoencoders"):
        raise UsageError(
            f"diffusers: {shown} holds a {name}, which is not an autoencoder class of diffusers {diffusers.__version__}"
            f"{suggested_folder(folder) if folder == shown else ''}"
        )
    logging = diffusers.utils.logging
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what it would remark on is refused below, or is a key of another version
    try:
        model, report = kind.from_pretrained(
            folder,
            variant=variant,
            use_safetensors=True,
            local_files_only=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except Exception as error:
        raise UsageError(f"diffusers: the weights in {shown} do not load as {name}: {first_line(error)}") from error
    finally:
        logging.set_verbosity(verbosity)
    faults = [f"{what} {', '.join(map(str, sorted(keys)[:3]))}" for what, keys in report.items() if keys]
    if faults:
        raise UsageError(f"diffusers: the weights in {shown} do not fit {name}: {'; '.join(faults)}")
    _check_finite(model, shown)
    return model.float().requires_grad_(False)


def _check_finite(model: Any, shown: Path) -> None:
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise UsageError(
                f"diffusers: the weights in {shown} are damaged: {bad} of the {tensor.numel()} values of {name} are "
                "not finite; fetch or train them again"
            )


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(file))
    except (OSError, SafetensorError, ValueError) as error:
        raise UsageError(f"diffusers: {file} is not a readable safetensors file: {first_line(error)}") from error


def _is_plain(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether tensors have diffusers' names, or no names that are known: not to be changed either way."""
    prefixed = any(name.startswith(PREFIXES) for name in tensors)
    return not prefixed and not any(name.startswith(("encoder.down.", "decoder.up.")) for name in tensors)


def _in_diffusers_layout(tensors: Mapping[str, Tensor], config: Mapping[str, Json], file: Path) -> dict[str, Tensor]:
    """Return an autoencoder's tensors by diffusers' names: prefixes removed, Stability's own layout converted."""
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    prefix = next((p for p in PREFIXES if any(name.startswith(f"{p}encoder.") for name in tensors)), "")
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    stages = len({name.split(".")[2] for name in own if name.startswith("encoder.down.")})
    if not stages:
        return own
    if config.get("_class_name", "AutoencoderKL") != "AutoencoderKL":
        raise UsageError(f"diffusers: {file} is an AutoencoderKL in its original layout, not a {config['_class_name']}")
    blocks = {"down_block_types": [""] * stages, "up_block_types": [""] * stages}
    converted: dict[str, Tensor] = convert_ldm_vae_checkpoint(own, {**blocks, **config})
    return converted
