"""Distilled sets by name: list, show, get, and publish.

  dd-bench zoo list                                       # the checkout's registry; --source FOLDER for another
  dd-bench zoo show cifar10/dct-dm-int8-ipc1              # class order, value space, bytes, accuracy, verification
  dd-bench zoo get cifar10/dct-dm-int8-ipc1 --out set.safetensors
  dd-bench zoo get https://example.org/set.safetensors --sha256 HASH --out set.safetensors
  dd-bench zoo get hub:user/set --revision v1 --out set.safetensors
  dd-bench zoo get hub:user/my-vae --codec --out my-vae   # a trained codec, for codec.path=my-vae
  dd-bench zoo get hub:user/my-teacher --teacher --out my-teacher   # a teacher, for teacher.path=my-teacher
  dd-bench zoo list --hub --author user                   # what the hub has
  dd-bench zoo push runs/… user/set --licence cc-by-4.0   # a run, an artifact, a trained codec or a teacher

The installed package carries no sets: they come from a registry's folder, an address, or the hub.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from latentdd_plugin.core.errors import UsageError

ACTIONS = ("list", "show", "get", "push")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the action, its names and its flags."""
    parser.add_argument("action", choices=ACTIONS, help="what to do")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a set; for push a folder or file, and user/name")
    parser.add_argument("--source", metavar="DIR", help="a registry, or a folder of artifacts")
    parser.add_argument("--out", metavar="PATH", help="file to write, or folder of a codec or teacher")
    parser.add_argument("--sha256", metavar="HASH", help="hash that the file must have; needed with an address")
    parser.add_argument("--revision", metavar="REV", help="branch, tag or commit of a repository")
    held = parser.add_mutually_exclusive_group()
    held.add_argument("--codec", action="store_true", help="the repository holds a trained codec")
    held.add_argument("--teacher", action="store_true", help="the repository holds a teacher")
    parser.add_argument("--hub", action="store_true", help="list what the hub has")
    parser.add_argument("--author", metavar="USER", help="list what this user published")
    parser.add_argument("--licence", "--license", metavar="ID", help="terms of what is pushed, such as cc-by-4.0")


def execute(args: argparse.Namespace) -> int:
    """Do it and print the outcome."""
    wanted = {"list": 0, "show": 1, "get": 1, "push": 2}[args.action]
    if len(args.names) != wanted:
        raise UsageError(f"zoo {args.action} takes {wanted} name{'' if wanted == 1 else 's'}; dd-bench zoo --help")
    lines = {"list": _list, "show": _show, "get": _get, "push": _push}[args.action](args)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _list(args: argparse.Namespace) -> list[str]:
    from latentdd_plugin.core.hub_files import listed
    from latentdd_plugin.leaderboard.zoo import ELSEWHERE, list_distilled
    from latentdd_plugin.results.formatting import text_table

    if args.hub or args.author:
        found = listed(args.author)
        return [f"{kind}  hub:{repo}" for kind, repo in found] or ["the hub has nothing with the tag dd-bench"]
    sets = list_distilled(args.source)
    if not sets:
        sys.stderr.write(f"dd-bench: no sets here; they come from {ELSEWHERE}\n")
        return []
    rows = [
        [
            one.name,
            str(one.images),
            f"{one.file_bytes or 0:,}",
            str(one.scores[0]) if one.scores else "-",
            one.verification or "-",
        ]
        for one in sets
    ]
    return text_table([["name", "images", "bytes", "accuracy", "verification"], *rows], align="<>>")


def _show(args: argparse.Namespace) -> list[str]:
    from latentdd_plugin.artifacts.hub import pull_set
    from latentdd_plugin.leaderboard import zoo
    from latentdd_plugin.results.formatting import text_table

    (name,) = args.names
    if name.startswith(zoo.HUB):
        about = pull_set(name.removeprefix(zoo.HUB), args.revision)[1]
    elif Path(name).exists():
        about = zoo.describe_run(name)
    else:
        about = zoo.find(name, args.source).about
    return [about.name, *text_table([["", ""], *map(list, about.facts())])[1:]]


def _get(args: argparse.Namespace) -> list[str]:
    from latentdd_plugin.artifacts.file import save_artifact
    from latentdd_plugin.artifacts.hub import pull_folder
    from latentdd_plugin.leaderboard import zoo

    (name,) = args.names
    if args.out is None:
        raise UsageError("zoo get needs --out PATH")
    out = Path(args.out)
    if args.codec or args.teacher:
        kind = "teacher" if args.teacher else "codec"
        found = pull_folder(name.removeprefix(zoo.HUB), kind, out, args.revision)
        return [f"{name} at {found.commit[:12]}", str(out)]
    if out.exists():
        raise UsageError(f"{out} is there already; choose another --out")
    artifact = zoo.load_distilled(name, source=args.source, sha256=args.sha256, revision=args.revision)
    sha256 = save_artifact(artifact, out)
    return [f"{len(artifact.labels)} images of {len(artifact.classes)} classes, sha256 {sha256}", str(out)]


def _push(args: argparse.Namespace) -> list[str]:
    from latentdd_plugin.artifacts.decode import located
    from latentdd_plugin.artifacts.file import load_artifact
    from latentdd_plugin.artifacts.hub import push_codec, push_teacher
    from latentdd_plugin.leaderboard import zoo
    from latentdd_plugin.nn.teacher import CARD

    place, repo = Path(args.names[0]), args.names[1]
    if (place / CARD).is_file():
        return [f"{repo} at {push_teacher(place, repo, licence=args.licence)}"]
    if (place / "config.json").is_file():
        return [f"{repo} at {push_codec(place, repo, licence=args.licence)}"]
    about = zoo.describe_run(place, repo)
    commit = load_artifact(located(place)[0]).push_to_hub(repo, about, licence=args.licence)
    return [f"{repo} at {commit}", f'Artifact.from_pretrained("{repo}", revision="{commit}")']
