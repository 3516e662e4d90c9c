"""Distilled sets, trained codecs and teachers on the Hugging Face hub: pushed with a card, pulled at a revision."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from latentdd_plugin.artifacts.artifact import Artifact
from latentdd_plugin.artifacts.description import SetDescription, dataset_card
from latentdd_plugin.artifacts.file import ARTIFACT, load_artifact, save_artifact
from latentdd_plugin.core.errors import ArtifactError, UsageError
from latentdd_plugin.core.hub_files import TAG, Pulled, pull, push
from latentdd_plugin.core.storage import atomic_folder
from latentdd_plugin.core.types import Json
from latentdd_plugin.nn.teacher import CARD, WEIGHTS, TeacherCard, load_teacher

KNOWN = ("trained_on", "psnr")  # what is published of training.json; the rest may name places of a machine


def push_set(artifact: Artifact, repo: str, about: SetDescription | None = None, *, licence: str | None = None) -> str:
    """Publish a set with a card and return the commit's id.

    Args:
        artifact: the set.
        repo: `user/name`, created if need be.
        about: what the card says; None describes the artifact alone.
        licence: terms of the set, as the hub names them: `cc-by-4.0`.

    Raises:
        UsageError: the hub is out of reach, or refuses.
    """
    with tempfile.TemporaryDirectory() as holding:
        path = Path(holding) / ARTIFACT
        sha256 = save_artifact(artifact, path)
        known = about or artifact.describe(repo)
        full = replace(
            known, sha256=sha256, file_bytes=path.stat().st_size, licence=licence or known.licence, key_order=None
        )
        return push(repo, "set", {ARTIFACT: path}, dataset_card(full, repo), full.to_json())


def pull_set(repo: str, revision: str | None = None) -> tuple[Artifact, SetDescription]:
    """Return a published set and its description.

    Args:
        repo: `user/name`.
        revision: a branch, tag or commit; None is the newest.

    Raises:
        UsageError: the hub is out of reach, or has no such set.
        ArtifactError: the set is damaged, or its card speaks of another.
    """
    found = pull(repo, "set", revision)
    if ARTIFACT not in found.files:
        raise ArtifactError(f"{repo}: there is no {ARTIFACT}")
    artifact, about = load_artifact(found.files[ARTIFACT]), SetDescription.from_json(dict(found.manifest.about))
    ours = artifact.describe(about.name)
    names = ("dataset", "image_shape", "classes", "value_space", "labels", "codec", "precision", "images")
    wrong = [name for name in names if getattr(ours, name) != getattr(about, name)]
    if wrong:
        raise ArtifactError(f"{repo}: its description does not fit the set ({', '.join(wrong)})")
    return artifact, about


def push_codec(folder: Path | str, repo: str, *, licence: str | None = None) -> str:
    """Publish the folder of a trained codec and return the commit's id.

    Args:
        folder: what `dd-bench codec train` wrote.
        repo: `user/name`, created if need be.
        licence: terms of the weights; those of the pictures that they learned from count too.

    Raises:
        UsageError: it is not such a folder, or the hub is out of reach.
    """
    folder = Path(folder)
    weights = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file() or not weights:
        raise UsageError(
            f"{folder}: config.json and weights in safetensors are needed; dd-bench codec train makes them"
        )
    training = _training(folder)
    files: dict[str, Path | bytes] = {path.name: path for path in (folder / "config.json", *weights)}
    if training:
        files["training.json"] = json.dumps(training, indent=2).encode()
    about: dict[str, Json] = {"licence": licence, **training}
    return push(repo, "codec", files, _codec_card(repo, about), about)


def push_teacher(folder: Path | str, repo: str, *, licence: str | None = None) -> str:
    """Publish a stored teacher and return the commit's id.

    Args:
        folder: what `dd-bench teacher train` or `convert` wrote.
        repo: `user/name`, created if need be.
        licence: terms of the weights; those of the pictures that they learned from count too.

    Raises:
        UsageError: it is not such a folder, or the hub is out of reach.
    """
    card = load_teacher(folder).card
    files = {name: Path(folder) / name for name in (CARD, WEIGHTS)}
    about: dict[str, Json] = {"licence": licence, **card.to_json()}
    return push(repo, "teacher", files, _teacher_card(repo, card, licence), about)


def pull_folder(repo: str, kind: str, out: Path | str, revision: str | None = None) -> Pulled:
    """Write a published codec or teacher into a new folder, which `codec.path` or `teacher.path` loads.

    Args:
        repo: `user/name`.
        kind: `codec` or `teacher`.
        out: the folder, which must not exist.
        revision: a branch, tag or commit; None is the newest.

    Raises:
        UsageError: the folder is there already, the hub has no such repository, or the teacher does not load.
        ArtifactError: it holds something else, or a file is damaged.
    """
    out = Path(out)
    if out.exists():
        raise UsageError(f"{out} is there already; choose another --out")
    found = pull(repo, kind, revision)
    with atomic_folder(out) as made:
        for name, path in found.files.items():
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, made / name)
        if kind == "teacher":
            load_teacher(made)
    return found


def _training(folder: Path) -> dict[str, Json]:
    """Return what is published of a codec's training: the datasets that it has seen, and its PSNR on them."""
    try:
        stated = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        return {key: stated[key] for key in KNOWN if key in stated}
    except (OSError, ValueError, TypeError):
        return {}


def _teacher_card(repo: str, card: TeacherCard, licence: str | None) -> str:
    head = {"license": licence or "other", "library_name": "timm", "tags": [TAG, "teacher", "image-classification"]}
    size = " x ".join(map(str, card.input_shape))
    return f"""---
{_front_matter(head)}---

# {repo}

A teacher: {card.networks} x `{card.arch}` for inputs of {size}, recipe {card.recipe or "not stated"}.
Trained on: {", ".join(card.trained_on) or "not stated"}. The terms of those pictures apply to its weights too.

Its classes, in the order of its logits: {", ".join(card.classes)}.

    dd-bench zoo get hub:{repo} --teacher --out my-teacher
    dd-bench run --dataset my/data --algo dm --labels soft teacher.path=my-teacher
"""


def _front_matter(head: Mapping[str, Json]) -> str:
    import yaml

    return str(yaml.safe_dump(head, sort_keys=True, allow_unicode=True))


def _codec_card(repo: str, about: Mapping[str, Json]) -> str:
    head = {"license": about["licence"] or "other", "library_name": "diffusers", "tags": [TAG, "autoencoder"]}
    seen = ", ".join(about.get("trained_on", ())) or "not stated"
    return f"""---
{_front_matter(head)}---

# {repo}

An image autoencoder trained by `dd-bench codec train`. Trained on: {seen}. The terms of those
pictures apply to its weights too.

    dd-bench run --codec diffusers codec.repo={repo} --algo dm
"""
