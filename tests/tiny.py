"""The smallest real runs: digits, two classes' worth of code, a recipe of three steps."""

from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.experiments.build import build_distiller
from latentdd_plugin.testing.samples import PROTOCOL, Kept, digits, held_out, plain, spaces, task, trial

__all__ = ["PROTOCOL", "Kept", "digits", "held_out", "plain", "spaces", "task", "trial"]

PLAIN = {"device": "cpu", "amp": "off", "compile": "off", "threads": 1}
DM = {"name": "dm", "preset": "quick", "iterations": 4, "batch_real": 8}


def config(**more):
    """A run of a second: DCT codes, four steps of DM, one small architecture, no controls."""
    given = {"algo": DM, "evaluators": ("convnet_d1",), "protocol": PROTOCOL.name, "controls": False, **PLAIN, **more}
    return RunConfig(**given)


def distiller(name="dm", match="code", codec="dct", **arguments):
    """A registered method with its quick preset and these arguments."""
    return build_distiller({"name": name, "preset": "quick", **arguments}, match, codec)
