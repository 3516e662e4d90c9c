"""A run's folder: who may write it, what is already done, and what lets it go on after a kill."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
import yaml

from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.storage import atomic_write, locked
from latentdd_plugin.core.types import Json, SyntheticSet
from latentdd_plugin.distillers.task import Checkpoint
from latentdd_plugin.evaluators.scoring import ScoreFile
from latentdd_plugin.results.record import Record

SAVE_EVERY_S = 20.0  # seconds between checkpoints; they change nothing in the numbers


def differing(a: Mapping[str, Json], b: Mapping[str, Json], prefix: str = "") -> list[str]:
    """`key: x here, y there` for every key in which two nested mappings differ."""
    found = []
    for key in sorted({*a, *b}):
        x, y = a.get(key), b.get(key)
        if isinstance(x, Mapping) and isinstance(y, Mapping):
            found += differing(x, y, f"{prefix}{key}.")
        elif x != y:
            found.append(f"{prefix}{key}: {json.dumps(x)} there, {json.dumps(y)} asked for")
    return found


class Described(Protocol):
    """What a folder can belong to."""

    def to_json(self) -> dict[str, Json]:
        """Everything that decides what the folder will hold."""


class RunFolder:
    """The folder of one run. Nothing is written before `open`.

    Args:
        path: where it is, or will be.
        kind: what it holds in the end: the record of a run, or another kind of record.
    """

    def __init__(self, path: Path, kind: type[Record] = Record) -> None:
        self.path = path
        self.artifact = path / "distilled.safetensors"
        self.checkpoints = path / "checkpoint"
        self.scores = ScoreFile(self.checkpoints / "scores.json")  # of an interrupted run
        self._kind = kind

    def finished(self, config: Described) -> Record | None:
        """The record of a finished run of this configuration, or None where there is work to do.

        Raises:
            UsageError: the folder belongs to another configuration; the keys that differ are named.
        """
        there = self.path / "config.yaml"
        if not there.exists():
            if (self.path / self._kind.file).exists():
                raise UsageError(f"{self.path} holds a result but no config.yaml; choose another --out")
            return None
        try:
            kept = yaml.safe_load(there.read_text())
        except yaml.YAMLError as error:
            raise UsageError(f"{there} cannot be read ({error}); choose another --out") from None
        differences = differing(kept, config.to_json())
        if differences:
            edited = any(line.startswith("code.") for line in differences)
            raise UsageError(
                f"{self.path} belongs to another configuration; choose another --out. It differs in:\n  "
                + "\n  ".join(differences)
                + ("\n(code: the file of a plug-in was edited since, or it is another plug-in)" if edited else "")
            )
        return self._kind.load(self.path) if (self.path / self._kind.file).exists() else None

    def refuse_unwritable(self) -> None:
        """UsageError where the folder can be neither made nor written: better before the work than after it."""
        there = next(path for path in (self.path.absolute(), *self.path.absolute().parents) if path.exists())
        if not there.is_dir():
            raise UsageError(f"cannot write {self.path}: {there} is a file; choose another --out")
        if not os.access(there, os.W_OK | os.X_OK):
            raise UsageError(f"cannot write {self.path}: no permission to write in {there}; choose another --out")

    @contextmanager
    def open(self, config: Described, *, wait: bool = False) -> Iterator[None]:
        """Hold the folder, note the configuration, write the log beside it."""
        with locked(self.path, wait=wait):
            with atomic_write(self.path / "config.yaml") as temporary:
                temporary.write_text(yaml.safe_dump(config.to_json(), sort_keys=True))
            handler = logging.FileHandler(self.path / "log.txt")
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
            logger = logging.getLogger("latentdd_plugin")
            logger.addHandler(handler)
            try:
                yield
            finally:
                logger.removeHandler(handler)
                handler.close()

    def close(self) -> None:
        """Remove what only an unfinished run needs."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def copy(self, other: RunFolder) -> None:
        """Copy a finished run into another folder that holds none; the record goes last, as when a run is made."""
        if other.path == self.path:
            return
        with locked(other.path):
            if not (other.path / other._kind.file).exists():
                for name in ("config.yaml", self.artifact.name, self._kind.file):
                    with atomic_write(other.path / name) as temporary:
                        shutil.copyfile(self.path / name, temporary)

    def synthetic(self) -> SyntheticSet | None:
        """The finished distillation of an interrupted run."""
        path = self.checkpoints / "synthetic.pt"
        if not path.exists():
            return None
        kept = torch.load(path, weights_only=True)
        return SyntheticSet(**{**kept, "losses": tuple((int(s), float(v)) for s, v in kept["losses"])})

    def keep_synthetic(self, synthetic: SyntheticSet) -> None:
        """Keep a finished distillation until the run is done."""
        payload = {**vars(synthetic), "codes": synthetic.codes.cpu(), "labels": synthetic.labels.cpu()}
        with atomic_write(self.checkpoints / "synthetic.pt") as temporary:
            torch.save(payload, temporary)


class DiskCheckpoint(Checkpoint):
    """A distillation's progress on disk, usable only under the numerics it was made with."""

    def __init__(self, folder: RunFolder, numerics: Mapping[str, Json]) -> None:
        self._path = folder.checkpoints / "distill.pt"
        self._numerics = dict(numerics)
        self._last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The last saved progress; UsageError where it was computed in another way."""
        if not self._path.exists():
            return None
        kept: dict[str, Any] = torch.load(self._path, weights_only=True)
        differences = differing(kept["numerics"], self._numerics)
        if differences:
            raise UsageError(
                "this run was begun with other numerics and would not give the same bits; resume it with the same, or "
                "choose another --out. It differs in:\n  " + "\n  ".join(differences)
            )
        return kept

    def save(self, payload: dict[str, Any]) -> None:
        """Replace the saved progress, all or nothing."""
        with atomic_write(self._path) as temporary:
            torch.save({**payload, "numerics": self._numerics}, temporary)
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether the last save is long ago."""
        return time.monotonic() - self._last > SAVE_EVERY_S
