"""`dd-bench estimate`: the same arguments as `run`, a table or JSON, for any number of processes, without a run."""

import json

import doc_places
import pytest
from PIL import Image

from latentdd_plugin.cli.main import main


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DD_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_the_arguments_of_a_run_give_a_table_and_nothing_is_run(capsys, tmp_path):
    assert main(["estimate", "--algo", "dm", "--ipc", "1", "algo.iterations=5", "--quiet", "--speed", "1e10"]) == 0
    out = capsys.readouterr().out
    assert "training images 1438" in out
    assert "test images 359" in out
    named = [line.split()[0] for line in out.splitlines()[3:9]]
    assert named == ["load", "encode", "distil", "evaluate", "nearest", "baselines"]
    assert not (tmp_path / "runs").exists()


def test_json_holds_the_seconds_of_every_number_of_processes(capsys):
    sizes = ["--train-images", "1281167", "--test-images", "50000", "--class-count", "1000", "--side", "64"]
    assert main(["estimate", *sizes, "--speed", "1e14", "--processes", "1,8", "--json", "--baselines", "none"]) == 0
    found = json.loads(capsys.readouterr().out)
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert stages["distil"]["seconds"]["8"] == pytest.approx(stages["distil"]["seconds"]["1"] / 8)
    assert stages["distil"]["basis"] == "assumed"
    assert found["disk_bytes"]["decoded images"] == (1_281_167 + 50_000) * 3 * 64 * 64


def test_a_codec_that_learns_is_fitted_to_noise_to_know_its_codes(capsys):
    assert main(["estimate", "--codec", "pca", "--speed", "1e10", "--quiet"]) == 0
    assert "code " in capsys.readouterr().out


def test_it_tells_how_a_folder_is_read_and_what_is_wrong_with_it(capsys, tmp_path):
    doc_places.pictures("pictures", side="16", classes="3")
    (tmp_path / "pictures" / "notes.txt").write_text("x")
    words = ["estimate", "--dataset", "pictures", "--speed", "1e10"]
    assert main(words) == 0
    seen = capsys.readouterr()
    assert "image 3x16x16" in seen.out
    assert "52 files, read as class folders: train 36, test 15; left out 1" in seen.err
    assert "3 classes: 0 class_0, 1 class_1, 2 class_2" in seen.err
    Image.new("RGB", (20, 16)).save(tmp_path / "pictures" / "train" / "class_0" / "01.png")
    assert main(words) == 2
    assert "images of several sizes" in capsys.readouterr().err
    assert main([*words, "dataset.image_size=16"]) == 0


def test_faults_are_reported_together(capsys):
    assert main(["estimate", "--codec", "dctt", "--side", "64", "--processes", "0", "--speed", "-1"]) == 2
    complaints = capsys.readouterr().err
    for part in ("dctt", "--train-images", "processes=0", "--speed"):
        assert part in complaints
