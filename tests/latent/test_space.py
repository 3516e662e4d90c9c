"""Code space: codecs made to fit an image, codes standardised, kept on disk, and decoded in bounded memory."""

import logging
import math
import weakref
from pathlib import Path

import children
import pytest
import tiny
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.core import plugins
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.plugins import Preset
from latentdd_plugin.core.types import Images
from latentdd_plugin.latent import encode as encoding
from latentdd_plugin.latent import space
from latentdd_plugin.latent.encode import code_set
from latentdd_plugin.latent.sized_codec import SizedCodec, build_codec
from latentdd_plugin.latent.space import CodeSpace, Real, members, pixel_set

CODECS = ["identity", "dct", "pca"]


def images(*shape, n=3):
    return torch.rand((n, *shape), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", CODECS)
def test_codes_are_standardised(name):
    sized, _, codes, _ = tiny.spaces(name)
    samples, labels = codes.all()
    assert samples.shape == (len(tiny.digits().train), *sized.code_shape)
    assert samples.dtype == torch.float32
    assert torch.equal(labels, tiny.digits().train.labels)
    torch.testing.assert_close(samples.mean((0, 2, 3)), torch.zeros(samples.shape[1]), atol=1e-5, rtol=0)
    if min(sized.code_shape[1:]) > 1:
        spread = samples.square().mean((0, 2, 3)).sqrt()
        torch.testing.assert_close(spread, torch.ones(samples.shape[1]), atol=1e-4, rtol=0)
    else:  # without a layout the channels keep their proportions: one common deviation
        assert len(codes.std.unique()) == 1
        torch.testing.assert_close(samples.square().mean().sqrt(), torch.ones(()), atol=1e-4, rtol=0)


def test_a_channel_that_never_changes_is_no_division_by_zero():
    data = tiny.digits()
    flat = type(data)(**{**vars(data), "train": Images(torch.full_like(data.train.pixels, 7), data.train.labels)})
    _, codes = code_set(flat, build_codec({"name": "dct"}, (1, 8, 8)), tiny.plain())
    assert bool(torch.isfinite(codes.all()[0]).all())
    assert bool(torch.isfinite(pixel_set(flat, "cpu").all()[0]).all())


def test_identity_gives_the_normalised_pixels():
    _, where, codes, pixels = tiny.spaces("identity")
    raw = tiny.digits().train.pixels.float() / 255
    normalised = (raw - raw.mean()) / raw.std(correction=0)
    torch.testing.assert_close(codes.all()[0], normalised, atol=1e-4, rtol=1e-4)
    assert torch.equal(codes.all()[0], pixels.all()[0])
    torch.testing.assert_close(where.decode(codes.all()[0][:5]), raw[:5], atol=1e-6, rtol=0)
    assert codes.store.dtype == torch.uint8, "pixels stay bytes"


@pytest.mark.parametrize("name", CODECS)
def test_decoding_undoes_the_standardisation(name):
    sized, where, codes, _ = tiny.spaces(name)
    raw = tiny.digits().train.pixels[:4].float() / 255
    torch.testing.assert_close(where.decode(codes.all()[0][:4]), sized.decode(sized.encode(raw)), atol=1e-5, rtol=0)


def test_real_samples_come_without_replacement():
    labels = torch.tensor([0, 1, 0, 1, 1])
    store = torch.arange(5.0).view(5, 1, 1, 1)
    real = Real(store, labels, members(labels, 2), torch.zeros(1, 1, 1), torch.ones(1, 1, 1))

    def drawn(label, n, seed=0):
        return real.batch(label, n, torch.Generator().manual_seed(seed)).flatten().tolist()

    assert sorted(drawn(1, 99)) == [1, 3, 4]
    assert len(drawn(1, 2)) == len(set(drawn(1, 2))) == 2
    assert drawn(1, 3, seed=5) == drawn(1, 3, seed=5)
    assert len({tuple(drawn(1, 3, seed)) for seed in range(20)}) > 1
    assert real.shape == (1, 1, 1)


class Halving(Codec):
    """A codec for RGB images whose sides are multiples of 4."""

    spatial = True
    channels = 3
    multiple = 4

    def encode(self, images):
        assert images.shape[1] == 3
        assert images.shape[2] % 4 == images.shape[3] % 4 == 0
        self.seen = images
        return F.avg_pool2d(images, 2)

    def decode(self, codes):
        return F.interpolate(codes, scale_factor=2)


def test_grey_images_are_repeated_and_averaged():
    sized = SizedCodec(Halving(), (1, 8, 8))
    x = images(1, 8, 8)
    assert sized.code_shape == (3, 4, 4)
    codes = sized.encode(x)
    assert codes.shape[1:] == sized.code_shape
    assert torch.equal(sized.codec.seen, x.repeat(1, 3, 1, 1))
    codes[:, 0] += 0.3
    torch.testing.assert_close(sized.decode(codes), F.interpolate(F.avg_pool2d(x, 2), scale_factor=2) + 0.1)
    assert sized.describe("h")["grey"] == "repeated to three channels, averaged after decoding"
    assert SizedCodec(Halving(), (3, 8, 8)).describe("h")["grey"] is None


def test_colour_does_not_fit_a_grey_codec():
    codec = Halving()
    codec.channels = 1
    with pytest.raises(UsageError, match="this codec takes 1 channels; the images have 3"):
        SizedCodec(codec, (3, 8, 8))


@pytest.mark.parametrize(
    ("shape", "padded"), [((3, 7, 9), (8, 12)), ((3, 8, 5), (8, 8)), ((3, 2, 9), (4, 12))], ids=str
)
def test_odd_sizes_are_padded_and_cropped_back(shape, padded):
    sized = SizedCodec(Halving(), shape)
    x = images(*shape)
    back = sized.decode(sized.encode(x))
    _, h, w = shape
    assert back.shape == x.shape
    assert sized.codec.seen.shape[2:] == padded
    assert torch.equal(sized.codec.seen[..., :h, :w], x)
    expected = F.interpolate(F.avg_pool2d(sized.codec.seen, 2), scale_factor=2)[..., :h, :w]
    assert torch.equal(back, expected)


def test_padding_mirrors_the_image():
    sized = SizedCodec(Halving(), (3, 7, 8))
    x = images(3, 7, 8)
    sized.encode(x)
    assert torch.equal(sized.codec.seen[:, :, 7], x[:, :, 5])


def test_upsampling_is_undone():
    sized = SizedCodec(Halving(), (3, 6, 6), upsample=2)
    x = F.interpolate(images(3, 2, 2), (6, 6), mode="bicubic", antialias=True).clamp(0, 1)
    assert sized.encode(x).shape[1:] == sized.code_shape == (3, 6, 6)
    back = sized.decode(sized.encode(x))
    assert back.shape == x.shape
    assert float((back - x).abs().mean()) < 0.03
    assert sized.describe("h")["upsample"] == 2


class ShapeAware(Codec):
    """Keeps the image shape it is told, and sees what it is given."""

    def __init__(self, image_shape=None):
        super().__init__()
        self.image_shape = image_shape

    def encode(self, images):
        self.seen = tuple(images.shape[1:])
        return F.avg_pool2d(images, 2)

    def decode(self, codes):
        return F.interpolate(codes, self.image_shape[1:])


class ShapeAwareRGB(ShapeAware):
    channels, multiple = 3, 8


class ShapeAwareLevel(ShapeAware):
    def __init__(self, level=3, image_shape=None):
        super().__init__(image_shape)
        self.level = level
        self.multiple = 2**level


@pytest.mark.parametrize("cls", [ShapeAware, ShapeAwareRGB, ShapeAwareLevel])
@pytest.mark.parametrize("upsample", [1, 2])
def test_a_codec_is_told_the_shape_that_encode_is_given(monkeypatch, cls, upsample):
    monkeypatch.setattr(plugins, "resolve", lambda *_, **__: Preset(cls))
    sized = build_codec({"name": "aware", "upsample": upsample}, (1, 10, 6))
    assert sized.code_shape == (sized.codec.seen[0], *(side // 2 for side in sized.codec.seen[1:]))
    assert sized.codec.image_shape == sized.codec.seen
    assert sized.decode(sized.encode(images(1, 10, 6))).shape == (3, 1, 10, 6)


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_takes_an_enlarged_image(name):
    data = tiny.digits()
    sized = build_codec({"name": name, "upsample": 2}, data.image_shape)
    where, codes = code_set(data, sized, tiny.plain())
    assert not sized.pixels
    back = where.decode(codes.all()[0][:50])
    assert back.shape == (50, 1, 8, 8)
    assert float((back - data.train.pixels[:50] / 255).abs().mean()) < 0.12


def test_a_codec_that_never_became_a_module_is_told_why(monkeypatch):
    class Forgetful(Halving):
        def __init__(self):
            pass

    monkeypatch.setattr(plugins, "resolve", lambda *_, **__: Preset(Forgetful))
    with pytest.raises(UsageError, match=r"Forgetful.__init__ must begin with super\(\).__init__\(\)"):
        build_codec({"name": "forgetful"}, (3, 8, 8))


@pytest.mark.parametrize("upsample", [0, 9, 1.5, "2", None])
def test_an_impossible_upsampling_is_refused(upsample):
    with pytest.raises(UsageError, match=r"codec\.upsample=.*: must be a whole number from 1 to 8"):
        build_codec({"name": "identity", "upsample": upsample}, (1, 8, 8))


def test_a_size_the_codec_cannot_take_is_refused():
    codec = Halving()
    codec.multiple = 1
    with pytest.raises(UsageError, match=r"the codec cannot take images of shape \(3, 6, 6\): "):
        _ = SizedCodec(codec, (3, 6, 6)).code_shape
    codec.encode = lambda images: F.avg_pool2d(images, 2)
    with pytest.raises(UsageError, match=r"does not fit images of shape \(3, 7, 7\): codes \(1, 3, 3, 3\) decode to"):
        _ = SizedCodec(codec, (3, 7, 7)).code_shape


def test_a_codec_that_learns_sees_the_images_as_encode_does():
    seen = []

    class Learning(Halving):
        def fit(self, batches):
            seen.append(torch.cat(list(batches())))
            assert len(list(batches())) > 1, "each walk begins anew"

    sized = SizedCodec(Learning(), (1, 8, 8), upsample=2)
    for _ in range(2):
        code_set(tiny.digits(), sized, tiny.plain())
    assert len(seen) == 1, "fitted once"
    sized.encode(tiny.digits().train.pixels.float() / 255)
    torch.testing.assert_close(seen[0], sized.codec.seen)


def test_a_codec_is_described_for_the_record():
    told = tiny.spaces("pca")[0].describe("pca")
    assert told["fitted"] is True
    assert told["code_shape"] == [64, 1, 1]
    assert told["spatial"] is False
    assert told["decoder_bytes"] == (64 * 64 + 64) * 4
    assert tiny.spaces("dct")[0].describe("dct")["decoder_bytes"] == 0


class Deep(Codec):
    """A decoder with an activation to keep: tanh saves its output. Notes how many images' activations are alive."""

    spatial = True

    def __init__(self):
        super().__init__()
        self.alive = self.most = 0
        self.sizes = []

    def encode(self, images):
        return images

    def decode(self, codes):
        self.sizes.append(len(codes))
        activation = torch.tanh(codes)
        self.alive += len(codes)
        self.most = max(self.most, self.alive)
        weakref.finalize(activation, self.freed, len(codes))
        return activation.square() * 3

    def freed(self, n):
        self.alive -= n


def gradient(codec, chunk, monkeypatch, n=40):
    shape = (1, 4, 4)
    monkeypatch.setattr(space, "PIXELS_PER_CHUNK", chunk * math.prod(shape))
    where = CodeSpace(SizedCodec(codec, shape), torch.full((1, 1, 1), 0.3), torch.full((1, 1, 1), 1.7))
    codes = images(*shape, n=n).requires_grad_()
    decoded = where.decode(codes)
    weight = images(*shape, n=n) - 0.4
    (grad,) = torch.autograd.grad((decoded * weight).sum(), codes)
    return decoded.detach(), grad


def test_chunks_give_the_gradient_of_the_whole_in_bounded_memory(monkeypatch):
    whole, parts = Deep(), Deep()
    monkeypatch.setattr(
        space, "checkpoint", lambda function, *given, **_: function(*given)
    )  # all of it kept, as autograd does
    expected = gradient(whole, 40, monkeypatch)
    monkeypatch.undo()
    got = gradient(parts, 4, monkeypatch)
    assert torch.equal(got[0], expected[0])
    torch.testing.assert_close(got[1], expected[1])
    assert whole.most == 40, "the measure sees what is kept"
    assert max(parts.sizes) == 4
    assert len(parts.sizes) == 20, "ten forward, ten again for the way back"
    assert parts.most <= 8, "one chunk, and the one being freed"


def test_without_a_gradient_nothing_is_kept(monkeypatch):
    codec = Deep()
    monkeypatch.setattr(space, "PIXELS_PER_CHUNK", 64)
    where = CodeSpace(SizedCodec(codec, (1, 4, 4)), torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    with torch.no_grad():
        where.decode(images(1, 4, 4, n=10).requires_grad_())
    assert codec.sizes == [4, 4, 2]
    assert codec.most <= 8


# --- the cache of a costly codec ---

BATCHES = 23  # 1438 digits in parts of 256, each in batches of 64


@pytest.fixture
def filling(tmp_path):
    """(start a process that encodes, number of batches encoded so far, the codes' hashes)."""
    log = tmp_path / "log"
    log.touch()

    def start(name, **more):
        return children.start(children.encode, tmp_path / "cache", log, tmp_path / name, *more.values())

    def hashes():
        return {path.read_text() for path in tmp_path.glob("out*")}

    return start, lambda: log.stat().st_size, hashes


def test_two_processes_at_once_encode_once(filling):
    start, encoded, hashes = filling
    both = [start("out1"), start("out2")]
    assert [children.ended(process) for process in both] == [0, 0]
    assert encoded() == BATCHES
    assert len(hashes()) == 1


def test_what_a_killed_process_finished_is_used_again(filling):
    start, encoded, hashes = filling
    assert children.ended(start("out1", killed_at=10)) == -9
    assert encoded() == 10
    assert children.ended(start("out2")) == 0
    assert encoded() - 10 == BATCHES - 8, "two parts of four batches were on disk"
    assert len(hashes()) == 1


@pytest.fixture
def encoded_here(tmp_path, monkeypatch):
    """A function that encodes the digits with `Noting` in this process: (codes, batches it took); and its parts."""
    log = tmp_path / "log"
    log.touch()
    monkeypatch.setenv("DD_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ENCODED", str(log))
    monkeypatch.setattr(encoding, "PART", children.PART)

    def encode(codec=children.Noting, **numerics):
        before = log.stat().st_size
        how = type(tiny.plain())(**{**vars(tiny.plain()), **numerics})
        _, codes = code_set(tiny.digits(), SizedCodec(codec(), (1, 8, 8)), how)
        return codes.store, log.stat().st_size - before

    encode.parts = lambda: sorted((tmp_path / "cache").glob("codes/*/part-*.safetensors"))
    return encode


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-1])


def emptied(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flipped, truncated, emptied], ids=lambda f: f.__name__)
def test_a_damaged_part_is_made_anew(encoded_here, damage):
    codes, batches = encoded_here()
    assert batches == BATCHES
    again, batches = encoded_here()
    assert batches == 0
    assert torch.equal(again, codes)
    damage(encoded_here.parts()[2])
    again, batches = encoded_here()
    assert batches == 4
    assert torch.equal(again, codes)
    assert encoded_here()[1] == 0
    assert load_file(encoded_here.parts()[2])["codes"].shape[0] == children.PART


def test_codes_of_another_codec_or_arithmetic_are_other_files(encoded_here):
    class Other(children.Noting):
        pass

    encoded_here()
    assert encoded_here(Other)[1] == BATCHES
    assert encoded_here(amp="bf16")[1] == BATCHES
    assert len(encoded_here.parts()) == 3 * 6


def test_cached_codes_are_those_of_encode(encoded_here):
    codes, _ = encoded_here()
    torch.testing.assert_close(codes, F.avg_pool2d(tiny.digits().train.pixels.float() / 255, 2))


def test_encoding_says_what_it_does(encoded_here, caplog):
    with caplog.at_level(logging.INFO):
        encoded_here()
        truncated(encoded_here.parts()[0])
        encoded_here()
    assert [line for line in caplog.messages if line.startswith("encoding")] == [
        "encoding 1438 images (6 of 6 parts to do)",
        "encoding 1438 images (1 of 6 parts to do)",
    ]


class Shared:
    """The processes of a run, one after another in this one: each `gather` waits until all have given their value."""

    def __init__(self, rank, size, given):
        self.rank, self.size, self.given, self.calls = rank, size, given, 0

    def share(self, items):
        return items[self.rank :: self.size]

    def gather(self, value):
        self.given.setdefault(self.calls, {})[self.rank] = value
        every, self.calls = self.given[self.calls], self.calls + 1
        return [every.get(rank, [torch.zeros_like(value[0])] * 99) for rank in range(self.size)]


@pytest.mark.parametrize("kind", ["pixels", "codes"])
def test_statistics_are_the_same_bits_on_several_processes(kind, monkeypatch):
    monkeypatch.setattr(space, "VALUES_PER_CHUNK", 3 * 4 * 4 * 5)
    store = images(3, 4, 4, n=37)
    store = (store * 255).to(torch.uint8) if kind == "pixels" else store
    alone = space.statistics(store, common=False)
    given = {}
    for _ in range(3):  # rounds: the sums of the first are needed for the second, and these for the last
        found = [space.statistics(store, common=False, ours=Shared(rank, 3, given)) for rank in range(3)]
    for mean, std in found:
        assert torch.equal(mean, alone[0])
        assert torch.equal(std, alone[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc, which Linux has")
def test_statistics_of_a_large_set_take_the_memory_of_a_chunk():
    """Nothing that a pass keeps may stop the allocator from using a chunk's memory again."""
    assert children.ended(children.start(children.statistics_of_a_large_set)) == 0
