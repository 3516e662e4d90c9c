"""A distiller from another distribution, installed by pip: written for pixels, it runs on every codec."""

import subprocess
import sys
import zipfile

import pytest
import tiny

from latentdd_plugin import load_artifact
from latentdd_plugin.cli import main
from latentdd_plugin.core import plugins
from latentdd_plugin.core.entry_points import WEIGHTS

OFFLINE = [name for name, entry in plugins.entries("codecs").items() if WEIGHTS not in entry.extras]

# It has its own loop, its own network sized from (N, C, H, W), and has never heard of codecs.
MODULE = '''
"""Pull synthetic images towards the mean of their class, under a random convolution, as their authors wrote it."""

import torch

from latentdd_plugin.distillers.base import Distiller
from latentdd_plugin.core.types import SyntheticSet


class MeanPull(Distiller):
    def __init__(self, steps=3, rate=0.1):
        self.steps = steps
        self.rate = rate

    def distill(self, task):
        images, labels = task.init("real")
        assert images.dim() == 4
        n, channels, height, width = images.shape
        g = task.generator("mean-pull")
        images = images.clone().requires_grad_()
        for step in range(self.steps):
            kernel = torch.randn((8, channels, 1, 1), generator=g)
            loss = 0
            for label in range(task.num_classes):
                real = task.real.batch(label, 16, g)
                assert real.shape[1:] == (channels, height, width)
                ours = torch.nn.functional.conv2d(images[labels == label], kernel).mean(0)
                loss = loss + (torch.nn.functional.conv2d(real, kernel).mean(0) - ours).square().sum()
            (gradient,) = torch.autograd.grad(loss, images)
            images = (images - self.rate * gradient).detach().requires_grad_()
            task.progress(step + 1, self.steps, float(loss.detach()))
        return SyntheticSet(images, labels)
'''
METADATA = "Metadata-Version: 2.1\nName: mean-pull\nVersion: 2.3\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder pip installed the wheel into."""
    folder = tmp_path_factory.mktemp("third-party")
    wheel = folder / "mean_pull-2.3-py3-none-any.whl"
    members = {
        "mean_pull.py": MODULE,
        "mean_pull-2.3.dist-info/METADATA": METADATA,
        "mean_pull-2.3.dist-info/WHEEL": WHEEL,
        "mean_pull-2.3.dist-info/entry_points.txt": "[dd_bench.distillers]\nmean-pull = mean_pull:MeanPull\n",
    }
    record = "".join(f"{name},,\n" for name in [*members, "mean_pull-2.3.dist-info/RECORD"])
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in {**members, "mean_pull-2.3.dist-info/RECORD": record}.items():
            archive.writestr(name, text)
    words = ["install", "--quiet", "--no-index", "--no-deps", "--target", str(folder / "site"), str(wheel)]
    subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *words], check=True, capture_output=True
    )
    return folder / "site"


@pytest.fixture(autouse=True)
def on_the_path(installed, monkeypatch, tmp_path, tiny_protocol):
    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.chdir(tmp_path)


def words(*more):
    return ["run", "--algo", "mean-pull", "--device", "cpu", "--protocol", "tiny.test", "--controls", "none", *more]


@pytest.mark.parametrize("codec", OFFLINE)
def test_it_runs_on_every_offline_codec_by_its_name(codec, tmp_path, capsys):
    options = ["--codec", codec, "--lpc", "2", "--evaluator", "convnet_d1", "--out", "run", "algo.steps=4", "--quiet"]
    if not plugins.resolve("codecs", codec).cls.comparable:
        assert main.main(words(*options)) == 2
        assert f"match=code: mean-pull compares samples, and codes of {codec} cannot be" in capsys.readouterr().err
        return
    assert main.main(words(*options)) == 0
    assert f"{codec} + mean-pull" in capsys.readouterr().out
    found = load_artifact(tmp_path / "run" / "distilled.safetensors")
    assert found.decode().shape == (20, 1, 8, 8)
    start = tiny.task(codec).init()[0]
    assert float((found.codes - start).abs().max()) > 1e-3, "its own loop moved the codes"


def test_its_own_loop_cannot_look_at_decoded_pixels(tmp_path, capsys):
    assert main.main(words("--codec", "dct", "--match", "pixel", "--out", "run")) == 2
    assert "dd-bench: match=pixel: mean-pull supports code only\n" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_list_says_where_it_is_from(capsys):
    assert main.main(["list", "algos"]) == 0
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert lines["mean-pull"] == ["mean-pull", "2.3", "-"]


def test_an_option_it_does_not_have_is_told(tmp_path, capsys):
    assert main.main(words("algo.stepz=4", "--out", "run")) == 2
    assert "MeanPull has no option 'stepz' (did you mean steps?); it takes: steps, rate" in capsys.readouterr().err
