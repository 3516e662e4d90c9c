"""Import of other projects' sets as artifacts, and export of artifacts as other projects' files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError

from latentdd_plugin.artifacts import formats
from latentdd_plugin.artifacts.artifact import Artifact
from latentdd_plugin.artifacts.decode import allowed, decode_artifact, located
from latentdd_plugin.artifacts.file import ARTIFACT, load_artifact, save_artifact
from latentdd_plugin.artifacts.formats import values
from latentdd_plugin.artifacts.formats.base import ImportOptions
from latentdd_plugin.artifacts.formats.incoming import to_artifact
from latentdd_plugin.artifacts.formats.outgoing import from_artifact
from latentdd_plugin.core.config import DatasetConfig
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.storage import atomic_folder, write_fault
from latentdd_plugin.core.types import Json
from latentdd_plugin.data.load import load_dataset


def import_set(
    format_name: str,
    source: Path | str,
    out: Path | str,
    options: ImportOptions | None = None,
    *,
    dataset: DatasetConfig | None = None,
) -> Artifact:
    """Read another project's set and write it as `distilled.safetensors` into the folder `out`.

    Args:
        format_name: one of `formats.FORMATS`.
        source: the file or folder.
        out: a folder that does not exist, or is empty.
        options: the caller's statements about the set.
        dataset: the dataset it was distilled from, to be loaded; None leaves the artifact without one.

    Raises:
        UsageError: it cannot be read, or contradicts the options; nothing is written then.
    """
    reader, options, source = formats.get(format_name), options or ImportOptions(), Path(source)
    if options.experiment is not None and "experiment" not in reader.takes:
        raise UsageError(f"--experiment {options.experiment}: a file of {format_name} holds one set")
    if options.factor is not None and "factor" not in reader.takes:
        raise UsageError(f"--factor {options.factor}: only idc has a multi-formation factor")
    with _new_folder(Path(out)) as folder:
        external = reader.read(source, options)
        if dataset is not None:
            options = replace(options, dataset=load_dataset(dataset))
        made = to_artifact(external, options, source, format_name)
        save_artifact(made, folder / ARTIFACT)
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
    """Decode an artifact, write it as another project's files into the folder `out`, and return its value space's name.

    Args:
        format_name: one of `formats.FORMATS`.
        source: an artifact, or the folder of the run that made it.
        out: a folder that does not exist, or is empty.
        space: name of the value space; None if the format has one of its own, or the dataset decides it.
        dataset: the training images, which only ZCA needs.
        codec: name and options of the codec to decode with, as for `evaluate`.
        allow_plugins: distributions besides this package whose entries the artifact may name.

    Raises:
        UsageError: the format cannot hold this set, or the value space is not known; nothing is written then.
    """
    writer, stored = formats.get(format_name), load_artifact(located(Path(source))[0])
    if not writer.writable:
        raise UsageError(f"{format_name} can be imported only; export dc or mtt instead")
    own = writer.space_of(stored)
    if writer.out and space and space != writer.out:
        raise UsageError(f"{format_name} holds plain pixels (values={writer.out}), not {space}")
    wanted = values.find(space or own, f"the name of the dataset ({stored.header.dataset.name})")
    with _new_folder(Path(out)) as folder:
        images = decode_artifact(stored, codec or {}, allowed(allow_plugins), "cpu")[1]
        external = from_artifact(stored, images, wanted, load_dataset(dataset) if dataset else None)
        try:
            writer.write(external, folder)
        except (OSError, SafetensorError) as error:
            raise write_fault(out, error) from None
        except RuntimeError as error:
            if "PytorchStreamWriter" not in str(error):  # what torch.save makes of a full disk
                raise
            raise write_fault(out, error) from None
        except ValueError as error:
            raise UsageError(f"{format_name} cannot hold this set: {error}") from None
    return wanted.name


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """Yield a folder beside `out` that takes its place if the block ends without an error, and is removed otherwise."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already; choose another --out")
    above = next(path for path in out.absolute().parents if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write {out}: no permission to write in {above}; choose another --out")
    with atomic_folder(out) as made:
        yield made
