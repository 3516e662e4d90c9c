"""Bad inputs: one clear message, exit 2, no traceback, and nothing half-written."""

import io
import re

import datasets
import pytest
import tiny
from PIL import Image

from latentdd_plugin import RunConfig, load_artifact, run
from latentdd_plugin.cli import main
from latentdd_plugin.core.errors import ArtifactError

pytestmark = pytest.mark.usefixtures("tiny_protocol")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty working folder, with caches elsewhere."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    return folder


@pytest.fixture
def refused(here, capsys):
    """Run a command line; the messages it ends with."""

    def call(*words):
        before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
        assert main.main([str(word) for word in words]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "Traceback" not in captured.err
        assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before, "something was written"
        return [line.removeprefix("dd-bench: ") for line in captured.err.splitlines() if line.startswith("dd-bench: ")]

    return call


def run_words(*words):
    return ("run", "--device", "cpu", "--protocol", "tiny.test", "--controls", "none", "--out", "out", *words)


def test_an_unknown_codec(refused):
    (message,) = refused(*run_words("--codec", "sd-vea"))
    assert message.startswith("unknown codec 'sd-vea' (did you mean sd-vae, sd3-vae")
    assert message.endswith("tiny-vae, vq")
    assert "; there are: " in message


def test_a_budget_that_is_too_small(refused):
    assert refused(*run_words("--codec", "identity", "--ipc", "1", "codec.upsample=2")) == [
        "budget too small: ipc=1 is 256 bytes per class, but one fp32 code of shape (1, 16, 16) takes 1024 bytes; "
        "raise ipc, choose a lower precision or a codec with smaller codes"
    ]


def test_a_size_the_codec_cannot_take(refused, here):
    assert refused(*run_words("--codec", "dct", "codec.size=16")) == [
        "dct: codec.size=16 is larger than the shorter side of the 8x8 image: choose 1 to 8"
    ]
    (here / "mine.py").write_text(
        "import torch\n"
        "from latentdd_plugin.codecs.base import Codec\n"
        "class Mine(Codec):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Conv2d(1, 2, 16, 16)\n"
        "    def encode(self, images):\n"
        "        return self.layer(images)\n"
        "    def decode(self, codes):\n"
        "        return codes\n"
    )
    (message,) = refused(*run_words("--codec", "./mine.py:Mine"))
    assert message.startswith("the codec cannot take images of shape (1, 8, 8): ")


@pytest.mark.parametrize("word", ["dataset.label_column=tag", "dataset.image_column=tag"])
def test_a_missing_column(refused, word):
    key = word.split("=")[0]
    assert refused(*run_words(word)) == [
        f"dataset digits, split train: no column 'tag' for {key}; the columns are image (Image), label (ClassLabel)"
    ]


def png(value):
    file = io.BytesIO()
    Image.new("L", (8, 8), value).save(file, format="png")
    return file.getvalue()


def parquet(folder, images, **columns):
    features = {"image": datasets.Image(), **{k: datasets.Value("int64") for k in columns}}
    cells = {"image": [{"bytes": b, "path": None} for b in images], **columns}
    folder.mkdir()
    datasets.Dataset.from_dict(cells, features=datasets.Features(features)).to_parquet(folder / "train.parquet")
    return folder


def test_data_without_labels(refused, tmp_path):
    folder = parquet(tmp_path / "data", [png(v) for v in range(12)])
    (message,) = refused(*run_words("--dataset", folder))
    assert (
        "split train: no column of ClassLabel or integer or text or float for dataset.label_column; the columns"
        in message
    )


@pytest.mark.parametrize("broken", [b"not an image", png(3)[:-30], b""], ids=["text", "truncated", "empty"])
def test_a_corrupt_image(refused, tmp_path, broken):
    images = [png(v) for v in range(20)]
    images[13] = broken
    folder = parquet(tmp_path / "data", images, label=[0, 1] * 10)
    (message,) = refused(*run_words("--dataset", folder, "--lpc", "1"))
    assert re.search(r"row 13: (corrupt image|an empty file).*; repair or remove it$", message)


def test_a_corrupt_artifact(refused, tmp_path, here):
    run(tiny.config(algo={"name": "random"}, lpc=1), out=tmp_path / "run")
    path = tmp_path / "run" / "distilled.safetensors"
    whole = bytearray(path.read_bytes())
    whole[-40] ^= 4
    path.write_bytes(whole)
    with pytest.raises(ArtifactError, match="content does not match its hash: the file was changed or damaged"):
        load_artifact(path)
    assert refused("evaluate", path, "--protocol", "tiny.test", "--out", "out") == [
        f"{path}: content does not match its hash: the file was changed or damaged"
    ]


def install(folder, name, entry_points, **modules):
    """A distribution as pip lays it out."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        ("import no_such_package\n", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("raise SystemExit(0)\n", "SystemExit: 0"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
    ],
)
@pytest.mark.parametrize(
    ("group", "flag"), [("codecs", "--codec"), ("distillers", "--algo"), ("evaluators", "--evaluator")]
)
def test_a_plug_in_that_raises_at_import(refused, tmp_path, monkeypatch, cause, told, group, flag):
    install(
        tmp_path / "site", "their-plugin", f"[dd_bench.{group}]\ntheirs = their_module:Theirs\n", their_module=cause
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    kind = {"codecs": "codec", "distillers": "algo", "evaluators": "evaluator"}[group]
    assert refused(*run_words(flag, "theirs")) == [
        f"{kind} theirs = their_module:Theirs (of their-plugin 1.0) cannot be loaded: {told} (their_module.py, line 1)"
    ]


def test_a_broken_plug_in_harms_nobody_else(tmp_path, monkeypatch, capsys):
    install(tmp_path / "site", "their-plugin", "[dd_bench.codecs]\ntheirs = absent_module:Theirs\n")
    install(tmp_path / "site", "odd", "this is not = [an ini file\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert main.main([*run_words("--algo", "random", "--evaluator", "convnet_d1", "--quiet")]) == 0
    assert "dct + random" in capsys.readouterr().out


def test_all_faults_come_together(refused):
    messages = refused(*run_words("--codec", "dtc", "--algo", "dn", "--precision", "int3", "sead=1", "--ipc", "0"))
    assert len(messages) == 5
    assert all(any(part in m for m in messages) for part in ("'dtc'", "'dn'", "int3", "'sead'", "ipc=0"))


def test_an_unknown_preset_is_refused_with_those_there_are():
    from latentdd_plugin.core.errors import UsageError
    from latentdd_plugin.experiments.build import resolve_run

    with pytest.raises(UsageError, match="paper, quick"):
        resolve_run(RunConfig(algo={"name": "dm", "preset": "fast"}))
