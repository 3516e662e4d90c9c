"""Push folders to the Hugging Face hub and pull them at a revision, every file checked by its sha256.

A repository holds `dd-bench.json`, which lists the files with their hashes; what does not match is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

from latentdd_plugin.core.errors import ArtifactError, RunFailed, UsageError
from latentdd_plugin.core.hub import reachable
from latentdd_plugin.core.json_record import JsonRecord, json_field
from latentdd_plugin.core.json_schema import LINE, OBJECT, SHA256, MapOf, word
from latentdd_plugin.core.types import Json

SCHEMA = "dd-bench/hub.v1"
MANIFEST = "dd-bench.json"
TAG = "dd-bench"  # of every repository's card, so that a search finds it
KINDS = {"set": "dataset", "codec": "model", "teacher": "model"}  # what a repository holds -> the hub's type

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Manifest(JsonRecord):
    """The content of a repository: `dd-bench.json`."""

    schema: str = json_field(word(SCHEMA), "name of this schema", default=SCHEMA)
    kind: str = json_field(word(*KINDS), "`set`, `codec` or `teacher`")
    made_by: str = json_field(LINE, "package and version that wrote it")
    files: Mapping[str, str] = json_field(MapOf(SHA256), "sha256 of every file, by name")
    about: Mapping[str, Json] = json_field(
        OBJECT, "what its card says: of a set class order, value space, bytes, accuracies, …"
    )


@dataclass(frozen=True)
class Pulled:
    """Files of a repository at one commit, checked."""

    manifest: Manifest
    files: Mapping[str, Path]
    commit: str


def push(repo: str, kind: str, files: Mapping[str, Path | bytes], card: str, about: Mapping[str, Json]) -> str:
    """Create the repository if need be, commit the files in one step and return the commit's id.

    Args:
        repo: `user/name`.
        kind: one of `KINDS`.
        files: content by name.
        card: text of README.md.
        about: for the manifest.

    Raises:
        UsageError: the hub is out of reach, or refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, constants

    from latentdd_plugin.core.version import __version__

    contents = {name: one if isinstance(one, bytes) else one.read_bytes() for name, one in files.items()}
    manifest = Manifest(
        kind=kind,
        made_by=f"latentdd-plugin {__version__}",
        files={name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        about=about,
    )
    text = json.dumps(manifest.to_json(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    contents |= {MANIFEST: text.encode(), "README.md": card.encode()}
    _require_hub(f"{repo} cannot be pushed")
    api = HfApi(endpoint=constants.ENDPOINT)

    def commit() -> str:
        api.create_repo(repo, repo_type=KINDS[kind], exist_ok=True)
        added = [CommitOperationAdd(name, content) for name, content in sorted(contents.items())]
        made = api.create_commit(repo, added, commit_message=f"Add a {kind}", repo_type=KINDS[kind])
        return str(made.oid)

    return _translated(commit, repo, None)


def pull(repo: str, kind: str, revision: str | None = None) -> Pulled:
    """Return the files of a repository, from the hub's cache if it has them, each compared with its sha256.

    Args:
        repo: `user/name`.
        kind: what it must hold.
        revision: a branch, tag or commit; None is `main`.

    Raises:
        UsageError: the hub is out of reach, or has no such repository or revision.
        ArtifactError: it holds something else, or a file is damaged; the damaged file is taken out of the cache.
    """
    online = _reachable()
    place = _translated(lambda: _file(repo, kind, MANIFEST, revision, online), repo, revision, kind, online=online)
    commit = place.parent.name
    try:
        manifest = Manifest.from_json(json.loads(place.read_text(encoding="utf-8")))
    except (ValueError, ArtifactError) as error:
        raise ArtifactError(f"{repo}: {MANIFEST} is not readable ({error})") from None
    if manifest.kind != kind:
        raise ArtifactError(f"{repo} holds a {manifest.kind}, not a {kind}")
    found = {}
    for name, sha256 in manifest.files.items():
        if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
            raise ArtifactError(f"{repo}: {MANIFEST} names {name!r}, which leads out of the repository")
        download = partial(_file, repo, kind, name, commit, online)
        found[name] = _translated(download, repo, revision, kind, online=online)
        check_sha256(found[name], sha256, f"{repo}/{name}")
    return Pulled(manifest, found, commit)


def listed(author: str | None = None) -> list[tuple[str, str]]:
    """Return (kind, repository) of everything on the hub that carries the tag `dd-bench`; of one author if given.

    A model is a teacher if its card carries that tag too, otherwise a codec.
    """
    from huggingface_hub import HfApi, constants

    _require_hub("the hub's repositories cannot be listed")
    api = HfApi(endpoint=constants.ENDPOINT)
    sets = _translated(lambda: list(api.list_datasets(filter=TAG, author=author)), author or TAG, None)
    models = _translated(lambda: list(api.list_models(filter=TAG, author=author)), author or TAG, None)
    kinds = ["teacher" if "teacher" in (one.tags or ()) else "codec" for one in models]
    return [("set", one.id) for one in sets] + [(kind, one.id) for kind, one in zip(kinds, models, strict=True)]


def check_sha256(path: Path, sha256: str, name: str) -> None:
    """Raise ArtifactError and remove the file, with the blob behind it, if its content is not the one announced."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise ArtifactError(
            f"{name}: sha256 {found[:12]}…, but {sha256[:12]}… was announced: the file was changed or damaged on its "
            "way. It is not used; try again, or ask its publisher"
        )


def _file(repo: str, kind: str, name: str, revision: str | None, online: bool) -> Path:
    from huggingface_hub import constants, hf_hub_download

    return Path(
        hf_hub_download(
            repo,
            name,
            repo_type=KINDS[kind],
            revision=revision,
            endpoint=constants.ENDPOINT,
            cache_dir=constants.HF_HUB_CACHE,
            local_files_only=not online,
        )
    )


def _reachable() -> bool:
    from huggingface_hub import constants

    return reachable(constants.ENDPOINT)


def _require_hub(what: str) -> None:
    from huggingface_hub import constants

    if not _reachable():
        raise UsageError(f"{what}: {constants.ENDPOINT} does not answer. Check the network (and HF_HUB_OFFLINE)")


def _translated(ask: Callable[[], T], repo: str, revision: str | None, kind: str = "set", *, online: bool = True) -> T:
    """Return what the hub answers; its faults become messages that say what to do next."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"{constants.ENDPOINT}/{'datasets/' if KINDS[kind] == 'dataset' else ''}{repo}"
    try:
        return ask()
    except LocalEntryNotFoundError as error:
        if online:
            raise RunFailed(f"{repo} cannot be downloaded from {constants.ENDPOINT}; try again") from error
        raise UsageError(
            f"{repo} (revision {revision or 'main'}) is not on this machine and {constants.ENDPOINT} does not answer. "
            "Without a network, load a set from a folder or file instead"
        ) from None
    except GatedRepoError:
        raise UsageError(f"{repo} is gated: accept its terms on {where}, then `hf auth login`") from None
    except RepositoryNotFoundError:
        raise UsageError(f"there is no repository {where}, or it is private and needs `hf auth login`") from None
    except RevisionNotFoundError:
        raise UsageError(f"{where} has no revision {revision!r}") from None
    except EntryNotFoundError:
        raise ArtifactError(f"{where} was not written by this package: it has no {MANIFEST}, or lacks a file") from None
    except HFValidationError as error:
        raise UsageError(f"{repo!r} is not a repository's name, such as user/set ({error})") from None
    except Exception as error:  # of the hub's library, its HTTP client or the disk
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise RunFailed(f"{where}: {first}") from error
