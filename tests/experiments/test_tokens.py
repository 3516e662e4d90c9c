"""Runs with a codec of tokens: what works, and what is refused before any work, each with its reason."""

import json
from pathlib import Path

import pytest
import torch

from latentdd_plugin.artifacts.file import load_artifact
from latentdd_plugin.cli import main
from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.core import plugins
from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.errors import RunFailed, UsageError
from latentdd_plugin.core.plugins import Preset
from latentdd_plugin.distillers.base import Distiller
from latentdd_plugin.experiments.build import resolve_run
from latentdd_plugin.latent.encode import code_set
from latentdd_plugin.latent.sized_codec import build_codec
from latentdd_plugin.results.record import Record
from latentdd_plugin.testing.samples import digits, plain
from latentdd_plugin.testing.token_codec import Levels

pytestmark = pytest.mark.usefixtures("tiny_protocol")
LEVELS = "latentdd_plugin.testing.token_codec:Levels"
FAST = "--evaluator convnet_d1 --protocol tiny.test --device cpu --quiet threads=1 amp=off compile=off"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DD_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def called(words, more=FAST):
    return main.main(f"{words} {more}".split())


# --- what works -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "precision", "baselines"),
    [
        ("--algo random", "tokens", {"random-pixels-fp32"}),
        ("--algo random --precision coded", "coded", {"random-pixels", "random-pixels-fp32"}),
        ("--algo herding --match pixel", "tokens", {"random-codes", "random-pixels-fp32"}),
        ("--algo margin --match pixel algo.networks=1 algo.epochs=1", "tokens", {"random-codes", "random-pixels-fp32"}),
    ],
)
def test_a_run_stores_tokens_without_being_told(words, precision, baselines):
    assert called(f"run --codec {LEVELS} {words} --out run") == 0
    record, stored = Record.load(Path("run")), load_artifact("run/distilled.safetensors")
    assert stored.header.precision == record.budget.precision == record.config.precision == precision
    assert stored.header.tokens == record.codec.tokens == 16
    assert record.budget.codes_per_class == 8 * 256 // (4 * 16) == len(stored.codes) / 10
    assert record.budget.bytes.codes == 2560 if precision == "tokens" else record.budget.bytes.codes < 2560
    assert torch.equal(stored.codes, stored.codes.round())
    assert set(record.baselines) == baselines
    assert all(hasattr(one, "scores") for one in record.baselines.values())


def test_rded_and_a_teacher_s_labels():
    words = "--algo rded --labels soft --teacher convnet_d1 algo.candidates=20"
    assert called(f"run --codec {LEVELS} {words} --out run") == 0
    record, stored = Record.load(Path("run")), load_artifact("run/distilled.safetensors")
    assert record.budget.codes_per_class == 8 * 256 // (4 * 16 + 80)  # ten probabilities of a byte each
    assert stored.header.precision == "tokens"
    assert stored.soft is not None


def test_both_forms_from_one_draw():
    assert (
        called(f"run --codec {LEVELS} --algo random --lpc 20 --precision tokens,coded --controls none --out run") == 0
    )
    stored = [load_artifact(f"run/{name}/distilled.safetensors") for name in ("tokens", "coded")]
    assert torch.equal(stored[0].codes, stored[1].codes)
    assert stored[1].packed.nbytes < stored[0].packed.nbytes == 20 * 10 * 16 * 4 // 8


def test_as_many_codes_as_the_entropy_allows_and_no_more(capsys):
    words = f"run --codec {LEVELS} --algo random --precision coded --controls none"
    assert called(f"{words} --lpc 36 --out more") == 0
    assert Record.load(Path("more")).budget.bytes.codes <= 2560
    assert called(f"{words} --lpc 60 --out most") == 2
    assert "600 codes take" in (told := capsys.readouterr().err)
    assert "2,560 are allowed: choose fewer codes with lpc" in told


def test_a_comparison_skips_what_tokens_cannot_do():
    axes = f"--codec dct,{LEVELS} --algo random,herding,dm --match code,pixel --ledger bytes"
    assert called(f"compare {axes} --in-process --out cmp algo.dm.iterations=2") == 0
    cells = json.loads(Path("cmp/compare.json").read_text())["cells"]
    found = {
        (c["algo"], c["match"]): (c["status"], c["precision"], c["reason"]) for c in cells if c["codec"] == "Levels"
    }
    assert found["random", "code"][:2] == found["herding", "pixel"][:2] == ("done", "tokens")
    assert found["herding", "code"][0] == "skipped"
    assert "match=pixel compares decoded images" in found["herding", "code"][2]
    for match in ("code", "pixel"):
        assert found["dm", match][0] == "skipped"
        assert "are tokens" in found["dm", match][2]
    assert {c["precision"] for c in cells if c["codec"] != "Levels"} == {"fp32"}


def test_a_comparison_skips_precisions_that_do_not_fit():
    axes = f"--codec dct,{LEVELS} --algo random --precision int8,tokens,coded --ledger bytes"
    assert called(f"compare {axes} --in-process --out cmp") == 0
    cells = json.loads(Path("cmp/compare.json").read_text())["cells"]
    found = {(c["codec"], c["precision"]): c["status"] for c in cells}
    assert found["dct", "tokens"] == found["Levels", "int8"] == "skipped"
    assert found["dct", "int8"] == found["Levels", "tokens"] == found["Levels", "coded"] == "done"
    assert ("identity", "tokens") not in found


# --- what is refused --------------------------------------------------------------------------------------------------

OWN = [name for name, entry in plugins.entries("algos").items() if entry.distribution == plugins.OURS]
KEEPING = {"random", "rded", "herding", "kmeans", "k-center", "el2n", "forgetting", "margin", "imported"}


def resolved(algo, match="code", **more):
    given = {"teacher": "convnet_bn", "codec": LEVELS, **more}
    return resolve_run(RunConfig(algo=algo, match=match, **given))[0]


@pytest.mark.parametrize("name", OWN)
def test_methods_that_compute_codes_are_refused_by_name(name):
    if name in KEEPING:
        compares = name not in ("random", "rded", "imported")
        assert resolved(name, "pixel" if compares else "code").precision == "tokens"
        if compares:
            with pytest.raises(UsageError, match=f"match=code: {name} compares samples.*match=pixel"):
                resolved(name)
        return
    with pytest.raises(UsageError) as refused:
        resolved(name)
    (fault,) = refused.value.faults
    assert fault.startswith(f"algo={name}: it computes codes")
    assert LEVELS in fault
    assert "random, rded" in fault
    assert "herding (match=pixel)" in fault


@pytest.mark.parametrize("name", ["herding", "kmeans", "k-center"])
def test_a_teachers_features_are_compared_instead_of_tokens(name):
    assert resolved({"name": name, "features": "teacher"}).precision == "tokens"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4", "int2"])
def test_other_precisions_are_a_fault(precision):
    with pytest.raises(
        UsageError, match=f"precision={precision}: the codes of .*Levels are tokens.*leave the precision"
    ):
        resolved("random", precision=precision)


def test_tokens_of_a_codec_that_has_none_are_a_fault():
    with pytest.raises(UsageError, match="precision=tokens: the codes of dct are not numbers"):
        resolved("random", codec="dct", precision="tokens")


def test_no_decoder_is_trained_with_tokens():
    with pytest.raises(UsageError, match=r"codec.joint=true: the codes of .*Levels are tokens"):
        resolved("random", codec={"name": LEVELS, "joint": True})


def test_a_method_of_others_computes_codes_unless_it_says_otherwise(monkeypatch):
    class Silent(Distiller):
        def distill(self, task):
            raise AssertionError("never called")

    class Keeps(Silent):
        changes_codes, compares = False, False

    known = plugins.resolve
    for method in (Silent, Keeps):
        monkeypatch.setattr(
            plugins,
            "resolve",
            lambda group, name, m=method, **how: Preset(m) if name == "x" else known(group, name, **how),
        )
        if method is Keeps:
            assert resolved("x").precision == "tokens"
        else:
            with pytest.raises(UsageError, match="algo=x: it computes codes"):
                resolved("x")


# --- the codec --------------------------------------------------------------------------------------------------------


class Unsaid(Levels):
    """Its constructor sets the size of a codebook that its class does not know."""

    tokens = None

    def __init__(self):
        Codec.__init__(self)
        self.tokens = 16


class Enormous(Levels):
    def __init__(self):
        super().__init__(levels=2**20 + 1)


class Halves(Levels):
    def encode(self, images):
        return super().encode(images) + 0.5


class Constant(Levels):
    def encode(self, images):
        return super().encode(images) * 0 + 3


@pytest.mark.parametrize(
    ("codec", "error", "says"),
    [
        (Unsaid, UsageError, "it has tokens=16, but its class does not say so: write `tokens = 0` there"),
        (Enormous, UsageError, "tokens=1048577: a codebook has from 2 to 1,048,576 entries"),
        (
            Halves,
            RunFailed,
            r"encoding training image 0 \(counted from 0\) gave .*\.5; its codes are numbers of a codebook",
        ),
        (Constant, RunFailed, "every code of every training image is token 3 of its codebook of 16"),
    ],
)
def test_a_codec_whose_tokens_are_none(codec, error, says, monkeypatch):
    monkeypatch.setattr(plugins, "resolve", lambda group, name, **how: Preset(codec))
    with pytest.raises(error, match=says):
        code_set(digits(), build_codec({"name": "mine"}, digits().image_shape), plain())


def test_tokens_are_not_standardised_nor_augmented():
    sized = build_codec({"name": LEVELS}, digits().image_shape)
    sized.codec.spatial = True
    space, codes = code_set(digits(), sized, plain())
    assert not sized.spatial
    assert set(codes.all()[0].unique().tolist()) == set(range(16))
    assert torch.equal(codes.all()[0], space.encode(digits().train.pixels[:].float() / 255))
