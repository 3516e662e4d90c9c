"""The road: load -> fit, encode -> distil -> store at a precision -> decode -> train -> test once -> record."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import torch

from latentdd_plugin.artifacts.artifact import Artifact, make_artifact
from latentdd_plugin.artifacts.budget import Budget, budget_for
from latentdd_plugin.artifacts.file import save_artifact
from latentdd_plugin.codecs.base import decoder_bytes
from latentdd_plugin.core.cache import cache_dir
from latentdd_plugin.core.compute import Numerics, resolve_device, resolve_numerics
from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.errors import DDBenchError, RunFailed, UsageError
from latentdd_plugin.core.monitor import Clock
from latentdd_plugin.core.storage import is_disk_fault, write_fault
from latentdd_plugin.core.types import ImageData, Json, Score, SyntheticSet, hash_json
from latentdd_plugin.core.version import __version__
from latentdd_plugin.data.load import load_dataset
from latentdd_plugin.distillers.services import Services
from latentdd_plugin.distillers.task import Task, validate_result
from latentdd_plugin.evaluators.scoring import score, trial_of
from latentdd_plugin.experiments.baselines import control_configs, entry, is_control
from latentdd_plugin.experiments.build import Parts, preset_note, resolve_run, weight_faults
from latentdd_plugin.experiments.run_folder import DiskCheckpoint, RunFolder, checkpoint_owner
from latentdd_plugin.latent.encode import code_set
from latentdd_plugin.latent.sized_codec import SizedCodec, build_codec
from latentdd_plugin.latent.space import CodeSpace, Real, pixel_set
from latentdd_plugin.nn.augment import Augment, operations_for
from latentdd_plugin.results import outcome
from latentdd_plugin.results.environment import command_line, environment
from latentdd_plugin.results.record import SCHEMA, Record
from latentdd_plugin.results.statistics import gain, summary

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One run: what to do, with what, where, and how to show it."""

    config: RunConfig
    parts: Parts
    folder: RunFolder
    command: str
    progress: bool
    clock: Clock
    limit_s: float | None = None  # refuse a distillation that would take longer
    shared: bool = False  # a control: another process may be making it, then wait for it


@dataclass(frozen=True)
class Prepared:
    """The first half of the road, shared by a method, its precisions and its controls."""

    data: ImageData
    pixels: Real
    codec: SizedCodec
    space: CodeSpace
    codes: Real
    numerics: Numerics

    def owner(self, config: RunConfig) -> dict[str, Json]:
        """Return what a checkpoint of this configuration belongs to."""
        inputs = {"data": self.data.fingerprint, "codec": self.codec.identity}
        return checkpoint_owner(config, self.numerics.to_json(), **inputs)

    def budget(self, config: RunConfig, parts: Parts) -> Budget:
        """What this configuration may spend."""
        return _budget(config, parts, self.data, self.codec)


def run(
    config: RunConfig,
    *,
    out: Path | str | None = None,
    progress: bool = False,
    command: str | None = None,
    limit_s: float | None = None,
) -> Record:
    """Distil, store, decode, evaluate, beside the controls; leaves a run folder.

    Args:
        config: what to do. Equal configurations give equal artifacts on one platform.
        out: the folder; None makes `runs/<dataset>-<codec>-<algo>-<hash>`. An unfinished run there is continued, a
            finished one is returned as it is.
        progress: show progress bars on stderr.
        command: what to record as the command; None takes this process's.
        limit_s: seconds that the distillation may take, estimated from its first steps; None takes any time.

    Returns:
        The record, also in `out/result.json`.

    Raises:
        UsageError: the configuration cannot be carried out; all faults that could be seen at once.
        RunFailed: the run began and could not be finished; what was done is kept. TooLong: it would exceed `limit_s`.
    """
    one = [config.precision]
    return run_precisions(config, one, out=out, progress=progress, command=command, limit_s=limit_s)[0]


def run_precisions(
    config: RunConfig,
    precisions: Sequence[str],
    *,
    out: Path | str | None = None,
    progress: bool = False,
    command: str | None = None,
    limit_s: float | None = None,
) -> list[Record]:
    """One distillation at a fixed `lpc`, stored and scored at several precisions: a run folder each, under `out`.

    Raises:
        UsageError: several precisions without `lpc` (at fixed bytes the precision decides how many codes there are),
            or as `run`.
    """
    if len(precisions) > 1 and config.lpc is None:
        raise UsageError("several precisions from one distillation need a fixed number of codes: give lpc, not ipc")
    resolved = [resolve_run(config.replace(precision=p)) for p in precisions]
    if note := preset_note(config, resolve_device(config.device)):
        log.info("%s", note)
    base = Path(out) if out is not None else default_out(resolved[0][0])
    folders = [RunFolder(base / each.precision if len(precisions) > 1 else base) for each, _ in resolved]
    finished = [folder.finished(each) for (each, _), folder in zip(resolved, folders, strict=True)]
    synthetic: SyntheticSet | None = None
    clock, records = Clock(), []
    prepared: Prepared | None = None
    for (each, parts), folder, done in zip(resolved, folders, finished, strict=True):
        if done is None:
            folder.refuse_unwritable()
            if prepared is None:
                prepared = prepare(each, parts, progress, clock)
                synthetic = _stored_synthetic(folders, [config for config, _ in resolved], prepared)
            job = Job(each, parts, folder, command or command_line(), progress, clock, limit_s)
            record, synthetic = finish(job, prepared, synthetic)
        else:
            log.info("%s is finished", folder.path)
            record = done
        records.append(record)
    for folder in folders:  # only now: each holds the one distillation for those that are not finished
        folder.close()
    return records


def _stored_synthetic(
    folders: Sequence[RunFolder], configs: Sequence[RunConfig], prepared: Prepared
) -> SyntheticSet | None:
    """Return the distillation that one of the folders of an interrupted run holds."""
    found = (folder.synthetic(prepared.owner(config)) for folder, config in zip(folders, configs, strict=True))
    return next((synthetic for synthetic in found if synthetic is not None), None)


def default_out(config: RunConfig) -> Path:
    """`runs/<dataset>-<codec>-<algo>-<hash>`."""
    names = [config.dataset.name, str(config.codec["name"]), str(config.algo["name"])]
    short = ["".join(ch if ch.isalnum() or ch in "._-" else "_" for ch in Path(name).name) for name in names]
    return Path("runs") / "-".join([*short, config.hash8])


def prepare(config: RunConfig, parts: Parts, progress: bool, clock: Clock) -> Prepared:
    """Load the data, build and fit the codec, encode the training set."""
    how = resolve_numerics(config.compute)
    if faults := weight_faults(config.codec):
        raise UsageError(faults)
    images = load_dataset(config.dataset, progress=progress)
    clock.lap("load_s")
    codec = build_codec(config.codec, images.image_shape)
    codec.fit(images.train, how.device)
    clock.lap("fit_s")
    wanted = _budget(config, parts, images, codec).codes_per_class
    smallest = int(images.train.labels.bincount(minlength=len(images.classes)).min())
    if wanted > smallest:
        log.warning("%d codes a class, but a class has only %d images to draw them from", wanted, smallest)
    log.info("%s: %d images %s, %d classes", images.name, len(images.train), images.image_shape, len(images.classes))
    pixels = pixel_set(images, how.device)
    space, codes = code_set(images, codec, how, progress=progress)
    clock.lap("encode_s")
    return Prepared(images, pixels, codec, space, codes, how)


def finish(job: Job, prepared: Prepared, synthetic: SyntheticSet | None = None) -> tuple[Record, SyntheticSet | None]:
    """The second half of the road, from the distillation (or its given result) to the record."""
    config, folder, clock = job.config, job.folder, job.clock
    with folder.open(config, wait=job.shared):
        done = folder.finished(config) if job.shared else None
        if done is not None:  # another process made it while this one waited
            return done, synthetic
        owner = prepared.owner(config)
        synthetic = synthetic or folder.synthetic(owner) or distil(job, prepared)
        folder.keep_synthetic(synthetic, owner)
        clock.lap("distill_s")
        stored = make_artifact(synthetic, prepared.space, config.precision, prepared.data, str(config.codec["name"]))
        sha256 = save_artifact(stored, folder.artifact)
        with torch.no_grad():
            images = prepared.space.decode(stored.codes.to(prepared.numerics.device))
        held_out = prepared.data.held_out(config.split)  # the artifact is final: only now are these images read
        judged_on = prepared.data, prepared.pixels, held_out, job.parts.protocol, prepared.numerics
        trial = trial_of(stored, images, *judged_on)
        scores, skipped = score(job.parts.evaluators, trial, config.seed, folder.scores, progress=job.progress)
        clock.lap("evaluate_s")
        beside = run_controls(job, prepared, scores) if config.controls else {}
        clock.lap("controls_s")
        record = Record(
            {
                "schema": SCHEMA,
                "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "command": job.command,
                "config": config.to_json(),
                "dataset": outcome.dataset_entry(prepared.data, held_out),
                "codec": prepared.codec.describe(str(config.codec["name"])),
                "distiller": {
                    "name": config.algo["name"],
                    "config": job.parts.distiller.config(),
                    "match": config.match,
                },
                **_ledger(job, prepared, stored, sha256),
                "protocol": {**job.parts.protocol.to_json(), "sha256": job.parts.protocol.sha256},
                "scored_on": config.split,
                "scores": [asdict(score) for score in scores],
                "skipped": [asdict(row) for row in skipped],
                "summary": summary(scores),
                "controls": beside,
                "selection": job.parts.distiller.selection,
                "cost": outcome.cost_entry(clock),
                "environment": environment(prepared.numerics.to_json()),
                "seeds": {"run": config.seed, "evaluation": sorted({score.seed for score in scores})},
            },
            folder.path,
        )
        outcome.write_pictures(record, synthetic, images, prepared.pixels)
        record.save()
        folder.seal()
        if is_control(config) and not job.shared:
            folder.copy(_control_folder(config, job.parts, prepared))
    return record, synthetic


def distil(job: Job, prepared: Prepared) -> SyntheticSet:
    """The synthetic set: a task in the match space, and the method."""
    config = job.config
    in_pixels = config.match == "pixel" or prepared.codec.pixels
    operations = operations_for(
        colour=in_pixels and prepared.data.image_shape[0] == 3,
        spatial=in_pixels or prepared.codec.spatial,
        flip=prepared.data.flip,
    )
    with job.clock.watch_steps(job.progress, job.limit_s) as progress:
        task = Task(
            real=prepared.pixels if in_pixels else prepared.codes,
            codes=prepared.codes,
            space=prepared.space,
            match=config.match,
            codes_per_class=prepared.budget(config, job.parts).codes_per_class,
            num_classes=len(prepared.data.classes),
            seed=config.seed,
            services=Services(
                numerics=prepared.numerics,
                augment=Augment(operations),
                checkpoint=DiskCheckpoint(job.folder, prepared.owner(config)),
                progress=progress,
            ),
            real_id=hash_json([prepared.data.fingerprint, "pixels" if in_pixels else prepared.codec.identity]),
        )
        return validate_result(_distilled(job, task), task)


def _distilled(job: Job, task: Task) -> SyntheticSet:
    """What the method returns; what it raises is its own fault, told with where to look."""
    try:
        return job.parts.distiller.distill(task)
    except DDBenchError:
        raise
    except Exception as error:
        if is_disk_fault(error):
            raise write_fault(getattr(error, "filename", None) or job.folder.path, error) from error
        log.error("%s", traceback.format_exc())
        name = job.config.algo["name"]
        raise RunFailed(
            f"algo {name}: {type(error).__name__}: {error}; dd-bench check algo {name} --contracts-only may say why"
        ) from error


def run_controls(job: Job, method: Prepared, scores: list[Score]) -> dict[str, Json]:
    """The controls' entries in the record: ordinary runs, made once for configuration, data, codec and numerics."""
    entries: dict[str, Json] = {}
    for name, config in control_configs(
        job.config, method.budget(job.config, job.parts).bytes_per_class, method.data.image_shape
    ).items():
        if isinstance(config, str):
            entries[name] = {"skipped": config}
            continue
        prepared = _in_pixels(method) if name.startswith("random-pixels") else method
        try:
            record = _control(name, config, prepared, f"control of: {job.command}", progress=job.progress)
        except UsageError as fault:
            entries[name] = {"skipped": str(fault)}
            continue
        theirs = [Score(**row) for row in record.data["scores"]]
        entries[name] = entry(dict(record.data), gain(scores, theirs))
    return entries


def control(config: RunConfig, *, kept: str = "controls", progress: bool = False) -> Record:
    """A control's run, made once and kept in the cache.

    Args:
        config: of the control itself, as `control_configs` gives it.
        kept: under which name in the cache; `controls` are those that methods are compared with.
        progress: show progress bars on stderr.
    """
    name = f"{config.codec['name']} + {config.algo['name']}"
    prepared = prepare(*resolve_run(config), progress, Clock())
    return _control(name, config, prepared, f"control {name}", progress=progress, kept=kept)


def _control(
    name: str, config: RunConfig, prepared: Prepared, command: str, *, progress: bool, kept: str = "controls"
) -> Record:
    resolved, parts = resolve_run(config)
    folder = _control_folder(resolved, parts, prepared, kept)
    record = folder.usable(resolved)
    if record is None:
        log.info("control %s", name)
        record, _ = finish(Job(resolved, parts, folder, command, progress, Clock(), shared=True), prepared)
        folder.close()
    return record


def _control_folder(config: RunConfig, parts: Parts, prepared: Prepared, kept: str = "controls") -> RunFolder:
    key = [config.to_json(), prepared.data.fingerprint, prepared.codec.fingerprint, parts.protocol.sha256]
    versions = [__version__, version("timm")]
    return RunFolder(cache_dir() / kept / hash_json([*key, prepared.numerics.to_json(), *versions])[:32])


def _in_pixels(method: Prepared) -> Prepared:
    """The same data under the `identity` codec."""
    codec = build_codec({"name": "identity"}, method.data.image_shape)
    space, codes = code_set(method.data, codec, method.numerics)
    return replace(method, codec=codec, space=space, codes=codes)


def _budget(config: RunConfig, parts: Parts, images: ImageData, codec: SizedCodec) -> Budget:
    label_bits = parts.distiller.label_bits(len(images.classes))
    shapes = images.image_shape, codec.code_shape
    return budget_for(*shapes, config.precision, ipc=config.ipc, lpc=config.lpc, label_bits=label_bits)


def _ledger(job: Job, prepared: Prepared, stored: Artifact, sha256: str) -> dict[str, Json]:
    """The record's `budget` and `artifact`."""
    size = job.folder.artifact.stat().st_size
    spent = stored.bytes(size, decoder_bytes(prepared.codec.codec))
    return {
        "budget": outcome.budget_entry(prepared.budget(job.config, job.parts), stored, spent),
        "artifact": {"path": job.folder.artifact.name, "sha256": sha256, "bytes": size},
    }
