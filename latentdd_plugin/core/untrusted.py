"""Text that others may have written: ordinary files of bounded size, no key twice, no YAML aliases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

LARGEST_TEXT = 64_000_000  # bytes of a file that is read as text


def read_text(path: Path, largest: int = LARGEST_TEXT) -> str:
    """Return the text of an ordinary file.

    Args:
        path: of the file.
        largest: bytes that are read at most.

    Raises:
        OSError: there is none; or it is a folder, a device or a FIFO, which might never end.
        ValueError: it is larger, or not UTF-8.
    """
    refuse_irregular(path)
    if path.stat().st_size > largest:
        raise ValueError(f"more than {largest:,} bytes")
    return path.read_text(encoding="utf-8")


def refuse_irregular(path: Path) -> None:
    """Raise OSError if what lies at a path is a folder, a device or a FIFO."""
    if path.exists() and not path.is_file():
        raise OSError("not a regular file")


def no_key_twice(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs of a JSON object as a mapping, for `object_pairs_hook`; ValueError if a key is there twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def parse_yaml(text: str) -> Any:
    """Return the plain values of a YAML text.

    Raises:
        yaml.YAMLError: it is not YAML, or has aliases, by which a few lines become gigabytes.
    """
    return yaml.load(text, _PlainLoader)  # noqa: S506 - a SafeLoader


class _PlainLoader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        return super().compose_node(parent, index)
