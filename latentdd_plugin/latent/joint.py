"""Decoders that are trained together with the codes: which tensors, at how many bytes, and where they are kept.

What is trained on the dataset is part of the distilled set, so its bytes are taken from the budget. A decoder that is
larger than its share is trained from its last layer back, as far as the share reaches; the layers before stay as
published.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import JOINT_OPTIONS, PRECISIONS, Json

SCALE_BYTES = 8  # of a tensor stored as integers: its minimum and maximum


@dataclass(frozen=True)
class JointTraining:
    """Options of a decoder that is trained with the codes.

    Attributes:
        share: largest fraction of all bytes that the decoder may take.
        precision: how its tensors are stored; a name in PRECISIONS.
        lr: step size of its tensors, for Adam.
    """

    share: float = 0.5
    precision: str = "fp16"
    lr: float = 1e-3

    @classmethod
    def of(cls, spec: Mapping[str, Json]) -> JointTraining | None:
        """Return what a codec's specification asks for; None unless `joint` is true."""
        if not spec.get("joint"):
            return None
        names = {"share": "share", "decoder_precision": "precision", "decoder_lr": "lr"}
        return cls(**{field: spec[option] for option, field in names.items() if option in spec})

    def size(self, tensor: Tensor) -> int:
        """Return the bytes that a tensor takes in the file, its scale included."""
        bits = PRECISIONS[self.precision]
        return math.ceil(tensor.numel() * bits / 8) + (SCALE_BYTES if bits <= 8 else 0)


def joint_faults(spec: Mapping[str, Json]) -> list[str]:
    """Return what is wrong with the values of `codec.joint` and the options that belong to it."""
    joint, share, lr = spec.get("joint", False), spec.get("share", 0.5), spec.get("decoder_lr", 1e-3)
    precision = spec.get("decoder_precision", "fp16")
    found = []
    if type(joint) is not bool:
        found.append(f"codec.joint={joint}: must be true or false")
    elif not joint:
        idle = [name for name in JOINT_OPTIONS[1:] if name in spec]
        found += [f"codec.{name}={spec[name]}: it is read with codec.joint=true only" for name in idle]
    if not isinstance(share, int | float) or not 0 < share < 1:
        found.append(f"codec.share={share}: must be a number between 0 and 1, the decoder's fraction of the bytes")
    if not isinstance(lr, int | float) or not 0 < lr < math.inf:
        found.append(f"codec.decoder_lr={lr}: must be a positive number")
    if precision not in PRECISIONS:
        found.append(f"codec.decoder_precision={precision}: choose one of {', '.join(PRECISIONS)}")
    return found


def frozen(spec: Mapping[str, Json]) -> dict[str, Json]:
    """Return a codec's specification without the training of its decoder."""
    return {key: value for key, value in spec.items() if key not in JOINT_OPTIONS}


@dataclass(frozen=True)
class TrainedPart:
    """The part of a decoder that is trained with the codes."""

    names: tuple[str, ...] = ()  # as `trainable_parameters` has them, in its order
    nbytes: int = 0  # bytes that they take in the file


def trained_part(codec: Codec, name: str, joint: JointTraining | None, allowed: int) -> TrainedPart:
    """Return the tensors that fit in the decoder's share of the bytes.

    Args:
        codec: the codec.
        name: what messages call it.
        joint: how the decoder is trained; None trains nothing.
        allowed: bytes of the whole set.

    Raises:
        UsageError: nothing of the decoder can be trained, or what must be stored does not fit.
    """
    if joint is None:
        return TrainedPart()
    parameters = codec.trainable_parameters()
    limit = int(joint.share * allowed)
    total = sum(map(joint.size, parameters.values()))
    if total <= limit and parameters:
        return TrainedPart(tuple(parameters), total)
    names: list[str] = []
    spent = 0
    for key in reversed(parameters):
        if codec.trained_whole or spent + joint.size(parameters[key]) > limit:
            break
        names, spent = [key, *names], spent + joint.size(parameters[key])
    if not names:
        least = total if codec.trained_whole else min(map(joint.size, parameters.values()), default=0)
        raise UsageError(
            f"codec.joint=true: of {name}'s decoder at least {least:,} bytes must be stored at {joint.precision}, but "
            f"codec.share={joint.share:g} of {allowed:,} bytes is {limit:,}: raise the budget or codec.share, choose a "
            "lower codec.decoder_precision, or a smaller decoder"
        )
    return TrainedPart(tuple(names), spent)
