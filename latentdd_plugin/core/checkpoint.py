"""Files that the package writes for itself: nested values with tensors, checksummed and bound to what they belong to.

A file is a safetensors file, or plain JSON if no tensor is needed. Its header holds the schema, the *owner* (everything
that decides the content: configuration, data, code, arithmetic, versions), the sha256 of every tensor, and a sha256
over all of that. A file that is damaged or has another owner is never used: the reader gets None, and the log says that
it is made anew. The checksum finds damage and mix-ups; it does not prove who wrote the file.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentdd_plugin.core.storage import atomic_write
from latentdd_plugin.core.types import Json, canonical_json, hash_json

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

SCHEMA = "dd-bench/checkpoint.v1"
KEY = "dd-bench"
LARGEST_JSON = 100_000_000  # bytes
PLACEHOLDER = "none"  # an empty tensor, because safetensors before 0.4.4 reads no file without one
PLAIN = (str, int, float, bool, type(None))


class Damaged(ValueError):
    """A file that is not as it was written."""


@dataclass(frozen=True)
class Stored:
    """The content of a file, and what it belongs to."""

    owner: Mapping[str, Json]
    content: Any
    sha256: Mapping[str, str]  # of each tensor's bytes, by its name in the file


def write(path: Path, content: Any, owner: Mapping[str, Json]) -> None:
    """Write nested dicts, lists and tuples of tensors, texts, numbers and None, all or nothing.

    Raises:
        TypeError: the content holds something else.
        RunFailed: the file cannot be written.
    """
    import torch
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    encoded = _encode(content, tensors)
    if not tensors:
        tensors[PLACEHOLDER] = torch.empty(0)
    data = save(tensors, metadata={KEY: canonical_json(_header(encoded, owner, tensors))})
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], owner: Mapping[str, Json]) -> None:
    """Write named tensors, all or nothing; any of them can be read alone with `safe_open`."""
    from safetensors.torch import save_file

    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    encoded = {"dict": [[name, {"tensor": name}] for name in held]}
    metadata = {KEY: canonical_json(_header(encoded, owner, held))}
    with atomic_write(path) as temporary:
        save_file(held, temporary, metadata=metadata)


def write_json(path: Path, content: Json, owner: Mapping[str, Json]) -> None:
    """Write a JSON value, all or nothing."""
    text = canonical_json(_header(content, owner, {}))
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read(path: Path, owner: Mapping[str, Json]) -> Stored | None:
    """Read what `write` or `write_tensors` wrote for this owner.

    Returns:
        None if the file is missing, damaged or of another owner; the last two are logged.
    """
    return _owned(load(path), path, owner)


def read_json(path: Path, owner: Mapping[str, Json]) -> Stored | None:
    """Read what `write_json` wrote for this owner; None as `read` returns it."""

    def stored() -> Stored:
        if path.stat().st_size > LARGEST_JSON:
            raise Damaged("it is far too large")
        header = _checked_header(path.read_text(encoding="utf-8"))
        return Stored(header["owner"], header["content"], {})

    return _owned(_guarded(stored, path), path, owner)


def load(path: Path) -> Stored | None:
    """Read a file of any owner; None if it is missing or damaged, which is logged."""

    def stored() -> Stored:
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            header = _checked_header((file.metadata() or {}).get(KEY, ""))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        if _describe(tensors) != header["tensors"]:
            raise Damaged("a tensor does not match its checksum")
        sha256 = {name: entry["sha256"] for name, entry in header["tensors"].items()}
        return Stored(header["owner"], _decode(header["content"], tensors), sha256)

    return _guarded(stored, path)


def differing_keys(owner: Mapping[str, Json], wanted: Mapping[str, Json]) -> list[str]:
    """Return the keys in which two owners differ."""
    plain = json.loads(canonical_json(dict(wanted)))
    return sorted(key for key in {*owner, *plain} if owner.get(key) != plain.get(key))


def _owned(stored: Stored | None, path: Path, owner: Mapping[str, Json]) -> Stored | None:
    if stored is None:
        return None
    keys = differing_keys(stored.owner, owner)
    if keys:
        log.warning("%s was made with another %s and is made anew", path, ", ".join(keys))
        return None
    return stored


def _guarded(read_file: Callable[[], Stored], path: Path) -> Stored | None:
    """Call a reader; a missing file is None, and so is one that the reader cannot make sense of, which is logged."""
    from safetensors import SafetensorError

    if not path.exists():
        return None
    try:
        if not path.is_file():
            raise Damaged("it is not a file")
        return read_file()
    except (
        *(Damaged, SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, IndexError),
        *(RecursionError, OverflowError, RuntimeError),
    ) as error:
        log.warning("%s is damaged (%s) and is made anew", path, " ".join(str(error).split())[:200])
        return None


# --- the header -------------------------------------------------------------------------------------------------------


def _header(content: Json, owner: Mapping[str, Json], tensors: Mapping[str, Tensor]) -> dict[str, Json]:
    header = {"schema": SCHEMA, "owner": dict(owner), "content": content, "tensors": _describe(tensors)}
    return {**header, "sha256": hash_json(header)}


def _checked_header(text: str) -> dict[str, Json]:
    header = json.loads(text)
    if not isinstance(header, dict) or header.get("schema") != SCHEMA:
        raise Damaged(f"not of schema {SCHEMA!r}")
    if hash_json({key: value for key, value in header.items() if key != "sha256"}) != header.get("sha256"):
        raise Damaged("its header does not match its checksum")
    return header


def _describe(tensors: Mapping[str, Tensor]) -> dict[str, Json]:
    return {
        name: {"dtype": str(tensor.dtype), "shape": list(tensor.shape), "sha256": sha256_of(tensor)}
        for name, tensor in tensors.items()
    }


def sha256_of(tensor: Tensor) -> str:
    """Return the sha256 (hex) of a tensor's bytes, in row-major order."""
    import torch

    if not tensor.numel():
        return hashlib.sha256(b"").hexdigest()
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).hexdigest()


# --- nested values ----------------------------------------------------------------------------------------------------


def round_trip(value: Any) -> Any:
    """Return a copy of a value as it comes back from a file; TypeError if a file cannot hold it."""
    tensors: dict[str, Tensor] = {}
    return _decode(json.loads(canonical_json(_encode(value, tensors))), tensors)


def _encode(value: Any, tensors: dict[str, Tensor]) -> Json:
    """Turn a value into JSON that keeps tuples and keys of any plain type; tensors go into `tensors`."""
    import torch

    if isinstance(value, torch.Tensor):
        last = value.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last)
        name = f"{len(tensors):05d}"
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name, "channels_last": True} if last and not value.is_contiguous() else {"tensor": name}
    if isinstance(value, Mapping):
        return {"dict": [[_key(key), _encode(member, tensors)] for key, member in value.items()]}
    if isinstance(value, list | tuple):
        members = [_encode(member, tensors) for member in value]
        return {"tuple": members} if isinstance(value, tuple) else members
    if isinstance(value, float):
        return {"float": float(value).hex()}  # exact, and infinite ones too
    if isinstance(value, PLAIN):
        return value
    raise TypeError(f"a checkpoint holds tensors, texts, numbers, None, dicts, lists and tuples, not {type(value)}")


def _key(key: Any) -> Json:
    if type(key) not in (str, int):
        raise TypeError(f"a checkpoint's keys are texts or whole numbers, not {type(key)}")
    return key


def _decode(value: Json, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(member, tensors) for member in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return _laid_out(tensors[value["tensor"]], last=bool(value.get("channels_last")))
    if "dict" in value:
        return {key: _decode(member, tensors) for key, member in value["dict"]}
    if "tuple" in value:
        return tuple(_decode(member, tensors) for member in value["tuple"])
    return float.fromhex(value["float"])


def _laid_out(tensor: Tensor, *, last: bool) -> Tensor:
    """Return the tensor in the memory format it had: kernels may round differently in another."""
    import torch

    return tensor.contiguous(memory_format=torch.channels_last) if last else tensor
