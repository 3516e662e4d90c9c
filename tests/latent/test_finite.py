"""A codec that gives numbers no one can use is named at once; it never ends in a table at chance."""

import logging

import pytest
import tiny
import torch

from latentdd_plugin.artifacts.artifact import make_artifact
from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.core import plugins
from latentdd_plugin.core.errors import RunFailed, UsageError
from latentdd_plugin.core.plugins import Preset
from latentdd_plugin.core.types import Images, SyntheticSet
from latentdd_plugin.latent.encode import code_set
from latentdd_plugin.latent.finite import RoundTrip
from latentdd_plugin.latent.sized_codec import SizedCodec, build_codec
from latentdd_plugin.latent.space import CodeSpace

SHAPE = (1, 8, 8)


class Plain(Codec):
    """The pixels as codes, but not `pixels`: what is checked is what a third party's codec passes through."""

    spatial = True

    def encode(self, images):
        return images * 1.0

    def decode(self, codes):
        return codes


class NaNAtBlack(Plain):
    """0/0 for one picture in the middle of the set."""

    def encode(self, images):
        bad = (images.flatten(1).sum(1) == 0).view(-1, 1, 1, 1)
        return torch.where(bad, images / images, images)


class InfinitelyBright(Plain):
    def decode(self, codes):
        return 1 / (codes - codes)


class Tiny(Plain):
    """A scaling factor of 1e-12: every code is finite and useless."""

    def encode(self, images):
        return images * 1e-12

    def decode(self, codes):
        return codes / 1e-12


class Constant(Plain):
    def encode(self, images):
        return torch.zeros_like(images)


class Inverted(Plain):
    def decode(self, codes):
        return 1 - codes


class Costly(NaNAtBlack):
    costly = True


class Learning(Plain):
    """Divides by the spread of one picture, which is 0/0."""

    def __init__(self):
        super().__init__()
        self.register_buffer("gain", torch.ones(()))

    def fit(self, batches):
        self.gain.copy_(torch.tensor(float("nan")))


def with_black(position):
    data = tiny.digits()
    pixels = data.train.pixels.clone()
    pixels[position] = 0
    return type(data)(**{**vars(data), "train": Images(pixels, data.train.labels), "fingerprint": f"black {position}"})


def encoded(codec, data=None, name="mine"):
    return code_set(data or tiny.digits(), SizedCodec(codec, SHAPE, name=name), tiny.plain())


@pytest.mark.parametrize("codec", [NaNAtBlack, Costly])
@pytest.mark.parametrize("position", [0, 700, 1037])
def test_the_first_picture_that_cannot_be_encoded_is_named(codec, position, tmp_path, monkeypatch):
    monkeypatch.setenv("DD_BENCH_CACHE", str(tmp_path))
    with pytest.raises(RunFailed, match=rf"codec mine: encoding training image {position} .*64 of its 64 values") as it:
        encoded(codec(), with_black(position))
    assert it.value.exit_code == 1
    assert not [path for path in tmp_path.glob("codes/*/*.safetensors") if path.stem == f"part-{position // 1024:05d}"]


def test_a_decoder_that_gives_no_numbers_is_named_before_any_work():
    with pytest.raises(RunFailed, match=r"codec mine: decoding image 0 .* although its code is finite"):
        encoded(InfinitelyBright())


@pytest.mark.parametrize("codec", [Tiny, Constant])
def test_codes_that_hardly_vary_are_refused(codec):
    with pytest.raises(RunFailed, match=r"codec mine: its codes hardly vary .* scaling factor"):
        encoded(codec())


def test_weights_that_are_not_finite_are_refused_by_name(monkeypatch):
    class Weighted(Plain):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 2)
            with torch.no_grad():
                self.layer.bias[1] = float("inf")

    class Masked(Plain):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", torch.full((2, 2), float("-inf")).triu(1))

    monkeypatch.setattr(plugins, "resolve", lambda *_, **__: Preset(Weighted))
    with pytest.raises(UsageError, match=r"codec w: 1 of the 2 values of its tensor layer.bias are not finite"):
        build_codec({"name": "w"}, SHAPE)
    monkeypatch.setattr(plugins, "resolve", lambda *_, **__: Preset(Masked))
    assert build_codec({"name": "m"}, SHAPE).name == "m", "a mask may hold -inf"


def test_what_fitting_left_is_checked():
    with pytest.raises(UsageError, match=r"codec mine: 1 of the 1 values of its tensor gain are not finite"):
        encoded(Learning())


@pytest.mark.parametrize("name", ["identity", "dct", "pca", "downscale", "fred"])
def test_built_in_codecs_say_how_near_pictures_come_back(name, caplog):
    caplog.set_level(logging.INFO)
    code_set(tiny.digits(), build_codec({"name": name}, SHAPE), tiny.plain())
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (f"codec {name}: 8 training pictures come back at " in caplog.text) == (name != "identity")


def test_pictures_that_come_back_wrong_are_warned_about(caplog):
    encoded(Inverted())
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "codec mine: training pictures come back at" in record.getMessage()
    assert "mean colour alone gives" in record.getMessage()


def test_the_bound_is_half_of_what_tells_pictures_apart():
    assert RoundTrip(8, 14.9, 12.0).poor
    assert not RoundTrip(8, 15.1, 12.0).poor
    assert not RoundTrip(8, float("inf"), 12.0).poor


def test_a_flat_set_is_nobodys_fault():
    data = tiny.digits()
    flat = type(data)(**{**vars(data), "train": Images(torch.full_like(data.train.pixels, 7), data.train.labels)})
    encoded(Plain(), flat)


@pytest.mark.parametrize("position", [0, 5, 23])
def test_the_first_distilled_image_that_is_not_finite_is_named(position, monkeypatch):
    class Cliff(Plain):
        def decode(self, codes):
            return codes.where(codes < 50, codes / 0)

    monkeypatch.setattr("latentdd_plugin.latent.space.PIXELS_PER_CHUNK", 4 * 64)
    space = CodeSpace(SizedCodec(Cliff(), SHAPE, name="mine"), torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    codes = torch.zeros(24, *SHAPE)
    codes[position:, 0, 2, 3] = 60
    with (
        torch.no_grad(),
        pytest.raises(RunFailed, match=rf"codec mine: decoding image {position} .*1 of its 64 values"),
    ):
        space.decode(codes)
    codes[position] = float("nan")
    with torch.no_grad(), pytest.raises(RunFailed, match=rf"image {position} .* its code is not finite"):
        space.decode(codes)


def test_a_decoder_that_fails_during_distillation_is_named_and_codes_that_diverged_are_not_its_fault():
    class Root(Plain):
        def decode(self, codes):
            return codes.sqrt()

    space = CodeSpace(SizedCodec(Root(), SHAPE, name="mine"), torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    codes = torch.ones(3, *SHAPE)
    codes[2, 0, 0, 0] = -1
    with pytest.raises(RunFailed, match=r"codec mine: decoding image 2 .* although its code is finite"):
        space.decode(codes.requires_grad_())
    space.decode(torch.full((3, *SHAPE), float("nan")).requires_grad_())  # the loop says what to do about these


def test_codes_that_a_precision_cannot_hold_are_refused():
    space = tiny.spaces("dct")[1]
    found = SyntheticSet(torch.full((10, *space.codec.code_shape), 1e5), torch.arange(10))
    with pytest.raises(RunFailed, match=r"fp16 cannot hold codes up to 1e.05.*fp32"):
        make_artifact(found, space, "fp16", tiny.digits(), "dct")
    make_artifact(found, space, "fp32", tiny.digits(), "dct")
