"""Rules for codecs, tested on images of four shapes: grey and RGB, with even and odd sides."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from latentdd_plugin.codecs.base import decoder_bytes, decoder_state, fingerprint, is_fitted
from latentdd_plugin.core import plugins
from latentdd_plugin.latent.finite import are_tokens
from latentdd_plugin.testing.contracts import (
    Contract,
    NotApplicable,
    contract,
    require,
    require_options,
    require_round_trip,
)
from latentdd_plugin.testing.samples import difference, near, pictures
from latentdd_plugin.testing.subjects import COUNT, CodecSubject, Sample, decode

FLIPPED = 0.01  # mean change of a decoded pixel if the last bits of arithmetic decide between two tokens
CLOSE = 1e-4  # tolerance relative to the largest value: another order of additions may change that much
CODEC_CONTRACTS: list[Contract] = []


@contract(CODEC_CONTRACTS)
def options(subject: CodecSubject) -> None:
    """Check that every option has a default and becomes an attribute of its name, and a misspelt one is refused."""
    require_options(subject.cls, filled_in=("image_shape",))
    for parameter in plugins.parameters(subject.cls):
        kept = hasattr(subject.codec, parameter.name)
        require(kept, f"option {parameter.name!r} is not an attribute of the object, so config() cannot report it")
    faults = plugins.check_arguments(subject.cls, {"no_such_option": 1})
    require(faults, "no_such_option=1 is accepted")


@contract(CODEC_CONTRACTS)
def sizes(subject: CodecSubject) -> None:
    """Check that an image size works, is padded (`multiple`), or is refused with the sizes that work; never cropped."""
    found = subject.found
    for shape, failure in subject.failures.items():
        require(False, f"images {shape}: {failure}")
    for shape, refusal in subject.refusals.items():
        says = any(ch.isdigit() for ch in str(refusal).replace(str(shape), ""))
        require(says, f"images {shape} are refused without saying which sizes work: {refusal}")
    for sample in found:
        for axis, name in ((2, "row"), (3, "column")):
            edge = sample.images.clone()
            edge.select(axis, -1).mul_(-1).add_(1)
            with torch.no_grad():
                changed = difference(sample.sized.encode(edge), sample.codes)
            require(changed, f"images {sample.shape}: the codes do not depend on the last {name}: it is cropped")


@contract(CODEC_CONTRACTS)
def shapes(subject: CodecSubject) -> None:
    """Check that `encode` returns one code shape (N, c, h, w) per image size and `decode` the shape of the images."""
    for sample in subject.samples:
        padded = sample.sized.sized(sample.images)
        with torch.no_grad():
            codes = sample.codec.encode(padded)
            images = decode(sample.codec, codes)
        expected, actual = (COUNT, *sample.sized.code_shape), tuple(codes.shape)
        require(actual == expected, f"{COUNT} images {sample.shape}: codes {actual}, not {expected}")
        same = images.shape == padded.shape
        require(same, f"encode got images {tuple(padded.shape)}, decode returns {tuple(images.shape)}")


@contract(CODEC_CONTRACTS)
def float32(subject: CodecSubject) -> None:
    """Check that codes and decoded images are float32."""
    for sample in subject.samples:
        for what, values in (("codes", sample.codes), ("decoded images", sample.decoded)):
            require(values.dtype == torch.float32, f"images {sample.shape}: {what} are {values.dtype}")


@contract(CODEC_CONTRACTS)
def value_range(subject: CodecSubject) -> None:
    """Check that real, black and white images have finite codes, and real ones decode to values in [-0.5, 1.5]."""
    for sample in subject.samples:
        extremes = torch.stack([torch.zeros(sample.shape), torch.ones(sample.shape)])
        for images in (sample.images, extremes):
            with torch.no_grad():
                codes = sample.sized.encode(images)
                decoded = decode(sample.sized, codes)
            finite = bool(torch.isfinite(codes).all() and torch.isfinite(decoded).all())
            require(finite, f"images {sample.shape}: a code or a decoded value is not finite")
        low, high = float(sample.decoded.min()), float(sample.decoded.max())
        inside = low >= -0.5 and high <= 1.5
        require(inside, f"images {sample.shape} in [0, 1] decode to values in [{low:.3g}, {high:.3g}]")


@contract(CODEC_CONTRACTS)
def reconstruction(subject: CodecSubject) -> None:
    """Check that `decode(encode(x))` is closer to x than the mean colour of the images is."""
    for sample in subject.samples:
        error = float((sample.decoded - sample.images).square().mean().sqrt())
        guess = float((sample.images - sample.images.mean((0, 2, 3), keepdim=True)).square().mean().sqrt())
        require(error < guess, f"images {sample.shape}: error {error:.3f}; their mean colour has {guess:.3f}")


@contract(CODEC_CONTRACTS)
def deterministic(subject: CodecSubject) -> None:
    """Check that equal inputs give equal outputs, without draws from the global generator."""
    for sample in subject.samples:
        outcomes = []
        for seed in (1, 2):
            with torch.random.fork_rng(), torch.no_grad():
                torch.manual_seed(seed)
                before = torch.get_rng_state()
                outcomes.append((sample.sized.encode(sample.images), decode(sample.sized, sample.codes)))
                drew = not torch.equal(before, torch.get_rng_state())
            require(not drew, f"images {sample.shape}: torch's global generator was used")
        for what, first, second in zip(("codes", "decoded images"), *outcomes, strict=True):
            changed = difference(second, first)
            require(not changed, f"images {sample.shape}: {what} of a second call differ: {changed}")


@contract(CODEC_CONTRACTS)
def batch_invariant(subject: CodecSubject) -> None:
    """Check that an image's code, and a code's image, do not depend on the rest of the batch."""
    for sample in subject.samples:
        with torch.no_grad():
            codes = torch.cat([sample.sized.encode(one) for one in sample.images.split(1)])
            images = torch.cat([decode(sample.sized, one) for one in sample.codes.split(1)])
        for what, alone, together in (("codes", codes, sample.codes), ("images", images, sample.decoded)):
            close = _near(sample, what, alone, together, CLOSE)
            require(
                close, f"images {sample.shape}: {what} encoded or decoded one at a time: {difference(alone, together)}"
            )


@contract(CODEC_CONTRACTS)
def gradient(subject: CodecSubject) -> None:
    """Check that the gradient of `decode` reaches every code, is finite, and agrees with finite differences."""
    if subject.codec.tokens is not None:
        raise NotApplicable("the codes are tokens, which have no gradient")
    for sample in subject.samples:
        codes = sample.codes.detach().clone().requires_grad_()
        decoded = decode(sample.sized, codes)
        require(
            decoded.requires_grad, f"images {sample.shape}: decode detaches the graph, so no gradient reaches the codes"
        )
        decoded.square().sum().backward()
        slope = codes.grad
        if slope is None:
            require(False, f"images {sample.shape}: no gradient reaches the codes")
            return
        require(torch.isfinite(slope).all(), f"images {sample.shape}: the gradient is not finite")
        reached = int((slope.flatten(1).abs().amax(1) > 0).sum())
        require(reached == COUNT, f"images {sample.shape}: the gradient is zero for {COUNT - reached} of {COUNT} codes")
        g = torch.Generator().manual_seed(1)
        step = 1e-4 * float(sample.codes.std()) * torch.randn(codes.shape, generator=g)
        with torch.no_grad():
            up, down = (decode(sample.sized, sample.codes + sign * step).double() for sign in (1, -1))
        wanted, found = float(((up - down) * (up + down)).sum()), 2 * float((slope * step).sum())
        agrees = abs(found - wanted) <= 0.05 * abs(wanted) + 1e-7 * float(up.square().sum())
        say = f"images {sample.shape}: along one direction the gradient gives {found:.4g}"
        require(agrees, f"{say}, finite differences {wanted:.4g}")


@contract(CODEC_CONTRACTS)
def tokens(subject: CodecSubject) -> None:
    """Check that codes of a codec with `tokens` are whole numbers from 0 to `tokens` - 1, not all of them the same."""
    size = subject.codec.tokens
    if size is None:
        raise NotApplicable("the codes are real numbers")
    for sample in subject.samples:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            coarse = sample.sized.encode(sample.images)
        for how, codes in (("in float32", sample.codes), ("under bfloat16 autocast", coarse.float())):
            wrong = codes[~are_tokens(codes, size)]
            say = f"images {sample.shape}, {how}: {wrong[:1].tolist()} is not a whole number from 0 to {size - 1}"
            require(not len(wrong), say)
        used = len(sample.codes.unique())
        require(used > 1, f"images {sample.shape}: every code consists of one token, {sample.codes.flatten()[:1]}")


@contract(CODEC_CONTRACTS)
def inputs_kept(subject: CodecSubject) -> None:
    """Check that `encode` does not change the images in place, nor `decode` the codes."""
    for sample in subject.samples:
        with torch.no_grad():
            images, codes = sample.images.clone(), sample.codes.clone()
            sample.sized.encode(images)
            decode(sample.sized, codes)
        for what, after, before in (("images", images, sample.images), ("codes", codes, sample.codes)):
            require(torch.equal(after, before), f"{what} {sample.shape} were changed in place")


@contract(CODEC_CONTRACTS)
def frozen(subject: CodecSubject) -> None:
    """Check that use changes no weight, no weight requires a gradient, and the module stays in evaluation mode."""
    for sample in subject.samples:
        codec = sample.codec
        before = {name: tensor.clone() for name, tensor in codec.state().items()}
        codes = sample.sized.encode(sample.images).detach().clone().requires_grad_(codec.tokens is None)
        decoded = decode(sample.sized, codes)
        if codec.tokens is None:
            decoded.sum().backward()
        after = codec.state()
        require(after.keys() == before.keys(), f"use added or removed tensors: {sorted(after.keys() ^ before.keys())}")
        changed = [name for name, tensor in after.items() if not torch.equal(tensor, before[name])]
        require(not changed, f"use changed {', '.join(changed)}")
        trainable = [name for name, parameter in codec.named_parameters() if parameter.requires_grad]
        require(not trainable, f"these parameters require a gradient: {', '.join(trainable)}")
        require(not any(part.training for part in codec.modules()), "the module is in training mode")


@contract(CODEC_CONTRACTS)
def config_round_trip(subject: CodecSubject) -> None:
    """Check that `config()` as JSON rebuilds the codec: same state, same fingerprint, same codes."""
    for sample in subject.samples:
        codec = sample.codec
        where = {name: getattr(codec, name) for name in codec.locations}
        again = require_round_trip(codec, where).eval()
        again.load_state_dict(codec.state_dict())
        require(
            fingerprint(again) == fingerprint(codec),
            f"images {sample.shape}: the rebuilt codec has another fingerprint",
        )
        with torch.no_grad():
            padded = sample.sized.sized(sample.images)
            codes = again.encode(padded), codec.encode(padded)
            images = decode(again, codes[1]), decode(codec, codes[1])
        for what, (theirs, ours) in (("codes", codes), ("decoded images", images)):
            close = near(theirs, ours, CLOSE)
            require(close, f"images {sample.shape}: {what} of the rebuilt codec: {difference(theirs, ours)}")


@contract(CODEC_CONTRACTS)
def fingerprint_stable(subject: CodecSubject) -> None:
    """Check that the fingerprint is the same in a second build, survives use, and depends on `image_shape` if given."""
    samples = subject.samples
    sample = samples[0]
    before = fingerprint(sample.codec)
    decode(sample.sized, sample.sized.encode(sample.images))
    after = fingerprint(sample.codec)
    require(after == before, f"use changed the fingerprint from {before[:12]}… to {after[:12]}…")
    second = fingerprint(subject.build(sample.shape).codec)
    require(second == before, f"a second build has fingerprint {second[:12]}…, the first {before[:12]}…")
    if "image_shape" in sample.codec.config() and len(samples) > 1:
        other = fingerprint(samples[1].codec)
        require(other != before, f"the fingerprint is the same for images {sample.shape} and {samples[1].shape}")


@contract(CODEC_CONTRACTS)
def decoder_counted(subject: CodecSubject) -> None:
    """Check that `decode` reads only tensors that `state()` names `decoder.*` or `shared.*`: the decoder's size."""
    for sample in subject.samples:
        codec = sample.codec
        counted = sum(t.numel() * t.element_size() for t in decoder_state(codec).values())
        require(
            decoder_bytes(codec) == counted,
            f"decoder_bytes counts {decoder_bytes(codec)} bytes, the state has {counted}",
        )
        require(counted or not is_fitted(codec), "the codec is fitted on images, but its decoder counts 0 bytes")
        blind = copy.deepcopy(codec)
        pointers = {t.data_ptr() for name, t in blind.state().items() if name.startswith("encoder.")}
        with torch.no_grad():
            for tensor in blind.state_dict(keep_vars=True).values():
                if tensor.data_ptr() in pointers and tensor.is_floating_point():
                    tensor.fill_(torch.nan)
            without = decode(blind, codec.encode(sample.sized.sized(sample.images)))
        seen = bool(torch.isfinite(without).all())
        require(seen, f"images {sample.shape}: decode reads tensors named encoder.*, which the budget does not count")


@contract(CODEC_CONTRACTS)
def moves(subject: CodecSubject) -> None:
    """Check that the codec works in float64, under autocast and on a GPU, with all tensors registered in the module."""
    for sample in subject.samples:
        stray = sorted(_stray_tensors(sample.codec))
        require(
            not stray,
            f"{', '.join(stray)}: tensors that are not registered as buffers stay behind when the codec is moved",
        )
        for device, dtype in _places():
            moved = copy.deepcopy(sample.sized)
            moved.codec.to(device, dtype)
            with torch.no_grad():
                codes = moved.encode(sample.images.to(device, dtype))
                images = decode(moved, sample.codes.to(device, dtype))
            for what, there, here in (("codes", codes, sample.codes), ("images", images, sample.decoded)):
                close = _near(sample, what, there.cpu().float(), here, 1e-2)
                say = f"images {sample.shape}: {what} as {dtype} on {device}"
                require(close, f"{say}: {difference(there.cpu().float(), here)}")
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            codes = sample.sized.encode(sample.images).float()
        require(torch.isfinite(codes).all(), f"images {sample.shape}: codes under bfloat16 autocast are not finite")


def _near(sample: Sample, what: str, found: Tensor, wanted: Tensor, tolerance: float) -> bool:
    """Return whether values agree within the tolerance; of tokens whether they decode to nearly the same images."""
    if what == "codes" and sample.codec.tokens is not None:
        if found.shape != wanted.shape:
            return False
        with torch.no_grad():
            ours, theirs = sample.sized.decode(wanted), sample.sized.decode(found)
        return float((theirs - ours).abs().mean()) <= FLIPPED
    return near(found, wanted, tolerance)


def _places() -> Iterator[tuple[str, torch.dtype]]:
    yield "cpu", torch.float64
    if torch.cuda.is_available():
        yield "cuda", torch.float32


def _stray_tensors(module: nn.Module) -> Iterator[str]:
    """Yield the names of attributes that hold tensors outside the module's parameters and buffers."""
    for prefix, part in module.named_modules():
        for name, value in vars(part).items():
            if name in ("_parameters", "_buffers", "_modules"):
                continue
            inside = (
                value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
            )
            if any(isinstance(each, Tensor) for each in inside):
                yield f"{prefix}.{name}".lstrip(".")


@contract(CODEC_CONTRACTS)
def spatial(subject: CodecSubject) -> None:
    """Check that `spatial` is true only if decode(flip(z)) is close to flip(decode(z)), along both axes.

    The distance is compared with the change that a flip makes. It must stay below a tenth of it for a transform, and
    below half of it for a network, which is tested on codes of 8 x 8 positions.
    """
    samples = [sample for sample in _flippable(subject) if sample.sized.spatial]
    if not samples:
        raise NotApplicable("the codec is not declared spatial, or its codes have no spatial layout")
    for sample in samples:
        codec = sample.codec  # without padding, which lies on the other side after a flip
        with torch.no_grad():
            decoded = decode(codec, sample.codes)
        for axis, name in ((2, "height"), (3, "width")):
            with torch.no_grad():
                flipped = decode(codec, sample.codes.flip(axis))
            off, whole = float((flipped - decoded.flip(axis)).abs().mean()), float((decoded - flipped).abs().mean())
            say = f"images {sample.shape}, {name}: decode(flip(z)) differs from flip(decode(z)) by {off:.3g}"
            bound = 0.5 if codec.costly else 0.1
            require(off < bound * whole, f"{say}; a flip changes {whole:.3g}")


def _flippable(subject: CodecSubject) -> Iterator[Sample]:
    """Yield the samples; for a network, one sample large enough for codes of 8 x 8 positions instead."""
    if not subject.codec.costly:
        yield from subject.samples
        return
    c, h, w = subject.samples[-1].shape
    sized = subject.samples[-1].sized
    factor = -(-max(h, w) // min(sized.code_shape[1:]))
    shape = (c, 8 * factor, 8 * factor)
    yield Sample(shape, subject.build(shape), pictures(shape, COUNT).float() / 255)
