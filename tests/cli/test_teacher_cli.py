"""`dd-bench teacher`: train, store, use, convert; and the faults of its files."""

import json

import pytest
import torch

from latentdd_plugin.cli.main import main
from latentdd_plugin.nn.teacher import load_teacher


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A teacher of the digits in a folder."""
    out = tmp_path_factory.mktemp("teacher") / "digits"
    assert main(["teacher", "train", "--teacher", "convnet_d1", "--out", str(out), "--quiet"]) == 0
    return out


def test_a_stored_teacher_labels_a_run(teacher, tmp_path):
    out = tmp_path / "run"
    words = ["--labels", "soft", f"teacher.path={teacher}", "--protocol", "demo.v1", "--controls", "none", "--quiet"]
    words += ["--evaluator", "convnet_d1"]
    assert main(["run", "--algo", "rded", "--precision", "int8", *words, "--out", str(out)]) == 0
    record = json.loads((out / "result.json").read_text())
    assert record["teacher"]["sha256"] == load_teacher(teacher).card.sha256
    assert record["distiller"]["name"] == "rded"


def test_a_teacher_that_may_have_seen_held_out_images_is_named(teacher, tmp_path, capsys):
    validation = ["dataset.validation=0.2", "--quiet"]
    out = tmp_path / "part"
    assert main(["teacher", "train", "--teacher", "convnet_d1", *validation, "--out", str(out)]) == 0
    run = ["run", "--algo", "random", "--labels", "soft", "--controls", "none", "--protocol", "demo.v1"]
    run += ["--precision", "int8", "--evaluator", "convnet_d1", "dataset.validation=0.2", "split=validation"]
    warning = "teacher convnet_d1 saw other training images: if the held-out images are among them"
    for path, warned in ((teacher, True), (out, False)):
        capsys.readouterr()
        assert main([*run, f"teacher.path={path}", "--out", str(tmp_path / f"run-{path.name}")]) == 0
        assert (warning in " ".join(capsys.readouterr().err.split())) is warned


def test_a_pickled_network_is_converted(teacher, tmp_path, capsys):
    stored = load_teacher(teacher)
    torch.save({"model": stored.networks[0].state_dict()}, tmp_path / "network.pth")
    scales = [f"--{name}={getattr(stored.card, name)[0]}" for name in ("mean", "std")]
    words = ["teacher", "convert", str(tmp_path / "network.pth"), "--teacher", "convnet_d1", *scales, "--quiet"]
    assert main([*words, "--out", str(tmp_path / "converted")]) == 0
    assert load_teacher(tmp_path / "converted").card.sha256 == stored.card.sha256
    assert main([*words[:4], "resnet18", *words[5:], "--out", str(tmp_path / "wrong")]) == 2
    assert "not those of resnet18" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": list("0123456798")}, "in another order"),
        ({"classes": list("012345678")}, "its weights are not those of convnet_d1"),
        ({"arch": "convnet_d2"}, "its weights are not those of convnet_d2"),
        ({"arch": "no_such_net"}, "unknown architecture"),
        ({"kwargs": {"checkpoint_path": "/etc/passwd"}}, "are not allowed"),
        ({"sha256": "0" * 64}, "do not match the sha256"),
        ({"std": [0.0]}, "mean and std"),
        ({"mean": None}, "mean: None, but it must be a list"),
    ],
)
def test_a_faulty_teacher_is_refused(change, message, teacher, tmp_path, capsys):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "teacher.safetensors").write_bytes((teacher / "teacher.safetensors").read_bytes())
    card = json.loads((teacher / "teacher.json").read_text())
    (bad / "teacher.json").write_text(json.dumps({**card, **change}))
    words = ["run", "--labels", "soft", f"teacher.path={bad}", "--algo", "random", "--precision", "int8", "--quiet"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
