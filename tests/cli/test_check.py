"""`dd-bench check`: what the contracts say, exit codes, and the cards it leaves."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from latentdd_plugin.cli import main
from latentdd_plugin.core.config import DatasetConfig
from latentdd_plugin.data.load import load_dataset
from latentdd_plugin.experiments import stages
from latentdd_plugin.latent.sized_codec import build_codec
from latentdd_plugin.leaderboard import registry
from latentdd_plugin.leaderboard.site import build
from latentdd_plugin.testing.cards import algo, codec

BROKEN = Path(__file__).parents[1] / "testing" / "broken.py"
QUICK = ["--protocol", "tiny.test", "--evaluator", "convnet_d1", "--device", "cpu", "--quiet", "--out", "cards"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, tiny_protocol):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_test_images(monkeypatch):
    """The test split cannot be read."""
    load = load_dataset

    def guarded(config, **how):
        images = load(config, **how)

        def held_out(split):
            assert split != "test", "a test image was read"
            return images.held_out(split)

        return replace(images, held_out=held_out)

    for user in (codec, stages):
        monkeypatch.setattr(user, "load_dataset", guarded)


def check(*words):
    return main.main(["check", *words])


def test_contracts_alone_write_nothing(tmp_path, capsys):
    assert check("codec", "dct", "codec.size=3", "--contracts-only") == 0
    out = capsys.readouterr().out
    assert out.startswith("codec dct\n  ok      options\n")
    assert out.endswith("17 contracts, none broken\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        ("codec", "Doubles", "BROKEN float32 images (1, 8, 8): decoded images are torch.float64"),
        ("algo", "OneClass", "BROKEN label_balance dct, match=code: codes per class [20, 0, 0, 0, 0, 0, 0, 0"),
    ],
)
def test_a_broken_contract_is_exit_1_and_leaves_no_card(kind, name, says, tmp_path, capsys):
    assert check(kind, f"{BROKEN}:{name}", *QUICK) == 1
    out = capsys.readouterr().out
    assert says in " ".join(out.split())
    assert "contracts broken\n" in out
    assert "no card" in out
    assert list(tmp_path.iterdir()) == []


def test_the_card_of_a_codec(no_test_images, tmp_path, capsys):
    assert check("codec", "dct", "codec.size=6", *QUICK) == 0
    place = Path("cards") / "codecs" / "dct-size=6"
    assert capsys.readouterr().out.endswith(
        "".join(f"{place}/digits.{ending}\n" for ending in ("json", "html", "webp"))
    )
    card = json.loads((place / "digits.json").read_text())
    assert card["schema"] == "dd-bench/codec-card.v1"
    assert card["command"].startswith("dd-bench check codec dct codec.size=6")
    assert card["codec"]["code_shape"] == [1, 6, 6]
    assert card["values"] == {"code": 36, "compression": 64 / 36, "image": 64}
    assert card["dataset"]["held_out"] == "0.2 of the training split, stratified, seed 0"
    assert (card["dataset"]["train_size"], card["dataset"]["held_out_size"]) == (1151, 287)
    skipped = [finding["contract"] for finding in card["contracts"] if finding["status"] != "passed"]
    assert skipped == ["tokens"], "the codes of a transform are not numbers of a codebook"
    assert min(card["speed"][way] for way in ("encode_images_s", "decode_images_s")) > 0
    pixels = load_dataset(DatasetConfig(validation=0.2)).held_out("validation").pixels.float() / 255
    with torch.no_grad():
        codec = build_codec({"name": "dct", "size": 6}, (1, 8, 8))
        errors = [float((codec.decode(codec.encode(x[None]))[0] - x).square().mean()) for x in pixels]
    psnr = torch.tensor(errors).log10().mul(-10)
    assert card["quality"]["psnr"]["mean"] == pytest.approx(float(psnr.mean()), abs=1e-3)
    assert card["quality"]["images"] == 287
    accuracy = card["accuracy"]
    assert accuracy["scored_on"] == "validation"
    assert [len(accuracy[name]["scores"]) for name in ("pixels", "reconstructions", "codes")] == [2, 2, 2]
    apart = [
        b["accuracy"] - a["accuracy"]
        for a, b in zip(*(accuracy[n]["scores"] for n in ("pixels", "codes")), strict=True)
    ]
    assert accuracy["codes"]["difference"]["convnet_d1"]["mean"] == pytest.approx(sum(apart) / 2)
    with Image.open(place / "digits.webp") as grid:
        assert grid.width > 8 * 64
        assert grid.height > 10 * 64
    page = (place / "digits.html").read_text()
    for text in ("dct on digits", "1×6×6", 'src="digits.webp"', "17 contracts, none broken", "reconstructions"):
        assert text in page
    assert "http" not in page.replace("http-equiv", ""), "it needs nothing else"


@pytest.mark.parametrize("words", [[], ["--out", "registry"]])
def test_a_card_in_the_registry_has_no_page_of_its_own(words, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(registry, "default", lambda: tmp_path / "registry")
    (tmp_path / "registry").mkdir()
    assert check("codec", "identity", *QUICK[:-2], *words) == 0
    place = tmp_path / "registry" / "codecs" / "identity"
    assert sorted(path.name for path in place.iterdir()) == ["digits.json", "digits.webp"]
    site = build(tmp_path / "registry", tmp_path / "site")
    assert (site.cards, site.faults) == (1, ())
    assert "identity on digits" in (site.folder / "codecs" / "identity" / "digits.html").read_text()


def test_with_identity_codes_are_pixels_and_nothing_is_lost(no_test_images):
    assert check("codec", "identity", *QUICK) == 0
    card = json.loads(Path("cards/codecs/identity/digits.json").read_text())
    assert card["quality"]["psnr"] == {"mean": 120.0, "std": 0.0}
    assert card["quality"]["ssim"]["mean"] == pytest.approx(1.0)
    rows = [card["accuracy"][name]["scores"] for name in ("pixels", "reconstructions", "codes")]
    for other in rows[1:]:
        for a, b in zip(rows[0], other, strict=True):
            assert abs(a["accuracy"] - b["accuracy"]) < 0.03, "the same images, up to rounding"


def test_codes_without_a_layout_get_a_network_of_their_own(no_test_images):
    assert check("codec", "pca", "codec.dim=9", *QUICK) == 0
    card = json.loads(Path("cards/codecs/pca-dim=9/digits.json").read_text())
    assert {row["arch"] for row in card["accuracy"]["codes"]["scores"]} == {"mlp"}
    assert card["accuracy"]["augment_codes"] == []
    assert card["codec"]["fitted"] is True


def test_the_card_of_an_algorithm(no_test_images, monkeypatch, capsys):
    monkeypatch.setattr(algo, "SIDES", (8,))
    monkeypatch.setattr(algo, "BUDGETS", (2,))
    assert check("algo", "dm", "algo.iterations=5", "algo.batch_real=8", *QUICK) == 0
    assert capsys.readouterr().out.endswith("cards/algos/dm.json\ncards/algos/dm.html\n")
    card = json.loads(Path("cards/algos/dm.json").read_text())
    assert card["schema"] == "dd-bench/algo-card.v1"
    assert card["algo"]["config"]["iterations"] == 5
    (cell,) = card["cells"]
    assert (cell["side"], cell["ipc"]) == (8, 2)
    assert cell["steps_s"] > 0
    assert cell["peak_rss_mb"] > 50
    gain = card["gain"]
    assert (gain["scored_on"], gain["bytes_per_class"]) == ("validation", 256)
    means = gain["summary"]["convnet_d1"]["mean"], gain["random"]["convnet_d1"]["mean"]
    assert gain["over_random"]["convnet_d1"]["mean"] == pytest.approx(means[0] - means[1])
    page = Path("cards/algos/dm.html").read_text()
    assert "Gain over random codes" in page
    assert "8 px, IPC 2" in page


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["codec", "dtc"], "unknown codec 'dtc' (did you mean dct"),
        (["codec", "dct", "codec.sise=3"], "codec.dct: DCT has no option 'sise' (did you mean size?)"),
        (["codec", "dct", "algo.lr=3"], "algo.lr: is not used here; the keys are: evaluator, "),
        (["codec", "dct", "--dataset", "digitz"], "unknown dataset 'digitz' (did you mean digits?)"),
        (["codec", "dct", "--protocol", "fast.v9"], "unknown protocol 'fast.v9'"),
        (["codec", "diffusers"], "give codec.path=FOLDER"),
        (["algo", "dm", "--dataset", "digits"], "--dataset: algo plug-ins are tried on the digits"),
        (["algo", "dm", "algo.stepz=3"], "algo.dm: DM has no option 'stepz'"),
    ],
)
def test_what_cannot_be_done_is_one_message_and_nothing_written(words, says, tmp_path, capsys):
    assert check(*words, "--quiet") == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == []


def test_an_evaluator_is_held_to_its_contracts(capsys):
    assert main.main(["check", "evaluator", "train-scratch", "--quiet"]) == 0
    assert "8 contracts, none broken" in capsys.readouterr().out
