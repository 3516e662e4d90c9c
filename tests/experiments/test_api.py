"""The package as a library: names people guess, parts by name, a distillation in memory."""

import subprocess
import sys

import numpy as np
import pytest
import tiny
import torch

import latentdd_plugin as dd
from latentdd_plugin.core.errors import UsageError

pytestmark = pytest.mark.usefixtures("tiny_protocol")
RNG = np.random.default_rng(0)
LABELS = np.repeat(np.arange(3), 8)
PICTURES = RNG.integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)


def test_every_public_name_is_there_and_none_costs_an_import():
    assert all(getattr(dd, name) is not None for name in dd.__all__)
    assert set(dd.__all__) <= set(dir(dd))
    code = (
        "import sys\nimport latentdd_plugin as dd\ndd.RunConfig, dd.list_codecs(), dd.list_evaluators('resnet*')\n"
        "heavy = {'torch', 'timm', 'diffusers', 'datasets', 'hydra'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_lists_take_patterns():
    assert "tiny-vae" in dd.list_codecs("*vae*")
    assert "dct" not in dd.list_codecs("*vae*")
    assert {"dm", "dc", "mtt", "random"} <= set(dd.list_distillers())
    assert dd.list_datasets("dig*") == ["digits"]
    assert "convnet" in dd.list_evaluators()
    assert {"resnet18", "resnet50"} <= set(dd.list_evaluators("resnet*"))


def test_parts_by_name():
    codec = dd.create_codec("dct", size=4, image_shape=(1, 8, 8))
    assert codec.code_shape == (1, 4, 4)
    assert codec.decode(codec.encode(torch.rand(2, 1, 8, 8))).shape == (2, 1, 8, 8)
    assert dd.create_codec("identity").encode(torch.zeros(1, 1, 8, 8)).shape == (1, 1, 8, 8)
    assert dd.create_codec("dct", size=4).size == 4
    assert dd.create_distiller("dm", iterations=10).iterations == 10
    assert dd.create_distiller("dm").optimizer == "adam"
    assert dd.create_distiller("dm", preset="paper").iterations == 20_000
    assert dd.create_evaluator("resnet18").config() == {"arch": "resnet18"}


def test_faults_of_parts_name_the_option():
    for make, words in [
        (lambda: dd.create_codec("dct", size=-1), "codec.size=-1"),
        (lambda: dd.create_codec("dct", sice=4), "did you mean size"),
        (lambda: dd.create_codec("dct", size="four"), "must be a whole number or null"),
        (lambda: dd.create_codec("tiny-vae", f=3), "weights for 4 and 8"),
        (lambda: dd.create_codec("taesd", path="/nowhere"), "/nowhere"),
        (lambda: dd.create_codec("dct", upsample=2), "image_shape"),
        (lambda: dd.create_distiller("dm", iteration=3), "did you mean iterations"),
        (lambda: dd.create_distiller("dm", iterations="many"), "algo.iterations='many'"),
        (lambda: dd.create_evaluator("resnet-18"), "did you mean resnet18"),
        (lambda: dd.create_evaluator("resnet18", lr=1), "takes no options"),
    ]:
        with pytest.raises(UsageError, match=words):
            make()


@pytest.mark.parametrize("distiller", ["random", {"name": "dm", "iterations": 2}])
@pytest.mark.parametrize("codec", ["identity", {"name": "dct", "size": 4}, {"name": "pca", "dim": 4}])
def test_distil_in_memory(codec, distiller, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = dd.distill(PICTURES, LABELS, codec=codec, distiller=distiller, ipc=1, device="cpu", classes=["a", "b", "c"])
    assert list(tmp_path.iterdir()) == []
    assert made.classes == ("a", "b", "c")
    images = made.decode()
    assert images.shape[1:] == (3, 8, 8)
    again = dd.distill(torch.from_numpy(PICTURES), torch.from_numpy(LABELS), codec, distiller, classes=["a", "b", "c"],
                       device="cpu")  # fmt: skip
    assert torch.equal(again.codes, made.codes)
    dd.save_artifact(made, tmp_path / "set.safetensors")
    assert torch.equal(dd.load_artifact(tmp_path / "set.safetensors").decode(), images)


def test_a_distillation_in_memory_is_that_of_a_run(tmp_path):
    record = dd.run(tiny.config(codec="dct", controls=False), out=tmp_path / "run")
    stored = dd.load_artifact(tmp_path / "run" / "distilled.safetensors")
    data, config = tiny.digits(), tiny.config(codec="dct")
    made = dd.distill(
        data.train.pixels, data.train.labels, dict(config.codec), dict(config.algo), classes=data.classes,
        flip=data.flip, ipc=config.ipc, lpc=config.lpc, precision=config.precision, seed=config.seed,
        **tiny.PLAIN,
    )  # fmt: skip
    assert record.folder == tmp_path / "run"
    assert torch.equal(made.codes, stored.codes)


def test_faults_of_a_distillation_come_together():
    with pytest.raises(UsageError) as raised:
        dd.distill(PICTURES.astype(int), LABELS[:3], codec={"name": "dct", "size": -1}, distiller="dn", ipc=0)
    text = "\n".join(raised.value.faults)
    for part in ("must be uint8", "codec.size=-1", "unknown algo 'dn'", "ipc=0"):
        assert part in text


def test_a_distilled_set_as_a_dataset_and_in_a_notebook():
    made = dd.distill(PICTURES, LABELS, "dct", "random", ipc=1, classes=["a", "<b>", "c"], device="cpu")
    rows = made.to_dataset()
    assert rows.features["label"].names == ["a", "<b>", "c"]
    assert len(rows) == len(made.labels)
    expected = (made.decode().clamp(0, 1) * 255).round().to(torch.uint8)
    assert np.array_equal(np.asarray(rows[0]["image"]), expected[0].permute(1, 2, 0).numpy())
    page = made._repr_html_()
    assert "data:image/png;base64," in page
    assert "&lt;b&gt;" in page


def test_soft_labels_are_a_column_of_their_own():
    from latentdd_plugin.artifacts.display import dataset_of

    soft = torch.tensor([[0.1, 0.9], [0.7, 0.3]])
    rows = dataset_of(torch.rand(2, 1, 4, 4), soft, "probabilities", ("a", "b"))
    assert rows["label"][:] == [1, 0]
    assert np.allclose(rows["probabilities"][:], soft)
    assert rows[0]["image"].mode == "L"


def test_evaluate_and_compare_take_options_by_name(tmp_path):
    record = dd.run(tiny.config(codec="dct", controls=False), out=tmp_path / "run")
    found = dd.evaluate(record.folder, evaluators="convnet_d1", protocol="tiny.test", device="cpu", out=tmp_path / "e")
    assert found.folder == tmp_path / "e"
    with pytest.raises(TypeError, match="not both"):
        dd.evaluate(record.folder, dd.EvaluationConfig(), protocol="tiny.test")
    table = dd.compare(
        ["dct"], ["random"], ipc=1, evaluators="convnet_d1", protocol="tiny.test", device="cpu", controls=False,
        out=tmp_path / "c",
    )  # fmt: skip
    assert "dct" in table.table()
