"""All faults that are visible without the dataset are reported before it is read, and without slow imports."""

import subprocess
import sys
from pathlib import Path

import pytest

from latentdd_plugin.cli import overrides, request
from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.experiments.build import preset_note, resolve_run
from latentdd_plugin.experiments.run import run


def faults_of(*words):
    kept, faults = overrides.checked(words, sweep=False)
    return [*faults, *request.inspect(overrides.composed(kept))[1]]


def test_three_faults_come_together_without_timm_diffusers_or_data():
    code = (
        "import sys\nfrom latentdd_plugin.cli.main import main\n"
        "code = main('run --codec tiny-vae codec.f=3 --protocol nope evaluator=convnt'.split())\n"
        "heavy = {'timm', 'diffusers', 'datasets', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\nassert code == 2, code\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    for part in (
        "codec.f=3: there are weights for 4 and 8",
        "unknown protocol 'nope'",
        "'convnt' (did you mean convnet",
    ):
        assert any(part in line for line in lines), part


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["codec.size=-1"], "codec.size=-1: must be at least 1"),
        (["codec.size=four"], "codec.size='four': must be a whole number or null"),
        (["codec.size=1.5"], "codec.size=1.5: must be a whole number or null"),
        (["codec.colour=cmyk"], "codec.colour=cmyk: choose one of"),
        (["codec.upsample=9"], "codec.upsample=9: must be a whole number from 1 to 8"),
        (["codec.upsample=2.5"], "codec.upsample=2.5"),
        (["codec=pca", "codec.dim=0"], "codec.dim=0"),
        (["codec=downscale", "codec.f=0"], "codec.f=0"),
        (["codec=tiny-vae", "codec.f=four"], "codec.f='four': must be a whole number"),
        (["codec=diffusers"], "give codec.path=FOLDER"),
        (["codec=dct", "codec.block=1", "codec.size=-2"], "codec.block=1"),
        (["algo.iterations=many"], "algo.iterations='many': must be a whole number"),
        (["algo.preset=slow"], "algo.preset=slow: dm has paper, quick"),
        (["device=gpu"], "device=gpu: not usable here"),
        (["evaluator=resnet81"], "unknown evaluator 'resnet81' (did you mean resnet"),
    ],
)
def test_a_fault_is_seen_before_the_dataset_is_read(words, message):
    assert any(message in fault for fault in faults_of("device=cpu", "dataset.name=/no/such/folder", *words))


def test_an_impossible_match_is_a_fault_unless_the_codes_are_pictures(tmp_path):
    (tmp_path / "fixed.py").write_text(
        "from latentdd_plugin.distillers.base import Distiller\n"
        "class Fixed(Distiller):\n    def distill(self, task): ...\n"
    )
    words = (f"algo={tmp_path}/fixed.py:Fixed", "match=pixel", "device=cpu")
    (fault,) = faults_of(*words)
    assert "match=pixel: " in fault
    assert fault.endswith("supports code only")
    assert faults_of("codec=identity", *words) == []


@pytest.mark.parametrize("path", ["/no/such/folder", "."])
def test_missing_weights_come_with_the_other_faults_and_before_the_data(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = faults_of("codec=taesd", f"codec.path={path}", "protocol=nope", "device=cpu")
    assert any("codec.path" in fault or "config.json" in fault for fault in found)
    assert any("'nope'" in fault for fault in found)
    config = RunConfig("/no/such/dataset", {"name": "taesd", "path": path}, "random", device="cpu")
    with pytest.raises(UsageError, match=r"config\.json|codec\.path") as raised:
        run(config, out=tmp_path / "run")
    assert "dataset" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_weights_that_cannot_be_fetched_are_a_fault(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = faults_of("codec=taesd", "protocol=nope", "device=cpu")
    assert any("madebyollin/taesd" in fault and "codec.path=FOLDER" in fault for fault in found)


def test_a_whole_number_may_be_written_with_an_exponent():
    kept, _ = overrides.checked(["algo.iterations=1e1", "device=cpu"], sweep=False)
    config = request.read(overrides.composed(kept)).config
    assert config.algo["iterations"] == 10
    assert type(config.algo["iterations"]) is int


def test_the_preset_is_explained_where_paper_is_affordable():
    quick = resolve_run(RunConfig(algo="dm", device="cpu"))[0]
    assert preset_note(quick, "cpu") is None
    assert "algo.preset=paper" in preset_note(quick, "cuda")
    assert preset_note(quick.replace(algo={"name": "dm", "preset": "paper"}), "cuda") is None
    assert preset_note(quick.replace(algo="random"), "cuda") is None
    assert "means quick" in preset_note(quick.replace(algo={"name": "dm", "preset": "auto"}), "cpu")


def test_the_first_log_line_of_a_run_on_an_accelerator_names_the_preset(monkeypatch, caplog, tmp_path):
    module = sys.modules["latentdd_plugin.experiments.run"]
    monkeypatch.setattr(module, "resolve_device", lambda name: "cuda")
    with caplog.at_level("INFO", "latentdd_plugin"), pytest.raises(UsageError):
        run(RunConfig("/no/such/dataset", algo="dm", device="cpu"), out=tmp_path / "run")
    assert "algo.preset=paper" in caplog.messages[0]


def test_a_name_of_two_things_is_explained_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert request.shadow_note("digits") is None
    for name in ("digits", "cifar10"):
        Path(name).mkdir()
    assert "the installed dataset is used" in request.shadow_note("digits")
    assert "./digits" in request.shadow_note("digits")
    assert "not a dataset of this name on the hub" in request.shadow_note("cifar10")
    assert request.shadow_note("./digits") is None
    assert request.shadow_note(str(tmp_path)) is None
