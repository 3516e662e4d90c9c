"""Find an artifact and decode it, taking only the codecs that the caller allows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from torch import Tensor

from latentdd_plugin.artifacts.artifact import Artifact
from latentdd_plugin.core import plugins
from latentdd_plugin.core.types import Json, canonical_json
from latentdd_plugin.core.untrusted import parse_yaml, read_text
from latentdd_plugin.latent.sized_codec import SizedCodec, build_codec
from latentdd_plugin.latent.space import CodeSpace


def allowed(plugins_too: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the distributions whose entries an artifact may name: this package, and those that the caller allows."""
    return (plugins.OURS, *(re.sub(r"[-_.]+", "-", name).lower() for name in plugins_too))


def located(source: Path, *, alone: bool = False) -> tuple[Path, Mapping[str, Json]]:
    """Return the artifact's file, and the configuration of the run it lies in.

    Args:
        source: the file, or the folder of its run.
        alone: read nothing beside the file; the configuration is then empty, as if there were none.
    """
    path = source / "distilled.safetensors" if source.is_dir() else source
    if alone:
        return path, {}
    try:
        beside = parse_yaml(read_text(path.parent / "config.yaml"))
        canonical_json(beside)
    except (OSError, yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError):
        beside = None  # not required: the caller can give its options
    return path, beside if isinstance(beside, Mapping) else {}


def decode_artifact(
    stored: Artifact, spec: Mapping[str, Json], distributions: Sequence[str], device: str
) -> tuple[CodeSpace, Tensor]:
    """Return the artifact's code space on the device, and its images (M, C, H, W) in [0, 1] units, not clamped."""
    named, codec = stored.header.codec, None
    resolving = {} if "name" in spec else {"installed_only": True, "distributions": tuple(distributions)}
    if spec:
        options = {**named.config, "name": named.name, "upsample": named.upsample, **spec}
        codec = build_codec(options, stored.header.image_shape, **resolving)
    space = _moved(stored.space(codec, **resolving), device)
    with torch.no_grad():
        return space, space.decode(stored.codes.to(device), stored.class_numbers)


def _moved(space: CodeSpace, device: str) -> CodeSpace:
    codec: SizedCodec = space.codec.to(device)
    return replace(space, codec=codec, mean=space.mean.to(device), std=space.std.to(device))
