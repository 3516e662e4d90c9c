"""Read a distilled set of another project as an ordinary artifact that `evaluate` and `export` take.

  dd-bench import mtt logged_files/CIFAR10/run --values mtt-cifar10 --dataset my/cifar10 --out imported
  dd-bench import dc res_DM_CIFAR10_ConvNet_10ipc.pt --values dc-cifar10 --dataset my/cifar10 --out imported
  dd-bench import idc results/cifar10/conv3in_…_factor2_…_ipc1 --dataset my/cifar10 --out imported
  dd-bench import imagefolder syn_data --dataset my/imagenette dataset.image_size=128 --out imported

Nothing in another project's file is executed, and its value space is never guessed. Label n is class "n" if the
dataset's class names are whole numbers, else its n-th class. If the source may use another order, --classes must
say it: names, `dataset` (the dataset's order) or `sorted` (its names sorted as text, as torchvision does).
Keys that can be set as key=value: dataset.*
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from latentdd_plugin.artifacts import formats

if TYPE_CHECKING:
    from latentdd_plugin.core.config import DatasetConfig


MOST_SHOWN = 20  # classes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `dd-bench import`."""
    parser.epilog = formats.list_formats()
    parser.add_argument("format", help="one of the formats below")
    parser.add_argument("path", help="file or folder of that format")
    flags = {
        "values": "value space of the source, as mtt-cifar10; none for plain pixels; MEAN/STD for your own numbers",
        "dataset": "the dataset it was distilled from: name, folder or Hugging Face id",
        "classes": "class names of the source's labels 0, 1, …, with commas; or `dataset` or `sorted`: see below",
    }
    for flag, text in flags.items():
        parser.add_argument(f"--{flag}", metavar="X", help=text)
    parser.add_argument("--images-per-class", metavar="N", type=int, help="images per class that it must have")
    parser.add_argument("--experiment", metavar="N", type=int, help="which of several sets in one file, from 0")
    parser.add_argument("--factor", metavar="N", type=int, help="IDC's multi-formation factor")
    parser.add_argument("--out", metavar="DIR", required=True, help="new folder for distilled.safetensors")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="dataset.*, as for a run")


def execute(args: argparse.Namespace) -> int:
    """Import and print what was read."""
    from latentdd_plugin.artifacts.exchange import import_set
    from latentdd_plugin.artifacts.formats.base import ImportOptions
    from latentdd_plugin.artifacts.header import Origin
    from latentdd_plugin.cli.overrides import split_commas

    classes = tuple(split_commas(args.classes)) if args.classes else None
    options = ImportOptions(args.values, classes, args.images_per_class, experiment=args.experiment, factor=args.factor)
    dataset = dataset_and_codec(args)[0]
    made = import_set(args.format, args.path, args.out, options, dataset=dataset)
    header, origin = made.header, made.header.origin or Origin()
    (count, *code), image = made.packed.shape, "x".join(map(str, header.image_shape))
    small = "" if tuple(code) == header.image_shape else f" from codes {'x'.join(map(str, code))}"
    sys.stdout.write(
        f"{count} images of {len(made.classes)} classes, {image}{small}, {header.label_kind} labels, values "
        f"{origin.values}, dataset {header.dataset.name}, selection {origin.selection}\n"
        f"class order: {origin.class_order}; {format_labels(origin.labels or {})}\n"
        f"{args.out}/distilled.safetensors\n"
    )
    return 0


def format_labels(labels: Mapping[str, str]) -> str:
    """Return the class of each label of the source, at most 20, with ImageNet's descriptions of synsets."""
    from latentdd_plugin.data.classes import imagenet_descriptions

    described = imagenet_descriptions(labels.values())
    shown = [
        f"{number} = {name}" + (f" ({described[name]})" if name in described else "") for number, name in labels.items()
    ]
    return ", ".join(shown[:MOST_SHOWN]) + (f", … ({len(shown)} in all)" if len(shown) > MOST_SHOWN else "")


def dataset_and_codec(args: argparse.Namespace) -> tuple[DatasetConfig | None, dict[str, Any]]:
    """Return the named dataset, None if none was named, and the options of the codec; UsageError with all faults."""
    from latentdd_plugin.cli import overrides, request
    from latentdd_plugin.cli.logs import note
    from latentdd_plugin.core.errors import UsageError

    nodes = ("dataset", "codec") if hasattr(args, "codec") else ("dataset",)
    words, faults = overrides.checked(overrides.from_flags(args, sweep=False), sweep=False)
    given = [overrides.key_of(word) for word in words]
    allowed = ", ".join(f"{node}.*" for node in nodes)
    faults += [f"{key}: is not used here; the keys are: {allowed}" for key in given if key.split(".")[0] not in nodes]
    if any(key.startswith("dataset.") for key in given) and "dataset.name" not in given:
        faults.append("dataset.*: name the dataset too, with --dataset")
    config, _, more = request.typed(overrides.composed(words))
    if faults or more:
        raise UsageError([*faults, *more])
    named = {key.split(".")[1] for key in given if key.startswith("codec.")}
    codec = {key: value for key, value in config.codec.items() if key in named}
    if "dataset.name" not in given:
        return None, codec
    note(request.shadow_note(config.dataset.name), quiet=False)
    return config.dataset, codec
