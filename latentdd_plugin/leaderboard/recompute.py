"""Recompute a claim: train every network again, and its baselines' too, from the artifact and the recorded protocol.

Nothing that a claim says of itself decides what is checked. Baselines follow from its configuration and are drawn and
trained again; a decoder is fitted again if its codec learns from data. On the same platform every accuracy must be
equal to the bit. Elsewhere the means of at least five networks, and the gains, must lie within the tolerance of
`score_differences.py`; the recomputed mean is what the leaderboard then shows and ranks.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch

from latentdd_plugin.artifacts.artifact import Artifact
from latentdd_plugin.artifacts.decode import allowed, decode_artifact
from latentdd_plugin.artifacts.file import load_artifact
from latentdd_plugin.artifacts.labels import stored_labels
from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.core import plugins
from latentdd_plugin.core.cache import cache_dir
from latentdd_plugin.core.compute import resolve_numerics
from latentdd_plugin.core.config import ComputeConfig, DatasetConfig, EvaluationConfig, RunConfig, TeacherConfig
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import JOINT_OPTIONS, Json, Score, hash_json
from latentdd_plugin.data.load import load_dataset
from latentdd_plugin.experiments.baselines import baseline_configs, has_pixel_codes, is_baseline_distiller
from latentdd_plugin.experiments.evaluate import evaluate_artifact
from latentdd_plugin.experiments.run import cached_run
from latentdd_plugin.experiments.run_folder import CHECKSUMS
from latentdd_plugin.experiments.teachers import obtain_teacher
from latentdd_plugin.leaderboard.records import FULL, REPEAT, Check, CheckedRow
from latentdd_plugin.leaderboard.score_differences import (
    compare_scores,
    dataset_differences,
    distant_gains,
    distant_means,
    teacher_differences,
)
from latentdd_plugin.leaderboard.static_check import Claim, codec_differences
from latentdd_plugin.results.environment import environment
from latentdd_plugin.results.evaluation import Evaluation
from latentdd_plugin.results.record import Baseline, Record

NETWORKS = 5  # at least so many per evaluator on another platform
LABELS_APART = 0.05  # mean total variation between a teacher's distributions on another platform, from 0 to 1
# Beside the numerics, what a network's bits depend on. This package is not among them: under one protocol and
# `implementation` its releases give equal bits, which the golden scores hold.
PACKAGES = ("timm",)
DRAWN = {"name": "random"}


@dataclass(frozen=True)
class VerifyInputs:
    """The caller's data, weights and plug-ins."""

    datasets: Mapping[str, str] = field(default_factory=dict)  # a dataset's name, or "" for any -> folder or hub id
    codecs: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)  # a codec's name, or "" -> its locations
    plugins: tuple[str, ...] = ()
    artifact: Path | None = None  # of a submission whose artifact lies elsewhere
    teacher: str | None = None  # folder of the teacher, if it is not trained again
    extra_seeds: int = 0  # networks under seeds that the claim does not know


@dataclass(frozen=True)
class _Recomputation:
    """A claim, the caller's inputs, and how to compute."""

    claim: Claim
    inputs: VerifyInputs
    compute: ComputeConfig
    same: bool  # this platform computes the claim's bits
    progress: bool

    @property
    def record(self) -> Record:
        """The claim's record."""
        return self.claim.record

    @property
    def places(self) -> dict[str, Json]:
        """The caller's locations of the codec's weights."""
        codecs = self.inputs.codecs
        return {**codecs.get("", {}), **codecs.get(self.record.codec.name, {})}

    @property
    def dataset(self) -> dict[str, Json]:
        """The dataset with the record's options, at the caller's place; an installed one needs none."""
        data, places = self.record.dataset, self.inputs.datasets
        place = places.get(data.name, places.get(""))
        known = {f.name for f in fields(DatasetConfig)} - {"name"}
        how = {key: value for key, value in self.record.config.dataset.items() if key in ("max_pixels", "codes")}
        options = {key: value for key, value in {**data.options, **how}.items() if key in known}
        options["classes"] = tuple(map(str, options["classes"])) if options.get("classes") else None
        return {**options, **({"name": place} if place else {})}

    @property
    def dataset_config(self) -> DatasetConfig:
        """The dataset to load."""
        return DatasetConfig(**{"name": self.record.dataset.name, **self.dataset})

    @property
    def run(self) -> RunConfig:
        """The configuration of the run, as far as baselines and a repetition depend on it."""
        record = self.record
        codec, budget = record.codec, record.budget
        return RunConfig(
            dataset=self.dataset_config,
            codec={**self.joint, **codec.config, **self.places, "name": codec.name, "upsample": codec.upsample},
            algo={**record.config.algo.extra, "name": record.distiller.name},
            match=record.distiller.match,
            ipc=budget.ipc,
            lpc=record.config.lpc,
            bytes=record.config.bytes,
            precision=budget.precision,
            evaluators=record.config.evaluators,
            protocol=record.protocol.name,
            split=record.scored_on,
            controls=record.config.controls,
            seed=record.config.seed,
            compute=self.compute,
            labels=record.config.labels,
            teacher=self.teacher,
        )

    @property
    def joint(self) -> dict[str, Json]:
        """The options of a decoder that was trained with the codes."""
        return {key: value for key, value in self.record.config.codec.extra.items() if key in JOINT_OPTIONS}

    @property
    def teacher(self) -> TeacherConfig:
        """The record's teacher, at the caller's place if one is given."""
        stated = {key: value for key, value in (self.record.config.teacher or {}).items() if key != "path"}
        placed = {"path": self.inputs.teacher, "pretrained": False} if self.inputs.teacher else {}
        return TeacherConfig(**{**stated, **placed})

    @property
    def evaluation(self) -> EvaluationConfig:
        """The evaluation to repeat."""
        seeds = self.record.protocol.seeds or 1
        least = 0 if self.same else NETWORKS
        return EvaluationConfig(
            dataset=self.dataset,
            evaluators=self.record.config.evaluators,
            protocol=self.record.protocol.name,
            split=self.record.scored_on,
            seed=self.record.config.seed,
            teacher=self.teacher,
            networks=max(seeds + self.inputs.extra_seeds, least) if self.inputs.extra_seeds or least else None,
            compute=self.compute,
        )


def recompute(claim: Claim, inputs: VerifyInputs, *, repeat: bool = False, progress: bool = False) -> Check:
    """Train and test every network again, the baselines' too; with `repeat`, distil again first.

    Raises:
        UsageError: data or weights are not given, or are others than the artifact's.
    """
    _refuse_unnamed(claim.record, inputs)
    compute, same = _platform(claim.record)
    work = _Recomputation(claim, inputs, compute, same, progress)
    if repeat:
        _refuse_unrepeatable(claim.record)
    if work.teacher.pretrained:
        raise UsageError("the claim's teacher has weights from a hub, and nothing is fetched: give --teacher FOLDER")
    record = claim.record
    folder = cache_dir() / "verify" / hash_json([claim.sha256, str(work.evaluation)])[:32]
    for name in (Evaluation.file, CHECKSUMS):  # a verification trains: it takes no finished result from a cache
        (folder / name).unlink(missing_ok=True)
    evaluation = evaluate_artifact(
        claim.stored,
        work.evaluation,
        codec=work.places,
        allow_plugins=inputs.plugins,
        alone=True,
        out=folder,
        progress=progress,
        command="verify",
    )
    shutil.rmtree(folder, ignore_errors=True)  # a second verification trains again
    rows, why = compare_scores(record.scores, evaluation.scores, same=same)
    why += codec_differences(record.codec, evaluation.codec)
    why += [
        f"budget.bytes.{part}: {is_:,} claimed, {has:,} found"
        for part, is_, has in record.budget.bytes.differences(evaluation.budget.bytes)
    ]
    why += dataset_differences(record, evaluation.dataset)
    why += teacher_differences(record, evaluation, same=same)
    if same and record.nearest not in (None, evaluation.nearest):
        why.append(f"nearest: {record.nearest} claimed, {evaluation.nearest} found")
    found, reasons = _baselines(work, evaluation.scores)
    rows, why = [*rows, *found], [*why, *reasons]
    if _is_fitted(record):
        why += _decoder(work)
    why += _labels(work)
    if repeat:
        why += _repetition(work)
    notes = [evaluation.nearest.sentence] if evaluation.nearest else []
    numerics = evaluation.environment.numerics
    return Check.of(REPEAT if repeat else FULL, why, rows, same_platform=same, numerics=numerics, notes=notes)


def _refuse_unnamed(record: Record, inputs: VerifyInputs) -> None:
    """Raise UsageError if the record names code that is neither this package's nor allowed: it is never run."""
    among, known = allowed(inputs.plugins), plugins.entries("evaluators")
    wrong = [
        f"evaluator {name!r}: code that a record names is not run" for name in record.config.evaluators if ":" in name
    ]
    wrong += [
        f"evaluator {name!r} is of {known[name].distribution}: allow it with --allow-plugin {known[name].distribution}"
        for name in record.config.evaluators
        if name in known and known[name].distribution not in among
    ]
    if wrong:
        raise UsageError(wrong)


def _refuse_unrepeatable(record: Record) -> None:
    """Raise UsageError if the distillation cannot be repeated from the record."""
    name = record.distiller.name
    entry = plugins.entries("algos").get(name)
    if entry is None or entry.distribution != plugins.OURS or name == "imported":
        raise UsageError(f"--level repeat: {name!r} is not a distiller of this package; --level full checks the rest")


def _platform(record: Record) -> tuple[ComputeConfig, bool]:
    """Return how to compute, as near to the record as this machine allows, and whether that gives the same bits."""
    used = record.environment.numerics
    config = ComputeConfig(device=used["device"], amp=used["amp"], compile=used["compile"], threads=used["threads"])
    try:
        ours = resolve_numerics(config).to_json()
    except UsageError:  # there is no such device here
        return ComputeConfig(), False
    packages = environment(ours).packages
    same = ours == dict(used) and all(packages[name] == record.environment.packages.get(name) for name in PACKAGES)
    return config, same


# --- the baselines ----------------------------------------------------------------------------------------------------


def _baselines(work: _Recomputation, scores: Sequence[Score]) -> tuple[list[CheckedRow], list[str]]:
    """Draw and train every baseline that a run of the claim's configuration has."""
    record, rows, why = work.record, list[CheckedRow](), list[str]()
    for name, config in _baseline_configs(work).items():
        theirs = record.baselines.get(name)
        try:
            made = cached_run(config, kept="verified", progress=work.progress)
        except UsageError as error:  # a budget too small for one code, say: then there is none
            why += [f"{name}: it has scores, but cannot be made ({error})"] if isinstance(theirs, Baseline) else []
            continue
        if not isinstance(theirs, Baseline):
            why.append(f"{name}: left out, though it can be made")
            continue
        found = made.scores if work.same else _more_networks(work, made)
        more, reasons = compare_scores(theirs.scores, found, same=work.same, baseline=name)
        differences = theirs.budget.bytes.differences(made.budget.bytes, but=("file",))  # its header names the dataset
        reasons += [f"budget.bytes.{part}: {is_:,} claimed, {has:,} found" for part, is_, has in differences]
        counts = {
            name: (getattr(theirs.budget, name), getattr(made.budget, name)) for name in ("codes_per_class", "codes")
        }
        reasons += [
            f"budget.{name}: {is_:,} claimed, {has:,} found" for name, (is_, has) in counts.items() if is_ != has
        ]
        reasons += [] if work.same else distant_gains(theirs, scores, found)
        reasons += codec_differences(theirs.codec, made.codec)
        rows += more
        why += [f"{name}: {reason}" for reason in reasons]
    return rows, why


def _baseline_configs(work: _Recomputation) -> dict[str, RunConfig]:
    record = work.record
    if not record.config.controls and is_baseline_distiller(record.distiller.name):  # it is the baseline itself
        return {}
    configs = baseline_configs(work.run, record.budget.bytes_per_class, record.dataset.image_shape)
    return {name: one for name, one in configs.items() if isinstance(one, RunConfig)}


def _more_networks(work: _Recomputation, made: Record) -> tuple[Score, ...]:
    """Score a baseline's artifact with as many networks as the claim's."""
    return evaluate_artifact(
        made.folder,
        work.evaluation,
        codec={} if has_pixel_codes(made.codec.name) else work.places,
        allow_plugins=work.inputs.plugins,
        progress=work.progress,
        command="verify",
    ).scores


# --- the decoder and the distillation ---------------------------------------------------------------------------------


def _is_fitted(record: Record) -> bool:
    """Return whether the codec learns from data: its class says so, never the record."""
    cls: type[Codec] = plugins.resolve("codecs", record.codec.name, base=Codec, installed_only=True).cls
    return cls.fit is not Codec.fit


def _decoder(work: _Recomputation) -> list[str]:
    """Fit a codec that learns from data again: its decoder, which travels in the artifact, must come out."""
    drawn = cached_run(work.run.replace(algo=DRAWN, match="code", controls=False), kept="verified")
    ours, theirs = _stored(drawn).codec_state, load_artifact(work.claim.stored).codec_state
    if ours.keys() != theirs.keys():
        return ["codec: its decoder has other tensors than fitting on the training images gives"]
    if work.same:
        equal = all(torch.equal(ours[name], theirs[name]) for name in ours)
    else:
        equal = all(torch.allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-4) for name in ours)
    return [] if equal else ["codec: its decoder is not what fitting on the training images gives"]


def _labels(work: _Recomputation) -> list[str]:
    """Ask the teacher again: its labels, which travel in the artifact, must come out."""
    theirs, config = load_artifact(work.claim.stored), work.run
    form = theirs.header.labels
    if form is None or theirs.soft is None:
        return []
    data, numerics = load_dataset(work.dataset_config), resolve_numerics(work.compute)
    teacher = obtain_teacher(work.teacher, data, numerics, progress=work.progress)
    if teacher is None:
        return ["labels: the artifact holds a teacher's, the configuration names none"]
    _, images = decode_artifact(theirs, work.places, allowed(work.inputs.plugins), numerics.device)
    with torch.no_grad():
        ours = stored_labels(form, images, teacher, config.seed)
    if work.same:
        equal = torch.equal(ours.data, theirs.soft.data)
    else:
        size = len(theirs.labels), len(theirs.classes)
        far = (ours.log_probabilities(*size).exp() - theirs.soft.log_probabilities(*size).exp()).abs()
        equal = float(far.sum(-1).mean()) / 2 < LABELS_APART
    if (ours.views is None) != (theirs.soft.views is None):
        equal = False
    elif ours.views is not None and theirs.soft.views is not None:
        equal = equal and torch.equal(ours.views, theirs.soft.views)
    return [] if equal else ["labels: those in the artifact are not what the teacher gives for its images"]


def _repetition(work: _Recomputation) -> list[str]:
    """Distil again from the record and compare the artifacts: to the bit here, by accuracy on another platform."""
    made = cached_run(work.run.replace(controls=False), kept="repeated", progress=work.progress)
    if not work.same:
        return [f"distilled again: {reason}" for reason in distant_means(work.record.scores, made.scores)]
    ours, theirs = _stored(made), load_artifact(work.claim.stored)
    equal = torch.equal(ours.packed.data, theirs.packed.data) and torch.equal(ours.labels, theirs.labels)
    decoders = [{} if one.trained is None else one.trained.stored() for one in (ours, theirs)]
    equal = equal and decoders[0].keys() == decoders[1].keys()
    equal = equal and all(torch.equal(tensor, decoders[1][name]) for name, tensor in decoders[0].items())
    why = [] if equal else ["distilled again: the codes, the labels or the decoder are not those of the artifact"]
    stated = work.record.losses  # missing in older files
    return why if stated in (None, made.losses) else [*why, "distilled again: other losses than the record's"]


def _stored(record: Record) -> Artifact:
    return load_artifact(record.folder / "distilled.safetensors")
