"""The distilled set as one `.safetensors` file that anyone can load, decode and verify.

Loading executes nothing and builds no codec. The header has one metadata key, `dd-bench`: canonical JSON without time,
host or path, whose `content_sha256` covers the other fields and every tensor.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from latentdd_plugin.artifacts import display
from latentdd_plugin.artifacts.budget import ByteLedger
from latentdd_plugin.artifacts.description import SetDescription
from latentdd_plugin.artifacts.header import ArtifactHeader, HeaderCodec, HeaderDataset, HeaderSpace
from latentdd_plugin.artifacts.labels import LabelForm, StoredLabels, stored_labels
from latentdd_plugin.artifacts.packing import Packed, pack, pack_coded, pack_tokens, unpack
from latentdd_plugin.artifacts.trained_decoder import TrainedDecoder, pack_decoder
from latentdd_plugin.codecs.base import decoder_fingerprint, decoder_state, is_fitted, is_published_as
from latentdd_plugin.core.entry_points import entries
from latentdd_plugin.core.errors import ArtifactError, DDBenchError, PluginError, RunFailed, UsageError
from latentdd_plugin.core.parts import LabelConfig
from latentdd_plugin.core.plugins import OURS
from latentdd_plugin.core.types import CODED, ImageData, Json, Shape, SyntheticSet
from latentdd_plugin.latent.sized_codec import SizedCodec, build_codec
from latentdd_plugin.latent.space import CodeSpace
from latentdd_plugin.nn.teacher import Teacher

if TYPE_CHECKING:
    import datasets
    from torch.utils.data import TensorDataset

log = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class Artifact:
    """A distilled set as stored: codes at their precision, labels, and everything that decoding needs."""

    packed: Packed
    labels: Tensor  # int64 (M,), or float32 (M, classes)
    lr: float | None
    codec_state: Mapping[str, Tensor]  # a fitted codec's decoder, else empty
    header: ArtifactHeader
    soft: StoredLabels | None = None  # a teacher's, if they are stored
    trained: TrainedDecoder | None = None  # the part of the decoder that was trained with the codes

    @property
    def codes(self) -> Tensor:
        """Standardised codes, float32 (M, c, h, w), as the file holds them."""
        return unpack(self.packed)

    @property
    def class_numbers(self) -> Tensor:
        """The class of each sample, int64 (M,); of soft labels the largest."""
        return self.labels if self.header.label_kind == "hard" else self.labels.argmax(1)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by label."""
        return self.header.classes

    def space(self, codec: SizedCodec | None = None, **resolving: Any) -> CodeSpace:
        """Return the code space that the codes live in.

        Args:
            codec: a codec built by the caller (for local weights), whose fingerprint must match; None builds the named.
            **resolving: passed to `plugins.resolve`; by default only this package's own entries are taken.
        """
        spec, shape = self.header.codec, self.header.image_shape
        if codec is None:
            options = {**spec.config, "name": spec.name, "upsample": spec.upsample}
            codec = _built(options, shape, **{"installed_only": True, "distributions": (OURS,), **resolving})
        if self.codec_state and not is_fitted(codec.codec):
            raise ArtifactError(f"codec {spec.name!r} learns nothing from data, but the artifact brings tensors for it")
        if self.codec_state:
            self._restore(codec)
            self._check_restored(codec)
        elif not is_published_as(codec.codec, spec.fingerprint):
            raise ArtifactError(
                f"codec {spec.name!r} has fingerprint {codec.fingerprint[:12]}…, the artifact was made with "
                f"{spec.fingerprint[:12]}…: other weights; name the right ones with codec.path=FOLDER"
            )
        if codec.tokens != self.header.tokens:
            theirs = "no tokens" if codec.tokens is None else f"tokens of {codec.tokens} entries"
            ours = "none" if self.header.tokens is None else f"tokens of {self.header.tokens} entries"
            raise ArtifactError(f"codec {spec.name!r} has {theirs}, the artifact was made with {ours}")
        codec = codec if self.trained is None else self._trained(codec, self.trained)
        space = self.header.space
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (space.mean, space.std))
        return CodeSpace(codec, mean, std)

    def _trained(self, codec: SizedCodec, trained: TrainedDecoder) -> SizedCodec:
        """Return a copy of the codec with the trained part of its decoder."""
        try:
            return codec.trained(trained.tensors())
        except (KeyError, ValueError) as error:
            name = self.header.codec.name
            raise ArtifactError(f"codec {name!r} does not have the decoder that the artifact brings: {error}") from None

    def _restore(self, codec: SizedCodec) -> None:
        """Load the decoder that travels in the file into a codec that was fitted on the run's data."""
        there = {name: tuple(tensor.shape) for name, tensor in self.codec_state.items()}
        wanted = {name: tuple(tensor.shape) for name, tensor in decoder_state(codec.codec).items()}
        if there != wanted:
            name = self.header.codec.name
            raise ArtifactError(f"codec {name!r} has the tensors {wanted}, the artifact brings {there}")
        state = {name.removeprefix("shared."): tensor for name, tensor in self.codec_state.items()}
        codec.load_decoder(state)

    def _check_restored(self, codec: SizedCodec) -> None:
        """Raise ArtifactError if the decoder in the file is not the one that its fingerprint was taken over.

        The file holds no tensors of the encoder. A codec that has some is compared by its decoder alone, if the file
        says what it was; files before version 0.2 do not.
        """
        spec = self.header.codec
        if all(name in self.codec_state for name in codec.codec.state()):
            same = is_published_as(codec.codec, spec.fingerprint)
        elif spec.decoder_fingerprint is not None:
            same = decoder_fingerprint(codec.codec) == spec.decoder_fingerprint
        else:
            log.info("codec %s: the artifact does not hold what its decoder could be compared with", spec.name)
            return
        if not same:
            raise ArtifactError(
                f"codec {spec.name!r}: the decoder in the artifact does not belong to its fingerprint "
                f"{spec.fingerprint[:12]}…: the file was put together from several"
            )

    def decode(self, codec: SizedCodec | None = None, **resolving: Any) -> Tensor:
        """Return images, float32 (M, C, H, W) in [0, 1] units, not clamped. Arguments as for `space`."""
        with torch.no_grad():
            return self.space(codec, **resolving).decode(self.codes, self.class_numbers)

    def to_dataset(self, codec: SizedCodec | None = None, **resolving: Any) -> datasets.Dataset:
        """Return the decoded images and their labels as a `datasets.Dataset`. Arguments as for `space`.

        Columns: `image` (8 bits, clamped), `label` (ClassLabel) and, for soft labels, `probabilities` or `logits`.
        """
        images = self.decode(codec, **resolving)
        return display.dataset_of(images, self.labels, self.header.label_kind, self.classes)

    def to_torch(self, codec: SizedCodec | None = None, **resolving: Any) -> TensorDataset:
        """Return images, float32 in [0, 1] units and clamped, and labels for a plain `DataLoader`.

        Arguments as for `space`. Soft labels stay a row per image.
        """
        from torch.utils.data import TensorDataset

        return TensorDataset(self.decode(codec, **resolving).clamp(0, 1), self.labels)

    @classmethod
    def from_pretrained(cls, repo: str, revision: str | None = None) -> Artifact:
        """Return a set from the Hugging Face hub, its file checked by sha256.

        Args:
            repo: `user/name`.
            revision: a branch, tag or commit; None is the newest.

        Raises:
            UsageError: the hub is out of reach, or has no such set. ArtifactError: the file is damaged.
        """
        artifact: Artifact = _hub().pull_set(repo, revision)[0]
        return artifact

    def describe(self, name: str, **more: Any) -> SetDescription:
        """Return what a reader must know of the set: class order, value space, bytes, codec.

        Args:
            name: what to call it.
            **more: fields of SetDescription that the set itself does not tell: scores, licence, method, …
        """
        header = self.header
        known: dict[str, Any] = {
            "dataset": header.dataset.name or "unknown",
            "image_shape": header.image_shape,
            "classes": self.classes,
            "value_space": header.value_space,
            "labels": header.label_kind,
            "codec": header.codec.name,
            "precision": header.precision,
            "images": header.codes_shape[0],
            "budget_bytes": self.bytes(0, 0).total,
        }
        return SetDescription(name=name, **{**known, **more})

    def push_to_hub(self, repo: str, about: SetDescription | None = None, *, licence: str | None = None) -> str:
        """Publish the set with a generated card on the Hugging Face hub and return the commit's id.

        Args:
            repo: `user/name`, created if need be.
            about: what the card says, as `describe_run` returns it for a run's folder; None describes the set alone.
            licence: terms of the set, as the hub names them: `cc-by-4.0`.

        Raises:
            UsageError: the hub is out of reach, or refuses.
        """
        return str(_hub().push_set(self, repo, about, licence=licence))

    def _title(self) -> str:
        size = f"{len(self.labels)} codes of {len(self.classes)} classes of {self.header.dataset.name}"
        return f"{size}: {self.header.codec.name}, {self.packed.precision}"

    def __repr__(self) -> str:
        """Return what it holds, in a line."""
        return f"<{type(self).__name__}: {self._title()}>"

    def _repr_html_(self) -> str:
        """Return a line and a small grid of the decoded images, for notebooks; the line alone if they do not decode."""
        try:
            images: Tensor | None = self.decode()
        except DDBenchError:
            images = None
        return display.html_of(self._title(), images, self.class_numbers, self.classes)

    def bytes(self, file: int, decoder: int) -> ByteLedger:
        """Return the byte ledger.

        Args:
            file: bytes of the whole file.
            decoder: bytes of the codec's decoder as it runs; those of trained tensors are counted at their precision.
        """
        scales = 0 if self.packed.scale is None else self.packed.scale.numel() * 4
        space = 8 * len(self.header.space.mean)
        hard = self.header.label_kind == "hard"
        own = 0 if hard else self.labels.numel() * self.labels.element_size()
        trained = self.trained
        return ByteLedger(
            codes=self.packed.nbytes,
            labels=own if self.soft is None else self.soft.nbytes,
            side=scales + space + (0 if self.lr is None else 4) + (len(self.labels) * 8 if hard else 0),
            decoder=decoder if trained is None else max(0, decoder - trained.replaced),
            file=file,
            trained=None if trained is None else trained.nbytes,
        )


def _hub() -> Any:
    """Return the module of the hub, which itself needs this one, at its first use."""
    return importlib.import_module("latentdd_plugin.artifacts.hub")


def _built(options: Mapping[str, Json], shape: Shape, **resolving: Any) -> SizedCodec:
    """Build the codec that a file describes; raise ArtifactError if it cannot be built."""
    try:
        return build_codec(options, shape, **resolving)
    except PluginError as error:
        raise PluginError(f"{error}{_how_to_allow(str(options['name']))}") from None
    except DDBenchError:
        raise
    except Exception as error:
        name = options["name"]
        raise ArtifactError(f"codec {name!r} cannot be as the artifact describes it ({error})") from None


def _how_to_allow(name: str) -> str:
    """Return a hint on how the caller can allow a codec that is not this package's."""
    entry = entries("codecs").get(name)
    if entry is not None:
        theirs = entry.distribution
        return f"; decode(distributions=[{theirs!r}]) allows it, --allow-plugin {theirs} on the command line"
    if ":" in name:
        return (
            "; decode(codec=build_codec({'name': 'FILE.py:CLASS'}, image_shape)) takes one, --codec FILE.py:CLASS too"
        )
    return ""


def make_artifact(
    synthetic: SyntheticSet,
    space: CodeSpace,
    precision: str,
    data: ImageData,
    codec_name: str,
    *,
    limit: int | None = None,
) -> Artifact:
    """Pack a distilled set at a precision, with everything that decoding it needs.

    Args:
        synthetic: codes and labels.
        space: the space of the codes.
        precision: how codes are stored.
        data: the dataset that the set was distilled from.
        codec_name: the codec's entry name.
        limit: bytes that the codes may take; needed by `coded`, which is as fine as they allow, except of tokens.

    Raises:
        RunFailed: the precision cannot hold the codes. UsageError: `coded` codes do not fit in `limit` bytes.
    """
    codec = space.codec
    fitted = is_fitted(codec.codec)
    state = {k: t.cpu().contiguous() for k, t in decoder_state(codec.codec).items()} if fitted else {}
    m, c, h, w = synthetic.codes.shape
    partial = fitted and len(state) < len(codec.codec.state())
    header = ArtifactHeader(
        codec=HeaderCodec(
            codec_name,
            codec.codec.config(),
            codec.upsample,
            codec.fingerprint,
            decoder_fingerprint(codec.codec) if partial else None,
        ),
        space=HeaderSpace(tuple(space.mean.flatten().tolist()), tuple(space.std.flatten().tolist())),
        value_space="images in [0, 1], not clamped",
        precision=precision,
        tokens=codec.tokens,
        codes_shape=(m, c, h, w),
        image_shape=data.image_shape,
        classes=data.classes,
        label_kind=synthetic.label_kind,
        dataset=HeaderDataset(data.name, data.fingerprint),
    )
    packed, trained = _packed(synthetic.codes, space, precision, limit), None
    if synthetic.decoder and codec.joint is not None:
        trained = pack_decoder(synthetic.decoder, codec.joint.precision)
        header = replace(header, decoder=trained.form)
    return Artifact(packed, synthetic.labels.cpu(), synthetic.lr, state, header, trained=trained)


def labelled(artifact: Artifact, images: Tensor, config: LabelConfig, teacher: Teacher, seed: int) -> Artifact:
    """Return an artifact with a teacher's labels for its decoded images.

    Args:
        artifact: its own labels become class numbers.
        images: float32 (M, C, H, W), as the artifact decodes.
        config: regime and storage.
        teacher: on the images' device.
        seed: draws the views.

    Raises:
        RunFailed: the teacher gives logits that are not finite.
    """
    form = LabelForm.of(config, teacher.card.sha256)
    header = replace(artifact.header, label_kind="hard", labels=form)
    hard = replace(artifact, labels=artifact.class_numbers, header=header)
    return replace(hard, soft=stored_labels(form, images, teacher, seed)) if config.stored else hard


def _packed(codes: Tensor, space: CodeSpace, precision: str, limit: int | None) -> Packed:
    """Return the codes at a precision; raise RunFailed if it cannot hold them."""
    if space.codec.tokens is not None:
        return pack_tokens(codes, space.codec.tokens, precision, limit)
    if precision == CODED:
        if limit is None:
            raise UsageError("precision=coded needs a number of bytes that the codes may take")
        packed = pack_coded(codes, space.step_weights(), limit)
    else:
        packed = pack(codes, precision)
    if not bool(torch.isfinite(unpack(packed)).all()):
        largest = float(codes.detach().abs().max())
        raise RunFailed(
            f"{precision} cannot hold codes up to {largest:.3g}: they become infinite. Choose precision=fp32 "
            "or int8, or a smaller step"
        )
    return packed
