"""Exported sets run in ddranking 0.2.0 as it was published, in an environment of its own.

Its faults are met from outside, in the script below: it writes two scores a run to its table and cannot write lists of
unequal length, so the writing is left out; CIFAR-10 comes from a few files of ours; settings are tiny.
`DD_RANKING_PYTHON` names the interpreter of an environment that has the package; without it one is made.
"""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from latentdd_plugin.artifacts.exchange import export_set
from latentdd_plugin.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.realdata]

SCRIPT = """
import hashlib, importlib.metadata, json, math, os, sys
import torch, torchvision
from torchvision.datasets import CIFAR10

assert importlib.metadata.version("ddranking") == "0.2.0"
def parts(names):
    where = os.path.join("dataset", "cifar-10-batches-py")
    return [[n, hashlib.md5(open(os.path.join(where, n), "rb").read()).hexdigest()] for n in names]
CIFAR10.train_list, CIFAR10.test_list = parts(["data_batch_1"]), parts(["test_batch"])
CIFAR10.meta = {**CIFAR10.meta, "md5": parts(["batches.meta"])[0][1]}

from ddranking.config import Config
from ddranking.metrics import LabelRobustScoreHard
import ddranking.metrics.hard_label as hard_label
hard_label.save_results = lambda results, path: None

config = Config.from_file("export/config.yaml")
config.update({"num_eval": 1, "num_epochs": 10, "num_workers": 0, "device": "cpu", "syn_batch_size": 32,
               "real_batch_size": 128, "save_path": "out/scores.csv"})
evaluator = LabelRobustScoreHard(config)
images = torch.load("export/images.pt", weights_only=True)
labels = torch.load("export/labels.pt", weights_only=True)
found = evaluator.compute_metrics(image_tensor=images, hard_labels=labels, syn_lr=0.01)
print("found " + json.dumps({k: float(v) for k, v in found.items()}))
"""


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory):
    """A Python with ddranking 0.2.0: NumPy 1, and none of ours."""
    given = os.environ.get("DD_RANKING_PYTHON")
    if given:
        return given
    folder = tmp_path_factory.mktemp("ddranking")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    words = [python, "-m", "pip", "install", "-q", "ddranking==0.2.0"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"ddranking 0.2.0 cannot be installed here: {done.stderr[-300:]}")
    return str(python)


def cifar_files(folder, train, test):
    """A few real pictures laid out as CIFAR-10's own batches."""
    folder.mkdir(parents=True)
    for name, images in (("data_batch_1", train), ("test_batch", test)):
        batch = {"data": images.pixels.flatten(1).numpy().astype(np.uint8), "labels": images.labels.tolist()}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(i) for i in range(10)]}))


def test_ddranking_accepts_the_export(tmp_path, shared, interpreter, tiny_protocol):
    from latentdd_plugin.core.config import DatasetConfig
    from latentdd_plugin.core.types import Images
    from latentdd_plugin.data.load import load_dataset
    from latentdd_plugin.experiments.metrics import label_robust_score

    source, kept = str(shared / "data" / "cifar10"), 20
    words = f"run --dataset {source} dataset.per_class={kept} --codec dct --algo random --lpc 2 --controls none "
    words += f"--protocol tiny.test --evaluator convnet_d1 --quiet device=cpu --out {tmp_path / 'run'}"
    assert main.main(words.split()) == 0
    assert export_set("ddranking", tmp_path / "run", tmp_path / "export") == "ddranking-cifar10"
    images = load_dataset(DatasetConfig(name=source, per_class=kept))
    test = images.held_out("test")
    cifar_files(
        tmp_path / "dataset" / "cifar-10-batches-py", images.train, Images(test.pixels[:200], test.labels[:200])
    )
    done = subprocess.run(
        [interpreter, "-W", "ignore", "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    Path(os.environ.get("DD_RANKING_OUTPUT", tmp_path / "output.txt")).write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.rpartition("found ")[2])
    hlr, ior = (found[key] / 100 for key in ("hard_label_recovery_mean", "improvement_over_random_mean"))
    assert -1 <= hlr <= 1
    assert -1 <= ior <= 1
    assert 0 <= label_robust_score(hlr, ior) <= 1, "recomputed on the scale of fractions"
