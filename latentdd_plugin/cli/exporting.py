"""Write an artifact, decoded, as the files of another project.

  dd-bench export ddranking runs/cifar10-dct-dm-0123abcd --out for_ddranking
  dd-bench export mtt distilled.safetensors --values mtt-cifar10 --out for_mtt
  dd-bench export imagefolder distilled.safetensors --out pictures codec.path=my/taesd

Keys that can be set as key=value: codec.* to decode with, dataset.* for ZCA.
"""

from __future__ import annotations

import argparse
import sys

from latentdd_plugin.artifacts import formats


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `dd-bench export`."""
    parser.epilog = formats.list_formats()
    parser.add_argument("format", help="one of the formats below")
    parser.add_argument("artifact", help="a .safetensors file, or the folder of the run that made it")
    flags = {
        "values": "value space to write, as mtt-cifar10; needed if format and dataset do not decide it",
        "codec": "name, package.module:Class or ./file.py:Class to decode with (default: what the artifact names)",
        "dataset": "the dataset it was distilled from, for --values zca: name, folder or Hugging Face id",
    }
    for flag, text in flags.items():
        parser.add_argument(f"--{flag}", metavar="X", help=text)
    parser.add_argument("--out", metavar="DIR", required=True, help="new folder for the files")
    parser.add_argument(
        "--allow-plugin", metavar="DIST", action="append", default=[], help="a distribution whose entries it may name"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="codec.* or dataset.*, as for a run")


def execute(args: argparse.Namespace) -> int:
    """Export and print what was written."""
    from latentdd_plugin.artifacts.exchange import export_set
    from latentdd_plugin.cli.importing import dataset_and_codec

    dataset, codec = dataset_and_codec(args)
    space = export_set(
        args.format,
        args.artifact,
        args.out,
        space=args.values,
        dataset=dataset,
        codec=codec,
        allow_plugins=args.allow_plugin,
    )
    eight = ", clamped to [0, 1] and rounded to 8 bits" if args.format == "imagefolder" else ""
    sys.stdout.write(f"{args.format}, values {space}{eight}\n{args.out}\n")
    return 0
