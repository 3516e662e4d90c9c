"""A codec made to fit one image shape: grey images, upsampling and padding, each undone after decoding."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latentdd_plugin.codecs.base import Codec, check_weights, decoder_bytes, fingerprint, is_comparable, is_fitted
from latentdd_plugin.core import plugins
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import LARGEST_CODEBOOK, Images, Json, Shape, hash_json
from latentdd_plugin.latent.joint import JointTraining, TrainedPart, frozen, joint_faults, trained_part


class Misfit(UsageError):
    """A codec that fails on images of this size, or does not give their shape back."""


def encoded_shape(codec: Codec, image_shape: Shape, upsample: int) -> Shape:
    """Return (C, H, W) of the images given to `encode`: in the codec's channels, upsampled and padded."""
    c, *sides = image_shape
    h, w = (-(-side * upsample // codec.multiple) * codec.multiple for side in sides)
    return (3 if codec.channels == 3 else c), h, w


class SizedCodec:
    """A codec made to fit images (C, H, W): grey to RGB, upsampling, padding; each undone by `decode`.

    Args:
        codec: the codec; set to evaluation mode and frozen.
        image_shape: (C, H, W) of the dataset's images.
        upsample: factor by which images are enlarged before encoding.
        name: what messages call the codec; by default its id or class name.
        joint: how its decoder is trained with the codes; None leaves it as it is.

    Raises:
        UsageError: the codec takes other channels than the images have.
    """

    def __init__(
        self, codec: Codec, image_shape: Shape, upsample: int = 1, name: str = "", joint: JointTraining | None = None
    ) -> None:
        self.codec = codec.eval().requires_grad_(False)
        self.joint = joint
        self.name = name or codec.codec_id or type(codec).__name__
        self.image_shape = image_shape
        self.upsample = upsample
        c, h, w = image_shape
        if codec.channels not in (None, 1, 3) or (codec.channels == 1 and c == 3):
            raise UsageError(f"this codec takes {codec.channels} channels; the images have {c}")
        self._to_rgb = codec.channels == 3 and c == 1
        self._size = (h * upsample, w * upsample)
        padded = encoded_shape(codec, image_shape, upsample)[1:]
        self._pad = tuple(p - s for p, s in zip(padded, self._size, strict=True))
        self._to_fit = is_fitted(codec)

    @property
    def pixels(self) -> bool:
        """Return whether the codes are the images' own pixels."""
        return self.codec.pixels and self.upsample == 1

    @property
    def tokens(self) -> int | None:
        """Return the size of the codebook, of a codec whose codes are numbers of its entries."""
        return self.codec.tokens

    @property
    def comparable(self) -> bool:
        """Return whether distances between codes, and networks that look at codes, make sense."""
        return is_comparable(self.codec)

    def fit(self, images: Images, device: str) -> None:
        """Fit a codec that learns, once, on the training images as `encode` prepares them; do nothing for others."""
        self.to(device)
        if self._to_fit:
            self.codec.fit(lambda: (self.sized(part) for part in float_batches(images, device)))
            check_weights(self.codec, self.name)
            self._to_fit = False

    def encode(self, images: Tensor) -> Tensor:
        """Encode images float32 (N, C, H, W) in [0, 1] to codes (N, c, h, w)."""
        return self.codec.encode(self.sized(images))

    def sized(self, images: Tensor) -> Tensor:
        """Return images as the codec takes them: in its channels, upsampled and padded."""
        if self._to_rgb:
            images = images.expand(-1, 3, -1, -1)
        if self.upsample != 1:
            images = F.interpolate(images, self._size, mode="bicubic", antialias=True).clamp(0, 1)
        if any(self._pad):
            images = F.pad(images, (0, self._pad[1], 0, self._pad[0]), mode=_padding_mode(self._size, self._pad))
        return images

    def decode(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Decode codes (N, c, h, w) to images (N, C, H, W), differentiable, not clamped.

        Args:
            codes: what to decode.
            labels: int64 (N,), the class of each code; read by a conditional codec only.

        Raises:
            UsageError: the codec is conditional, and no labels are given.
        """
        known = (labels,) if self.codec.conditional else ()
        if known and labels is None:
            raise UsageError(f"codec {self.name} decodes by class, and the labels of the codes are not given")
        images = self.codec.decode(codes, *known)[..., : self._size[0], : self._size[1]]
        if self.upsample != 1:
            images = F.interpolate(images, self.image_shape[1:], mode="bicubic", antialias=True)
        return images.mean(1, keepdim=True) if self._to_rgb else images

    def load_decoder(self, state: Mapping[str, Tensor]) -> None:
        """Take over the tensors of a decoder that was fitted elsewhere; the encoder's stay as they are."""
        self.codec.load_state_dict(dict(state), strict=False)
        for cached in ("fingerprint", "identity"):
            self.__dict__.pop(cached, None)

    def trained_part(self, allowed: int) -> TrainedPart:
        """Return what of the decoder is trained, where the whole set may take `allowed` bytes.

        Raises:
            UsageError: nothing of it can be trained, or what must be stored does not fit in its share.
        """
        return trained_part(self.codec, self.name, self.joint, allowed)

    def learning(self, names: Sequence[str]) -> SizedCodec:
        """Return a copy whose decoder's parameters of these names require gradients."""
        theirs = self._copied()
        for name in names:
            theirs.codec.trainable_parameters()[name].requires_grad_(True)
        return theirs

    def trained(self, tensors: Mapping[str, Tensor]) -> SizedCodec:
        """Return a copy with these values of its decoder's parameters; its fingerprint stays that of the codec.

        Raises:
            KeyError: the decoder has no such parameter. ValueError: it has another shape.
        """
        theirs = self._copied()
        parameters = theirs.codec.trainable_parameters()
        for name, tensor in tensors.items():
            if parameters[name].shape != tensor.shape:
                raise ValueError(f"{name} is {tuple(parameters[name].shape)}, given {tuple(tensor.shape)}")
            parameters[name].data.copy_(tensor)
        return theirs

    def _copied(self) -> SizedCodec:
        _ = self.fingerprint, self.identity, self.code_shape  # kept: they are those of the codec before training
        theirs = copy.copy(self)
        theirs.codec = copy.deepcopy(self.codec)
        return theirs

    @property
    def learns(self) -> bool:
        """Return whether gradients of decoded images reach the decoder."""
        return any(parameter.requires_grad for parameter in self.codec.trainable_parameters().values())

    def to(self, device: str) -> SizedCodec:
        """Move the codec's tensors to a device and return it."""
        self.codec.to(device)
        return self

    @cached_property
    def code_shape(self) -> Shape:
        """Return (c, h, w) of one code, found by encoding a black image.

        Raises:
            UsageError: the codec refuses this image size.
            Misfit: it fails on it, or does not give its shape back.
        """
        c, h, w = self.image_shape
        device = next(iter([*self.codec.parameters(), *self.codec.buffers()]), torch.zeros(())).device
        try:
            with torch.no_grad():
                codes = self.encode(torch.zeros((1, c, h, w), device=device))
                images = self.decode(codes, torch.zeros(1, dtype=torch.long, device=device))
        except UsageError:
            raise
        except Exception as error:
            raise Misfit(f"the codec cannot take images of shape {self.image_shape}: {error}") from error
        if codes.ndim != 4:
            raise Misfit(
                f"encode must return codes (N, c, h, w), it returned {tuple(codes.shape)}; a vector is (N, d, 1, 1)"
            )
        if tuple(images.shape[1:]) != self.image_shape:
            raise Misfit(
                f"the codec does not fit images of shape {self.image_shape}: codes {tuple(codes.shape)} decode to "
                f"{tuple(images.shape)}; set `multiple` in the codec, or dataset.image_size"
            )
        _, k, s, t = codes.shape
        return int(k), int(s), int(t)

    @property
    def spatial(self) -> bool:
        """Return whether codes may be flipped, shifted and cut like images."""
        return self.codec.spatial and self.tokens is None and min(self.code_shape[1:]) > 1

    @cached_property
    def fingerprint(self) -> str:
        """Return the sha256 (hex) of the codec; equal wherever the weights were loaded from."""
        return fingerprint(self.codec)

    @cached_property
    def identity(self) -> str:
        """Return the key of its codes on disk: the fingerprint and, of a third party's codec, its source code."""
        code = plugins.code_of(type(self.codec))
        return hash_json([self.fingerprint, code]) if code else self.fingerprint

    def describe(self, name: str) -> dict[str, Json]:
        """Return the record's `codec` entry."""
        return {
            "name": name,
            "config": self.codec.config(),
            "upsample": self.upsample,
            "fingerprint": self.fingerprint,
            "code_shape": list(self.code_shape),
            "spatial": self.spatial,
            "decoder_bytes": decoder_bytes(self.codec),
            "fitted": is_fitted(self.codec),
            "trained_on": list(self.codec.trained_on),
            "grey": "repeated to three channels, averaged after decoding" if self._to_rgb else None,
            "source": getattr(self.codec, "source", None),
            **({} if self.tokens is None else {"tokens": self.tokens}),
        }


def _padding_mode(size: tuple[int, int], pad: tuple[int, ...]) -> str:
    return "reflect" if all(p < s for p, s in zip(pad, size, strict=True)) else "replicate"


def upsample_fault(upsample: Json) -> list[str]:
    """Return what is wrong with a value of `codec.upsample`, if anything is."""
    if type(upsample) is int and 1 <= upsample <= 8:
        return []
    return [f"codec.upsample={upsample}: must be a whole number from 1 to 8"]


def build_codec(spec: Mapping[str, Json], image_shape: Shape, **resolving: Any) -> SizedCodec:
    """Build the codec a configuration names, made to fit images of this shape; not yet fitted.

    Args:
        spec: `name`, optionally `upsample` and those of JOINT_OPTIONS, and the codec's own options.
        image_shape: (C, H, W) of the dataset's images.
        resolving: passed to `plugins.resolve`, for names from an untrusted file.

    Raises:
        PluginError: there is no such codec.
        UsageError: an option it does not have, a size it cannot take, weights that are not finite.
    """
    options = frozen(spec)
    name, upsample = str(options.pop("name")), options.pop("upsample", 1)
    if fault := upsample_fault(upsample) + joint_faults(spec):
        raise UsageError(fault)
    preset = plugins.resolve("codecs", name, base=Codec, **resolving)
    options = {**preset.config, **options}
    faults = plugins.check_arguments(preset.cls, options)
    if faults:
        raise UsageError([f"codec.{name}: {fault}" for fault in faults])
    given = options.get("image_shape")
    wants_shape = "image_shape" in inspect.signature(preset.cls).parameters
    if wants_shape:
        c, h, w = image_shape
        options["image_shape"] = tuple(given or (c, h * upsample, w * upsample))
    codec = _instantiated(preset.cls, name, options)
    seen = encoded_shape(codec, image_shape, upsample)
    if wants_shape and not given and seen != options["image_shape"]:  # it pads, or takes other channels
        codec = _instantiated(preset.cls, name, {**options, "image_shape": seen})
    _check_codebook(codec, name)
    check_weights(codec, name)
    sized = SizedCodec(codec, image_shape, upsample, name, JointTraining.of(spec))
    if not is_fitted(codec):
        _ = sized.code_shape
    return sized


def _instantiated(cls: type[Codec], name: str, options: Mapping[str, Json]) -> Codec:
    try:
        codec = cls(**options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"codec {name}: {error}") from error
    if not hasattr(codec, "_modules"):
        raise UsageError(f"codec {name}: {cls.__name__}.__init__ must begin with super().__init__()")
    return codec


def _check_codebook(codec: Codec, name: str) -> None:
    """Raise UsageError if the size of a codec's codebook is not possible, or its class does not say that it has one."""
    size, stated = codec.tokens, type(codec).tokens
    if size is not None and stated is None:
        raise UsageError(f"codec {name}: it has tokens={size}, but its class does not say so: write `tokens = 0` there")
    if stated is not None and not (type(size) is int and 2 <= size <= LARGEST_CODEBOOK):
        raise UsageError(f"codec {name}: tokens={size}: a codebook has from 2 to {LARGEST_CODEBOOK:,} entries")


def float_batches(images: Images, device: str, size: int = 1024) -> Iterator[Tensor]:
    """Yield images float32 (n, C, H, W) in [0, 1] on the device, in order."""
    for part in images.pixels.split(size):
        yield part.to(device).float() / 255
