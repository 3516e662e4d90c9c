"""Score an artifact, distilled here or imported, under any protocol and architectures, and leave `evaluation.json`.

  dd-bench evaluate runs/digits-dct-dm-0123abcd --evaluator convnet,resnet18
  dd-bench evaluate distilled.safetensors --dataset my/folder dataset.image_size=64 codec.path=my/taesd
  dd-bench evaluate runs/digits-dct-dm-0123abcd --protocol dc-bench.v1 --reference full
  dd-bench evaluate runs/digits-dct-dm-0123abcd --labels hard,soft,teacher --teacher convnet

Options of the dataset that are left out come from the run that the artifact lies in. Keys that can be set as key=value:
dataset.*, codec.*, labels.*, teacher.*, split, device, amp, compile, threads.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from latentdd_plugin.core.errors import UsageError

KEYS = ("evaluator", "protocol", "split", "seed", "device", "amp", "compile", "threads")
OPEN = ("dataset", "codec", "labels", "teacher")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `dd-bench evaluate`."""
    parser.add_argument("artifact", help="a .safetensors file, or the folder of the run that made it")
    flags = {
        "protocol": "evaluation recipe (default fast.v1; small.v1 for digits)",
        "evaluator": "evaluators or timm architectures, with commas (default convnet; for digits convnext_atto too)",
        "dataset": "name, folder or Hugging Face id (default: what the artifact names, if it is installed)",
        "codec": "name, package.module:Class or ./file.py:Class to decode with (default: what the artifact names)",
        "labels": "own, hard, soft or teacher, several with commas: the labels to train with (default own)",
        "teacher": "classifier for soft and teacher: convnet or a timm architecture; teacher.path=FOLDER loads one",
        "seed": "whole number (default 0)",
        "device": "auto, cpu, cuda or cuda:N",
        "reference": "none, or full: train on the whole real training set too, and report the recovery",
        "metrics": "lrs, ars or both with commas: DD-Ranking's scores, as fractions",
        "out": "folder (default: evaluations/<protocol>-<hash> beside the artifact)",
    }
    for flag, text in flags.items():
        parser.add_argument(f"--{flag}", metavar="X", help=text)
    parser.add_argument("--allow-other-data", action="store_true", help="score on other images than it was made from")
    parser.add_argument(
        "--allow-plugin", metavar="DIST", action="append", default=[], help="a distribution whose entries it may name"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress, no log lines; the table at the end only")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="a key of the configuration")


def execute(args: argparse.Namespace) -> int:
    """Evaluate and print the table."""
    from latentdd_plugin.cli.logs import note, start_logging
    from latentdd_plugin.cli.overrides import split_commas
    from latentdd_plugin.cli.request import shadow_note
    from latentdd_plugin.core.config import EvaluationConfig
    from latentdd_plugin.experiments.evaluate import evaluate_artifact

    start_logging(quiet=args.quiet)
    regimes = split_commas(args.labels) if args.labels else [None]
    if len(regimes) > 1 and args.out is not None:
        raise UsageError("--out: an evaluation under several label regimes chooses a folder for each")
    metrics = tuple(split_commas(args.metrics or ""))
    for args.labels in regimes:
        values, dataset, codec = parse_request(args)
        note(shadow_note(str(dataset.get("name", ""))), quiet=args.quiet)
        try:
            evaluation = evaluate_artifact(
                args.artifact,
                EvaluationConfig(dataset=dataset, reference=args.reference or "none", metrics=metrics, **values),
                codec=codec,
                allow_plugins=args.allow_plugin,
                allow_other_data=args.allow_other_data,
                out=args.out,
                progress=not args.quiet and sys.stderr.isatty(),
                command=args.command_line,
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted; finished scores are kept, the same command continues") from None
        sys.stdout.write(f"{evaluation.table()}\n{evaluation.folder / evaluation.file}\n")
    return 0


def parse_request(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the values, dataset options and codec options that were given, and no defaults."""
    from latentdd_plugin.cli import overrides, request

    words, faults = overrides.checked(overrides.from_flags(args, sweep=False), sweep=False)
    given = [overrides.key_of(word) for word in words]
    faults += [fault for key in given if (fault := _fault(key))]
    config, _, more = request.typed(overrides.composed(words))
    if faults or more:
        raise UsageError([*faults, *more])
    values = {key: getattr(config, key) for key in KEYS if key in given and key != "evaluator"}
    if "evaluator" in given:
        values["evaluators"] = config.evaluators
    values |= {
        node: getattr(config, node) for node in ("labels", "teacher") if any(k.startswith(f"{node}.") for k in given)
    }
    options = {key.partition(".")[2] for key in given if key.startswith("dataset.")}
    named = {key.split(".")[1] for key in given if key.startswith("codec.")}
    codec = {key: value for key, value in config.codec.items() if key in named}
    return values, {key: getattr(config.dataset, key) for key in options}, codec


def _fault(key: str) -> str | None:
    if key in OPEN:
        return f"{key}: set its options one by one, {key}.name=…"
    if key in KEYS or key.split(".", maxsplit=1)[0] in OPEN:
        return None
    return f"{key}: is not used for an artifact; the keys are: {', '.join(KEYS)}, dataset.*, codec.*"
