"""The smallest real runs: digits, two classes' worth of code, a recipe of three steps."""

import io
from functools import cache

import torch

from latentdd_plugin import data, numerics
from latentdd_plugin.augment import Augment, operations_for
from latentdd_plugin.configure import build_distiller
from latentdd_plugin.distillers.base import Checkpoint, Task
from latentdd_plugin.evaluators.base import Trial
from latentdd_plugin.protocols import Protocol
from latentdd_plugin.space import build_codec, code_set, pixel_set
from latentdd_plugin.types import DatasetConfig, RunConfig

PROTOCOL = Protocol(
    name="tiny.test",
    side=32,
    steps=((32, 3),),
    epochs=0,
    batch=16,
    optimizer="adamw",
    lr=1e-3,
    lr_from="fixed",
    schedule="cosine",
    momentum=0.0,
    weight_decay=0.05,
    augment=("crop", "scale", "rotate"),
    clamp=False,
    labels="stored",
    seeds=2,
)
PLAIN = {"device": "cpu", "amp": "off", "compile": "off", "threads": 1}
DM = {"name": "dm", "preset": "quick", "iterations": 4, "batch_real": 8}


def config(**more):
    """A run of a second: DCT codes, four steps of DM, one small architecture, no controls."""
    given = {"algo": DM, "evaluators": ("convnet_d1",), "protocol": PROTOCOL.name, "controls": False, **PLAIN, **more}
    return RunConfig(**given)


@cache
def digits():
    """The real digits, read once."""
    return data.load(DatasetConfig(name="digits"))


def plain():
    """Eager float32 on one thread."""
    return numerics.resolve(RunConfig(**PLAIN))


@cache
def spaces(codec):
    """(sized codec, code space, codes, pixels) of the digits under a codec's name; fitted where it learns."""
    sized = build_codec({"name": codec}, digits().image_shape)
    space, codes = code_set(digits(), sized, plain())
    return sized, space, codes, pixel_set(digits(), "cpu")


def task(codec="dct", match="code", *, codes_per_class=2, seed=0, **more):
    """A distiller's task on the digits, as the road makes it."""
    sized, space, codes, pixels = spaces(codec)
    in_pixels = match == "pixel" or sized.pixels
    operations = operations_for(colour=False, spatial=in_pixels or sized.spatial, flip=digits().flip)
    given = {
        "real": pixels if in_pixels else codes,
        "codes": codes,
        "space": space,
        "match": match,
        "codes_per_class": codes_per_class,
        "num_classes": 10,
        "seed": seed,
        "numerics": plain(),
        "augment": Augment(operations),
    }
    return Task(**{**given, **more})


def distiller(name="dm", match="code", codec="dct", **arguments):
    """A registered method with its quick preset and these arguments."""
    return build_distiller({"name": name, "preset": "quick", **arguments}, match, codec)


def trial(images=None, labels=None, *, kind="hard", protocol=PROTOCOL, **more):
    """Twenty real digits to train on, and all held-out digits to test on."""
    found = digits()
    rows = torch.cat([part[:2] for part in spaces("identity")[2].by_class])
    pixels = spaces("identity")[3]
    given = {
        "images": found.train.pixels[rows].float() / 255 if images is None else images,
        "labels": found.train.labels[rows] if labels is None else labels,
        "label_kind": kind,
        "lr": None,
        "held_out": held_out(),
        "num_classes": 10,
        "mean": pixels.mean,
        "std": pixels.std,
        "flip": False,
        "protocol": protocol,
        "numerics": plain(),
    }
    return Trial(**{**given, **more})


@cache
def held_out():
    """The digits' test images."""
    return digits().held_out("test")


class Kept(Checkpoint):
    """A checkpoint in memory, due at every step; keeps every payload it was given, as a file would."""

    def __init__(self, first=None):
        self.first, self.saved = first, []

    def load(self):
        return self.first

    def save(self, payload):
        file = io.BytesIO()
        torch.save(payload, file)
        file.seek(0)
        self.saved.append(torch.load(file, weights_only=True))

    def due(self):
        return True
