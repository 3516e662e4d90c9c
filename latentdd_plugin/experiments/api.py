"""The package as a library: build parts by name, list what is installed, distil arrays, score and compare.

from latentdd_plugin import distill, evaluate
artifact = distill(images, labels, codec="dct", distiller="dm", ipc=10)
artifact.to_dataset()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from latentdd_plugin.artifacts.artifact import Artifact
from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.core import plugins
from latentdd_plugin.core.compute import resolve_numerics
from latentdd_plugin.core.config import EvaluationConfig, FlatOptions, RunConfig
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import JOINT_OPTIONS, ImageData, Json, Shape
from latentdd_plugin.data.in_memory import image_data
from latentdd_plugin.distillers.base import Distiller
from latentdd_plugin.evaluators.base import Evaluator
from latentdd_plugin.experiments.build import (
    build_distiller,
    build_evaluator,
    codec_faults,
    resolve_run,
    weight_faults,
)
from latentdd_plugin.experiments.evaluate import evaluate_artifact
from latentdd_plugin.experiments.stage_records import Job, Loaded
from latentdd_plugin.experiments.stages import distil, encode, to_artifact
from latentdd_plugin.latent.sized_codec import SizedCodec, build_codec
from latentdd_plugin.results.evaluation import Evaluation

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from latentdd_plugin.experiments.compare import Comparison


@overload
def create_codec(name: str, *, image_shape: None = None, **options: Json) -> Codec: ...


@overload
def create_codec(name: str, *, image_shape: Shape, **options: Json) -> SizedCodec: ...


def create_codec(name: str, *, image_shape: Shape | None = None, **options: Json) -> Codec | SizedCodec:
    """Return a codec by name, for example `create_codec("dct", size=8, image_shape=(3, 32, 32))`.

    Args:
        name: an entry's name, `package.module:Class` or `./file.py:Class`.
        image_shape: (C, H, W) of the images. Given, the codec is made to fit them (grey images, padding, `upsample`);
            None returns the codec as its class defines it.
        **options: its constructor's arguments, and with `image_shape` those that every codec takes, such as `upsample`.

    Raises:
        PluginError: no such codec. UsageError: with every fault of its options.
    """
    spec = {"name": name, **options}
    faults = codec_faults(spec) or weight_faults(spec)
    if faults:
        raise UsageError(faults)
    if image_shape is not None:
        return build_codec(spec, image_shape)
    for option in {"upsample", *JOINT_OPTIONS} & options.keys():
        raise UsageError(f"{option}: give image_shape=(C, H, W) too")
    preset = plugins.resolve("codecs", name, base=Codec)
    codec: Codec = preset.cls(**{**preset.config, **options})
    return codec.eval()


def create_distiller(name: str, **options: Json) -> Distiller:
    """Return a distiller by name, for example `create_distiller("dm", iterations=10)`.

    Args:
        name: an entry's name, `package.module:Class` or `./file.py:Class`.
        **options: its constructor's arguments, and `preset` (`quick` unless `paper` is named).

    Raises:
        PluginError: no such distiller. UsageError: with every fault of its options.
    """
    return build_distiller({"name": name, **options})


def create_evaluator(name: str, **options: Json) -> Evaluator:
    """Return an evaluator by name, for example `create_evaluator("resnet18")`; any timm architecture is one.

    Raises:
        PluginError: it cannot be loaded. UsageError: no such evaluator, or an option it does not have.
    """
    return build_evaluator(name, **options)


def distill(
    images: Any,
    labels: Any,
    codec: str | Mapping[str, Json] = "dct",
    distiller: str | Mapping[str, Json] = "dm",
    *,
    classes: Sequence[str] | None = None,
    flip: bool = True,
    match: str = "code",
    seed: int = 0,
    name: str = "arrays",
    progress: bool = False,
    **options: Unpack[FlatOptions],
) -> Artifact:
    """Distil images in memory; nothing is read from or written to a folder of the caller's.

    Args:
        images: uint8, or float in [0, 1], of shape (N, H, W, C), (N, C, H, W) or (N, H, W); NumPy or torch.
        labels: class numbers 0, 1, … or class names, one per image.
        codec: a name, or a mapping with `name` and options.
        distiller: a name, or a mapping with `name`, `preset` and options.
        classes: class names by number.
        flip: False if a mirrored image does not keep its label.
        match: the space the matching networks look at, `code` or `pixel`.
        seed: the only source of randomness: equal arguments give equal artifacts on one platform.
        name: of the dataset, in the artifact.
        progress: show a bar on stderr.
        **options: `ipc` (1) or `lpc`, `precision` (fp32, or tokens), `device`, `amp`, `compile`, `threads`.

    Returns:
        The artifact; `decode()` gives its images, `to_dataset()` a Hugging Face dataset, `save_artifact` a file.

    Raises:
        UsageError: with every fault of the arguments. RunFailed: the distillation failed.
    """
    config = RunConfig(name, codec, distiller, match=match, seed=seed, controls=False, **options)
    data, job = _checked(config, images, labels, classes=classes, flip=flip, progress=progress)
    distilled = distil(job, encode(job, Loaded(data, resolve_numerics(config.compute))))
    return to_artifact(job, distilled)


def _checked(
    config: RunConfig, images: Any, labels: Any, *, classes: Sequence[str] | None, flip: bool, progress: bool
) -> tuple[ImageData, Job]:
    """Return the dataset and the job, or raise UsageError with the faults of images, labels and configuration."""
    faults, data, resolved = list[str](), None, None
    try:
        data = image_data(images, labels, classes=classes, flip=flip, name=config.dataset.name)
    except UsageError as error:
        faults += error.faults
    try:
        resolved = resolve_run(config)
        faults += weight_faults(config.codec)
    except UsageError as error:
        faults += error.faults
    if faults or data is None or resolved is None:
        raise UsageError(faults)
    return data, Job(*resolved, progress=progress)


def evaluate(
    source: Path | str,
    config: EvaluationConfig | None = None,
    *,
    codec: str | Mapping[str, Json] | None = None,
    allow_plugins: Sequence[str] = (),
    allow_other_data: bool = False,
    out: Path | str | None = None,
    progress: bool = False,
    command: str | None = None,
    **options: Any,
) -> Evaluation:
    """Score an artifact, for example `evaluate("runs/x", evaluators="resnet18", dataset="my/folder")`.

    Args:
        source: an artifact's file, or the folder of the run that made it.
        config: how to score; None makes one of `options`.
        codec: a name or options to decode with; None takes what the artifact names.
        allow_plugins: distributions, beside this package, whose entries the artifact may name.
        allow_other_data: score it on a dataset whose training images are not those it was made from.
        out: the folder; None makes `evaluations/<protocol>-<hash>` beside the artifact.
        progress: show progress bars on stderr.
        command: what to record as the command; None takes this process's.
        **options: fields of EvaluationConfig, instead of `config`.
    """
    if config is not None and options:
        raise TypeError(f"evaluate() takes config or {', '.join(options)}, not both")
    return evaluate_artifact(
        source,
        config or EvaluationConfig(**options),
        codec={"name": codec} if isinstance(codec, str) else codec,
        allow_plugins=allow_plugins,
        allow_other_data=allow_other_data,
        out=out,
        progress=progress,
        command=command,
    )


def compare(
    codecs: Sequence[str | Mapping[str, Json]],
    distillers: Sequence[str | Mapping[str, Json]] = ("dm",),
    *,
    precisions: Sequence[str] = (),
    matches: Sequence[str] = ("code",),
    ledgers: Sequence[str] = ("bytes",),
    out: Path | str | None = None,
    in_process: bool = True,
    progress: bool = False,
    **options: Any,
) -> Comparison:
    """Compare codecs and distillers at one budget, for example `compare(["dct", "pca"], ["dm", "dc"], ipc=1)`.

    Args:
        codecs: names, or mappings with `name` and options.
        distillers: the same of distillers.
        precisions: how codes are stored; none takes each codec's own default.
        matches: spaces that the matching networks look at, `code` or `pixel`.
        ledgers: what is equal for all, `bytes` or the `count` of codes.
        out: the folder; None makes one under `runs`.
        in_process: False runs each cell in a process of its own, which measures its peak memory.
        progress: show progress bars on stderr.
        **options: of RunConfig, for all runs: `dataset`, `ipc`, `evaluators`, `protocol`, `seed`, `device`, …
    """
    from latentdd_plugin.core.config import PartSpec
    from latentdd_plugin.experiments.compare import Grid
    from latentdd_plugin.experiments.compare import compare as run_grid

    grid = Grid(
        RunConfig(**options),
        codecs=tuple(PartSpec.of(part) for part in codecs),
        algos=tuple(PartSpec.of(part) for part in distillers),
        precisions=tuple(precisions),
        matches=tuple(matches),
        ledgers=tuple(ledgers),
    )
    return run_grid(grid, out=out, in_process=in_process, progress=progress)
