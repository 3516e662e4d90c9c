"""A plug-in for every contract that breaks it, and little else. `BREAKS` says which contract each one breaks."""

import random
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.codecs.identity import Identity
from latentdd_plugin.core.types import Score, SyntheticSet
from latentdd_plugin.distillers.base import Distiller
from latentdd_plugin.distillers.dm import DM
from latentdd_plugin.distillers.random import Random
from latentdd_plugin.evaluators.base import Evaluator


class Plain(Identity):
    """Keeps to every contract: the others differ from it in one thing."""

    pixels = False


# --- codecs -----------------------------------------------------------------------------------------------------------


class NoDefault(Plain):
    def __init__(self, strength):
        super().__init__()
        self.strength = strength


class Swallows(Plain):
    def __init__(self, **anything):
        super().__init__()


class Crops(Plain):
    def encode(self, images):
        return images[..., : images.shape[2] // 4 * 4, : images.shape[3] // 4 * 4]


class CropsAndPads(Codec):
    spatial = False

    def __init__(self, image_shape=None):
        super().__init__()
        self.image_shape = image_shape

    def encode(self, images):
        return images[..., :-1, :-1]

    def decode(self, codes):
        return F.pad(codes, (0, 1, 0, 1), mode="replicate")


class RefusesInSilence(Plain):
    def encode(self, images):
        from latentdd_plugin.core.errors import UsageError

        if images.shape[-1] % 2:
            raise UsageError("I do not like this size")
        return images


class Larger(Plain):
    """The package cuts a decoded image to size, so that the codes seem to fit."""

    def decode(self, codes):
        return F.interpolate(codes, scale_factor=2)


class Doubles(Plain):
    def decode(self, codes):
        return codes.double()


class Symmetric(Plain):
    def decode(self, codes):
        return 2.5 * codes - 1


class Divides(Plain):
    def encode(self, images):
        return images / images.amax((1, 2, 3), keepdim=True)


class Grey(Plain):
    def decode(self, codes):
        return 0 * codes + 0.5


class Noisy(Plain):
    def encode(self, images):
        return images + 1e-4 * torch.randn(images.shape)


class Centred(Plain):
    def encode(self, images):
        return images - images.mean() + 0.1


class Detached(Plain):
    def decode(self, codes):
        return codes.detach()


class HalfDetached(Plain):
    def decode(self, codes):
        return 0.5 * codes + 0.5 * codes.detach()


class Fractional(Plain):
    """Its tokens are not whole numbers."""

    tokens = 16

    def encode(self, images):
        return 14.5 * images

    def decode(self, codes):
        return codes / 14.5


class InPlace(Plain):
    def encode(self, images):
        return images.mul_(1.0).add_(1e-3)


class Counting(Plain):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def encode(self, images):
        self.calls += 1
        return images


class Training(Plain):
    def encode(self, images):
        self.train()
        return images


class Forgets(Plain):
    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = 2 * scale

    def encode(self, images):
        return images * self.scale

    def decode(self, codes):
        return codes / self.scale


class Drawn(Plain):
    """Its weights are another draw in every build."""

    def __init__(self):
        super().__init__()
        self.register_buffer("gain", 1 + torch.rand(1))

    def encode(self, images):
        return images * self.gain

    def decode(self, codes):
        return codes / self.gain


class WronglyFiled(Plain):
    """The decoder is charged to the encoder."""

    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Module()
        self.encoder.register_buffer("gain", torch.full((1,), 2.0))

    def encode(self, images):
        return images * self.encoder.gain

    def decode(self, codes):
        return codes / self.encoder.gain


class LeftBehind(Plain):
    def __init__(self):
        super().__init__()
        self.gain = torch.full((1,), 2.0)

    def encode(self, images):
        return images * self.gain

    def decode(self, codes):
        return codes / self.gain


class Ramp(Plain):
    """Adds a fixed picture that is not symmetric."""

    def decode(self, codes):
        ramp = torch.linspace(-0.4, 0.4, codes.shape[3])
        return codes + ramp

    def encode(self, images):
        return images - torch.linspace(-0.4, 0.4, images.shape[3])


# --- distillers -------------------------------------------------------------------------------------------------------


class NoQuick(Random):
    presets: ClassVar = {"paper": {}}


class Unrepeatable(Random):
    def __init__(self, kind="real"):
        self.kind = (kind,)


class Sideways(Random):
    match_spaces = ("code", "sideways")


class TooMany(Random):
    def distill(self, task):
        return super().distill(replace(task, codes_per_class=task.codes_per_class + 1))


class Blends(Random):
    """It says that it keeps codes as they are, and returns means of two."""

    def distill(self, task):
        found = super().distill(task)
        return replace(found, codes=(found.codes + found.codes.roll(1, 0)) / 2)


class NotFinite(Random):
    def distill(self, task):
        found = super().distill(task)
        return replace(found, codes=found.codes / 0)


class OneClass(Random):
    def distill(self, task):
        found = super().distill(task)
        return replace(found, labels=torch.zeros_like(found.labels))


class WantsMany(Distiller):
    """Takes the first codes of a class, and stops where there are not enough."""

    def distill(self, task):
        n = task.codes_per_class
        rows = [members[:n] for members in task.codes.by_class]
        if any(len(members) < n for members in rows):
            raise IndexError("not enough images")
        return SyntheticSet(task.codes.take(torch.cat(rows)), torch.arange(task.num_classes).repeat_interleave(n))


class Shifting(Random):
    """Every call goes on where the last one stopped."""

    calls = 0

    def distill(self, task):
        type(self).calls += 1
        return super().distill(replace(task, seed=self.calls))


class GlobalDraw(Random):
    def distill(self, task):
        np.random.rand()
        random.random()
        return super().distill(task)


class Overwrites(Random):
    def distill(self, task):
        found = super().distill(task)
        task.codes.store[:1] += 1e-3
        return found


class TwoWorlds(Random):
    def distill(self, task):
        return super().distill(replace(task, seed=1) if task.match == "pixel" else task)


class Remembers(DM):
    """Keeps state across iterations, which no checkpoint holds."""

    def iteration(self, task, variables, step):
        self.seen = getattr(self, "seen", 0) + 1
        for loss in super().iteration(task, variables, step):
            yield loss * self.seen


# --- evaluators -------------------------------------------------------------------------------------------------------


class Guess(Evaluator):
    """Keeps to every contract: names the class that most labels have."""

    def accuracy(self, trial, seed):
        labels = trial.labels if trial.label_kind == "hard" else trial.labels.argmax(1)
        return float((trial.held_out.labels == labels.mode().values).double().mean())

    def evaluate(self, trial, seed):
        return Score("guess", "guess", {}, 0, seed, self.accuracy(trial, seed))


class PerCent(Guess):
    def accuracy(self, trial, seed):
        return 100 * super().accuracy(trial, seed)


class Rounded(Guess):
    def accuracy(self, trial, seed):
        return round(super().accuracy(trial, seed), 2)


class NoSeed(Guess):
    def evaluate(self, trial, seed):
        return replace(super().evaluate(trial, seed), seed=0)


class Needs(Guess):
    def __init__(self, arch):
        self.arch = arch


class Moody(Guess):
    moods = iter(range(10**6))

    def accuracy(self, trial, seed):
        return (next(self.moods) % 7) / len(trial.held_out)


class Careless(Guess):
    def accuracy(self, trial, seed):
        torch.rand(1)
        return super().accuracy(trial, seed)


class HardOnly(Guess):
    def accuracy(self, trial, seed):
        return float((trial.held_out.labels == trial.labels.mode().values).double().mean())

    def evaluate(self, trial, seed):
        assert trial.labels.ndim == 1, "only hard labels"
        return super().evaluate(trial, seed)


class Scribbles(Guess):
    def evaluate(self, trial, seed):
        trial.images.mul_(0.5)
        return super().evaluate(trial, seed)


class Strange(Guess):
    """Its configuration is not JSON."""

    def __init__(self, scale=1.0):
        self.scale = {scale}


BREAKS = {
    "codec": {
        "options": ["NoDefault", "Swallows"],
        "sizes": ["Crops", "CropsAndPads", "RefusesInSilence"],
        "shapes": ["Larger"],
        "float32": ["Doubles"],
        "value_range": ["Symmetric", "Divides"],
        "reconstruction": ["Grey"],
        "deterministic": ["Noisy"],
        "batch_invariant": ["Centred"],
        "gradient": ["Detached", "HalfDetached"],
        "tokens": ["Fractional"],
        "inputs_kept": ["InPlace"],
        "frozen": ["Training", "Counting"],
        "config_round_trip": ["Forgets"],
        "fingerprint_stable": ["Drawn"],
        "decoder_counted": ["WronglyFiled"],
        "moves": ["LeftBehind"],
        "spatial": ["Ramp"],
    },
    "algo": {
        "options": ["NoQuick"],
        "config_round_trip": ["Unrepeatable"],
        "match_spaces": ["Sideways"],
        "budget": ["TooMany"],
        "finite": ["NotFinite"],
        "codes_kept": ["Blends"],
        "label_balance": ["OneClass"],
        "small_classes": ["WantsMany"],
        "deterministic": ["Shifting"],
        "global_state": ["GlobalDraw"],
        "real_data_kept": ["Overwrites"],
        "one_space_in_pixels": ["TwoWorlds"],
        "resume": ["Remembers"],
    },
    "evaluator": {
        "options": ["Needs"],
        "config_round_trip": ["Strange"],
        "score_range": ["PerCent", "Rounded"],
        "score_record": ["NoSeed"],
        "deterministic": ["Moody"],
        "global_state": ["Careless"],
        "soft_labels": ["HardOnly"],
        "trial_kept": ["Scribbles"],
    },
}
