"""Weights from the Hugging Face hub: out of its cache, or downloaded; a fault within seconds if it does not answer."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from latentdd_plugin.codecs.weight_files import SHARDS, WEIGHTS, WeightFiles, find_weights
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.hub import reachable

GATED = frozenset({"stabilityai/stable-diffusion-3-medium-diffusers", "black-forest-labs/FLUX.1-dev"})
FULL = ("config.json", WEIGHTS, SHARDS, WEIGHTS.replace(".", "-?????-of-?????."))
VARIANTS = ("config.json", "diffusion_pytorch_model.*.safetensors", f"{WEIGHTS}.index.*.json")


def hub_weights(
    repo: str, revision: str | None, subfolder: str | None, variant: str | None = None
) -> tuple[Path, WeightFiles]:
    """Return the snapshot's folder and the weights in it, downloaded if need be.

    Without a subfolder the repository of a pipeline gives its `vae`. Variants are fetched only if they are asked for,
    or if there is nothing else.

    Raises:
        UsageError: the hub is out of reach, refuses, or has no such weights; within seconds if there is no hub.
    """
    found = cached_weights(repo, revision, subfolder, variant)
    if found is not None:
        return found
    if (fault := unreachable(repo, revision, subfolder)) is not None:
        raise UsageError(fault)
    if not variant:
        folder = _downloaded(repo, revision, subfolder, FULL)
        with contextlib.suppress(UsageError):
            return folder, _inside(folder, subfolder, None)
    folder = _downloaded(repo, revision, subfolder, VARIANTS)
    return folder, _inside(folder, subfolder, variant)


def cached_weights(
    repo: str, revision: str | None, subfolder: str | None, variant: str | None = None
) -> tuple[Path, WeightFiles] | None:
    """Return the snapshot's folder and the weights in it if the hub's cache has them; nothing is downloaded."""
    from huggingface_hub import snapshot_download

    wanted = _patterns([*FULL, *VARIANTS], subfolder)
    with contextlib.suppress(OSError, ValueError, UsageError):  # not there, or not all of it
        cached = Path(snapshot_download(repo, revision=revision, allow_patterns=wanted, local_files_only=True))
        return cached, _inside(cached, subfolder, variant)
    return None


def unreachable(repo: str, revision: str | None, subfolder: str | None) -> str | None:
    """Return why weights that are not in the cache cannot be fetched; None if the hub answers."""
    from huggingface_hub import constants

    if reachable(constants.ENDPOINT):
        return None
    gate = " Its licence must be accepted on its page, with an account, first." if repo in GATED else ""
    return (
        f"{_named(repo, revision)} are not on this machine and {constants.ENDPOINT} does not answer. "
        f"{_advice(repo, subfolder)}.{gate}"
    )


def _downloaded(repo: str, revision: str | None, subfolder: str | None, names: Sequence[str]) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError

    name, advice = _named(repo, revision), _advice(repo, subfolder)
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=_patterns(names, subfolder)))
    except GatedRepoError as error:
        page = f"{constants.ENDPOINT}/{repo}"
        raise UsageError(f"{name} are gated: accept the licence on {page}, then `hf auth login`. {advice}") from error
    except (OSError, ValueError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UsageError(f"{name} cannot be downloaded: {first}. {advice}") from error


def _named(repo: str, revision: str | None) -> str:
    return f"diffusers: the weights of {repo} (revision {revision or 'main'})"


def _advice(repo: str, subfolder: str | None) -> str:
    inner = f"{subfolder}/" if subfolder else ""
    return (
        f"Where there is network, `hf download {repo} --include '{inner}*'` fetches it; then name the folder that "
        "holds config.json: codec.path=FOLDER"
    )


def _patterns(names: Sequence[str], subfolder: str | None) -> list[str]:
    if subfolder:
        return [f"{subfolder}/{name}" for name in names]
    return [*names, "model_index.json", *(f"vae/{name}" for name in names)]


def _inside(snapshot: Path, subfolder: str | None, variant: str | None) -> WeightFiles:
    return find_weights(snapshot / subfolder if subfolder else snapshot, None, variant)
