"""The codec contract: `encode(images) -> codes`, differentiable `decode(codes) -> images`.

A new codec is one file with one class derived from `Codec`, named in the entry-point group `dd_bench.codecs`.
"""

from __future__ import annotations

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.plugins import config_of
from latentdd_plugin.core.types import Json, canonical_json

# Names under which codecs were published before they had an id. Their fingerprints are computed over these for ever.
# They used to be module paths and are only names today, so the files may move.
PUBLISHED_AS = {
    "identity": "latentdd_plugin.codecs.identity:Identity",
    "dct": "latentdd_plugin.codecs.dct:DCT",
    "pca": "latentdd_plugin.codecs.pca:PCA",
    "downscale": "latentdd_plugin.codecs.downscale:Downscale",
    "fred": "latentdd_plugin.codecs.fred:FreD",
    "tiny-vae": "latentdd_plugin.codecs.tiny_vae:TinyVAE",
    "diffusers": "latentdd_plugin.codecs.diffusers:Diffusers",
}

Batches = Callable[
    [], Iterator[Tensor]
]  # each call starts over at the first training image: float32 (n, C, H, W) in [0, 1]


class Codec(torch.nn.Module, ABC):
    """A codec: turns images into codes and back. Derive, set the class attributes, write `encode` and `decode`.

    A constructor parameter named `image_shape` is filled in by the package with the (C, H, W) that `encode` will be
    given, unless the caller sets it; a codec whose output size does not follow from the code's shape needs it.
    Every other parameter must be JSON, have a default, and be kept as an attribute of the same name.

    Attributes:
        codec_id: name under which it is published, part of its fingerprint. It must not change when the file moves or
            the class is renamed. A class without an id of its own uses the class name.
        spatial: decode(flip(z)) is close to flip(decode(z)); the package then augments codes spatially.
        pixels: the codes are the pixels, so colour augmentation keeps its meaning on them (only `identity`).
        comparable: distances between codes and networks that look at codes make sense; otherwise a method that compares
            samples needs `match=pixel`.
        fits_codes: there is no encoder; `encode` optimises the code of each image by itself, equal whatever images come
            with it. Only the images that a method takes as codes are then encoded.
        conditional: decoding needs the class of each code: `decode(codes, labels)`, with labels int64 (N,).
        channels: image channels `encode` takes (3: grey images are repeated, and averaged after decoding); None: any.
        multiple: image sides must be a multiple of it; other sizes are padded by reflection and cropped back.
        costly: `encode` runs a network, so the codes of a dataset are worth keeping on disk.
        trained_on: names of the datasets the weights have seen; empty for a fixed transform, `nothing` for weights that
            are drawn from a seed.
        trained_whole: a decoder that is trained with the codes is stored as a whole, because it is of no use before.
        tokens: size K of the codebook, of a codec whose codes are numbers of its entries: whole numbers 0 … K - 1 as
            float32. Such codes are not standardised, get no gradient and are stored without loss. A codec whose
            constructor finds K out says `tokens = 0` in its class. None: codes are real numbers.
        locations: constructor parameters that say where the weights come from, not what they compute; `config` leaves
            them out.
    """

    contract: ClassVar[int] = 1
    codec_id: ClassVar[str] = ""
    spatial: bool = False
    pixels: bool = False
    comparable: bool = True
    fits_codes: bool = False
    conditional: bool = False
    channels: int | None = None
    multiple: int = 1
    costly: bool = False
    trained_on: tuple[str, ...] = ()
    trained_whole: bool = False
    tokens: int | None = None
    locations: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Encode images float32 (N, C, H, W) in [0, 1] to codes float32 (N, c, h, w), deterministically."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes (N, c, h, w) to images (N, C, H, W), not clamped; differentiable in the codes, except tokens."""

    @classmethod
    def option_faults(cls, options: Mapping[str, Json]) -> list[str]:
        """Return what is wrong with these constructor arguments, as far as it can be seen without images and weights.

        Called before a dataset is read. Default: try the constructor, unless the codec is `costly`.
        """
        parameters = inspect.signature(cls).parameters
        wants_shape = "image_shape" in parameters
        if cls.costly or (wants_shape and parameters["image_shape"].default is inspect.Parameter.empty):
            return []
        try:
            with torch.random.fork_rng(devices=[]):
                cls(**options)
        except UsageError as error:
            return list(error.faults)
        except (TypeError, ValueError) as error:
            return [] if wants_shape else [f"codec {cls.__name__}: {error}"]
        except Exception:  # a fault of the codec rather than of its options: reported when it is built
            return []
        return []

    @classmethod
    def weight_faults(cls, options: Mapping[str, Json]) -> list[str]:
        """Return why the weights that these constructor arguments name cannot be had. Default: there are none to miss.

        Called before a dataset is read; must not load the weights.
        """
        return []

    def fit(self, batches: Batches) -> None:
        """Learn from the training images, once, before `encode`; by default do nothing."""

    def step_weights(self, channels: int) -> Tensor:
        """Return the quantiser steps of entropy-coded codes relative to each other, float32 (channels,).

        They are in units of the codes: a channel with a larger one is stored more coarsely. Default: equal steps, right
        for codes whose values all weigh the same in the image.
        """
        return torch.ones(channels)

    def trainable_parameters(self) -> dict[str, Tensor]:
        """Return the float32 parameters of the decoder that `codec.joint=true` trains with the codes.

        By name, from the code to the image. With their values at construction the codec must decode what `encode`
        gives. Default: none.
        """
        return {}

    def config(self) -> dict[str, Json]:
        """Return the constructor's arguments as JSON, without locations; they rebuild an equal codec."""
        return config_of(self, self.locations)

    def state(self) -> dict[str, Tensor]:
        """Return every tensor of this codec, named `encoder.*`, `decoder.*` or `shared.*`."""
        return {
            name if name.split(".")[0] in ("encoder", "decoder", "shared") else f"shared.{name}": tensor.detach()
            for name, tensor in self.state_dict().items()
        }

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruct images: decode(encode(images))."""
        return self.decode(self.encode(images))


def is_comparable(codec: Codec | type[Codec]) -> bool:
    """Return whether methods may compare its codes: numbers of a codebook's entries never are."""
    return codec.comparable and codec.tokens is None


def is_fitted(codec: Codec) -> bool:
    """Return whether the codec learns from the run's training images; its decoder then belongs in the artifact."""
    return type(codec).fit is not Codec.fit


def decoder_state(codec: Codec) -> dict[str, Tensor]:
    """Return the part of the state that decoding needs: `decoder.*` and `shared.*`."""
    return {name: tensor for name, tensor in codec.state().items() if not name.startswith("encoder.")}


def decoder_bytes(codec: Codec) -> int:
    """Return the bytes of the tensors that decoding needs, at the precision in which they run."""
    return sum(t.numel() * t.element_size() for t in decoder_state(codec).values())


def check_weights(codec: Codec, name: str) -> None:
    """Raise UsageError naming the first tensor of a codec that holds NaN, or the first parameter that holds infinity.

    Buffers may hold infinity: attention masks do.
    """
    learned = {name for name, _ in codec.named_parameters()}
    for key, tensor in codec.state_dict().items():
        if not tensor.is_floating_point():
            continue
        bad = ~torch.isfinite(tensor) if key in learned else torch.isnan(tensor)
        if bool(bad.any()):
            raise UsageError(
                f"codec {name}: {int(bad.sum())} of the {tensor.numel()} values of its tensor {key} are not finite; "
                "the weights are damaged: fetch or train them again"
            )


def fingerprint(codec: Codec) -> str:
    """Return the sha256 (hex) over id, configuration and state: equal for equal codecs, wherever they come from."""
    return _fingerprint(codec, _published_name(codec), codec.state())


def decoder_fingerprint(codec: Codec) -> str:
    """Return the sha256 (hex) over id, configuration and the tensors that decoding needs."""
    return _fingerprint(codec, _published_name(codec), decoder_state(codec))


def is_published_as(codec: Codec, claimed: str) -> bool:
    """Return whether a file's fingerprint is this codec's, under its id or as files before version 0.2 name it."""
    kind, state = type(codec), codec.state()
    names = (_published_name(codec), f"{kind.__module__}:{kind.__qualname__}")
    return any(claimed == _fingerprint(codec, name, state) for name in names)


def _published_name(codec: Codec) -> str:
    kind = type(codec)
    name = vars(kind).get("codec_id") or kind.__name__  # its own: a derived class is another codec
    return PUBLISHED_AS.get(name, name)


def _fingerprint(codec: Codec, known_as: str, state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(f"{known_as}\n{canonical_json(codec.config())}".encode())
    for name, tensor in sorted(state.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()
