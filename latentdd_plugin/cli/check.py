"""Test a plug-in against its contracts, and measure a codec's or a distiller's card: JSON and a page.

  dd-bench check codec dct --dataset digits
  dd-bench check codec ./my_codec.py:MyCodec codec.size=4 --contracts-only
  dd-bench check codec taesd codec.path=FOLDER --dataset FOLDER dataset.image_size=64
  dd-bench check algo dm algo.iterations=50
  dd-bench check evaluator ./my_knn.py:KNN

A codec is measured on a part held out of the dataset's training split (20%, or dataset.validation), a distiller on the
digits. No test image is read. Exit code 1 means that a contract is broken; then no card is written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from latentdd_plugin.cli.names import kind_of
from latentdd_plugin.core.errors import UsageError

if TYPE_CHECKING:
    from latentdd_plugin.core.config import RunConfig
    from latentdd_plugin.testing.contracts import Contract, Finding, Subject

COMMON = ("evaluator", "protocol", "seed", "device", "amp", "compile", "threads")
KEYS = {"evaluator": ("evaluator",), "codec": COMMON, "algo": ("ipc", "lpc", "precision", "match", *COMMON)}
OPEN = {"codec": ("codec", "dataset"), "algo": ("algo", "codec"), "evaluator": ()}
MARKS = {"passed": "ok", "broken": "BROKEN", "skipped": "skipped"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `dd-bench check`."""
    parser.add_argument("kind", type=kind_of, choices=tuple(OPEN), help="kind of plug-in")
    parser.add_argument("name", metavar="NAME", help="an entry, package.module:Class or ./file.py:Class")
    flags = {
        "dataset": "dataset of a codec's card: name, folder or Hugging Face id (default digits)",
        "evaluator": "evaluators or timm architectures, with commas (default convnet; for digits convnext_atto too)",
        "protocol": "evaluation recipe (default fast.v1; small.v1 for digits)",
        "seed": "whole number (default 0)",
        "device": "auto, cpu, cuda or cuda:N",
        "out": "folder of the cards (default: the registry for this package's codecs, ./cards for everything else)",
    }
    for flag, text in flags.items():
        parser.add_argument(f"--{flag}", metavar="X", help=text)
    parser.add_argument("--contracts-only", action="store_true", help="leave out the card")
    parser.add_argument("--quiet", action="store_true", help="no progress, no log lines")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="a key of the configuration")


def execute(args: argparse.Namespace) -> int:
    """Print the contracts' findings and return 1 if one is broken; else measure the card."""
    from latentdd_plugin.cli.logs import note, start_logging
    from latentdd_plugin.cli.request import shadow_note
    from latentdd_plugin.testing import run_contracts

    start_logging(quiet=args.quiet)
    config = parse_request(args)
    note(shadow_note(config.dataset.name), quiet=args.quiet)
    findings = run_contracts(*subject_of(args.kind, config))
    broken = any(finding.status == "broken" for finding in findings)
    sys.stdout.write(f"{args.kind} {args.name}\n{format_findings(findings)}")
    if broken:
        no_card = args.contracts_only or args.kind == "evaluator"
        sys.stdout.write("" if no_card else "no card before they hold\n")
        return 1
    if not args.contracts_only and args.kind != "evaluator":
        sys.stdout.flush()
        for path in card(args, config, findings):
            sys.stdout.write(f"{path}\n")
    return 0


def parse_request(args: argparse.Namespace) -> RunConfig:
    """Return the configuration that flags and keys describe, or raise UsageError with every fault in them."""
    from latentdd_plugin.cli import overrides, request
    from latentdd_plugin.experiments.build import build_evaluators

    if args.kind != "codec" and args.dataset is not None:
        raise UsageError(f"--dataset: {args.kind} plug-ins are tried on the digits")
    flags = argparse.Namespace(**{**vars(args), args.kind: args.name})
    words, faults = overrides.checked(overrides.from_flags(flags, sweep=False), sweep=False)
    given = [overrides.key_of(word) for word in words]
    faults += [fault for key in given if (fault := _fault(args.kind, key))]
    config, _, more = request.typed(overrides.composed(words))
    faults += [*more, *request.dataset_faults(config.dataset.name), *build_evaluators(config.scoring).faults]
    if faults:
        raise UsageError(faults)
    return config


def _fault(kind: str, key: str) -> str | None:
    node, _, option = key.partition(".")
    if key in KEYS[kind] or (option and node in OPEN[kind]):
        return None
    known = [*KEYS[kind], *(f"{node}.*" for node in OPEN[kind])]
    return f"{key}: is not used here; the keys are: {', '.join(known)}"


def subject_of(kind: str, config: RunConfig) -> tuple[Subject, Sequence[Contract]]:
    """Return the plug-in under test with its options, and its contracts."""
    from latentdd_plugin import testing

    if kind == "evaluator":
        return testing.EvaluatorSubject(config.evaluators[0]), testing.EVALUATOR_CONTRACTS
    node = dict(config.codec if kind == "codec" else config.algo)
    name = str(node.pop("name"))
    if kind == "codec":
        return testing.CodecSubject(name, **node), testing.CODEC_CONTRACTS
    return testing.DistillerSubject(name, **node), testing.DISTILLER_CONTRACTS


def format_findings(findings: Sequence[Finding]) -> str:
    """Return a line per contract, and the number of broken ones."""
    width = max(len(finding.contract) for finding in findings)
    lines = [f"  {MARKS[f.status]:8}{f.contract:{width}}  {f.message}".rstrip() for f in findings]
    broken = [finding for finding in findings if finding.status == "broken"]
    end = f"{len(broken)} of {len(findings)} contracts broken" if broken else f"{len(findings)} contracts, none broken"
    return "\n".join([*lines, end]) + "\n"


def card(args: argparse.Namespace, config: RunConfig, findings: Sequence[Finding]) -> Sequence[Path]:
    """Measure and write the card; return the paths of its files."""
    from latentdd_plugin.core import plugins
    from latentdd_plugin.leaderboard import registry
    from latentdd_plugin.results.card_page import codec_place, plain, save
    from latentdd_plugin.testing.cards.algo import algo_card
    from latentdd_plugin.testing.cards.codec import codec_card

    ours = getattr(plugins.entries(f"{args.kind}s").get(args.name), "distribution", None) == plugins.OURS
    kept = registry.default()
    here = kept if ours and args.kind == "codec" and kept.is_dir() else Path("cards")
    out = Path(args.out) if args.out else here
    show = {"progress": not args.quiet and sys.stderr.isatty(), "command": args.command_line}
    if args.kind == "algo":
        return save(out / "algos" / plain(args.name), algo_card(config, findings, **show))
    found, pictures = codec_card(config, findings, **show)
    place = out / codec_place(config, found.dataset.name)
    return save(place, found, pictures, page=out.resolve() != kept.resolve())  # the leaderboard renders the registry's
