"""Score an existing artifact: any distilled set, under any protocol and architectures."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timezone
from pathlib import Path

from latentdd_plugin.artifacts.artifact import Artifact
from latentdd_plugin.artifacts.decode import allowed, decode_artifact, located
from latentdd_plugin.artifacts.file import file_sha256, load_artifact
from latentdd_plugin.codecs.base import decoder_bytes
from latentdd_plugin.core import plugins
from latentdd_plugin.core.compute import resolve_numerics
from latentdd_plugin.core.config import (
    DatasetConfig,
    EvaluationConfig,
    ResolvedEvaluation,
    ScoringConfig,
    default_scoring,
)
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.monitor import Clock, peak_mb
from latentdd_plugin.core.types import ImageData, Json, Score, Skipped, as_tensor, hash_json
from latentdd_plugin.data.load import load_dataset
from latentdd_plugin.evaluators import protocols
from latentdd_plugin.evaluators.base import Trial
from latentdd_plugin.evaluators.scoring import score, trial_of
from latentdd_plugin.experiments.build import build_evaluators, code_of
from latentdd_plugin.experiments.dd_ranking import metric_faults, robustness
from latentdd_plugin.experiments.full_dataset import reference
from latentdd_plugin.experiments.nearest import nearest_images
from latentdd_plugin.experiments.run_folder import RunFolder, checkpoint_owner
from latentdd_plugin.experiments.teachers import obtain_teacher, teacher_faults
from latentdd_plugin.latent.space import CodeSpace, pixel_set
from latentdd_plugin.nn.teacher import Teacher
from latentdd_plugin.results.entries import CodecEntry, Cost, NearestImages, ProtocolEntry, StoredSize, TeacherEntry
from latentdd_plugin.results.environment import command_line, environment
from latentdd_plugin.results.evaluation import EvaluatedArtifact, EvaluatedDataset, Evaluation, Metrics, WholeSet
from latentdd_plugin.results.statistics import recoveries, summarise

log = logging.getLogger(__name__)


def evaluate_artifact(
    source: Path | str,
    config: EvaluationConfig | None = None,
    *,
    codec: Mapping[str, Json] | None = None,
    allow_plugins: Sequence[str] = (),
    allow_other_data: bool = False,
    alone: bool = False,
    out: Path | str | None = None,
    progress: bool = False,
    command: str | None = None,
) -> Evaluation:
    """Decode an artifact, train networks on it, test them, and leave `evaluation.json`.

    Args:
        source: an artifact, or the folder of the run that made it.
        config: how to score; None takes the defaults.
        codec: options of the codec that the caller sets: `path` of local weights, even another `name`. The weights
            must be those that the artifact was made with.
        allow_plugins: distributions, beside this package, whose entries the artifact may name.
        alone: read no file but the artifact: not the configuration of a run that may lie beside it.
        allow_other_data: score it on a dataset whose training images are not those it was made from.
        out: the folder; None makes `evaluations/<protocol>-<hash>` beside the artifact. An unfinished evaluation there
            is continued network by network, a finished one is returned as it is.
        progress: show progress bars on stderr.
        command: what to record as the command; None takes this process's.

    Raises:
        UsageError: a damaged artifact, other data, other weights, an unknown name.
        RunFailed: it began and could not be finished; finished scores are kept.
    """
    path, beside = located(Path(source), alone=alone)
    stored, distributions = load_artifact(path), allowed(allow_plugins)
    wanted = _resolve(stored, beside, config or EvaluationConfig(), distributions)
    code = code_of({"codec": _codec_class(stored, codec or {}, distributions)})
    wanted = replace(wanted, code={**wanted.code, **code})
    default = path.parent / "evaluations" / f"{wanted.scoring.protocol}-{hash_json(wanted.to_json())[:8]}"
    folder = RunFolder(Path(out) if out is not None else default, Evaluation)
    done = folder.finished(wanted)
    if done is not None:
        log.info("%s is finished", folder.path)
        return done
    folder.refuse_unwritable()
    work = Work(path, stored, wanted, folder, command or command_line(), progress, Clock())
    how = resolve_numerics(wanted.compute)
    again = wanted.reference == "full" or wanted.teacher.trained_here
    images = load_dataset(wanted.dataset, progress=progress, again=again)
    _check_data(stored, images, allow_other=allow_other_data)
    work.clock.lap("load_s")
    space, pictures = decode_artifact(stored, codec or {}, distributions, how.device)
    work.clock.lap("decode_s")
    with folder.open(wanted):
        protocol, held_out = protocols.get(wanted.scoring.protocol), images.held_out(wanted.scoring.split)
        protocol = replace(protocol, seeds=max(protocol.seeds, wanted.networks or 0))
        teacher = obtain_teacher(wanted.teacher, images, how, progress=progress)
        if teacher is not None:
            work.clock.lap("teacher_s")
        real = pixel_set(images, how.device)
        trial = trial_of(stored, pictures, images, real, held_out, protocol, how, labels=wanted.labels, teacher=teacher)
        evaluation = _record(work, space, images, trial, _score(work, images, trial), teacher)
        evaluation.save()
        folder.seal()
        folder.close()
    return evaluation


@dataclass(frozen=True)
class Work:
    """One evaluation: its artifact, its resolved configuration, its folder, and how to show it."""

    path: Path  # the artifact's file
    stored: Artifact
    wanted: ResolvedEvaluation
    folder: RunFolder[Evaluation]
    command: str
    progress: bool
    clock: Clock


@dataclass(frozen=True)
class Scored:
    """The scores of an artifact and, if they were asked for, of the whole training set and of the metrics' parts."""

    scores: tuple[Score, ...]
    skipped: tuple[Skipped, ...]
    nearest: NearestImages
    reference: WholeSet | None
    metrics: Metrics | None


def _record(
    work: Work, space: CodeSpace, images: ImageData, trial: Trial, scored: Scored, teacher: Teacher | None
) -> Evaluation:
    stored, clock = work.stored, work.clock
    size = work.path.stat().st_size
    return Evaluation(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=work.command,
        config=work.wanted.to_json(),
        artifact=EvaluatedArtifact(
            path=work.path.name,
            origin=stored.header.origin,
            sha256=file_sha256(work.path),
            content_sha256=stored.header.content_sha256 or "",
            bytes=size,
        ),
        budget=StoredSize(
            codes=stored.packed.shape[0],
            precision=stored.header.precision,
            bytes=stored.bytes(size, decoder_bytes(space.codec.codec)),
        ),
        dataset=EvaluatedDataset.of(images, trial.held_out, same=_same(stored, images)),
        codec=CodecEntry.from_json(space.codec.describe(stored.header.codec.name)),
        teacher=None if teacher is None else TeacherEntry.of(teacher, trial.held_out),
        protocol=ProtocolEntry.of(trial.protocol),
        scored_on=work.wanted.scoring.split,
        scores=scored.scores,
        skipped=scored.skipped,
        summary=summarise(scored.scores),
        nearest=scored.nearest,
        reference=scored.reference,
        metrics=scored.metrics,
        cost=Cost.from_json(
            {**{stage: round(s, 3) for stage, s in clock.seconds.items()}, "peak_rss_mb": peak_mb()[0]}
        ),
        environment=environment(trial.numerics.to_json()),
        folder_or_none=work.folder.path,
    )


def _score(work: Work, images: ImageData, trial: Trial) -> Scored:
    """Train and test on the artifact, and on whatever else the evaluation asks for."""
    scoring, seed, progress = work.wanted.scoring, work.wanted.seed, work.progress
    evaluators = build_evaluators(scoring).evaluators
    owner = checkpoint_owner(work.wanted, trial.numerics.to_json())
    work.folder.restore_costs(work.clock, owner, "evaluate_s")

    def on_network(done: int, of_all: int) -> None:
        work.folder.keep_cost(work.clock, owner, "evaluate_s")

    kept = work.folder.scores
    scores, skipped = score(evaluators, trial, seed, kept, progress=progress, on_network=on_network)
    nearest = nearest_images(as_tensor(trial.images), images.train.pixels, trial.held_out.pixels)
    work.clock.lap("evaluate_s")
    whole, metrics = None, None
    if work.wanted.reference == "full":
        fresh = build_evaluators(scoring).evaluators  # an evaluator serves one trial
        whole = reference(fresh, images, trial, scoring.split, seed, progress=progress)
        whole = replace(whole, recovery=recoveries(scores, whole.scores))
        work.clock.lap("reference_s")
    if work.wanted.metrics:
        metrics = robustness(work.wanted, images, trial, scores, work.folder.checkpoints, progress=progress)
        work.clock.lap("metrics_s")
    return Scored(tuple(scores), tuple(skipped), nearest, whole, metrics)


# --- the configuration ------------------------------------------------------------------------------------------------


def _resolve(
    stored: Artifact, beside: Mapping[str, Json], config: EvaluationConfig, distributions: Sequence[str]
) -> ResolvedEvaluation:
    """Return everything that decides the scores; raise UsageError with all faults that need no data."""
    given = {"name": config.dataset} if isinstance(config.dataset, str) else dict(config.dataset)
    known = beside.get("dataset")
    options = {f.name for f in fields(DatasetConfig)} - {"name"}
    theirs = {key: value for key, value in known.items() if key in options} if isinstance(known, Mapping) else {}
    if "name" not in given:
        given["name"] = _named_by(stored, known, distributions)
    dataset = DatasetConfig(**{**theirs, **given})
    split = config.split or ("validation" if given.get("validation") else str(beside.get("split", "test")))
    usual = default_scoring(dataset.name)
    evaluators = usual.evaluators if config.evaluators is None else config.evaluators
    scoring = ScoringConfig(evaluators, config.protocol or usual.protocol, split)
    found = build_evaluators(scoring)
    resolved = ResolvedEvaluation(
        content=stored.header.content_sha256 or "",
        dataset=dataset,
        scoring=scoring,
        compute=config.compute,
        seed=config.seed,
        reference=config.reference,
        metrics=config.metrics,
        networks=config.networks,
        labels=config.labels,
        teacher=config.teacher,
        code=code_of({name: type(evaluator) for name, evaluator in found.evaluators.items()}),
    )
    faults = [
        *resolved.faults(),
        *teacher_faults(config.teacher),
        *found.faults,
        *metric_faults(config.metrics, found.protocol),
    ]
    if faults:
        raise UsageError(faults)
    return resolved


def _codec_class(stored: Artifact, codec: Mapping[str, Json], distributions: Sequence[str]) -> type | None:
    """Return the codec class, or None if it cannot be resolved (decoding then reports why)."""
    theirs = "name" not in codec  # a name out of the file, not the caller's
    name, among = str(codec.get("name", stored.header.codec.name)), tuple(distributions) if theirs else None
    try:
        return plugins.resolve("codecs", name, installed_only=theirs, distributions=among).cls
    except UsageError:
        return None


def _named_by(stored: Artifact, known: Json, distributions: Sequence[str]) -> str:
    """Return the dataset that the artifact names if it is an installed one; the caller must give any other name."""
    name = stored.header.dataset.name
    entry = plugins.entries("datasets").get(name)
    if entry is None or entry.distribution not in distributions:
        theirs = known.get("name") if isinstance(known, Mapping) else None
        hint = f" (the run's own configuration says {theirs})" if theirs and theirs != name else ""
        raise UsageError(f"the artifact is of dataset {name!r}, which is not built in: give --dataset{hint}")
    return name


# --- the data ---------------------------------------------------------------------------------------------------------


def _same(stored: Artifact, images: ImageData) -> bool:
    return stored.header.dataset.fingerprint == images.fingerprint


def _check_data(stored: Artifact, images: ImageData, *, allow_other: bool) -> None:
    """Raise UsageError if the artifact was not made from these images, or cannot be scored on them at all."""
    shape, classes = stored.header.image_shape, len(stored.classes)
    if shape != images.image_shape or classes != len(images.classes):
        hint = f"; dataset.image_size={shape[1]}?" if shape[1] != images.image_shape[1] else ""
        raise UsageError(
            f"the artifact is of images {shape} in {classes} classes, dataset {images.name} has {images.image_shape} "
            f"in {len(images.classes)}{hint}"
        )
    theirs, named = stored.header.dataset.fingerprint, stored.header.dataset.name
    if not theirs and not allow_other:
        raise UsageError("the artifact does not say what data it was made from: --allow-other-data scores it on this")
    if not _same(stored, images) and not allow_other:
        raise UsageError(
            f"dataset {images.name} is not what the artifact was made from ({named}): its training images have "
            f"fingerprint {images.fingerprint[:12]}…, wanted is {str(theirs)[:12]}…. Give the run's own dataset.* "
            "options (classes, per_class, validation, image_size), or --allow-other-data to score it all the same"
        )
