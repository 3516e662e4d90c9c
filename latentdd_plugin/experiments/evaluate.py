"""Score an artifact that exists: any distilled set, under any protocol and architectures."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timezone
from pathlib import Path

from latentdd_plugin.artifacts.artifact import Artifact
from latentdd_plugin.artifacts.decode import allowed, decode_artifact, located
from latentdd_plugin.artifacts.file import file_sha256, load_artifact
from latentdd_plugin.codecs.base import decoder_bytes
from latentdd_plugin.core import plugins
from latentdd_plugin.core.compute import resolve_numerics
from latentdd_plugin.core.config import DatasetConfig, EvaluationConfig, ResolvedEvaluation, ScoringConfig
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.monitor import Clock, peak_mb
from latentdd_plugin.core.types import ImageData, Json, Score, hash_json
from latentdd_plugin.data.load import load_dataset
from latentdd_plugin.evaluators import protocols
from latentdd_plugin.evaluators.base import Trial
from latentdd_plugin.evaluators.scoring import score, trial_of
from latentdd_plugin.experiments.build import build_evaluators, code_of
from latentdd_plugin.experiments.dd_ranking import metric_faults, robustness
from latentdd_plugin.experiments.full_dataset import recovery, reference
from latentdd_plugin.experiments.run_folder import RunFolder
from latentdd_plugin.latent.space import CodeSpace, pixel_set
from latentdd_plugin.results.environment import command_line, environment
from latentdd_plugin.results.evaluation import Evaluation
from latentdd_plugin.results.outcome import dataset_entry
from latentdd_plugin.results.statistics import summary

log = logging.getLogger(__name__)


def evaluate_artifact(
    source: Path | str,
    config: EvaluationConfig | None = None,
    *,
    codec: Mapping[str, Json] | None = None,
    allow_plugins: Sequence[str] = (),
    allow_other_data: bool = False,
    out: Path | str | None = None,
    progress: bool = False,
    command: str | None = None,
) -> Evaluation:
    """Decode an artifact, train networks on it, test them, and leave `evaluation.json`.

    Args:
        source: an artifact, or the folder of the run that made it.
        config: how to score; None takes the defaults.
        codec: the caller's word on the codec: `path` of local weights or other options, even another `name`. The
            weights must be those that the artifact was made with.
        allow_plugins: distributions, beside this package, whose entries the artifact may name.
        allow_other_data: score it on a data set whose training images are not those it was made from.
        out: the folder; None makes `evaluations/<protocol>-<hash>` beside the artifact. An unfinished evaluation there
            is continued network by network, a finished one is returned as it is.
        progress: show progress bars on stderr.
        command: what to record as the command; None takes this process's.

    Raises:
        UsageError: it cannot be done as asked: a damaged artifact, other data, other weights, an unknown name.
        RunFailed: it began and could not be finished; finished scores are kept.
    """
    path, beside = located(Path(source))
    stored, distributions = load_artifact(path), allowed(allow_plugins)
    settled = _settled(stored, beside, config or EvaluationConfig(), distributions)
    code = code_of({"codec": _codec_class(stored, codec or {}, distributions)})
    settled = replace(settled, code={**settled.code, **code})
    default = path.parent / "evaluations" / f"{settled.scoring.protocol}-{hash_json(settled.to_json())[:8]}"
    folder = RunFolder(Path(out) if out is not None else default, Evaluation)
    done = folder.finished(settled)
    if isinstance(done, Evaluation):
        log.info("%s is finished", folder.path)
        return done
    folder.refuse_unwritable()
    work = Work(path, stored, settled, folder, command or command_line(), progress, Clock())
    how = resolve_numerics(settled.compute)
    images = load_dataset(settled.dataset, progress=progress)
    _check_data(stored, images, allow_other=allow_other_data)
    work.clock.lap("load_s")
    space, pictures = decode_artifact(stored, codec or {}, distributions, how.device)
    work.clock.lap("decode_s")
    with folder.open(settled):
        protocol, held_out = protocols.get(settled.scoring.protocol), images.held_out(settled.scoring.split)
        protocol = replace(protocol, seeds=max(protocol.seeds, settled.networks or 0))
        trial = trial_of(stored, pictures, images, pixel_set(images, how.device), held_out, protocol, how)
        evaluation = Evaluation(_content(work, space, images, trial), folder.path)
        evaluation.save()
        folder.seal()
        folder.close()
    return evaluation


@dataclass(frozen=True)
class Work:
    """One evaluation: of what, how, where, and how to show it."""

    path: Path  # the artifact's file
    stored: Artifact
    settled: ResolvedEvaluation
    folder: RunFolder
    command: str
    progress: bool
    clock: Clock


def _content(work: Work, space: CodeSpace, images: ImageData, trial: Trial) -> dict[str, Json]:
    """The record, scores included."""
    stored, clock = work.stored, work.clock
    scores = _scores(work, images, trial)
    return {
        "schema": Evaluation.schema,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": work.command,
        "config": work.settled.to_json(),
        **_artifact_entries(work.path, stored, decoder_bytes(space.codec.codec)),
        "dataset": {**dataset_entry(images, trial.held_out), "same": _same(stored, images)},
        "codec": space.codec.describe(str(stored.header["codec"]["name"])),
        "protocol": {**trial.protocol.to_json(), "sha256": trial.protocol.sha256},
        "scored_on": work.settled.scoring.split,
        **scores,
        "cost": {**{stage: round(s, 3) for stage, s in clock.seconds.items()}, "peak_rss_mb": peak_mb()[0]},
        "environment": environment(trial.numerics.to_json()),
    }


def _scores(work: Work, images: ImageData, trial: Trial) -> dict[str, Json]:
    """The record's scores of the artifact and, where asked for, of the whole set."""
    scoring, seed, progress = work.settled.scoring, work.settled.seed, work.progress
    evaluators = build_evaluators(scoring).evaluators
    scores, skipped = score(evaluators, trial, seed, work.folder.scores, progress=progress)
    work.clock.lap("evaluate_s")
    found: dict[str, Json] = {
        "scores": [asdict(row) for row in scores],
        "skipped": [asdict(row) for row in skipped],
        "summary": summary(scores),
        "reference": None,
        "metrics": None,
    }
    if work.settled.reference == "full":
        fresh = build_evaluators(scoring).evaluators  # an evaluator serves one trial
        whole = reference(fresh, images, trial, scoring.split, seed, progress=progress)
        found["reference"] = {**whole, "recovery": recovery(scores, [Score(**row) for row in whole["scores"]])}
        work.clock.lap("reference_s")
    if work.settled.metrics:
        found["metrics"] = robustness(work.settled, images, trial, scores, work.folder.checkpoints, progress=progress)
        work.clock.lap("metrics_s")
    return found


# --- what is asked for ------------------------------------------------------------------------------------------------


def _settled(
    stored: Artifact, beside: Mapping[str, Json], config: EvaluationConfig, distributions: Sequence[str]
) -> ResolvedEvaluation:
    """Everything that decides the scores, checked; UsageError with all faults that need no data."""
    given = {"name": config.dataset} if isinstance(config.dataset, str) else dict(config.dataset)
    known = beside.get("dataset")
    options = {f.name for f in fields(DatasetConfig)} - {"name"}
    theirs = {key: value for key, value in known.items() if key in options} if isinstance(known, Mapping) else {}
    if "name" not in given:
        given["name"] = _named_by(stored, known, distributions)
    dataset = DatasetConfig(**{**theirs, **given})
    split = config.split or ("validation" if given.get("validation") else str(beside.get("split", "test")))
    scoring = ScoringConfig(config.evaluators, config.protocol, split)
    found = build_evaluators(scoring)
    resolved = ResolvedEvaluation(
        content=str(stored.header["content_sha256"]),
        dataset=dataset,
        scoring=scoring,
        compute=config.compute,
        seed=config.seed,
        reference=config.reference,
        metrics=config.metrics,
        networks=config.networks,
        code=code_of({name: type(evaluator) for name, evaluator in found.evaluators.items()}),
    )
    faults = [*resolved.faults(), *found.faults, *metric_faults(config.metrics, found.protocol)]
    if faults:
        raise UsageError(faults)
    return resolved


def _codec_class(stored: Artifact, codec: Mapping[str, Json], distributions: Sequence[str]) -> type | None:
    """What will decode; None where that cannot be said, which decoding will."""
    theirs = "name" not in codec  # a name out of the file, not the caller's
    name, among = str(codec.get("name", stored.header["codec"]["name"])), tuple(distributions) if theirs else None
    try:
        return plugins.resolve("codecs", name, installed_only=theirs, distributions=among).cls
    except UsageError:
        return None


def _named_by(stored: Artifact, known: Json, distributions: Sequence[str]) -> str:
    """The data set that the artifact names, if it is an installed one: other names are the caller's to give."""
    name = str(stored.header["dataset"]["name"])
    entry = plugins.entries("datasets").get(name)
    if entry is None or entry.distribution not in distributions:
        theirs = known.get("name") if isinstance(known, Mapping) else None
        hint = f" (the run's own configuration says {theirs})" if theirs and theirs != name else ""
        raise UsageError(f"the artifact is of data set {name!r}, which is not built in: give --dataset{hint}")
    return name


# --- what is read -----------------------------------------------------------------------------------------------------


def _same(stored: Artifact, images: ImageData) -> bool:
    return bool(stored.header["dataset"].get("fingerprint") == images.fingerprint)


def _check_data(stored: Artifact, images: ImageData, *, allow_other: bool) -> None:
    """UsageError where these are not the images the artifact was made from, or cannot be scored with it at all."""
    shape, classes = tuple(stored.header["image_shape"]), len(stored.classes)
    if shape != images.image_shape or classes != len(images.classes):
        hint = f"; dataset.image_size={shape[1]}?" if shape[1] != images.image_shape[1] else ""
        raise UsageError(
            f"the artifact is of images {shape} in {classes} classes, data set {images.name} has {images.image_shape} "
            f"in {len(images.classes)}{hint}"
        )
    theirs, named = stored.header["dataset"].get("fingerprint"), stored.header["dataset"]["name"]
    if not theirs and not allow_other:
        raise UsageError("the artifact does not say what data it was made from: --allow-other-data scores it on this")
    if not _same(stored, images) and not allow_other:
        raise UsageError(
            f"data set {images.name} is not what the artifact was made from ({named}): its training images have "
            f"fingerprint {images.fingerprint[:12]}…, wanted is {str(theirs)[:12]}…. Give the run's own dataset.* "
            "options (classes, per_class, validation, image_size), or --allow-other-data to score it all the same"
        )


def _artifact_entries(path: Path, stored: Artifact, decoder: int) -> dict[str, Json]:
    """The record's `artifact` and `budget`."""
    size = path.stat().st_size
    spent = stored.bytes(size, decoder)
    total = spent["codes"] + spent["labels"]
    codes = stored.packed.shape[0]
    return {
        "artifact": {
            "path": path.name,
            "origin": stored.header.get("origin"),
            "sha256": file_sha256(path),
            "content_sha256": stored.header["content_sha256"],
            "bytes": size,
        },
        "budget": {
            "codes": codes,
            "precision": stored.header["precision"],
            "bytes": {**spent, "total": total, "total_with_decoder": total + spent["decoder"]},
        },
    }
