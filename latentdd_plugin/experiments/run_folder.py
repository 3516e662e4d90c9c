"""The folder of a run: its lock, its finished record, and what lets an interrupted run continue."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, overload

import yaml

from latentdd_plugin.artifacts.file import ARTIFACT, file_sha256
from latentdd_plugin.core import checkpoint
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.monitor import Clock
from latentdd_plugin.core.processes import group
from latentdd_plugin.core.storage import atomic_write, locked, remove_stale
from latentdd_plugin.core.types import Json, SyntheticSet, hash_json
from latentdd_plugin.core.untrusted import parse_yaml, read_text
from latentdd_plugin.core.version import __version__
from latentdd_plugin.distillers.services import Checkpoint
from latentdd_plugin.evaluators.scoring import ScoreFile
from latentdd_plugin.results.record import Record
from latentdd_plugin.results.record_file import RecordFile

log = logging.getLogger(__name__)

F = TypeVar("F", bound=RecordFile)

SAVE_EVERY_S = 20.0  # seconds between checkpoints; they change nothing in the numbers
CONFIG, CHECKSUMS = "config.yaml", "checksums.json"
WEIGHTS = ("diffusion_pytorch_model.safetensors", "config.json")  # of a trained codec


def differing(a: Mapping[str, Json], b: Mapping[str, Json], prefix: str = "") -> list[str]:
    """Return `key: x there, y asked for` for every key in which two nested mappings differ."""
    found = []
    for key in sorted({*a, *b}, key=str):
        x, y = a.get(key), b.get(key)
        if isinstance(x, Mapping) and isinstance(y, Mapping):
            found += differing(x, y, f"{prefix}{key}.")
        elif x != y:
            found.append(f"{prefix}{key}: {json.dumps(x, default=str)} there, {json.dumps(y)} asked for")
    return found


class Described(Protocol):
    """The configuration that a folder can belong to."""

    def to_json(self) -> dict[str, Json]:
        """Return everything that decides what the folder will hold."""


def checkpoint_owner(config: Described, numerics: Mapping[str, Json], **inputs: Json) -> dict[str, Json]:
    """Return what a checkpoint belongs to: configuration with the code of plug-ins, arithmetic, version and inputs."""
    described = config.to_json()
    return {
        "config": hash_json(described),
        "code": dict(described.get("code", {})),
        "numerics": dict(numerics),
        "version": __version__,
        **inputs,
    }


class RunFolder(Generic[F]):
    """The folder of one run. Nothing is written before `open`.

    Args:
        path: where it is, or will be.
        kind: the kind of record that it holds in the end.
    """

    @overload
    def __init__(self: RunFolder[Record], path: Path) -> None: ...

    @overload
    def __init__(self, path: Path, kind: type[F]) -> None: ...

    def __init__(self, path: Path, kind: Any = Record) -> None:
        self.path = path
        self.artifact = path / ARTIFACT
        self.checkpoints = path / "checkpoint"
        self.scores = ScoreFile(self.checkpoints / "scores.json")  # of an interrupted run
        self._costs = self.checkpoints / "costs.json"  # of its stages so far
        self._kind: type[F] = kind

    def finished(self, config: Described, *, sealed: bool = False) -> F | None:
        """Return the record of a finished run of this configuration, or None if there is work to do.

        Args:
            config: the configuration that is asked for.
            sealed: accept only a run with checksums; those of earlier versions have none.

        Raises:
            UsageError: the folder belongs to another configuration, whose differing keys are named, or a file of it
                was changed after the run had finished.
        """
        described = self._described()
        if described is None:
            return None
        differences = differing(described, config.to_json())
        if differences:
            edited = any(line.startswith("code.") for line in differences)
            raise UsageError(
                f"{self.path} belongs to another configuration; choose another --out. It differs in:\n  "
                + "\n  ".join(differences)
                + ("\n(code: the file of a plug-in was edited since, or it is another plug-in)" if edited else "")
            )
        if not (self.path / self._kind.file).exists():
            return None
        changed = self._changed(sealed=sealed)
        if changed:
            raise UsageError(
                f"{self.path}: {', '.join(changed)} changed since the run finished, so its result is not used; choose "
                "another --out, or remove the folder to run it again"
            )
        return self._kind.load(self.path)

    def _described(self) -> Mapping[str, Json] | None:
        """Return the content of `config.yaml`, or None if nothing here is finished and it is missing or damaged."""
        there, done = self.path / CONFIG, (self.path / self._kind.file).exists()
        if not there.exists():
            if done:
                raise UsageError(f"{self.path} holds a result but no {CONFIG}; choose another --out")
            return None
        try:
            found = parse_yaml(read_text(there))
            if isinstance(found, Mapping):
                return found
            reason = "not a mapping"
        except (yaml.YAMLError, OSError, ValueError, TypeError, RecursionError, OverflowError) as error:
            reason = " ".join(str(error).split())[:200]
        if done:
            raise UsageError(f"{there} cannot be read ({reason}); choose another --out")
        log.warning("%s is damaged (%s) and is written anew", there, reason)
        return None

    def _changed(self, *, sealed: bool) -> list[str]:
        """Return the files that are not as the run left them."""
        if not (self.path / CHECKSUMS).exists():
            return [f"{CHECKSUMS} (missing)"] if sealed else []
        stored = checkpoint.read_json(self.path / CHECKSUMS, {"version": checkpoint.SCHEMA})
        if stored is None or not isinstance(stored.content, Mapping):
            return [CHECKSUMS]
        return [name for name, sha256 in stored.content.items() if self._sha256(name) != sha256]

    def _sha256(self, name: str) -> str | None:
        try:
            return file_sha256(self.path / name)
        except OSError:
            return None

    def seal(self) -> None:
        """Note the checksums of a finished run's files, so that a later change is seen."""
        names = (CONFIG, self._kind.file, self.artifact.name, *WEIGHTS)
        found = {name: self._sha256(name) for name in names if (self.path / name).is_file()}
        checkpoint.write_json(self.path / CHECKSUMS, found, {"version": checkpoint.SCHEMA})

    def refuse_unwritable(self) -> None:
        """Raise UsageError if the folder can be neither made nor written: better before the work than after it."""
        there = next(path for path in (self.path.absolute(), *self.path.absolute().parents) if path.exists())
        if not there.is_dir():
            raise UsageError(f"cannot write {self.path}: {there} is a file; choose another --out")
        if not os.access(there, os.W_OK | os.X_OK):
            raise UsageError(f"cannot write {self.path}: no permission to write in {there}; choose another --out")

    @contextmanager
    def open(self, config: Described, *, wait: bool = False) -> Iterator[None]:
        """Hold the folder, note the configuration, write the log beside it."""
        with locked(self.path, wait=wait):
            remove_stale(self.checkpoints)
            self._remove_older()
            with atomic_write(self.path / CONFIG) as temporary:
                temporary.write_text(yaml.safe_dump(config.to_json(), sort_keys=True), encoding="utf-8")
            with _logging_to(self.path / "log.txt"):
                yield

    def _remove_older(self) -> None:
        """Remove checkpoints of versions that wrote them with `torch.save`: they are bound to nothing."""
        older = sorted(self.checkpoints.glob("*.pt"))
        for path in older:
            with suppress(OSError):
                path.unlink()
        if older:
            log.warning("%s: a checkpoint of an older version is not read; the run starts over", self.path)

    def close(self) -> None:
        """Remove what only an unfinished run needs."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def usable(self, config: Described) -> F | None:
        """Return a finished, unchanged run, as `finished`; remove one that cannot be used, with a line in the log."""
        try:
            return self.finished(config, sealed=True)
        except UsageError:  # another process may be writing it at this moment: look again when it has ended
            with locked(self.path):
                try:
                    return self.finished(config, sealed=True)
                except UsageError as error:
                    log.warning("%s; it is made anew", error.faults[0].partition(";")[0])
                    for name in (self._kind.file, CHECKSUMS, CONFIG, self.artifact.name):
                        with suppress(OSError):
                            (self.path / name).unlink(missing_ok=True)
        return None

    def copy(self, other: RunFolder[F]) -> None:
        """Copy a finished run into another folder that holds none; the checksums go last, as when a run is made."""
        if other.path == self.path:
            return
        with locked(other.path):
            if not (other.path / CHECKSUMS).exists():
                for name in (CONFIG, self.artifact.name, self._kind.file, CHECKSUMS):
                    with atomic_write(other.path / name) as temporary:
                        shutil.copyfile(self.path / name, temporary)

    def synthetic(self, owner: Mapping[str, Json]) -> SyntheticSet | None:
        """Return the finished distillation of an interrupted run; UsageError if it was made with other numerics."""
        kept = _progress(self.checkpoints / "synthetic.safetensors", owner)
        return None if kept is None else SyntheticSet(**kept)

    def keep_synthetic(self, synthetic: SyntheticSet, owner: Mapping[str, Json]) -> None:
        """Keep a finished distillation until the run is done."""
        checkpoint.write(self.checkpoints / "synthetic.safetensors", vars(synthetic), owner)

    def restore_costs(self, clock: Clock, owner: Mapping[str, Json], *stages: str) -> None:
        """Add to the clock what earlier processes of an interrupted run spent on these stages."""
        costs = self._read_costs(owner)
        for stage in stages:
            if stage in costs:
                clock.resume(stage, costs[stage])

    def keep_cost(self, clock: Clock, owner: Mapping[str, Json], stage: str) -> None:
        """Keep what the stage under way has cost so far until the run is done; the first process alone writes it."""
        if group().first:
            checkpoint.write_json(self._costs, {**self._read_costs(owner), stage: clock.so_far(stage)}, owner)

    def _read_costs(self, owner: Mapping[str, Json]) -> dict[str, Any]:
        stored = checkpoint.read_json(self._costs, owner)
        return {} if stored is None else dict(stored.content)


class DiskCheckpoint(Checkpoint):
    """A distillation's progress on disk, usable only for the owner it was made for.

    Args:
        folder: the run's folder.
        owner: what the progress belongs to, as `checkpoint_owner` gives it.
        on_save: called after each save.
    """

    def __init__(
        self, folder: RunFolder[Any], owner: Mapping[str, Json], on_save: Callable[[], None] | None = None
    ) -> None:
        self._path = folder.checkpoints / "distill.safetensors"
        self._owner = dict(owner)
        self._on_save = on_save
        self._last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """Return the last saved progress; UsageError if it was computed with other numerics."""
        return _progress(self._path, self._owner)

    def save(self, payload: dict[str, Any]) -> None:
        """Replace the saved progress, all or nothing."""
        checkpoint.write(self._path, payload, self._owner)
        if self._on_save is not None:
            self._on_save()
        self._last = time.monotonic()

    def due(self) -> bool:
        """Return whether the last save is long ago."""
        return time.monotonic() - self._last > SAVE_EVERY_S


def _progress(path: Path, owner: Mapping[str, Json]) -> dict[str, Any] | None:
    """Return what a checkpoint holds for this owner, or None; UsageError if only the numerics are others."""
    stored = checkpoint.load(path)
    if stored is None:
        return None
    keys = checkpoint.differing_keys(stored.owner, owner)
    if keys == ["numerics"]:
        differences = differing(stored.owner["numerics"], owner["numerics"])
        raise UsageError(
            "this run was begun with other numerics and would not give the same bits; resume it with the same, or "
            "choose another --out. It differs in:\n  " + "\n  ".join(differences)
        )
    if keys:
        log.warning("%s was made with another %s; the run starts over", path, ", ".join(keys))
        return None
    content: dict[str, Any] = stored.content
    return content


class _LogFile(logging.FileHandler):
    """A log file that cannot stop a run: after its first failure it is left alone."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name in `logging`
        """Write nothing more."""
        self.emit = lambda record: None  # type: ignore[method-assign]
        log.warning("%s cannot be written; the run goes on without it", self.baseFilename)


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Write the package's log lines to a file as well, if that is possible."""
    logger = logging.getLogger("latentdd_plugin")
    try:
        handler = _LogFile(path, encoding="utf-8")
    except OSError as error:
        log.warning("%s cannot be written (%s); the run goes on without it", path, error.strerror)
        yield
        return
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        with suppress(OSError):
            handler.close()
