"""What a codec keeps to. It is tried on images of four shapes, grey and coloured, of even and odd sides."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from latentdd_plugin.codecs.base import decoder_bytes, decoder_state, fingerprint, is_fitted
from latentdd_plugin.core import plugins
from latentdd_plugin.testing.contracts import (
    Contract,
    NotApplicable,
    contract,
    require,
    require_options,
    require_round_trip,
)
from latentdd_plugin.testing.samples import difference, near, pictures
from latentdd_plugin.testing.subjects import COUNT, CodecSubject, Sample

CLOSE = 1e-4  # of the largest value: what another order of additions may change
CODEC_CONTRACTS: list[Contract] = []


@contract(CODEC_CONTRACTS)
def options(subject: CodecSubject) -> None:
    """Every option has a default, is kept as an attribute of the same name, and a misspelt one is refused."""
    require_options(subject.cls, filled_in=("image_shape",))
    for parameter in plugins.parameters(subject.cls):
        kept = hasattr(subject.codec, parameter.name)
        require(kept, f"option {parameter.name!r} is no attribute of the object, so config() cannot tell it")
    faults = plugins.check_arguments(subject.cls, {"no_such_option": 1})
    require(faults, "no_such_option=1 is taken")


@contract(CODEC_CONTRACTS)
def sizes(subject: CodecSubject) -> None:
    """An image size is taken, padded (`multiple`) or refused with the sizes that work; never silently cropped."""
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
            require(changed, f"images {sample.shape}: the last {name} never reaches the codes: it is cut off")


@contract(CODEC_CONTRACTS)
def shapes(subject: CodecSubject) -> None:
    """`encode` gives (N, c, h, w), the same for every image of a size; `decode` gives the images' shape back."""
    for sample in subject.samples:
        padded = sample.sized.sized(sample.images)
        with torch.no_grad():
            codes = sample.codec.encode(padded)
            images = sample.codec.decode(codes)
        wanted = (COUNT, *sample.sized.code_shape)
        require(
            tuple(codes.shape) == wanted, f"{COUNT} images {sample.shape}: codes {tuple(codes.shape)}, not {wanted}"
        )
        same = images.shape == padded.shape
        require(same, f"encode was given {tuple(padded.shape)}, decode gives {tuple(images.shape)} back")


@contract(CODEC_CONTRACTS)
def float32(subject: CodecSubject) -> None:
    """Codes and decoded images are float32."""
    for sample in subject.samples:
        for what, values in (("codes", sample.codes), ("decoded images", sample.decoded)):
            require(values.dtype == torch.float32, f"images {sample.shape}: {what} are {values.dtype}")


@contract(CODEC_CONTRACTS)
def value_range(subject: CodecSubject) -> None:
    """Real, black and white images have finite codes; decoded images lie about [0, 1], at most half of it outside."""
    for sample in subject.samples:
        extremes = torch.stack([torch.zeros(sample.shape), torch.ones(sample.shape)])
        for images in (sample.images, extremes):
            with torch.no_grad():
                codes = sample.sized.encode(images)
                decoded = sample.sized.decode(codes)
            finite = bool(torch.isfinite(codes).all() and torch.isfinite(decoded).all())
            require(finite, f"images {sample.shape}: a code or a decoded value is not finite")
        low, high = float(sample.decoded.min()), float(sample.decoded.max())
        inside = low >= -0.5 and high <= 1.5
        require(inside, f"images {sample.shape} in [0, 1] come back in [{low:.3g}, {high:.3g}]")


@contract(CODEC_CONTRACTS)
def reconstruction(subject: CodecSubject) -> None:
    """`decode(encode(x))` is nearer to x than the mean of all images is."""
    for sample in subject.samples:
        error = float((sample.decoded - sample.images).square().mean().sqrt())
        guess = float((sample.images - sample.images.mean((0, 2, 3), keepdim=True)).square().mean().sqrt())
        require(error < guess, f"images {sample.shape}: error {error:.3f}, that of their mean colour {guess:.3f}")


@contract(CODEC_CONTRACTS)
def deterministic(subject: CodecSubject) -> None:
    """Equal images have equal codes, equal codes equal images; no draw from the global generator."""
    for sample in subject.samples:
        outcomes = []
        for seed in (1, 2):
            with torch.random.fork_rng(), torch.no_grad():
                torch.manual_seed(seed)
                before = torch.get_rng_state()
                outcomes.append((sample.sized.encode(sample.images), sample.sized.decode(sample.codes)))
                drew = not torch.equal(before, torch.get_rng_state())
            require(not drew, f"images {sample.shape}: torch's global generator was used")
        for what, first, second in zip(("codes", "decoded images"), *outcomes, strict=True):
            changed = difference(second, first)
            require(not changed, f"images {sample.shape}: {what} of a second call: {changed}")


@contract(CODEC_CONTRACTS)
def batch_invariant(subject: CodecSubject) -> None:
    """An image's code, and a code's image, do not depend on what else is in the batch."""
    for sample in subject.samples:
        with torch.no_grad():
            codes = torch.cat([sample.sized.encode(one) for one in sample.images.split(1)])
            images = torch.cat([sample.sized.decode(one) for one in sample.codes.split(1)])
        for what, alone, together in (("codes", codes, sample.codes), ("images", images, sample.decoded)):
            close = near(alone, together, CLOSE)
            require(close, f"images {sample.shape}: {what} one at a time: {difference(alone, together)}")


@contract(CODEC_CONTRACTS)
def gradient(subject: CodecSubject) -> None:
    """`decode` is differentiable: the gradient reaches every code, is finite, and agrees with finite differences."""
    for sample in subject.samples:
        codes = sample.codes.detach().clone().requires_grad_()
        decoded = sample.sized.decode(codes)
        require(decoded.requires_grad, f"images {sample.shape}: decode cuts the graph, no gradient reaches the codes")
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
            up, down = (sample.sized.decode(sample.codes + sign * step).double() for sign in (1, -1))
        wanted, found = float(((up - down) * (up + down)).sum()), 2 * float((slope * step).sum())
        agrees = abs(found - wanted) <= 0.05 * abs(wanted) + 1e-7 * float(up.square().sum())
        say = f"images {sample.shape}: along one direction the gradient gives {found:.4g}"
        require(agrees, f"{say}, finite differences {wanted:.4g}")


@contract(CODEC_CONTRACTS)
def inputs_kept(subject: CodecSubject) -> None:
    """`encode` leaves the images alone, `decode` the codes."""
    for sample in subject.samples:
        with torch.no_grad():
            images, codes = sample.images.clone(), sample.codes.clone()
            sample.sized.encode(images)
            sample.sized.decode(codes)
        for what, after, before in (("images", images, sample.images), ("codes", codes, sample.codes)):
            require(torch.equal(after, before), f"{what} {sample.shape} were changed in place")


@contract(CODEC_CONTRACTS)
def frozen(subject: CodecSubject) -> None:
    """Use changes no weight; no weight wants a gradient; the module stays in evaluation mode."""
    for sample in subject.samples:
        codec = sample.codec
        before = {name: tensor.clone() for name, tensor in codec.state().items()}
        codes = sample.sized.encode(sample.images).detach().clone().requires_grad_()
        sample.sized.decode(codes).sum().backward()
        after = codec.state()
        require(after.keys() == before.keys(), f"tensors came or went with use: {sorted(after.keys() ^ before.keys())}")
        changed = [name for name, tensor in after.items() if not torch.equal(tensor, before[name])]
        require(not changed, f"use changed {', '.join(changed)}")
        wanting = [name for name, parameter in codec.named_parameters() if parameter.requires_grad]
        require(not wanting, f"these want a gradient: {', '.join(wanting)}")
        require(not any(part.training for part in codec.modules()), "it is in training mode")


@contract(CODEC_CONTRACTS)
def config_round_trip(subject: CodecSubject) -> None:
    """`config()` as JSON makes the same codec again, which with the same state has the same fingerprint and codes."""
    for sample in subject.samples:
        codec = sample.codec
        where = {name: getattr(codec, name) for name in codec.locations}
        again = require_round_trip(codec, where).eval()
        again.load_state_dict(codec.state_dict())
        require(fingerprint(again) == fingerprint(codec), f"images {sample.shape}: the fingerprint is another one")
        with torch.no_grad():
            padded = sample.sized.sized(sample.images)
            codes = again.encode(padded), codec.encode(padded)
            images = again.decode(codes[1]), codec.decode(codes[1])
        for what, (theirs, ours) in (("codes", codes), ("decoded images", images)):
            close = near(theirs, ours, CLOSE)
            require(close, f"images {sample.shape}: {what} of the codec made again: {difference(theirs, ours)}")


@contract(CODEC_CONTRACTS)
def fingerprint_stable(subject: CodecSubject) -> None:
    """The fingerprint is the same in a second build, does not change with use, and knows the image size if asked."""
    samples = subject.samples
    sample = samples[0]
    before = fingerprint(sample.codec)
    sample.sized.decode(sample.sized.encode(sample.images))
    after = fingerprint(sample.codec)
    require(after == before, f"use changed it from {before[:12]}… to {after[:12]}…")
    second = fingerprint(subject.build(sample.shape).codec)
    require(second == before, f"a second build has {second[:12]}…, the first {before[:12]}…")
    if "image_shape" in sample.codec.config() and len(samples) > 1:
        other = fingerprint(samples[1].codec)
        require(other != before, f"it is the same for images {sample.shape} and {samples[1].shape}")


@contract(CODEC_CONTRACTS)
def decoder_counted(subject: CodecSubject) -> None:
    """What `decode` reads is in `state()` as `decoder.*` or `shared.*`: that is the decoder's size."""
    for sample in subject.samples:
        codec = sample.codec
        counted = sum(t.numel() * t.element_size() for t in decoder_state(codec).values())
        require(decoder_bytes(codec) == counted, f"{decoder_bytes(codec)} bytes are counted, the state has {counted}")
        require(counted or not is_fitted(codec), "it learns from the images, but its decoder has no bytes")
        blind = copy.deepcopy(codec)
        pointers = {t.data_ptr() for name, t in blind.state().items() if name.startswith("encoder.")}
        with torch.no_grad():
            for tensor in blind.state_dict(keep_vars=True).values():
                if tensor.data_ptr() in pointers and tensor.is_floating_point():
                    tensor.fill_(torch.nan)
            without = blind.decode(codec.encode(sample.sized.sized(sample.images)))
        seen = bool(torch.isfinite(without).all())
        require(seen, f"images {sample.shape}: decode reads tensors named encoder.*, which no budget counts")


@contract(CODEC_CONTRACTS)
def moves(subject: CodecSubject) -> None:
    """It moves as a whole: no tensor outside parameters and buffers; it works in float64, in autocast, on a GPU."""
    for sample in subject.samples:
        stray = sorted(_stray_tensors(sample.codec))
        require(not stray, f"{', '.join(stray)}: a tensor that is no buffer stays behind when the codec is moved")
        for device, dtype in _places():
            moved = copy.deepcopy(sample.sized)
            moved.codec.to(device, dtype)
            with torch.no_grad():
                codes = moved.encode(sample.images.to(device, dtype))
                images = moved.decode(sample.codes.to(device, dtype))
            for what, there, here in (("codes", codes, sample.codes), ("images", images, sample.decoded)):
                close = near(there.cpu().float(), here, 1e-2)
                say = f"images {sample.shape}: {what} as {dtype} on {device}"
                require(close, f"{say}: {difference(there.cpu().float(), here)}")
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            codes = sample.sized.encode(sample.images).float()
        require(torch.isfinite(codes).all(), f"images {sample.shape}: codes under bfloat16 autocast are not finite")


def _places() -> Iterator[tuple[str, torch.dtype]]:
    yield "cpu", torch.float64
    if torch.cuda.is_available():
        yield "cuda", torch.float32


def _stray_tensors(module: nn.Module) -> Iterator[str]:
    """Attributes that hold a tensor, or a list or dictionary of them, outside the module's own registers."""
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
    """`spatial` is true only if decode(flip(z)) is close to flip(decode(z)), along both sides.

    The distance is compared with what a flip changes: a transform keeps below a tenth of it; a network, tried on codes
    of eight places a side, below a half.
    """
    samples = [sample for sample in _flippable(subject) if sample.sized.spatial]
    if not samples:
        raise NotApplicable("it does not say that it is spatial, or has no spatial codes")
    for sample in samples:
        codec = sample.codec  # without what padding adds: the cut off side is another one after a flip
        with torch.no_grad():
            decoded = codec.decode(sample.codes)
        for axis, name in ((2, "height"), (3, "width")):
            with torch.no_grad():
                flipped = codec.decode(sample.codes.flip(axis))
            off, whole = float((flipped - decoded.flip(axis)).abs().mean()), float((decoded - flipped).abs().mean())
            say = f"images {sample.shape}, {name}: decode(flip(z)) is {off:.3g} from flip(decode(z))"
            bound = 0.5 if codec.costly else 0.1
            require(off < bound * whole, f"{say}, a flip changes {whole:.3g}")


def _flippable(subject: CodecSubject) -> Iterator[Sample]:
    """The samples, or for a network one of a size that it was made for: eight places of its code a side."""
    if not subject.codec.costly:
        yield from subject.samples
        return
    c, h, w = subject.samples[-1].shape
    sized = subject.samples[-1].sized
    factor = -(-max(h, w) // min(sized.code_shape[1:]))
    shape = (c, 8 * factor, 8 * factor)
    yield Sample(shape, subject.build(shape), pictures(shape, COUNT).float() / 255)
