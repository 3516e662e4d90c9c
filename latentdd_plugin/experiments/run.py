"""Run a method: load -> fit and encode -> distil -> store -> decode -> evaluate -> record, beside its baselines."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from pathlib import Path

from latentdd_plugin.core.cache import cache_dir
from latentdd_plugin.core.compute import Numerics, resolve_device
from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.monitor import Clock
from latentdd_plugin.core.processes import group
from latentdd_plugin.core.progress import RunProgress
from latentdd_plugin.core.types import ImageData, Score, SyntheticSet, hash_json
from latentdd_plugin.core.version import __version__
from latentdd_plugin.experiments.baselines import PIXELS, baseline_configs, is_baseline
from latentdd_plugin.experiments.build import Parts, preset_note, resolve_run
from latentdd_plugin.experiments.cost.beginning import estimate_loaded
from latentdd_plugin.experiments.run_folder import RunFolder, differing
from latentdd_plugin.experiments.stage_records import Encoded, Evaluated, Job, Loaded
from latentdd_plugin.experiments.stages import (
    budget_of,
    decode,
    decoded_images,
    distil,
    encode,
    evaluate,
    load,
    start_images,
    store,
    to_artifact,
    train_and_test,
)
from latentdd_plugin.experiments.token_rules import precision_of
from latentdd_plugin.latent.encode import code_set
from latentdd_plugin.latent.sized_codec import SizedCodec, build_codec
from latentdd_plugin.results.entries import (
    CodecEntry,
    Cost,
    DatasetEntry,
    DistillerEntry,
    ProtocolEntry,
    Seeds,
    Settings,
)
from latentdd_plugin.results.environment import command_line, environment
from latentdd_plugin.results.pictures import shown_rows, write_pictures
from latentdd_plugin.results.record import Baseline, Record, SkippedBaseline, thinned
from latentdd_plugin.results.statistics import summarise

log = logging.getLogger(__name__)


def run(
    config: RunConfig,
    *,
    out: Path | str | None = None,
    progress: bool = False,
    command: str | None = None,
    limit_s: float | None = None,
) -> Record:
    """Distil, store, decode and evaluate, beside the baselines; leave a run folder.

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
    one = [precision_of(config)]
    found = run_precisions(config, one, out=out, progress=progress, command=command, limit_s=limit_s)
    if not found:
        raise UsageError("the record is with the first process; call run_precisions, which returns none here")
    return found[0]


def run_precisions(
    config: RunConfig,
    precisions: Sequence[str],
    *,
    out: Path | str | None = None,
    progress: bool = False,
    command: str | None = None,
    limit_s: float | None = None,
) -> list[Record]:
    """Distil once at a fixed `lpc`, store and score at several precisions: a run folder each, under `out`.

    Raises:
        UsageError: several precisions without `lpc` (at fixed bytes the precision decides how many codes there are),
            or as `run`.
    """
    if len(precisions) > 1 and config.lpc is None:
        raise UsageError("several precisions from one distillation need a fixed number of codes: give lpc, not ipc")
    resolved = [resolve_run(config.replace(precision=p)) for p in precisions]
    if note := preset_note(config, resolve_device(config.device)):
        log.info("%s", note)
    _refuse_different(resolved[0][0])
    base = Path(out) if out is not None else default_out(resolved[0][0])
    folders = [RunFolder(base / each.precision if len(precisions) > 1 else base) for each, _ in resolved]
    finished = [folder.finished(each) for (each, _), folder in zip(resolved, folders, strict=True)]
    synthetic: SyntheticSet | None = None
    clock, whole, records = Clock(), RunProgress(show=progress), []
    encoded: Encoded | None = None
    for (each, parts), folder, done in zip(resolved, folders, finished, strict=True):
        if done is None:
            folder.refuse_unwritable()
            clock = clock.without("evaluate_s", "controls_s")  # of another precision
            job = Job(each, parts, clock, progress, limit_s, folder, command or command_line(), whole=whole)
            if encoded is None:
                loaded = load(job)
                encoded = encode(job, loaded, partial(_log_cost, job, loaded))
                synthetic = _stored_synthetic(folders, [config for config, _ in resolved], encoded, clock)
            record, synthetic = complete(job, encoded, synthetic)
            if record is None:
                continue
        else:
            log.info("%s is finished", folder.path)
            record = done
        records.append(record)
    whole.close()
    group().gather(None)
    for folder in folders:  # only now: each holds the one distillation for those that are not finished
        if group().first:
            folder.close()
    return records


def _log_cost(job: Job, loaded: Loaded, codec: SizedCodec) -> None:
    """Log the estimated time of each stage, and plan the progress of the whole run. No estimate stops a run."""
    if not group().first:
        return
    data, numerics = loaded.data, loaded.numerics
    try:
        estimate = estimate_loaded(job.config, job.parts, data, codec, numerics, _kept_baselines(job, loaded, codec))
    except Exception as error:  # of a codec or a budget, which the run itself reports at its place
        log.info("estimated time: not known (%s)", error)
        return
    log.info("%s", estimate.line(group().size))
    job.whole.plan({stage.name: stage.on(group().size) or 0.0 for stage in estimate.stages})


def _kept_baselines(job: Job, loaded: Loaded, codec: SizedCodec) -> list[str]:
    """Return the names of the baselines that are in the cache."""
    data, numerics = loaded.data, loaded.numerics
    if not (job.config.controls and data.fingerprint):
        return []
    allowed, found = budget_of(job, data, codec).bytes_per_class, []
    for name, config in baseline_configs(job.config, allowed, data.image_shape).items():
        if isinstance(config, RunConfig):
            theirs = codec if name == "random-codes" else build_codec(PIXELS, data.image_shape)
            folder = _baseline_folder(*resolve_run(config), data, theirs, numerics)
            found += [name] if (folder.path / "result.json").exists() else []
    return found


def _refuse_different(config: RunConfig) -> None:
    """Raise UsageError in every process of a run if their configurations differ."""
    every = group().gather(config.to_json())
    for rank, other in enumerate(every):
        if differences := differing(other, every[0]):
            raise UsageError(f"process {rank} of this run has another configuration:\n  " + "\n  ".join(differences))


def _stored_synthetic(
    folders: Sequence[RunFolder[Record]], configs: Sequence[RunConfig], encoded: Encoded, clock: Clock
) -> SyntheticSet | None:
    """Return the distillation that one of the folders of an interrupted run holds, and add its cost to the clock."""
    for folder, config in zip(folders, configs, strict=True):
        owner = encoded.owner(config)
        synthetic = folder.synthetic(owner)
        if synthetic is not None:
            folder.restore_costs(clock, owner, "distill_s")
            return synthetic
    return None


def default_out(config: RunConfig) -> Path:
    """Return `runs/<dataset>-<codec>-<algo>-<hash>`."""
    names = [config.dataset.name, config.codec.name, config.algo.name]
    short = ["".join(ch if ch.isalnum() or ch in "._-" else "_" for ch in Path(name).name) for name in names]
    return Path("runs") / "-".join([*short, config.hash8])


def complete(
    job: Job, encoded: Encoded, synthetic: SyntheticSet | None = None
) -> tuple[Record | None, SyntheticSet | None]:
    """Carry out the stages after encoding.

    Args:
        job: the run, with a folder.
        encoded: the training set's codes.
        synthetic: a finished distillation of the same configuration, at another precision perhaps.

    Returns:
        The record, which only the first process of a run has, and the distillation for further precisions.
    """
    folder = job.home
    if not group().first:
        return None, _take_part(job, encoded, synthetic)
    with folder.open(job.config, wait=job.shared):
        done = folder.finished(job.config) if job.shared else None
        if group().from_first(done is not None):  # another run made it while this one waited
            return done, synthetic
        begun = ("evaluate_s", "controls_s") + (("distill_s",) if synthetic is None else ())
        folder.restore_costs(job.clock, encoded.owner(job.config), *begun)
        distilled = distil(job, encoded, synthetic)
        stored = store(job, distilled)
        decoded = decode(stored)
        evaluated = evaluate(job, decoded)
        finished = record(job, evaluated)
        if not job.shared:  # a baseline in the cache is not looked at, and pictures read every image again
            start = start_images(job, encoded, shown_rows(distilled.synthetic, len(encoded.data.classes)))
            write_pictures(finished, distilled.synthetic, decoded.images, encoded.pixels, start)
        finished.save()
        folder.seal()
        if is_baseline(job.config) and not job.shared:
            folder.copy(_baseline_folder(job.config, job.parts, encoded.data, encoded.codec, encoded.numerics))
    return finished, distilled.synthetic


def _take_part(job: Job, encoded: Encoded, synthetic: SyntheticSet | None) -> SyntheticSet | None:
    """Do this process's share of a run whose folder the first process writes."""
    if group().from_first(False):
        return synthetic
    distilled = distil(replace(job, folder=None), encoded, synthetic)
    artifact = to_artifact(job, distilled)
    train_and_test(job, encoded, artifact, decoded_images(artifact, encoded))
    if job.config.controls:
        run_baselines(job, encoded, ())
    return distilled.synthetic


def record(job: Job, evaluated: Evaluated) -> Record:
    """Run the baselines and put everything into the record."""
    stored, config = evaluated.decoded.stored, job.config
    encoded = stored.distilled.encoded
    baselines = run_baselines(job, encoded, evaluated.scores) if config.controls else {}
    job.clock.lap("controls_s")
    return Record(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=job.command,
        config=Settings.from_json(config.to_json()),
        dataset=DatasetEntry.of(encoded.data, evaluated.held_out),
        codec=CodecEntry.from_json(encoded.codec.describe(config.codec.name)),
        distiller=DistillerEntry(config.algo.name, job.parts.distiller.config(), config.match),
        budget=stored.budget,
        teacher=evaluated.teacher,
        artifact=stored.file,
        protocol=ProtocolEntry.of(job.parts.protocol),
        scored_on=config.split,
        scores=evaluated.scores,
        skipped=evaluated.skipped,
        summary=summarise(evaluated.scores),
        nearest=evaluated.nearest,
        baselines=baselines,
        selection=job.parts.distiller.selection,
        cost=Cost.of_run(job.clock),
        environment=environment(encoded.numerics.to_json()),
        seeds=Seeds(config.seed, tuple(sorted({score.seed for score in evaluated.scores}))),
        losses=thinned(stored.distilled.synthetic.losses),
        folder_or_none=job.home.path,
    )


# --- baselines --------------------------------------------------------------------------------------------------------


def run_baselines(job: Job, encoded: Encoded, scores: tuple[Score, ...]) -> dict[str, Baseline | SkippedBaseline]:
    """Run the method's baselines, ordinary runs made once per configuration, data, codec and numerics."""
    found: dict[str, Baseline | SkippedBaseline] = {}
    allowed = budget_of(job, encoded.data, encoded.codec).bytes_per_class
    wanted = baseline_configs(job.config, allowed, encoded.data.image_shape)
    for name, config in wanted.items():
        job.whole.at("baselines", len(found) / len(wanted))
        if isinstance(config, str):
            found[name] = SkippedBaseline(config)
            continue
        theirs = _in_pixels(encoded) if name.startswith("random-pixels") else _frozen(encoded)
        try:
            made = _cached_run(name, config, theirs, f"baseline of: {job.command}", progress=job.progress)
        except UsageError as fault:
            found[name] = SkippedBaseline(str(fault))
            continue
        if made is not None:
            found[name] = Baseline.of(made, scores)
            job.home.keep_cost(job.clock, encoded.owner(job.config), "controls_s")
    return found


def cached_run(config: RunConfig, *, kept: str = "controls", progress: bool = False) -> Record:
    """Return a baseline's run, made once and kept in the cache.

    Args:
        config: of the baseline itself, as `baseline_configs` gives it.
        kept: folder in the cache; `controls` holds the baselines that methods are compared with.
        progress: show progress bars on stderr.
    """
    name = f"{config.codec.name} + {config.algo.name}"
    job = Job(*resolve_run(config), progress=progress)
    made = _cached_run(name, config, encode(job, load(job)), f"baseline {name}", progress=progress, kept=kept)
    if made is None:
        raise UsageError("a baseline by itself runs in one process")
    return made


def _cached_run(
    name: str, config: RunConfig, encoded: Encoded, command: str, *, progress: bool, kept: str = "controls"
) -> Record | None:
    resolved, parts = resolve_run(config)
    folder = _baseline_folder(resolved, parts, encoded.data, encoded.codec, encoded.numerics, kept)
    made = folder.usable(resolved) if group().first else None
    if group().from_first(made is None):
        log.info("baseline %s", name)
        job = Job(resolved, parts, progress=progress, folder=folder, command=command, shared=True)
        made, _ = complete(job, encoded)
        if group().first:
            folder.close()
    return made


def _baseline_folder(
    config: RunConfig, parts: Parts, data: ImageData, codec: SizedCodec, numerics: Numerics, kept: str = "controls"
) -> RunFolder[Record]:
    key = [config.to_json(), data.fingerprint, codec.fingerprint, parts.protocol.sha256]
    versions = [__version__, version("timm")]
    return RunFolder(cache_dir() / kept / hash_json([*key, numerics.to_json(), *versions])[:32])


def _frozen(encoded: Encoded) -> Encoded:
    """Return the same codes for a run that does not train the decoder."""
    if encoded.codec.joint is None:
        return encoded
    codec = copy.copy(encoded.codec)
    codec.joint = None
    return replace(encoded, codec=codec, space=replace(encoded.space, codec=codec))


def _in_pixels(encoded: Encoded) -> Encoded:
    """Return the same data under the `identity` codec."""
    codec = build_codec(PIXELS, encoded.data.image_shape)
    space, codes = code_set(encoded.data, codec, encoded.numerics)
    return replace(encoded, codec=codec, space=space, codes=codes)
