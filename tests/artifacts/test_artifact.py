"""The distilled set as a file: it comes back as it was, says where it was damaged, and needs nothing else to decode."""

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from latentdd_plugin import load_artifact
from latentdd_plugin.artifacts.artifact import make_artifact
from latentdd_plugin.artifacts.file import KEY, _content_hash, _tensors, save_artifact
from latentdd_plugin.artifacts.header import HeaderSpace
from latentdd_plugin.codecs.base import Codec, fingerprint
from latentdd_plugin.core.errors import ArtifactError, PluginError
from latentdd_plugin.core.types import PRECISIONS, SyntheticSet, canonical_json
from latentdd_plugin.latent.sized_codec import SizedCodec, build_codec

FIXTURE = Path(__file__).parents[1] / "fixtures" / "artifact.v1.safetensors"


def synthetic(codec="dct", *, per_class=2, kind="hard", lr=None):
    """Real codes and their labels."""
    task = tiny.task(codec, codes_per_class=per_class)
    codes, labels = task.init()
    if kind != "hard":
        labels = torch.nn.functional.one_hot(labels, 10).float()
    return SyntheticSet(codes, labels, kind, lr)


def saved(path, codec="dct", precision="fp32", **more):
    made = make_artifact(synthetic(codec, **more), tiny.spaces(codec)[1], precision, tiny.digits(), codec)
    return save_artifact(made, path), made


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("codec", ["dct", "pca", "identity"])
def test_it_comes_back_as_it_was(tmp_path, codec, precision):
    sha256, made = saved(tmp_path / "a.safetensors", codec, precision, lr=0.025)
    back = load_artifact(tmp_path / "a.safetensors")
    assert sha256 == hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest()
    assert torch.equal(back.codes, made.codes)
    assert torch.equal(back.labels, made.labels)
    assert back.lr == pytest.approx(0.025)
    assert back.header.sealed(None).to_json() == made.header.to_json()
    assert back.classes == tuple("0123456789")
    expected = tiny.spaces(codec)[1].decode(made.codes)
    torch.testing.assert_close(back.decode(), expected, atol=1e-6, rtol=0)
    ledger = back.bytes(1, 2)
    codes = back.packed.shape
    assert ledger.codes == math.ceil(math.prod(codes) * PRECISIONS[precision] / 8) == back.packed.nbytes
    scales = 8 * codes[1] if PRECISIONS[precision] < 16 else 0
    assert ledger.side == scales + 8 * codes[1] + 4 + 8 * 20
    assert (ledger.labels, ledger.file, ledger.decoder) == (0, 1, 2)


@pytest.mark.parametrize("kind", ["probabilities", "logits"])
def test_soft_labels_come_back_and_are_counted(tmp_path, kind):
    saved(tmp_path / "a", kind=kind)
    back = load_artifact(tmp_path / "a")
    assert back.header.label_kind == kind
    assert back.labels.shape == (20, 10)
    assert back.bytes(0, 0).labels == 20 * 10 * 4
    assert back.lr is None


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_same_set_gives_the_same_bytes(tmp_path, precision):
    hashes = {saved(tmp_path / f"{i}.safetensors", "pca", precision)[0] for i in range(3)}
    hashes.add(save_artifact(load_artifact(tmp_path / "0.safetensors"), tmp_path / "again"))
    assert len(hashes) == 1
    assert saved(tmp_path / "other", "pca", precision, per_class=1)[0] not in hashes


def test_the_header_is_canonical_and_knows_no_place_or_time(tmp_path):
    from safetensors import safe_open

    saved(tmp_path / "a")
    with safe_open(tmp_path / "a", framework="pt") as file:
        metadata = file.metadata()
    assert list(metadata) == [KEY]
    header = json.loads(metadata[KEY])
    assert metadata[KEY] == canonical_json(header)
    assert str(tmp_path) not in metadata[KEY]
    assert sorted(header) == [
        "classes",
        "codec",
        "codes_shape",
        "content_sha256",
        "dataset",
        "image_shape",
        "label_kind",
        "precision",
        "schema",
        "space",
        "value_space",
    ]


def test_every_changed_byte_is_found_by_loading_alone(tmp_path):
    path = tmp_path / "a.safetensors"
    saved(path, "dct", "int4", per_class=1)
    whole = path.read_bytes()
    for position in range(len(whole)):
        old = whole[position]
        for new in {old ^ (1 << position % 8), b"\t 0"[position % 3]} - {old}:
            path.write_bytes(whole[:position] + bytes([new]) + whole[position + 1 :])
            with pytest.raises(ArtifactError, match=r"a\.safetensors: "):
                load_artifact(path)
    for damaged in (whole[:-1], whole + b"\0", whole[:4], b"", b"not at all"):
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError):
            load_artifact(path)
    path.write_bytes(whole)
    load_artifact(path)


@pytest.mark.parametrize("spelling", [lambda t: t.replace("e-05", "E-05"), lambda t: t.replace("\\u00e9", "\\u00E9")])
def test_another_spelling_of_the_same_header_is_a_change(tmp_path, spelling):
    """Case in an exponent or an escape makes no other value, but it is a changed byte."""
    _, made = saved(tmp_path / "a")
    header = replace(made.header, classes=("é", *"123456789"), space=HeaderSpace((1e-05,), (1.0,)))
    save_artifact(replace(made, header=header), tmp_path / "a")
    load_artifact(tmp_path / "a")
    from safetensors import safe_open

    with safe_open(tmp_path / "a", framework="pt") as file:
        text = file.metadata()[KEY]
    assert spelling(text) != text
    save_file(load_file(tmp_path / "a"), tmp_path / "b", metadata={KEY: spelling(text)})
    with pytest.raises(ArtifactError, match="not as it was written"):
        load_artifact(tmp_path / "b")


def forged(path, tensors=None, drop=(), **fields):
    """An artifact with other tensors or header fields, and a content hash that fits: what no accident makes."""
    _, made = saved(path, "pca", "int8")
    there = _tensors(made) | (tensors or {})
    there = {name: tensor for name, tensor in there.items() if name not in drop}
    header = {**made.header.to_json(), **fields}
    header["content_sha256"] = _content_hash(header, there)
    save_file(there, path, metadata={KEY: canonical_json(header)})
    return path


NAN = float("nan")
FORGED = {
    "schema": ({"schema": "dd-bench/artifact.v9"}, "schema 'dd-bench/artifact.v9'; this version reads"),
    "precision": ({"precision": "int3"}, "precision: int3, but it must be one of fp32"),
    "label kind": ({"label_kind": "loud"}, "label_kind: loud, but it must be one of hard"),
    "empty": ({"codes_shape": [0, 64, 1, 1]}, "codes_shape: .* must be 4 whole numbers"),
    "negative": ({"codes_shape": [-20, -64, 1, 1]}, "codes_shape: .* must be 4 whole numbers"),
    "fraction": ({"codes_shape": [20.0, 64, 1, 1]}, "codes_shape: .* must be 4 whole numbers"),
    "yes": ({"codes_shape": [20, 64, 1, True]}, "codes_shape: .* must be 4 whole numbers"),
    "huge codes": ({"codes_shape": [10**12, 64, 1, 1]}, "codes_shape: .* must be 4 whole numbers"),
    "other codes": ({"codes_shape": [21, 64, 1, 1]}, r"int8 of \(21, 64, 1, 1\) needs torch.uint8 \(1344,\)"),
    "few sides": ({"codes_shape": [20, 64]}, "malformed header"),
    "huge image": ({"image_shape": [1, 10**6, 10**6]}, "image_shape: .* must be 3 whole numbers"),
    "flat image": ({"image_shape": [1, 0, 8]}, "image_shape: .* must be 3 whole numbers"),
    "no image": ({"image_shape": "big"}, "image_shape: .* must be 3 whole numbers"),
    "classes": ({"classes": ["0", "1"]}, "labels outside 0 … 1"),
    "space": ({"space": {"mean": [0.0], "std": [1.0]}}, "std of 64 channels"),
    "std": ({"space": {"mean": [0.0] * 64, "std": [0.0] * 64}}, "must be positive numbers"),
    "space text": ({"space": "none"}, "malformed header"),
    "huge mean": ({"space": {"mean": [1e12] * 64, "std": [1.0] * 64}}, "decodes to images that are not finite"),
    "huge std": ({"space": {"mean": [0.0] * 64, "std": [1e12] * 64}}, "decodes to images that are not finite"),
    "huge scale": (
        {"tensors": {"codes.scale": torch.full((2, 64), 1e38)}},
        "codes.scale holds values that are not fin",
    ),
    "codes dtype": ({"tensors": {"codes": torch.zeros(20, 64, 1, 1)}}, "codes are torch.float32"),
    "scale": ({"drop": ["codes.scale"]}, "codes.scale: float32"),
    "scale NaN": ({"tensors": {"codes.scale": torch.full((2, 64), NAN)}}, "codes.scale holds values that are not fin"),
    "no labels": ({"drop": ["labels"]}, "codes and labels are needed"),
    "label dtype": ({"tensors": {"labels": torch.zeros(20)}}, "hard labels need torch.int64"),
    "label range": ({"tensors": {"labels": torch.full((20,), 10)}}, "labels outside 0 … 9"),
    "soft NaN": (
        {"tensors": {"labels": torch.full((20, 10), NAN)}, "label_kind": "logits"},
        "labels hold values that are not finite",
    ),
    "lr NaN": ({"tensors": {"lr": torch.tensor([NAN])}}, "lr holds values that are not finite"),
    "lr without sides": ({"tensors": {"lr": torch.tensor(0.1)}}, "lr is torch.float32"),
    "lr empty": ({"tensors": {"lr": torch.zeros(0)}}, "lr is torch.float32"),
    "decoder inf": ({"tensors": {"codec.shared.mean": torch.full((64,), math.inf)}}, "codec.shared.mean holds values"),
    "unknown": ({"tensors": {"more": torch.zeros(1)}}, "nothing unknown allowed"),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_file_is_refused_with_the_reason(tmp_path, case):
    change, reason = FORGED[case]
    with pytest.raises(ArtifactError, match=reason) as raised:
        load_artifact(forged(tmp_path / "a", **change))
    assert raised.value.exit_code == 2
    assert str(raised.value).startswith(str(tmp_path / "a"))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_codes_that_are_no_numbers_are_refused(tmp_path, precision):
    _, made = saved(tmp_path / "a", precision=precision)
    made.packed.data[3, 0, 0, 0] = NAN
    save_artifact(made, tmp_path / "a")
    with pytest.raises(ArtifactError, match="codes hold values that are not finite"):
        load_artifact(tmp_path / "a")


def test_another_file_is_no_artifact(tmp_path):
    save_file({"codes": torch.zeros(1)}, tmp_path / "plain")
    with pytest.raises(ArtifactError, match="no `dd-bench` header; this is not an artifact of this package"):
        load_artifact(tmp_path / "plain")
    with pytest.raises(ArtifactError, match="absent: no such file"):
        load_artifact(tmp_path / "absent")
    with pytest.raises(ArtifactError, match="not a readable safetensors file"):
        load_artifact(tmp_path)


@pytest.mark.parametrize("header", ["[]", "3", "null", '{"schema":1}', "{}"])
def test_a_header_of_another_form_is_refused(tmp_path, header):
    save_file({"codes": torch.zeros(1)}, tmp_path / "a", metadata={KEY: header})
    with pytest.raises(ArtifactError):
        load_artifact(tmp_path / "a")


def test_a_fitted_decoder_travels_with_the_codes(tmp_path, monkeypatch):
    saved(tmp_path / "a", "pca")
    expected = tiny.spaces("pca")[1].decode(load_artifact(tmp_path / "a").codes)

    monkeypatch.setattr("latentdd_plugin.data.load.load_dataset", lambda *_, **__: pytest.fail("needs no data"))
    back = load_artifact(tmp_path / "a")
    assert sorted(back.codec_state) == ["shared.components", "shared.mean"]
    torch.testing.assert_close(back.decode(), expected)
    assert float((back.decode() - 0.5).abs().max()) > 0.4, "pictures, not the grey of an empty decoder"


@pytest.mark.parametrize(
    "tensors",
    [{"codec.shared.mean": torch.zeros(5)}, {"codec.shared.more": torch.zeros(5)}],
    ids=["shape", "name"],
)
def test_a_decoder_of_another_form_is_refused(tmp_path, tensors):
    with pytest.raises(ArtifactError, match="codec 'pca' has the tensors"):
        load_artifact(forged(tmp_path / "a", tensors=tensors)).decode()


@pytest.mark.parametrize("name", ["pca", "fred"])
def test_a_decoder_that_does_not_belong_to_the_fingerprint_is_refused(tmp_path, name):
    """As if fitted on other images, test images say, and put into an honest file; its content hash fits."""
    _, made = saved(tmp_path / "a", name)
    key = {"pca": "shared.components", "fred": "shared.mask"}[name]
    state = {**made.codec_state, key: made.codec_state[key].flip(0)}
    save_artifact(replace(made, codec_state=state), tmp_path / "b")
    load_artifact(tmp_path / "a").decode()
    with pytest.raises(ArtifactError, match=f"codec '{name}': the decoder in the artifact does not belong to its fing"):
        load_artifact(tmp_path / "b").decode()


class TwoHalves(Codec):
    """Learns one number for each way; the encoder's does not travel."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)

    def fit(self, batches):
        for half in (self.encoder, self.decoder):
            torch.nn.init.constant_(half.weight, 3.0)

    def encode(self, images):
        return images / self.encoder.weight

    def decode(self, codes):
        return codes * self.decoder.weight


def test_a_codec_with_an_encoder_of_its_own_is_compared_by_its_decoder(tmp_path):
    fitted = SizedCodec(TwoHalves(), (1, 8, 8))
    fitted.fit(tiny.digits().train, "cpu")
    space = replace(tiny.spaces("dct")[1], codec=fitted, mean=torch.zeros(1, 1, 1), std=torch.ones(1, 1, 1))
    found = SyntheticSet(torch.randn(10, 1, 8, 8), torch.arange(10))
    made = make_artifact(found, space, "fp32", tiny.digits(), "./halves.py:TwoHalves")
    save_artifact(made, tmp_path / "a")
    back = load_artifact(tmp_path / "a")
    torch.testing.assert_close(back.decode(SizedCodec(TwoHalves(), (1, 8, 8))), 3 * found.codes)
    other = {"decoder.weight": torch.full((1, 1), 2.0)}
    with pytest.raises(ArtifactError, match="does not belong to its fingerprint"):
        replace(back, codec_state=other).decode(SizedCodec(TwoHalves(), (1, 8, 8)))
    older = replace(made.header.codec, decoder_fingerprint=None)
    again = replace(back, codec_state=other, header=replace(made.header, codec=older))
    again.decode(SizedCodec(TwoHalves(), (1, 8, 8)))  # nothing to compare: files before the field still load


class Scaled(Codec):
    """Divides by a number, held as a tensor without sides."""

    def __init__(self, factor=2.0):
        super().__init__()
        self.factor = factor
        self.register_buffer("divisor", torch.tensor(float(factor)))

    def encode(self, images):
        return images / self.divisor

    def decode(self, codes):
        return codes * self.divisor


def test_other_weights_are_refused(tmp_path):
    space = tiny.spaces("dct")[1]
    mine = SizedCodec(Scaled(), (1, 8, 8))
    found = SyntheticSet(torch.randn(10, 1, 8, 8), torch.arange(10))
    made = make_artifact(found, replace(space, codec=mine), "fp32", tiny.digits(), "./scaled.py:Scaled")
    save_artifact(made, tmp_path / "a")
    back = load_artifact(tmp_path / "a")
    assert back.decode(mine).shape == (10, 1, 8, 8)
    with pytest.raises(ArtifactError, match=r"other weights; name the right ones with codec.path=FOLDER"):
        back.decode(SizedCodec(Scaled(3.0), (1, 8, 8)))
    with pytest.raises(PluginError, match="unknown codec"):
        back.decode()  # a file named by an untrusted artifact is never imported


def test_a_tensor_without_sides_has_a_fingerprint():
    assert fingerprint(Scaled()) == fingerprint(Scaled(2.0)) != fingerprint(Scaled(3.0))
    norm = Scaled()
    norm.register_module("norm", torch.nn.BatchNorm2d(1))
    assert fingerprint(norm) != fingerprint(Scaled())


def test_only_built_in_codecs_are_built_from_a_file(tmp_path, monkeypatch):
    path = tmp_path / "evil.py"
    path.write_text("raise SystemExit('imported')")
    _, made = saved(tmp_path / "a")
    for name in (f"{path}:Codec", "os:system"):
        header = replace(made.header, codec=replace(made.header.codec, name=name))
        save_artifact(replace(made, header=header), tmp_path / "b")
        with pytest.raises(PluginError, match="unknown codec"):
            load_artifact(tmp_path / "b").decode()


def test_the_size_in_the_header_is_the_size_of_the_images(tmp_path):
    _, made = saved(tmp_path / "a", "identity")
    codec = build_codec({"name": "identity"}, (1, 8, 8))
    assert load_artifact(tmp_path / "a").decode(codec).shape == (20, *made.header.image_shape)


def test_the_first_schema_loads_for_ever():
    """Made from a real run on the digits by fixtures/make.py; never made again once it is published."""
    back = load_artifact(FIXTURE)
    assert back.header.schema == "dd-bench/artifact.v1"
    images = back.decode()
    assert images.shape == (20, 1, 8, 8)
    rows = [round(float(v), 4) for v in images[7, 0, 3]]
    assert rows == json.loads((FIXTURE.parent / "artifact.v1.json").read_text())["image 7, row 3"]
