"""A run's job, and what its stages return: each of these records holds the one before it."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from latentdd_plugin.artifacts.artifact import Artifact
from latentdd_plugin.core.compute import Numerics
from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.monitor import Clock
from latentdd_plugin.core.progress import RunProgress
from latentdd_plugin.core.types import ImageData, Images, Json, Score, Skipped, SyntheticSet
from latentdd_plugin.experiments.build import Parts
from latentdd_plugin.experiments.run_folder import RunFolder, checkpoint_owner
from latentdd_plugin.latent.sized_codec import SizedCodec
from latentdd_plugin.latent.space import CodeSpace, Real
from latentdd_plugin.nn.teacher import Teacher
from latentdd_plugin.results.entries import ArtifactEntry, BudgetEntry, NearestImages, TeacherEntry
from latentdd_plugin.results.record import Record


@dataclass(frozen=True)
class Job:
    """One run: a resolved configuration, its parts, and how to carry it out."""

    config: RunConfig
    parts: Parts
    clock: Clock = field(default_factory=Clock)
    progress: bool = False
    limit_s: float | None = None  # refuse a distillation that would take longer
    folder: RunFolder[Record] | None = None  # None keeps no checkpoints and ends with the artifact
    command: str = ""
    shared: bool = False  # a baseline: if another process is making it, wait for it
    whole: RunProgress = field(default_factory=RunProgress)  # over all stages

    @property
    def home(self) -> RunFolder[Record]:
        """The run's folder; UsageError for a job in memory."""
        if self.folder is None:
            raise UsageError("this run has no folder to store its artifact in")
        return self.folder


@dataclass(frozen=True)
class Loaded:
    """The dataset and the arithmetic."""

    data: ImageData
    numerics: Numerics


@dataclass(frozen=True)
class Encoded:
    """The fitted codec and the training set's codes; a method, its precisions and its baselines share them."""

    data: ImageData
    numerics: Numerics
    pixels: Real
    codec: SizedCodec
    space: CodeSpace
    codes: Real
    teacher: Teacher | None = None

    def owner(self, config: RunConfig) -> dict[str, Json]:
        """Return what a checkpoint of this configuration belongs to."""
        inputs = {"data": self.data.fingerprint, "codec": self.codec.identity}
        if self.teacher is not None:
            inputs["teacher"] = self.teacher.card.sha256
        return checkpoint_owner(config, self.numerics.to_json(), **inputs)


@dataclass(frozen=True)
class Distilled:
    """The distilled set before it is packed at a precision."""

    encoded: Encoded
    synthetic: SyntheticSet


@dataclass(frozen=True)
class Stored:
    """The artifact in its file."""

    distilled: Distilled
    artifact: Artifact
    file: ArtifactEntry
    budget: BudgetEntry


@dataclass(frozen=True)
class Decoded:
    """The images that networks train on."""

    stored: Stored
    images: Tensor  # float32 (M, C, H, W) in [0, 1] units, not clamped


@dataclass(frozen=True)
class Evaluated:
    """Every network, trained on the decoded images and tested once."""

    decoded: Decoded
    held_out: Images
    scores: tuple[Score, ...]
    skipped: tuple[Skipped, ...]
    nearest: NearestImages
    teacher: TeacherEntry | None = None
