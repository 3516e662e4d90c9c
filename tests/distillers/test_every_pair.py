"""Every built-in codec under every method, in both match spaces, on real digits."""

from pathlib import Path

import pytest
import tiny
import torch

from latentdd_plugin.core import plugins
from latentdd_plugin.core.entry_points import WEIGHTS
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.distillers.task import validate_result

SHARED = Path(__file__).parents[3] / "shared"
WEIGHT_FOLDERS = {"taesd": SHARED / "weights" / "taesd"}
MATCHING = {
    "dm": {"iterations": 2, "batch_real": 8},
    "dc": {"iterations": 1, "batch_real": 8, "outer_loops": 2},
    "dsa": {"iterations": 1, "batch_real": 8, "outer_loops": 2},
    "idm": {"iterations": 2, "batch_real": 8, "networks": 1, "epochs": 1},
    "ncfm": {"iterations": 1, "batch_real": 8, "networks": 1, "epochs": 1, "frequencies": 8},
    "mtt": {"iterations": 1, "syn_steps": 2, "experts": 1, "max_start_epoch": 1},
}
SELECTING = {"random": {}, "herding": {}, "kmeans": {}}


def options_of(codec):
    """Return options that make a codec fast, or its weights' folder; skip with the reason if they are not here."""
    if codec == "ddif":
        return {"steps": 3}
    if WEIGHTS not in plugins.entries("codecs")[codec].extras:
        return {}
    folder = WEIGHT_FOLDERS.get(codec)
    if folder is None:
        pytest.skip(f"the weights of {codec} are on a hub")
    if not folder.is_dir():
        pytest.skip(f"no folder of real weights at {folder}")
    return {"path": str(folder)}


@pytest.mark.parametrize("match", ["code", "pixel"])
@pytest.mark.parametrize("algo", [*MATCHING, *SELECTING])
@pytest.mark.parametrize("codec", plugins.entries("codecs"))
def test_every_method_in_every_space(codec, algo, match):
    cls, method = (plugins.resolve(kind, name).cls for kind, name in (("codecs", codec), ("algos", algo)))
    if match == "code" and method.compares and not cls.comparable:
        with pytest.raises(UsageError, match=f"match=code: {algo} compares samples, and codes of {codec} cannot be"):
            tiny.distiller(algo, match, codec, **(MATCHING | SELECTING)[algo])
        return
    task = tiny.task(codec, match, options=options_of(codec), codes_per_class=1)
    found = validate_result(tiny.distiller(algo, match, codec, **(MATCHING | SELECTING)[algo]).distill(task), task)
    assert torch.equal(found.labels.sort().values, torch.arange(10))
    assert task.space.decode(found.codes).shape == (10, 1, 8, 8)
    if algo in MATCHING:
        start = task.init()[0]
        assert all(not torch.equal(code, real) for code, real in zip(found.codes, start, strict=True)), "each moved"
    else:
        real = task.codes.all()[0]
        assert all(bool((real == code).flatten(1).all(1).any()) for code in found.codes), "each is a real one"
