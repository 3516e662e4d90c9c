"""The cost model: from a configuration and the sizes of its data to the seconds of each stage, memory and disk."""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass, field

import torch
from torch import nn

from latentdd_plugin.artifacts.budget import Budget, budget_for
from latentdd_plugin.artifacts.labels import label_bits
from latentdd_plugin.core.compute import Mode, Numerics
from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.errors import Unsuitable, UsageError
from latentdd_plugin.core.monitor import resident_bytes
from latentdd_plugin.core.random import seeded
from latentdd_plugin.core.types import Shape
from latentdd_plugin.data.store import PART
from latentdd_plugin.distillers.base import Distiller
from latentdd_plugin.distillers.work import TaskSize, Work
from latentdd_plugin.evaluators.base import Evaluator
from latentdd_plugin.evaluators.protocols import Protocol
from latentdd_plugin.evaluators.train_scratch import TrainScratch
from latentdd_plugin.experiments.baselines import baseline_configs, has_pixel_codes
from latentdd_plugin.experiments.build import Parts
from latentdd_plugin.experiments.cost.estimate import Estimate, Stage
from latentdd_plugin.experiments.cost.speed import NOTHING, Census, Duration, Speed, census
from latentdd_plugin.experiments.nearest import SIDE
from latentdd_plugin.experiments.teachers import architecture_of
from latentdd_plugin.latent.encode import DESCRIBED, DTYPES, ENCODE_BATCH
from latentdd_plugin.latent.sized_codec import SizedCodec
from latentdd_plugin.nn.architectures import build
from latentdd_plugin.nn.convnet import matching_network

CHUNK = 256  # samples of a matching network's call
FITTED = 8  # images of the call that measures a codec which optimises its codes
PLAIN_CODEC = 5e7  # values per second that a codec without a network encodes, where nothing was measured


@dataclass(frozen=True)
class DataSize:
    """The numbers of a dataset that decide what a run costs."""

    train: int
    test: int
    classes: int
    shape: Shape
    store: str  # memory | disk | stream
    decode_s: float | None = None  # to read one image file; None if the images are loaded already

    @property
    def values(self) -> int:
        """Values of one image."""
        return math.prod(self.shape)


@dataclass
class Model:
    """The parts of one estimate; networks are counted once each."""

    config: RunConfig
    parts: Parts
    data: DataSize
    codec: SizedCodec
    numerics: Numerics
    speed: Speed
    kept: Container[str] = ()  # baselines that are in the cache
    _networks: dict[tuple[str, Shape], tuple[nn.Module, Census] | None] = field(default_factory=dict)
    _peaks: dict[str, int] = field(default_factory=dict)

    @property
    def in_pixels(self) -> bool:
        """Return whether samples are compared as images."""
        return self.config.match == "pixel" or self.codec.pixels

    def estimate(self) -> Estimate:
        """Return what the run is expected to take."""
        with seeded(0, "cost"):  # new networks draw from the global generators
            budget = self._budget(self.config, self.codec.code_shape, self.codec.tokens)
            stages = [self._load(), self._encode(budget), *self._teacher(), *self._distil(budget)]
            stages += self._scored(self.config, budget)
            stages += self._baselines(budget)
            found = tuple(stage for stage in stages if stage.seconds != 0)
            return Estimate(found, self._memory(), self._disk(budget), self._sizes(budget))

    # --- stages ---

    def _load(self) -> Stage:
        data = self.data
        if data.decode_s is None or data.store == "stream":
            return Stage("load", 0.0, "measured")
        return Stage("load", data.train * data.decode_s, "measured", note="less if the decoded images are in the cache")

    def _encode(self, budget: Budget) -> Stage:
        data, codec = self.data, self.codec
        if codec.pixels:
            return Stage("encode", 0.0, "counted")
        if codec.codec.fits_codes:
            return self._fit_codes(budget)
        reading = data.train * (data.decode_s or 0.0) if data.store == "stream" else 0.0
        counted = census(codec.encode, codec.codec, data.shape, self.numerics.device)
        mode = self.numerics.mode(data.train * counted.flops) if codec.codec.costly else self._plain
        if not counted.flops or (not codec.codec.costly and data.train * data.values < PLAIN_CODEC):
            took = Duration(data.train * data.values / PLAIN_CODEC, "counted")
        else:
            took = self.speed.forward(codec.encode, data.shape, counted, data.train, ENCODE_BATCH, mode)
        self._peaks["encoding"] = 3 * ENCODE_BATCH * counted.largest
        return Stage("encode", max(took.seconds, reading), took.basis, max(1, math.ceil(data.train / PART)))

    def _fit_codes(self, budget: Budget) -> Stage:
        """Return the fits of the codes that describe the space, and of those that a set begins with."""
        codes = min(self.data.train, DESCRIBED + budget.codes_per_class * self.data.classes)
        black = torch.zeros((FITTED, *self.data.shape), device=self.numerics.device)
        took = self.speed.one_call(lambda: self.codec.encode(black), codes / FITTED)
        return Stage("encode", took.seconds, took.basis)

    def _teacher(self) -> list[Stage]:
        config = self.config.teacher
        if not config.trained_here:
            return []
        from latentdd_plugin.experiments.teachers import RECIPES

        recipe, batch = RECIPES[config.recipe], RECIPES[config.recipe].batch
        steps = recipe.epochs * math.ceil(self.data.train / batch) * config.networks
        found = self._training(TrainScratch(str(config.name)), recipe, steps, batch, 0, self.data.shape)
        if found is None:
            return [Stage("teacher", None, "not known", note="not known, its architecture does not take these images")]
        return [Stage("teacher", found.seconds, found.basis, note="less if it is in the cache")]

    def _distil(self, budget: Budget) -> list[Stage]:
        method, data = self.parts.distiller, self.data
        shape = data.shape if self.in_pixels else self.codec.code_shape
        size = TaskSize(data.classes, budget.codes_per_class, max(1, data.train // data.classes), math.prod(shape))
        work = stated_work(method, size)
        if work is None:
            return [Stage("distil", None, "not known", note="not known, the method does not state its work")]
        taught = self._taught(work.teacher_passes)
        if taught is None:
            return [Stage("distil", None, "not known", note="not known, nor is the teacher's architecture")]
        network = matching_network(shape, data.classes)
        counted = census(network, network, shape)
        mode = self.numerics.mode(counted.flops * (work.passes + work.expert_passes))
        network.to(self.numerics.device)
        passes = work.passes + work.expert_passes
        took = self.speed.forward(network, shape, counted, passes, CHUNK, mode) if passes else NOTHING
        ours = took.seconds * (work.passes / passes if passes else 0.0)
        decoded = 0.0 if self.codec.pixels else work.decoded + (work.viewed if self.in_pixels else 0.0)
        other = (self._decoding(4 * decoded) if decoded else NOTHING) + taught
        other = other + self.speed.operations(work.operations) if work.operations else other
        basis, seconds = (took + other).basis, ours + other.seconds
        per_step = data.classes if method.shares_classes else 1
        self._peaks["distillation"] = min(CHUNK, size.codes) * 3 * counted.activations
        stages = [Stage("distil", seconds, basis, per_step)]
        if work.expert_passes:
            return [Stage("experts", took.seconds - ours, took.basis, max(1, work.snapshots)), *stages]
        return stages

    def _taught(self, passes: float) -> Duration | None:
        """Return the time of so many images in the teacher; None if its architecture is not known."""
        if not passes:
            return NOTHING
        arch, shape = architecture_of(self.config.teacher), self.data.shape
        found = self._counted_network(arch, shape) if arch else None
        if found is None:
            return None
        network, counted = found
        passes *= self.config.teacher.networks
        mode = self.numerics.mode(counted.flops * passes)
        return self.speed.forward(network.to(self.numerics.device).eval(), shape, counted, passes, CHUNK, mode)

    def _decoding(self, codes: float) -> Duration:
        counted = census(self.codec.decode, None, self.codec.code_shape, self.numerics.device)
        return self.speed.forward(self.codec.decode, self.codec.code_shape, counted, codes, 16, self._plain)

    def _scored(self, config: RunConfig, budget: Budget, name: str = "evaluate") -> list[Stage]:
        """Return the evaluation of one set."""
        took, unknown, networks, near = NOTHING, [], 0, self._nearest(budget)
        for asked, evaluator in self.parts.evaluators.items():
            found = self._evaluated(evaluator, budget.codes_per_class * self.data.classes)
            networks += self.parts.protocol.seeds
            if found is None:
                unknown.append(asked)
            else:
                took = took + found
        note = f"without {', '.join(unknown)}, whose work is not known" if unknown else ""
        if unknown and len(unknown) == len(self.parts.evaluators):
            return [Stage(name, None, "not known", note="not known, the evaluators do not state their work")]
        compared = Stage("nearest images", near.seconds, near.basis)
        return [Stage(name, took.seconds, took.basis, networks, note), compared]

    def _evaluated(self, evaluator: Evaluator, samples: int) -> Duration | None:
        recipe, shape = self.parts.protocol, self.data.shape
        side = min(shape[1:]) if recipe.side is None else min(*shape[1:], recipe.side)
        inputs = shape if min(shape[1:]) <= side else (shape[0], side, side)
        steps, batch = recipe.steps_for(side), recipe.batch
        if steps is None:
            batch = min(samples, recipe.batch_for(samples, self.data.classes))
            steps = recipe.epochs * math.ceil(samples / batch)
        found = self._training(evaluator, recipe, steps, batch, self.data.test, inputs)
        if found is None or self.config.labels.regime != "teacher":
            return found
        return found + (self._taught(recipe.seeds * steps * batch) or NOTHING)  # the teacher is asked at every step

    def _training(
        self, evaluator: Evaluator, recipe: Protocol, steps: int, batch: int, tested: int, shape: Shape
    ) -> Duration | None:
        """Return the time of training and testing all networks of an evaluator; None if it is not of this package."""
        if type(evaluator) is not TrainScratch:
            return None
        found = self._counted_network(evaluator.arch, shape)
        if found is None:
            return None if recipe is not self.parts.protocol else NOTHING  # it will be skipped
        network, counted = found
        mode = self.numerics.mode(counted.flops * (3 * steps * batch + tested))
        trained = self.speed.training(network, shape, counted, recipe.seeds * steps, batch, mode, recipe)
        share = tested / (3 * steps * batch)
        self._peaks["training"] = max(self._peaks.get("training", 0), 2 * batch * counted.activations)
        return trained + Duration(trained.seconds * share, trained.basis)

    def _counted_network(self, arch: str, shape: Shape) -> tuple[nn.Module, Census] | None:
        if (arch, shape) not in self._networks:
            try:
                network = build(arch, shape, self.data.classes)[0]
                self._networks[arch, shape] = network, census(network.eval(), network, shape)
            except Unsuitable:
                self._networks[arch, shape] = None
        return self._networks[arch, shape]

    def _nearest(self, budget: Budget) -> Duration:
        """Return the comparison of a set with every real image; those of a stream are decoded again for it."""
        data, (_, height, width) = self.data, self.data.shape
        values = data.shape[0] * min(SIDE, height) * min(SIDE, width)
        images = data.train + data.test
        compared = self.speed.operations(2.0 * budget.codes_per_class * data.classes * images * values)
        again = images * (data.decode_s or 0.0) if data.store == "stream" else 0.0
        return Duration(compared.seconds + again, "measured" if compared.seconds < 1 else compared.basis)

    def _baselines(self, budget: Budget) -> list[Stage]:
        if not self.config.controls:
            return []
        found, count = list[Stage](), 0
        for name, config in baseline_configs(self.config, budget.bytes_per_class, self.data.shape).items():
            if isinstance(config, str) or name in self.kept:
                continue
            in_pixels = has_pixel_codes(config.codec.name)
            shape = self.data.shape if in_pixels else self.codec.code_shape
            try:
                spent = self._budget(config, shape, None if in_pixels else self.codec.tokens)
            except UsageError:  # too small for one image: the run leaves this baseline out
                continue
            found, count = found + self._scored(config, spent, name), count + 1
        known = [stage.seconds for stage in found if stage.seconds is not None]
        if not found or not known:
            return []
        basis = found[0].basis
        return [Stage("baselines", sum(known), basis, found[0].pieces, f"{count} of them; {basis}")]

    # --- sizes ---

    @property
    def _plain(self) -> Mode:
        return Mode(False, False, self.numerics.device)

    def _budget(self, config: RunConfig, code_shape: Shape, tokens: int | None) -> Budget:
        classes, wanted = self.data.classes, config.labels
        own = self.parts.distiller.label_bits(classes) if config is self.config else 0
        bits = own if wanted.regime == "own" else label_bits(wanted, classes)
        return budget_for(
            self.data.shape,
            code_shape,
            config.precision,
            ipc=config.ipc,
            lpc=config.lpc,
            bytes_per_class=config.bytes,
            label_bits=bits,
            tokens=tokens,
            images_per_class=self.data.train // classes,
        )

    def _memory(self) -> dict[str, int]:
        data, code = self.data, math.prod(self.codec.code_shape)
        resident = data.store == "memory"
        return {
            "program": resident_bytes(),
            "images": (data.train + data.test) * data.values if resident and data.decode_s is not None else 0,
            "codes": 4 * data.train * code if resident and not self.codec.pixels else 0,
            "test inputs": 4 * data.test * data.values if resident else 0,
            "largest step": max(self._peaks.values(), default=0),
        }

    def _disk(self, budget: Budget) -> dict[str, int]:
        data, resident = self.data, self.data.store == "memory"
        kept = not self.codec.pixels and (self.codec.codec.costly or not resident)
        item = DTYPES["fp32" if resident or self.codec.tokens is not None else self.config.dataset.codes].itemsize
        decoded = (data.train if data.store != "stream" else 0) + data.test
        size = TaskSize(data.classes, budget.codes_per_class, max(1, data.train // data.classes), 1)
        work = stated_work(self.parts.distiller, size)
        network = matching_network(data.shape if self.in_pixels else self.codec.code_shape, data.classes)
        weights = sum(parameter.numel() for parameter in network.parameters())
        return {
            "decoded images": decoded * data.values,
            "codes": data.train * math.prod(self.codec.code_shape) * item if kept else 0,
            "experts": weights * (work.snapshots if work else 0) * (2 if _half(self.parts.distiller) else 4),
            "artifact": budget.bytes_per_class * data.classes,
        }

    def _sizes(self, budget: Budget) -> dict[str, int | str | list[int]]:
        data = self.data
        return {
            "training images": data.train,
            "test images": data.test,
            "classes": data.classes,
            "image": "x".join(map(str, data.shape)),
            "code": "x".join(map(str, self.codec.code_shape)),
            "codes per class": budget.codes_per_class,
            "bytes per class": budget.bytes_per_class,
            "store": data.store,
        }


def stated_work(method: Distiller, size: TaskSize) -> Work | None:
    """Return the work that a method states; None if its class distils in another way than the class that stated it."""
    order = type(method).__mro__
    place = {name: next((i for i, cls in enumerate(order) if name in vars(cls)), len(order)) for name in OVERRIDES}
    if place["work"] > min(place[name] for name in OVERRIDES if name != "work"):
        return None
    return method.work(size)


OVERRIDES = ("work", "distill", "iteration", "choose")


def _half(method: Distiller) -> bool:
    return getattr(method, "expert_precision", "fp32") != "fp32"
