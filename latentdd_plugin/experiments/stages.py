"""The stages of a run up to its scores: load, fit and encode, distil, store, decode, evaluate.

Each stage takes what the stage before it returned. Up to `to_artifact` none of them needs a folder.
"""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from latentdd_plugin.artifacts.artifact import Artifact, labelled, make_artifact
from latentdd_plugin.artifacts.as_stored import AsStored, estimated_bytes
from latentdd_plugin.artifacts.budget import Budget, ByteLedger, budget_for, image_bytes
from latentdd_plugin.artifacts.file import save_artifact
from latentdd_plugin.artifacts.labels import label_bits
from latentdd_plugin.codecs.base import decoder_bytes
from latentdd_plugin.core.compute import resolve_numerics
from latentdd_plugin.core.errors import DDBenchError, RunFailed, UsageError
from latentdd_plugin.core.heap import give_back_freed_memory
from latentdd_plugin.core.processes import group
from latentdd_plugin.core.storage import is_disk_fault, write_fault
from latentdd_plugin.core.types import CODED, ImageData, Images, Score, Skipped, SyntheticSet, hash_json
from latentdd_plugin.data.load import load_dataset, with_fingerprint
from latentdd_plugin.distillers.loop import INITS
from latentdd_plugin.distillers.services import Checkpoint, Services
from latentdd_plugin.distillers.task import Task, validate_result
from latentdd_plugin.evaluators.scoring import score, trial_of
from latentdd_plugin.experiments.build import rereads_pixels, weight_faults
from latentdd_plugin.experiments.nearest import nearest_images
from latentdd_plugin.experiments.run_folder import DiskCheckpoint
from latentdd_plugin.experiments.stage_records import Decoded, Distilled, Encoded, Evaluated, Job, Loaded, Stored
from latentdd_plugin.experiments.teachers import obtain_teacher
from latentdd_plugin.latent.encode import code_set
from latentdd_plugin.latent.joint import TrainedPart
from latentdd_plugin.latent.sized_codec import SizedCodec, build_codec
from latentdd_plugin.latent.space import pixel_set
from latentdd_plugin.nn.augment import Augment, operations_for
from latentdd_plugin.results.entries import ArtifactEntry, BudgetEntry, TeacherEntry

log = logging.getLogger(__name__)


def load(job: Job) -> Loaded:
    """Load the dataset and choose device and arithmetic.

    Raises:
        UsageError: the codec's weights are missing, or the dataset cannot be read.
    """
    numerics = resolve_numerics(job.config.compute)
    if faults := weight_faults(job.config.codec):
        raise UsageError(faults)
    again = rereads_pixels(job.config)
    data = load_dataset(job.config.dataset, progress=job.progress, again=again, identify=False)
    job.clock.lap("load_s")
    return Loaded(data, numerics)


def encode(job: Job, loaded: Loaded, fitted: Callable[[SizedCodec], None] | None = None) -> Encoded:
    """Build and fit the codec and encode the training set.

    Args:
        job: the run.
        loaded: its dataset.
        fitted: called with the codec before the training set is encoded.

    Raises:
        UsageError: the codec does not take these images, or not even one code per class fits the budget.
    """
    data, numerics = loaded.data, loaded.numerics
    codec = build_codec(job.config.codec, data.image_shape)
    codec.fit(data.train, numerics.device)
    job.clock.lap("fit_s")
    if fitted is not None:
        fitted(codec)
        job.clock.lap("estimate_s")  # not part of the encoding
    wanted, smallest = budget_of(job, data, codec).codes_per_class, smallest_class(data)
    if wanted > smallest:
        log.warning("%d codes per class, but a class has only %d images to draw them from", wanted, smallest)
    log.info("%s: %d images %s, %d classes", data.name, len(data.train), data.image_shape, len(data.classes))
    space, codes = code_set(data, codec, numerics, progress=job.progress, precision=job.config.dataset.codes)
    data, pixels = with_fingerprint(data), pixel_set(data, numerics.device, group())
    job.clock.lap("encode_s")
    job.whole.at("encode", 1)
    teacher = obtain_teacher(job.config.teacher, data, numerics, progress=job.progress)
    job.clock.lap("teacher_s")
    return Encoded(data, numerics, pixels, codec, space, codes, teacher)


def distil(job: Job, encoded: Encoded, finished: SyntheticSet | None = None) -> Distilled:
    """Distil, unless the folder holds this run's finished distillation or the caller brings one."""
    owner = encoded.owner(job.config)
    kept = job.folder.synthetic(owner) if job.folder and finished is None else None
    synthetic = group().from_first(finished or kept) or checked_synthetic(job, encoded)
    if job.folder:
        job.folder.keep_synthetic(synthetic, owner)
        job.folder.keep_cost(job.clock, owner, "distill_s")
    job.clock.lap("distill_s")
    return Distilled(encoded, synthetic)


def checked_synthetic(job: Job, encoded: Encoded) -> SyntheticSet:
    """Run the method on a task in its match space and check what it returns."""
    config, data = job.config, encoded.data
    in_pixels = config.match == "pixel" or encoded.codec.pixels
    operations = operations_for(
        colour=in_pixels and data.image_shape[0] == 3,
        spatial=in_pixels or encoded.codec.spatial,
        flip=data.flip,
    )
    checkpoint = Checkpoint()
    if job.folder:
        owner = encoded.owner(config)
        checkpoint = DiskCheckpoint(job.folder, owner, partial(job.folder.keep_cost, job.clock, owner, "distill_s"))
    with job.clock.watch_steps(job.progress, job.limit_s, also=job.whole.steps_of("distil")) as progress:
        storage = storage_of(job, encoded)
        augment = Augment(operations)
        services = Services(encoded.numerics, augment, checkpoint, progress, encoded.teacher, storage, data.flip)
        task = _task(job, encoded, services)
        return _distilled(job, task)


def _distilled(job: Job, task: Task) -> SyntheticSet:
    """Distil in all processes of the run, if the method shares its classes, else in the first one."""
    ours, method = group(), job.parts.distiller
    if ours.size > 1 and not method.shares_classes:
        method.prepare(task)
        found: Any = validate_result(_call_distiller(job, task), task) if ours.first else None
        made: SyntheticSet = ours.from_first(found)
        return made
    return validate_result(_call_distiller(job, task), task)


def _task(job: Job, encoded: Encoded, services: Services) -> Task:
    config, data = job.config, encoded.data
    in_pixels = config.match == "pixel" or encoded.codec.pixels
    names = _trained_part(job, data, encoded.codec).names
    return Task(
        real=encoded.pixels if in_pixels else encoded.codes,
        codes=encoded.codes,
        pixels=encoded.pixels,
        space=replace(encoded.space, codec=encoded.codec.learning(names)) if names else encoded.space,
        match=config.match,
        codes_per_class=budget_of(job, data, encoded.codec).codes_per_class,
        num_classes=len(data.classes),
        seed=config.seed,
        services=services,
        real_id=hash_json([data.fingerprint, "pixels" if in_pixels else encoded.codec.identity]),
    )


def start_images(job: Job, encoded: Encoded, rows: Tensor) -> Tensor | None:
    """Return the images (len(rows), C, H, W) that a method's codes began as; None if it does not begin with any."""
    kind = getattr(job.parts.distiller, "init", None)
    if kind not in INITS:
        return None
    codes, labels = _task(job, encoded, Services(encoded.numerics)).init(kind)
    if len(rows) and int(rows.max()) >= len(codes):
        return None
    with torch.no_grad():
        shown = rows.to(codes.device)
        return encoded.space.decode(codes[shown], labels[shown]).cpu()


def _call_distiller(job: Job, task: Task) -> SyntheticSet:
    """Call the method; wrap what a plug-in raises in RunFailed, with a hint."""
    try:
        return job.parts.distiller.distill(task)
    except DDBenchError:
        raise
    except Exception as error:
        if is_disk_fault(error):
            place = getattr(error, "filename", None) or (job.folder.path if job.folder else ".")
            raise write_fault(place, error) from error
        log.error("%s", traceback.format_exc())
        name = job.config.algo.name
        raise RunFailed(
            f"algo {name}: {type(error).__name__}: {error}; dd-bench check algo {name} --contracts-only may say why"
        ) from error


def to_artifact(job: Job, distilled: Distilled) -> Artifact:
    """Pack the distilled set at the configured precision, with everything that decoding it needs."""
    encoded, config = distilled.encoded, job.config
    codes, classes = len(distilled.synthetic.codes), len(encoded.data.classes)
    synthetic = distilled.synthetic
    if config.labels.regime != "own" and synthetic.label_kind != "hard":
        synthetic = replace(synthetic, labels=synthetic.labels.argmax(1), label_kind="hard")
    made = make_artifact(
        synthetic,
        encoded.space,
        job.config.precision,
        encoded.data,
        job.config.codec.name,
        limit=budget_of(job, encoded.data, encoded.codec).packed_bytes(codes, classes),
    )
    if not config.labels.taught or encoded.teacher is None:
        return made
    images = decoded_images(made, encoded)  # of the codes as the file will hold them
    return labelled(made, images, config.labels, encoded.teacher, config.seed)


def store(job: Job, distilled: Distilled) -> Stored:
    """Write the artifact and count its bytes.

    Raises:
        RunFailed: the method returned more than the budget holds.
    """
    artifact, path, encoded = to_artifact(job, distilled), job.home.artifact, distilled.encoded
    sha256 = save_artifact(artifact, path)
    size = path.stat().st_size
    spent = artifact.bytes(size, decoder_bytes(encoded.codec.codec))
    if encoded.teacher is not None:
        spent = replace(spent, teacher=encoded.teacher.bytes)
    budget = _budget_entry(budget_of(job, encoded.data, encoded.codec), artifact, spent)
    return Stored(distilled, artifact, ArtifactEntry(path=path.name, sha256=sha256, bytes=size), budget)


def decode(stored: Stored) -> Decoded:
    """Decode the artifact as the file holds it."""
    return Decoded(stored, decoded_images(stored.artifact, stored.distilled.encoded))


def decoded_images(artifact: Artifact, encoded: Encoded) -> Tensor:
    """Return the images (M, C, H, W) that an artifact decodes to, with what was trained of the decoder."""
    space = encoded.space
    if artifact.trained is not None:
        space = replace(space, codec=encoded.codec.trained(artifact.trained.tensors()))
    with torch.no_grad():
        return space.decode(artifact.codes.to(encoded.numerics.device), artifact.class_numbers)


def evaluate(job: Job, decoded: Decoded) -> Evaluated:
    """Train every evaluator on the decoded images and test it once."""
    encoded = decoded.stored.distilled.encoded
    held_out, scores, skipped = train_and_test(job, encoded, decoded.stored.artifact, decoded.images)
    teacher = None if encoded.teacher is None else TeacherEntry.of(encoded.teacher, held_out)
    give_back_freed_memory()  # of the networks
    nearest = nearest_images(decoded.images, encoded.data.train.pixels, held_out.pixels)
    job.clock.lap("evaluate_s")
    return Evaluated(decoded, held_out, tuple(scores), tuple(skipped), nearest, teacher)


def train_and_test(
    job: Job, encoded: Encoded, artifact: Artifact, images: Tensor
) -> tuple[Images, list[Score], list[Skipped]]:
    """Return the held-out images, and the scores of all networks; the processes of a run share these."""
    held_out = encoded.data.held_out(job.config.split)  # the artifact is final: only now are these images read
    judged_on = encoded.data, encoded.pixels, held_out, job.parts.protocol, encoded.numerics
    trial = trial_of(artifact, images, *judged_on, teacher=encoded.teacher)
    shown, owner = job.whole.steps_of("evaluate"), encoded.owner(job.config)

    def on_network(done: int, of_all: int) -> None:
        shown(done, of_all)
        job.home.keep_cost(job.clock, owner, "evaluate_s")

    found = score(
        job.parts.evaluators, trial, job.config.seed, job.home.scores, progress=job.progress, on_network=on_network
    )
    return held_out, *found


def storage_of(job: Job, encoded: Encoded) -> AsStored:
    """Return how the set will be stored."""
    budget, classes = budget_of(job, encoded.data, encoded.codec), len(encoded.data.classes)
    limit = budget.packed_bytes(budget.codes_per_class * classes, classes)
    stepped = budget.precision == CODED and budget.tokens is None
    weights = encoded.space.step_weights() if stepped else torch.ones(0)
    return AsStored(budget.precision, weights, limit)


def budget_of(job: Job, data: ImageData, codec: SizedCodec) -> Budget:
    """Return the budget of a job on a dataset: bytes and codes per class."""
    config, classes = job.config, len(data.classes)
    wanted = config.labels
    bits = job.parts.distiller.label_bits(classes) if wanted.regime == "own" else label_bits(wanted, classes)
    shapes, size = (data.image_shape, codec.code_shape), config.bytes
    decoder = math.ceil(_trained_part(job, data, codec).nbytes / classes)
    asked: dict[str, Any] = {"ipc": config.ipc, "lpc": config.lpc, "bytes_per_class": size, "label_bits": bits}
    asked |= {"decoder_bytes": decoder, "tokens": codec.tokens, "images_per_class": smallest_class(data)}
    return budget_for(*shapes, config.precision, **asked)


def smallest_class(data: ImageData) -> int:
    """Return the number of training images of the class that has fewest."""
    return int(data.train.labels.bincount(minlength=len(data.classes)).min())


def _trained_part(job: Job, data: ImageData, codec: SizedCodec) -> TrainedPart:
    """Return what of the codec's decoder is trained with the codes, and its bytes."""
    if codec.joint is None:
        return TrainedPart()
    per_class = (job.config.ipc or 0) * image_bytes(data.image_shape) or job.config.bytes or 0
    return codec.trained_part(per_class * len(data.classes))


def _budget_entry(budget: Budget, artifact: Artifact, spent: ByteLedger) -> BudgetEntry:
    """Return the record's entry; RunFailed if the file spends more than the budget."""
    classes, codes = len(artifact.classes), artifact.packed.shape[0]
    allowed, wanted = budget.bytes_per_class * classes, budget.codes_per_class * classes
    if spent.total > allowed:
        raise RunFailed(f"the method spends {spent.total} bytes on codes and labels, the budget is {allowed}")
    return BudgetEntry(
        ipc=budget.ipc,
        bytes_per_class=budget.bytes_per_class,
        codes_per_class=budget.codes_per_class,
        codes=codes,
        shortfall=None if codes == wanted else f"{codes} codes instead of {wanted}: a class has no more images",
        precision=budget.precision,
        estimated_bytes=estimated_bytes(artifact.packed),
        bytes=spent,
    )
