"""Plug-ins under test: each subject builds the objects that the contracts of its kind share."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.core import plugins
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import MATCH_SPACES, Images, Json, Score, Shape, SyntheticSet
from latentdd_plugin.distillers.base import Distiller
from latentdd_plugin.evaluators.base import Evaluator, Trial, Unsuitable
from latentdd_plugin.evaluators.train_scratch import TrainScratch
from latentdd_plugin.experiments.build import build_distiller, build_evaluator
from latentdd_plugin.latent.sized_codec import Misfit, SizedCodec, build_codec
from latentdd_plugin.testing.contracts import NotApplicable
from latentdd_plugin.testing.samples import PICTURES, pictures, task, trial

SHAPES: tuple[Shape, ...] = ((1, 8, 8), (3, 16, 16), (3, 13, 21), (1, 7, 9))
COUNT = 6  # images to encode
CODECS = ("dct", "pca", "identity")  # spatial codes, codes without a layout, pixels
SMALL = {"iterations": 2, "batch_real": 8}  # for distillers with these options, unless the caller sets them
SEEDS = (5, 6)  # for evaluators


@contextmanager
def _crashes_left_to_the_contracts() -> Iterator[None]:
    """Raise a refusal of the options, but suppress a constructor's own failure: the contracts report that."""
    try:
        yield
    except UsageError as error:
        if error.__cause__ is None:
            raise


@dataclass(frozen=True)
class Sample:
    """A codec fitted to one image shape, and images of that shape."""

    shape: Shape
    sized: SizedCodec
    images: Tensor  # float32 (6, C, H, W) in [0, 1]

    @property
    def codec(self) -> Codec:
        """The wrapped codec, which receives enlarged and padded images."""
        return self.sized.codec

    @cached_property
    def codes(self) -> Tensor:
        """Codes (6, c, h, w) of the images."""
        with torch.no_grad():
            return self.sized.encode(self.images)

    @cached_property
    def decoded(self) -> Tensor:
        """Images (6, C, H, W) decoded from the codes."""
        with torch.no_grad():
            return decode(self.sized, self.codes)


def decode(codec: Codec | SizedCodec, codes: Tensor) -> Tensor:
    """Decode codes (N, c, h, w) to images (N, C, H, W); if the codec decodes by class, as codes of the first class."""
    labels = torch.zeros(len(codes), dtype=torch.long, device=codes.device)
    given = (labels,) if isinstance(codec, SizedCodec) or codec.conditional else ()
    images: Tensor = codec.decode(codes, *given)
    return images


class CodecSubject:
    """A codec under test.

    Args:
        name: an entry's name, `package.module:Class` or `./file.py:Class`.
        options: options of its constructor, and `upsample`.

    Raises:
        PluginError: no codec has that name, or it cannot be loaded.
    """

    def __init__(self, name: str, **options: Json) -> None:
        self.name, self.spec = name, {"name": name, **options}
        self.cls: type[Codec] = plugins.resolve("codecs", name, base=Codec).cls
        self.refusals: dict[Shape, UsageError] = {}  # image shapes that the codec refuses
        self.failures: dict[Shape, BaseException] = {}  # image shapes at which it fails

    def prepare(self) -> None:
        """Build the codec for every shape; raise UsageError if it refuses all, as it does without its weights."""
        if not self.found and len(self.refusals) == len(SHAPES):
            raise next(iter(self.refusals.values()))

    def build(self, shape: Shape) -> SizedCodec:
        """Return a new codec for images of this shape, fitted on digits if it learns."""
        sized = build_codec(self.spec, shape)
        sized.fit(Images(pictures(shape), torch.zeros(PICTURES, dtype=torch.long)), "cpu")
        _ = sized.code_shape
        return sized

    @cached_property
    def found(self) -> list[Sample]:
        """One sample per shape that the codec takes; the others go to `refusals` and `failures`."""
        found: list[Sample] = []
        sizeless = "image_shape" not in inspect.signature(self.cls).parameters and not _learns(self.cls)
        for shape in SHAPES:
            try:
                if found and sizeless and "upsample" not in self.spec:  # one object serves every size
                    sized = SizedCodec(found[0].codec, shape)
                    _ = sized.code_shape
                else:
                    sized = self.build(shape)
                found.append(Sample(shape, sized, pictures(shape, COUNT).float() / 255))
            except UsageError as error:
                broken = isinstance(error, Misfit) or error.__cause__ is not None
                (self.failures if broken else self.refusals)[shape] = error
            except (Exception, SystemExit) as error:
                self.failures[shape] = error
        return found

    @property
    def samples(self) -> list[Sample]:
        """The same samples; raises NotApplicable if there are none."""
        if not self.found:
            raise NotApplicable("the codec takes none of the image sizes tested, see `sizes`")
        return self.found

    @property
    def codec(self) -> Codec:
        """The codec built for the first shape that it takes."""
        return self.samples[0].codec


def _learns(cls: type[Codec]) -> bool:
    return cls.fit is not Codec.fit


class DistillerSubject:
    """A distiller under test, with its preset `quick` and two iterations if it has such an option.

    Args:
        name: an entry's name, `package.module:Class` or `./file.py:Class`.
        options: options of its constructor, and `preset`.

    Raises:
        PluginError: no distiller has that name, or it cannot be loaded.
    """

    def __init__(self, name: str, **options: Json) -> None:
        self.name = name
        self.cls: type[Distiller] = plugins.resolve("algos", name, base=Distiller).cls
        taken = [parameter.name for parameter in plugins.parameters(self.cls)]
        preset = "quick" if "quick" in self.cls.presets else next(iter(self.cls.presets), None)
        chosen: dict[str, Json] = {} if preset is None else {"preset": preset}
        self.spec = {"name": name, **chosen, **{k: v for k, v in SMALL.items() if k in taken}, **options}
        self._kept: dict[tuple[str, str], SyntheticSet] = {}

    def prepare(self) -> None:
        """Build the distiller once; raise UsageError if it refuses these options."""
        with _crashes_left_to_the_contracts():
            self.build()

    def build(self, match: str = "code", codec: str = "dct", **more: Json) -> Distiller:
        """Return a new distiller; raise UsageError if it does not support this match space."""
        return build_distiller({**self.spec, **more}, match, codec)

    def distil(self, codec: str = "dct", match: str = "code", **given: object) -> SyntheticSet:
        """Distil the digits with a new distiller."""
        return self.build(match, codec).distill(task(codec, match, **given))  # type: ignore[arg-type]

    def distilled(self, codec: str, match: str) -> SyntheticSet:
        """Return the result with seed 0, distilled once and kept."""
        if (codec, match) not in self._kept:
            self._kept[codec, match] = self.distil(codec, match)
        return self._kept[codec, match]

    def spaces(self) -> Iterator[tuple[str, str]]:
        """Yield every supported (codec, match space); with `identity` both match spaces are the same."""
        for codec in CODECS:
            yield from ((codec, match) for match in MATCH_SPACES if match in self.cls.match_spaces)


class EvaluatorSubject:
    """An evaluator under test.

    Args:
        name: an entry's name, `package.module:Class`, `./file.py:Class`, or a timm architecture.

    Raises:
        UsageError: no evaluator has that name, or it cannot be loaded.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        known = name in plugins.entries("evaluators") or ":" in name
        self.cls: type[Evaluator] = plugins.resolve("evaluators", name, base=Evaluator).cls if known else TrainScratch
        self._scores: dict[int, Score] = {}

    def prepare(self) -> None:
        """Build the evaluator once; raise UsageError if the architecture does not exist."""
        with _crashes_left_to_the_contracts():
            self.build()

    def build(self) -> Evaluator:
        """Return a new evaluator."""
        return build_evaluator(self.name)

    def score(self, evaluator: Evaluator, seed: int, given: Trial | None = None) -> Score:
        """Return the evaluator's score on the digits; raise NotApplicable if it cannot take them."""
        try:
            return evaluator.evaluate(given or trial(), seed)
        except Unsuitable as reason:
            raise NotApplicable(f"the evaluator does not take these images: {reason}") from None

    @property
    def scores(self) -> dict[int, Score]:
        """Scores of one evaluator by seed, in the order of SEEDS, computed once."""
        if not self._scores:
            one = self.build()
            self._scores = {seed: self.score(one, seed) for seed in SEEDS}
        return self._scores
