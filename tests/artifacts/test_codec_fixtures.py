"""Files that earlier versions wrote, of every codec at every precision, decode to the pictures that they held.

Made by `tests/fixtures/make.py codecs`; a published file is never made again. Only the public API and the command line
are used, so that nothing but the files' own form ties these tests to the package's insides.
"""

import hashlib
import json
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentdd_plugin import load_artifact

FOLDER = Path(__file__).parents[1] / "fixtures" / "codecs"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
WITH_WEIGHTS = [name for name in EXPECTED if name.startswith(("taesd", "vq"))]
ALONE = [name for name in EXPECTED if name not in WITH_WEIGHTS]
LAST_BITS = 0.02  # of a level: what another processor's arithmetic may add


def pictures(name):
    """The frozen pixels, uint8 (N, H, W, C)."""
    pixels = np.asarray(Image.open(FOLDER / f"{name}.png")).reshape(EXPECTED[name]["shape"])
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == EXPECTED[name]["pixels_sha256"]
    return pixels


def test_every_file_is_expected():
    assert sorted(path.stem for path in FOLDER.glob("*.safetensors")) == sorted(EXPECTED)
    stored = {name: name.rpartition("-")[2] for name in EXPECTED}
    assert {how for name, how in stored.items() if name.startswith("vq")} == {"tokens", "coded"}
    others = {how for name, how in stored.items() if not name.startswith("vq")}
    assert others == {"fp32", "fp16", "int8", "int4", "int2"}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_file_is_as_it_was_written(name):
    file, told = FOLDER / f"{name}.safetensors", EXPECTED[name]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == told["sha256"]
    stored = load_artifact(file)
    assert stored.header.codec.fingerprint == told["fingerprint"]
    assert stored.header.precision == name.rpartition("-")[2]


@pytest.mark.parametrize("name", ALONE)
def test_it_decodes_to_the_same_pictures(name):
    told, stored = EXPECTED[name], load_artifact(FOLDER / f"{name}.safetensors")
    images = stored.decode()
    assert [round(float(value), 4) for value in images[1, 0, 3, :8]] == pytest.approx(
        told["image 1, row 3"], rel=0, abs=2e-4
    )
    levels = (images.clamp(0, 1) * 255).permute(0, 2, 3, 1).numpy()
    expected = pictures(name)
    assert levels.shape == expected.shape
    assert abs(levels - expected).max() <= 0.5 + LAST_BITS


@pytest.mark.parametrize("name", ALONE)
def test_the_codec_built_from_it_has_the_same_fingerprint(name):
    """Also of a codec whose decoder travels in the file, where loading asks for no fingerprint."""
    assert load_artifact(FOLDER / f"{name}.safetensors").space().codec.fingerprint == EXPECTED[name]["fingerprint"]


@pytest.mark.realdata
@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_it_decodes_with_the_weights_that_the_caller_names(name, request, tmp_path, capsys):
    weights = FOLDER.with_name("vq")
    if name.startswith("taesd"):
        weights = request.getfixturevalue("shared") / "weights" / "taesd"
        if not weights.is_dir():
            pytest.skip(f"no weights at {weights}")
    (command,) = entry_points(group="console_scripts", name="dd-bench")
    words = ["export", "imagefolder", str(FOLDER / f"{name}.safetensors"), "--out", str(tmp_path / "pictures")]
    assert command.load()([*words, f"codec.path={weights}"]) == 0, capsys.readouterr().err
    files = sorted((tmp_path / "pictures").glob("*/*.png"), key=lambda path: path.name)
    expected = pictures(name)
    found = np.stack([np.asarray(Image.open(file)).reshape(expected.shape[1:]) for file in files])
    assert found.shape == expected.shape
    off = abs(found.astype(int) - expected)
    assert off.max() <= 1, "no more than a value that lies between two levels, rounded the other way"
    assert (off > 0).mean() < 0.01
