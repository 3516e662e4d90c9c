"""The bundled autoencoder: there after an installation, offline, and as good as its page says."""

import json
import re
import subprocess
import sys

import pytest
import torch

from latentdd_plugin.codecs.tiny_vae import BUNDLED, FACTORS, TinyVAE
from latentdd_plugin.core.config import DatasetConfig
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.data.load import load_dataset
from latentdd_plugin.experiments.codec_training.reconstruction import mean_psnr
from latentdd_plugin.latent.sized_codec import build_codec

LARGEST = 2_000_000  # bytes of one weight file


@pytest.mark.parametrize("f", FACTORS)
def test_small_and_recorded(f):
    folder = BUNDLED / f"tiny-vae-f{f}"
    record = json.loads((folder / "training.json").read_text())
    size = (folder / "diffusion_pytorch_model.safetensors").stat().st_size
    assert record["model"]["bytes"] == size < LARGEST
    assert record["command"].startswith("dd-bench codec train ")
    assert TinyVAE(f=f).trained_on == tuple(record["trained_on"])
    assert all(one["validation_size"] > 0 for one in record["datasets"])
    assert not re.search(r"(?<![\w.])/\w", json.dumps(record)), "an absolute path of the machine that trained it"
    terms = (BUNDLED / "README.md").read_text()
    assert all(name in terms for name in record["trained_on"])


@pytest.mark.parametrize(("f", "shape", "code"), [(4, (3, 16, 16), (4, 4, 4)), (8, (3, 16, 24), (4, 2, 3))])
def test_sizes_from_sixteen_pixels_up(f, shape, code):
    sized = build_codec({"name": "tiny-vae", "f": f}, shape)
    assert sized.code_shape == code
    assert sized.decode(torch.zeros(2, *code)).shape == (2, *shape)
    assert sized.codec.config() == {"f": f}


def test_a_factor_without_weights_is_refused():
    with pytest.raises(UsageError, match=r"codec.f=16: there are weights for 4 and 8; `dd-bench codec train --f 16`"):
        TinyVAE(f=16)


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "f", "least"), [("cifar10", 4, 25.0), ("imagenette128", 8, 22.5)])
def test_it_reconstructs_held_out_test_images(shared, name, f, least):
    images = load_dataset(DatasetConfig(f"{shared}/data/{name}", per_class=1))
    x = images.held_out("test").pixels[:200].float() / 255
    sized = build_codec({"name": "tiny-vae", "f": f}, images.image_shape)
    back = torch.cat([sized.decode(sized.encode(part)) for part in x.split(20)])
    assert mean_psnr(x, back) > least


@pytest.mark.slow
def test_it_travels_in_the_wheel(tmp_path):
    source = BUNDLED.parents[2]
    if not (source / "pyproject.toml").exists():
        pytest.skip("no source tree to build from")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source)]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "-q", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)], check=True)
    code = (
        "import latentdd_plugin; from latentdd_plugin.latent.sized_codec import build_codec; "
        "print(latentdd_plugin.__file__); "
        "print(build_codec({'name': 'tiny-vae', 'f': 8}, (3, 32, 32)).code_shape)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(tmp_path / "site"), "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)},
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split("\n")[0].startswith(str(tmp_path / "site"))
    assert done.stdout.split("\n")[1] == "(4, 4, 4)"
