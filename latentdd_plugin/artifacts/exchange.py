"""The two ways over a bridge, whole: a foreign path to a folder with an artifact, an artifact to a foreign folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from latentdd_plugin.artifacts import formats
from latentdd_plugin.artifacts.artifact import Artifact
from latentdd_plugin.artifacts.decode import allowed, decode_artifact, located
from latentdd_plugin.artifacts.file import load_artifact, save_artifact
from latentdd_plugin.artifacts.formats import values
from latentdd_plugin.artifacts.formats.base import FILE, Told, from_artifact, to_artifact
from latentdd_plugin.core.config import DatasetConfig
from latentdd_plugin.core.errors import RunFailed, UsageError
from latentdd_plugin.core.types import Json
from latentdd_plugin.data.load import load_dataset


def import_set(
    format_name: str,
    source: Path | str,
    out: Path | str,
    told: Told | None = None,
    *,
    dataset: DatasetConfig | None = None,
    experiment: int | None = None,
) -> Artifact:
    """Read another project's set and leave it as `distilled.safetensors` in the folder `out`.

    Args:
        format_name: one of `bridges.FORMATS`.
        source: the file or folder.
        out: a folder that does not exist, or is empty.
        told: what the caller says of the set.
        dataset: the data set it was distilled from, to be loaded; None leaves the artifact without one.
        experiment: which of several sets in one file.

    Raises:
        UsageError: it cannot be read, or is not what was said of it; nothing is written then.
    """
    bridge, told, source = formats.get(format_name), told or Told(), Path(source)
    if experiment is not None and not bridge.several:
        raise UsageError(f"--experiment {experiment}: a file of {format_name} holds one set")
    with _new_folder(Path(out)) as folder:
        foreign = bridge.read(source, experiment)
        if dataset is not None:
            told = replace(told, dataset=load_dataset(dataset))
        made = to_artifact(foreign, told, source, format_name)
        save_artifact(made, folder / FILE)
    return made


def export_set(
    format_name: str,
    source: Path | str,
    out: Path | str,
    *,
    space: str | None = None,
    dataset: DatasetConfig | None = None,
    codec: Mapping[str, Json] | None = None,
    allow_plugins: Sequence[str] = (),
) -> str:
    """Decode an artifact and write it as another project's files into the folder `out`; the name of its value space.

    Args:
        format_name: one of `bridges.FORMATS`.
        source: an artifact, or the folder of the run that made it.
        out: a folder that does not exist, or is empty.
        space: name of the value space; None where the format has one of its own, or the data set settles it.
        dataset: the training images; ZCA alone needs them.
        codec: the caller's word on the codec, as for `evaluate`.
        allow_plugins: distributions, beside this package, whose entries the artifact may name.

    Raises:
        UsageError: the format cannot hold this set, or the value space is not known; nothing is written then.
    """
    bridge, stored = formats.get(format_name), load_artifact(located(Path(source))[0])
    if not bridge.writable:
        raise UsageError(f"{format_name} can be imported only; export dc or mtt instead")
    own = bridge.space_of(stored)
    if bridge.out and space and space != bridge.out:
        raise UsageError(f"{format_name} holds plain pixels (values={bridge.out}), not {space}")
    wanted = values.find(space or own, f"the name of the data set ({stored.header.dataset.name})")
    with _new_folder(Path(out)) as folder:
        images = decode_artifact(stored, codec or {}, allowed(allow_plugins), "cpu")[1]
        foreign = from_artifact(stored, images, wanted, load_dataset(dataset) if dataset else None)
        try:
            bridge.write(foreign, folder)
        except OSError as error:
            raise RunFailed(f"cannot write {out}: {error}") from None
        except ValueError as error:
            raise UsageError(f"{format_name} cannot hold this set: {error}") from None
    return wanted.name


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place when the block ends without an error, and is gone otherwise."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already; choose another --out")
    above = next(path for path in out.absolute().parents if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write {out}: no permission to write in {above}; choose another --out")
    with tempfile.TemporaryDirectory(dir=above, prefix=f".{out.name}.") as holding:
        made = Path(holding) / out.name
        made.mkdir()
        yield made
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            made.rename(out)
        except OSError as error:
            raise RunFailed(f"cannot write {out}: {error}") from None
