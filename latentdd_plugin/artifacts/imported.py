"""An existing set as a method: it takes the same pipeline, beside the same baselines."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch

from latentdd_plugin.artifacts.artifact import Artifact
from latentdd_plugin.artifacts.decode import located
from latentdd_plugin.artifacts.file import load_artifact
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import SyntheticSet, hash_json
from latentdd_plugin.distillers.base import Distiller
from latentdd_plugin.distillers.task import Task


class Imported(Distiller):
    """The images of an artifact, encoded; with `identity` that is the set itself, up to float rounding.

    Args:
        path: the artifact, or its folder, as `dd-bench import` writes it. It must name the data it was distilled from,
            and that must be the data of the run.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {"paper": {}, "quick": {}}
    selection: ClassVar[str] = "unknown"
    changes_codes: ClassVar[bool] = False
    compares = False

    def __init__(self, path: str = "") -> None:
        self.path = path

    @cached_property
    def stored(self) -> Artifact:
        """The artifact."""
        if not self.path:
            raise UsageError("algo=imported: give algo.path=FOLDER, a folder that dd-bench import wrote")
        return load_artifact(located(Path(self.path))[0])

    def label_bits(self, num_classes: int) -> int:
        """Return the bits of one label: 32 per class for soft labels, which are stored as float32."""
        return 0 if self.stored.header.label_kind == "hard" else 32 * num_classes

    def distill(self, task: Task) -> SyntheticSet:
        """Return the artifact's images, decoded and encoded again.

        Raises:
            UsageError: it was distilled from other data, or holds more than the budget.
        """
        stored, sized = self.stored, task.space.codec
        theirs = stored.header.dataset.fingerprint
        if task.real_id not in [hash_json([theirs, what]) for what in ("pixels", sized.identity)]:
            named = stored.header.dataset.name
            raise UsageError(
                f"algo.path={self.path}: a set of dataset {named!r}, not of this one; import it with --dataset "
                "and the same dataset.* options"
            )
        most = task.codes_per_class * task.num_classes
        if len(stored.codes) > most:
            raise UsageError(
                f"algo.path={self.path}: {len(stored.codes)} images, the budget holds {most}; give their number "
                "per class as --ipc, or as --lpc if soft labels come on top"
            )
        with torch.no_grad():
            images = stored.decode().to(task.device)
            codes = (sized.encode(images) - task.space.mean) / task.space.std
        return SyntheticSet(codes, stored.labels.to(task.device), stored.header.label_kind, stored.lr)
