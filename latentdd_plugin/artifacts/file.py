"""Write and read an artifact as one `.safetensors` file, checking everything that an untrusted file may hold."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor

from latentdd_plugin.artifacts.artifact import Artifact
from latentdd_plugin.artifacts.header import SCHEMA, ArtifactHeader
from latentdd_plugin.artifacts.labels import StoredLabels
from latentdd_plugin.artifacts.packing import Packed
from latentdd_plugin.artifacts.token_coding import fixed_bytes
from latentdd_plugin.artifacts.trained_decoder import PREFIX, read_decoder
from latentdd_plugin.core.errors import ArtifactError
from latentdd_plugin.core.storage import atomic_write
from latentdd_plugin.core.types import CODED, PRECISIONS, TOKENS, Json, canonical_json
from latentdd_plugin.core.untrusted import no_key_twice, refuse_irregular
from latentdd_plugin.nn.views import VIEW_BYTES, Views

ARTIFACT = "distilled.safetensors"  # its name in a folder
KEY = "dd-bench"
KNOWN = ("codes", "codes.scale", "labels", "labels.soft", "labels.views", "lr")
CODEC = "codec."  # prefix of the tensors of a fitted codec
LARGEST_VALUE = 1e6  # of a code in deviations, and of a channel's mean and deviation
LARGEST_STEP = 1e30  # of an entropy-coded channel
LONGEST = 100_000_000  # bytes of a header, as safetensors has it


def save_artifact(artifact: Artifact, path: Path) -> str:
    """Write the file, all or nothing, and return its sha256. The same artifact gives the same bytes."""
    tensors = _tensors(artifact)
    fields = artifact.header.sealed(None).to_json()
    header = {**fields, "content_sha256": _content_hash(fields, tensors)}
    with atomic_write(path) as temporary:
        temporary.write_bytes(serialised(tensors, metadata={KEY: canonical_json(header)}))
    return file_sha256(path)


def load_artifact(path: Path | str) -> Artifact:
    """Read and check an artifact.

    Raises:
        ArtifactError: not such a file, another schema, a wrong shape or type, or content that does not match its hash.
    """
    path = Path(path)
    try:
        _check_frame(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no such file") from None
    except (SafetensorError, OSError, ValueError, RecursionError, AttributeError) as error:
        raise ArtifactError(f"{path}: not a readable safetensors file ({error})") from None
    text = metadata.get(KEY, "")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise ArtifactError(f"{path}: no `{KEY}` header; this is not an artifact of this package") from None
    try:
        if list(metadata) != [KEY] or canonical_json(header) != text:
            raise ArtifactError("its header is not as it was written: the file was changed or damaged")
        return _checked(header, tensors)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise ArtifactError(f"{path}: malformed header ({type(error).__name__}: {error})") from None


def _check_frame(path: Path) -> None:
    """Raise ValueError if the header is longer than the file, names a tensor twice, or is followed by more."""
    refuse_irregular(path)
    with path.open("rb") as handle:
        size = int.from_bytes(handle.read(8), "little")
        if size > min(LONGEST, path.stat().st_size - 8):
            raise ValueError(f"its header claims {size} bytes")
        text = handle.read(size).rstrip(b" ")  # the padding of safetensors
    json.loads(text, object_pairs_hook=no_key_twice)
    if not text.endswith(b"}"):
        raise ValueError("something follows its header")


def file_sha256(path: Path) -> str:
    """Return the sha256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _tensors(artifact: Artifact) -> dict[str, Tensor]:
    tensors = {"codes": artifact.packed.data, "labels": artifact.labels}
    if artifact.packed.scale is not None:
        tensors["codes.scale"] = artifact.packed.scale
    if artifact.lr is not None:
        tensors["lr"] = torch.tensor([artifact.lr], dtype=torch.float32)
    if artifact.soft is not None:
        tensors["labels.soft"] = artifact.soft.data
        if artifact.soft.views is not None:
            tensors["labels.views"] = artifact.soft.views
    if artifact.trained is not None:
        tensors |= artifact.trained.stored()
    tensors |= {CODEC + name: tensor for name, tensor in artifact.codec_state.items()}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _content_hash(fields: Mapping[str, Json], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(canonical_json(dict(fields)).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def _checked(header: Mapping[str, Json], tensors: dict[str, Tensor]) -> Artifact:
    if header.get("schema") != SCHEMA:
        raise ArtifactError(f"schema {header.get('schema')!r}; this version reads {SCHEMA!r}")
    fields = {k: v for k, v in header.items() if k != "content_sha256"}
    if _content_hash(fields, tensors) != header.get("content_sha256"):
        raise ArtifactError("content does not match its hash: the file was changed or damaged")
    unknown = [n for n in tensors if n not in KNOWN and not n.startswith((CODEC, PREFIX))]
    if unknown or not {"codes", "labels"} <= set(tensors):
        raise ArtifactError(f"tensors {sorted(tensors)}: codes and labels are needed, nothing unknown allowed")
    try:
        known = ArtifactHeader.from_json(header)
    except ArtifactError as error:
        raise ArtifactError([f"malformed header: {fault}" for fault in error.faults]) from None
    m, c, h, w = known.codes_shape
    packed = Packed(tensors["codes"], tensors.get("codes.scale"), known.precision, (m, c, h, w), known.tokens)
    _check_codes(packed)
    _check_labels(tensors["labels"], known.label_kind, m, len(known.classes))
    if len(known.space.mean) != c or len(known.space.std) != c:
        raise ArtifactError(f"malformed header: space: mean and std of {c} channels are needed")
    if packed.tokens is not None and (any(known.space.mean) or set(known.space.std) != {1}):
        raise ArtifactError("space: tokens are not standardised, their mean must be 0 and their std 1")
    if any(abs(value) > LARGEST_VALUE for value in (*known.space.mean, *known.space.std)):
        raise ArtifactError(f"space: a mean or std above {LARGEST_VALUE:g} decodes to images that are not finite")
    lr, state = tensors.get("lr"), {n.removeprefix(CODEC): t for n, t in tensors.items() if n.startswith(CODEC)}
    if lr is not None and (tuple(lr.shape) != (1,) or lr.dtype != torch.float32):
        raise ArtifactError(f"lr is {lr.dtype} {tuple(lr.shape)}; float32 (1,) is needed")
    broken = [n for n in ("lr", *(CODEC + n for n in state)) if n in tensors and not _finite(tensors[n])]
    if broken:
        raise ArtifactError(f"{', '.join(broken)} holds values that are not finite")
    soft, trained = _checked_soft(known, tensors, m), read_decoder(known.decoder, tensors)
    return Artifact(packed, tensors["labels"], None if lr is None else float(lr[0]), state, known, soft, trained)


def _checked_soft(header: ArtifactHeader, tensors: Mapping[str, Tensor], m: int) -> StoredLabels | None:
    """Return a teacher's stored labels; ArtifactError if header and tensors do not belong together."""
    form, data, views = header.labels, tensors.get("labels.soft"), tensors.get("labels.views")
    stored, seen = form is not None and form.regime != "teacher", form is not None and form.regime == "views"
    regime = form.regime if form is not None else "hard"
    for name, wanted in {"labels.soft": stored, "labels.views": seen}.items():
        if (name in tensors) != wanted:
            raise ArtifactError(
                f"{name}: it {'is missing, but belongs' if wanted else 'does not belong'} to {regime} labels"
            )
    if form is None or data is None:
        return None
    if form.precision is None or (form.views is not None) != seen or header.label_kind != "hard":
        raise ArtifactError(f"labels: {form.regime} needs precision, class numbers, and views only if it is `views`")
    if seen and (views is None or views.dtype != torch.uint8 or tuple(views.shape) != (m, form.views, VIEW_BYTES)):
        raise ArtifactError(f"labels.views: uint8 {(m, form.views, VIEW_BYTES)} is needed")
    found = StoredLabels(form, data, views)
    found.log_probabilities(m, len(header.classes))
    if views is not None and int(Views.from_bytes(views).partner.max()) >= m:
        raise ArtifactError("labels.views: a view is mixed with a sample that does not exist")
    return found


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _moderate(tensor: Tensor) -> bool:
    """Return whether all values are finite and small enough to be standardised and decoded in float32."""
    return not tensor.numel() or bool((tensor.abs() <= LARGEST_VALUE).all())


def _check_codes(packed: Packed) -> None:
    if packed.tokens is not None or packed.precision == TOKENS:
        _check_tokens(packed)
        return
    if packed.precision == CODED:
        _check_coded(packed)
        return
    bits = PRECISIONS[packed.precision]
    if bits >= 16:
        dtype: torch.dtype = torch.float32 if bits == 32 else torch.float16
        shape: tuple[int, ...] = packed.shape
    else:
        dtype, shape = torch.uint8, (math.ceil(math.prod(packed.shape) * bits / 8),)
        scale = packed.scale
        if scale is None or scale.dtype != torch.float32 or tuple(scale.shape) != (2, packed.shape[1]):
            raise ArtifactError("codes.scale: float32 (2, channels) is needed with integer codes")
        if not _moderate(scale):
            raise ArtifactError(f"codes.scale holds values that are not finite or above {LARGEST_VALUE:g}")
    if packed.data.dtype != dtype or tuple(packed.data.shape) != tuple(shape):
        raise ArtifactError(
            f"codes are {packed.data.dtype} {tuple(packed.data.shape)}; {packed.precision} of {packed.shape} "
            f"needs {dtype} {tuple(shape)}"
        )
    if bits >= 16 and not _moderate(packed.data):
        raise ArtifactError(f"codes hold values that are not finite or above {LARGEST_VALUE:g}")


def _check_coded(packed: Packed) -> None:
    """Raise ArtifactError if an entropy-coded stream or its steps are not of the right form; decoding does the rest."""
    steps, data = packed.scale, packed.data
    if steps is None or steps.dtype != torch.float32 or tuple(steps.shape) != (1, packed.shape[1]):
        raise ArtifactError("codes.scale: float32 (1, channels) is needed with coded codes")
    if not _finite(steps) or float(steps.min()) <= 0 or float(steps.max()) > LARGEST_STEP:
        raise ArtifactError("codes.scale: every step must be a finite number above 0")
    if data.dtype != torch.uint8 or data.ndim != 1:
        raise ArtifactError(f"codes are {data.dtype} {tuple(data.shape)}; coded codes are uint8 (bytes,)")


def _check_tokens(packed: Packed) -> None:
    """Raise ArtifactError if tokens are not of the right form; decoding finds those that do not exist."""
    if packed.tokens is None:
        raise ArtifactError("precision `tokens` needs `tokens`, the size of the codebook")
    if packed.precision not in (TOKENS, CODED):
        raise ArtifactError(f"tokens are stored as `tokens` or `coded`, not as {packed.precision}")
    if packed.scale is not None:
        raise ArtifactError("codes.scale does not belong to tokens")
    fixed, data = fixed_bytes(math.prod(packed.shape), packed.tokens), packed.data
    wanted = f"({fixed},)" if packed.precision == TOKENS else f"(at most {fixed},)"
    if data.dtype != torch.uint8 or data.ndim != 1 or not 0 < len(data) <= fixed:
        raise ArtifactError(f"codes are {data.dtype} {tuple(data.shape)}; tokens of {packed.shape} need uint8 {wanted}")
    if packed.precision == TOKENS and len(data) != fixed:
        raise ArtifactError(f"codes are {len(data):,} bytes; {packed.shape} tokens of this codebook take {fixed:,}")


def _check_labels(labels: Tensor, kind: str, m: int, classes: int) -> None:
    dtype, shape = (torch.int64, (m,)) if kind == "hard" else (torch.float32, (m, classes))
    if labels.dtype != dtype or tuple(labels.shape) != shape:
        raise ArtifactError(f"labels are {labels.dtype} {tuple(labels.shape)}; {kind} labels need {dtype} {shape}")
    if kind == "hard" and not bool(((labels >= 0) & (labels < classes)).all()):
        raise ArtifactError(f"labels outside 0 … {classes - 1}")
    if kind != "hard" and not _finite(labels):
        raise ArtifactError("labels hold values that are not finite")
