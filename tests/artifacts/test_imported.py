"""A set made elsewhere: run, compared and submitted like any method."""

import json

import pytest
import tiny
import torch

from latentdd_plugin.artifacts.file import load_artifact
from latentdd_plugin.cli import main
from latentdd_plugin.core.config import DatasetConfig, RunConfig
from latentdd_plugin.experiments.run import run

SHORT = "--protocol tiny.test --evaluator convnet_d1 --quiet device=cpu amp=off compile=off threads=1"


@pytest.fixture
def theirs(tmp_path):
    """Files as DatasetCondensation writes them: two real digits a class, normalised; and where they came in."""
    digits = tiny.digits()
    rows = torch.cat([(digits.train.labels == label).nonzero().flatten()[5:7] for label in range(10)])
    images = digits.train.pixels[rows].float() / 255
    torch.save({"data": [[(images - 0.3) / 0.4, digits.train.labels[rows]]]}, tmp_path / "res_DM_x_2ipc.pt")
    words = [
        "import",
        "dc",
        tmp_path / "res_DM_x_2ipc.pt",
        "--values",
        "0.3/0.4",
        "--dataset",
        "digits",
        "--out",
        tmp_path / "in",
    ]
    assert main.main([str(word) for word in words]) == 0
    return tmp_path / "in", images


def called(*words):
    return main.main([str(word) for word in words])


def test_with_identity_it_is_the_set_itself_beside_its_controls(theirs, tiny_protocol, tmp_path):
    folder, images = theirs
    words = f"run --codec identity --algo imported algo.path={folder} --ipc 2 --out {tmp_path / 'run'} {SHORT}"
    assert called(*words.split()) == 0
    torch.testing.assert_close(
        load_artifact(tmp_path / "run" / "distilled.safetensors").decode(), images, atol=1e-6, rtol=0
    )
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    assert record["selection"] == "unknown"
    assert record["budget"]["codes"] == 20
    assert record["controls"]["random-codes"]["gain"]["convnet_d1"]["n"] == 2
    assert called("verify", tmp_path / "run", "--quiet") == 0


def test_another_codec_encodes_it(theirs, tiny_protocol, tmp_path):
    folder, images = theirs
    config = RunConfig(
        codec={"name": "dct"}, algo={"name": "imported", "path": str(folder)}, ipc=2, dataset=DatasetConfig("digits"),
        protocol="tiny.test", evaluators=("convnet_d1",), controls=False, device="cpu", amp="off", compile="off",
    )  # fmt: skip
    record = run(config, out=tmp_path / "run")
    found = load_artifact(tmp_path / "run" / "distilled.safetensors").decode()
    assert record.to_json()["budget"]["shortfall"].startswith("20 codes instead of 80")
    assert 0.001 < float((found - images).square().mean().sqrt()) < 0.2


def test_it_is_compared_with_other_methods(theirs, tiny_protocol, tmp_path, capsys):
    words = f"compare --codec identity --algo random,imported algo.imported.path={theirs[0]} --ipc 2 --ledger bytes"
    assert called(*words.split(), "--in-process", "--out", tmp_path / "table", *SHORT.split()) == 0
    assert "imported" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("--ipc 1", "20 images, the budget holds 10; give their number per class as --ipc"),
        ("--ipc 2 dataset.validation=0.2", "a set of dataset 'digits', not of this one"),
        ("--ipc 2 algo.path=absent", "absent"),
        ("--ipc 2 algo.path=", "give algo.path=FOLDER"),
    ],
)
def test_what_cannot_be_taken_is_refused_in_words(theirs, tiny_protocol, tmp_path, capsys, more, says):
    words = f"run --codec identity --algo imported algo.path={theirs[0]} {SHORT} --out {tmp_path / 'run'} {more}"
    assert called(*words.split()) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "run" / "result.json").exists()
