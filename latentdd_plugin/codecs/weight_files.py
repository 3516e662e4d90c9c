"""Find the weights of an autoencoder in what people have: a model's folder, a pipeline's, one file, or a variant.

Nothing is loaded here. Pickled files are refused with the command that converts them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import Json

WEIGHTS = "diffusion_pytorch_model.safetensors"
SHARDS = f"{WEIGHTS}.index.json"
PREFERRED = ("fp32", "fp16", "bf16")  # of several variants the first that is there: fp16 keeps more digits than bf16
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
AUTOENCODERS = ("Autoencoder", "AsymmetricAutoencoder", "VQModel", "ConsistencyDecoderVAE", "TemporalDecoder")
VARIANT = re.compile(
    r"diffusion_pytorch_model\.(?:safetensors\.index\.(?P<shards>[\w-]+)\.json|(?P<file>[\w-]+)\.safetensors)"
)
LFS = b"version https://git-lfs"


@dataclass(frozen=True)
class WeightFiles:
    """The files of one autoencoder, as they were found."""

    folder: Path  # where they lie
    files: tuple[Path, ...]  # one .safetensors file, or the shards of one model
    config: Mapping[str, Json] | None  # the model's config.json; None for a single file without one
    variant: str | None = None  # "fp16" for diffusion_pytorch_model.fp16.safetensors
    subfolder: str | None = None  # the part of a pipeline that was taken without being asked for
    single: bool = False  # one file of any name, not a folder in diffusers' own form

    @property
    def sha256(self) -> str:
        """sha256 (hex) of the file; of several, of their digests, one per line."""
        digests = [_sha256(file) for file in self.files]
        return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def find_weights(
    path: Path, subfolder: str | None = None, variant: str | None = None, model_config: Path | None = None
) -> WeightFiles:
    """Find the autoencoder's weights at a path.

    Args:
        path: a model's folder, a pipeline's folder, or one .safetensors file.
        subfolder: folder inside `path`, used if `path` itself has no config.json.
        variant: which of several variants to take, "fp16" for example; None prefers full precision.
        model_config: config.json of a single file, or the folder that holds it.

    Raises:
        UsageError: there are no weights that can be loaded; the message says what was looked for and what to do.
    """
    path = path.expanduser()
    if path.is_file():
        return _single_file(path, model_config)
    for folder in [path, path / subfolder] if subfolder else [path]:
        if (folder / "config.json").is_file():
            return _in_folder(folder, variant, model_config)
    inner = None if subfolder else _autoencoder_of(path)
    if inner:
        return _in_folder(path / inner, variant, model_config, inner)
    alone = sorted(path.glob("*.safetensors")) if path.is_dir() else []
    if len(alone) == 1:
        return _single_file(alone[0], model_config)
    looked = " or ".join(f"{folder}/config.json" for folder in ([path, path / subfolder] if subfolder else [path]))
    raise UsageError(
        f"diffusers: codec.path={path} is not a diffusers model folder: there is no {looked}{_found(path)}"
    )


def read_config(path: Path) -> Mapping[str, Json]:
    """Return the mapping in a config.json, or in the config.json of a folder; UsageError if it cannot be read."""
    path = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"diffusers: {path} cannot be read: {error}") from error
    return config if isinstance(config, dict) else {}


def is_autoencoder(config: Mapping[str, Json]) -> bool:
    """Return whether a configuration names a class of autoencoders."""
    return str(config.get("_class_name", "")).startswith(AUTOENCODERS)


def conversion(path: Path) -> str:
    """Return the command that converts a pickled file without executing what it holds."""
    return f"dd-bench codec convert {path} --out FOLDER"


def suggested_folder(folder: Path) -> str:
    """Return `; did you mean codec.path=…?` if an autoencoder lies inside the folder or beside it, else nothing."""
    near = [p for p in (*_folders(folder), *_folders(folder.parent)) if p != folder]
    for candidate in sorted(near, key=lambda p: p.name != "vae"):
        if (candidate / "config.json").is_file():
            try:
                if is_autoencoder(read_config(candidate)):
                    return f"; did you mean codec.path={candidate}?"
            except UsageError:
                continue
    return ""


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []


def _autoencoder_of(pipeline: Path) -> str | None:
    """Return the name of a pipeline's folder that holds its autoencoder."""
    parts: Mapping[str, Json] = {}
    if (pipeline / "model_index.json").is_file():
        parts = read_config(pipeline / "model_index.json")
    named = [
        n for n, v in parts.items() if isinstance(v, list) and len(v) == 2 and is_autoencoder({"_class_name": v[1]})
    ]
    there = [name for name in dict.fromkeys(["vae", *named]) if (pipeline / name / "config.json").is_file()]
    return there[0] if there else None


def _in_folder(
    folder: Path, variant: str | None, model_config: Path | None, subfolder: str | None = None
) -> WeightFiles:
    """Return the weights of a folder that has a config.json, whatever their names."""
    config = read_config(model_config or folder)
    if not is_autoencoder(config):
        raise UsageError(
            f"diffusers: {folder} holds a {config.get('_class_name')}, which is not an autoencoder class of diffusers"
            f"{suggested_folder(folder)}"
        )
    chosen = _chosen_variant(folder, variant)
    files = _standard_files(folder, chosen)
    if files:
        return WeightFiles(folder, files, config, chosen, subfolder)
    alone = sorted(folder.glob("*.safetensors"))
    if len(alone) == 1 and variant is None:
        _refuse_pointers(alone)
        return WeightFiles(folder, (alone[0],), config, None, subfolder, single=True)
    raise UsageError(f"diffusers: {folder} has a config.json but no {WEIGHTS}{_found(folder)}")


def _chosen_variant(folder: Path, wanted: str | None) -> str | None:
    """Return the variant to load: the one asked for, None for full precision, else the one that is there."""
    there = {m["shards"] or m["file"] for path in folder.iterdir() if (m := VARIANT.fullmatch(path.name))}
    if wanted is not None:
        if wanted not in there:
            raise UsageError(
                f"diffusers: codec.variant={wanted}: {folder} has {', '.join(sorted(there)) or 'no variants'}"
            )
        return wanted
    if (folder / WEIGHTS).is_file() or (folder / SHARDS).is_file() or not there:
        return None
    for name in (*PREFERRED, *there):
        if name in there and (name in PREFERRED or len(there) == 1):
            return name
    raise UsageError(
        f"diffusers: {folder} has the variants {', '.join(sorted(there))}; choose one with codec.variant=…"
    )


def _standard_files(folder: Path, variant: str | None) -> tuple[Path, ...]:
    """Return the files that diffusers saves a model as, in full precision or as a variant."""
    one = folder / (WEIGHTS if variant is None else WEIGHTS.replace(".safetensors", f".{variant}.safetensors"))
    if one.is_file():
        _refuse_pointers([one])
        return (one,)
    index = folder / (SHARDS if variant is None else SHARDS.replace(".index.", f".index.{variant}."))
    if not index.is_file():
        return ()
    try:
        names = sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"diffusers: {index} cannot be read: {error}") from error
    shards = [folder / name for name in names]
    outside = [name for name in names if Path(name).name != name]
    missing = [shard.name for shard in shards if not shard.is_file()]
    if outside or missing or not names:
        raise UsageError(
            f"diffusers: {index} names {len(names)} files, of which {', '.join(outside or missing) or 'none'} "
            f"{'lie outside the folder' if outside else 'are missing'}; fetch all of them"
        )
    _refuse_pointers(shards)
    return tuple(shards)


def _single_file(file: Path, model_config: Path | None) -> WeightFiles:
    if file.suffix in PICKLED:
        raise UsageError(
            f"diffusers: {file} is a pickled file, which is never loaded; `{conversion(file)}` makes a .safetensors of "
            "it without executing anything"
        )
    if file.suffix != ".safetensors":
        raise UsageError(
            f"diffusers: codec.path={file} is not a .safetensors file; name such a file, or a model's folder"
        )
    _refuse_pointers([file])
    beside = model_config or (file.parent if (file.parent / "config.json").is_file() else None)
    config = read_config(beside) if beside else None
    if config is not None and not is_autoencoder(config):
        if model_config:
            raise UsageError(
                f"diffusers: codec.model_config={model_config} is of a {config.get('_class_name')}, which is not an "
                "autoencoder class of diffusers"
            )
        config = None  # the config.json of something else that lies in the same folder
    return WeightFiles(file.parent, (file,), config, single=True)


def _found(folder: Path) -> str:
    """Return what lies in a folder instead of weights, and what to do about it, for an error message."""
    if not folder.is_dir():
        return ""
    names = sorted(path.name for path in folder.iterdir())
    pickled = [name for name in names if Path(name).suffix in PICKLED]
    found = f" (found {', '.join(names[:12]) or 'nothing'}{', …' if len(names) > 12 else ''})"
    if pickled:
        return (
            f"{found}; pickled files are never loaded: `{conversion(folder / pickled[0])}` makes a .safetensors of it "
            "without executing anything"
        )
    several = [name for name in names if name.endswith(".safetensors")]
    if len(several) > 1:
        return f"{found}; name one of the files: codec.path={folder / several[0]}"
    return f"{found}{suggested_folder(folder)}"


def _refuse_pointers(files: Iterable[Path]) -> None:
    for file in files:
        with file.open("rb") as stream:
            if stream.read(len(LFS)) == LFS:
                raise UsageError(f"diffusers: {file} is a git-lfs pointer, not the weights: run `git lfs pull` there")


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()
