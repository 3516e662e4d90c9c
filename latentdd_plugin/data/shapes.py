"""The shape that a set's images come out as, kept for the next start: grey images are all opened to be sure of it."""

from __future__ import annotations

import hashlib
from contextlib import suppress

from latentdd_plugin.core import checkpoint
from latentdd_plugin.core.cache import cache_dir
from latentdd_plugin.core.errors import RunFailed
from latentdd_plugin.core.types import Shape, hash_json
from latentdd_plugin.data.images import DECODER, shape_of
from latentdd_plugin.data.rows import ImageRows


def known_shape(rows: ImageRows, size: int | None, stamp: str) -> Shape:
    """Return `shape_of` these rows, from an earlier start if the files are the same.

    Args:
        rows: the images.
        size: side in pixels they are resized to; None keeps their size.
        stamp: identifies the files; "" if they are not known, and are looked at.

    Raises:
        DataError: as `shape_of`.
    """
    if not stamp:
        return shape_of(rows, size)
    chosen = hashlib.sha256(rows.rows.tobytes()).hexdigest()
    key = hash_json(["shape.v1", DECODER, stamp, rows.column, chosen, size])
    path, owner = cache_dir() / "images" / "shapes" / f"{key[:32]}.json", {"shape": key}
    stored = checkpoint.read_json(path, owner)
    if stored is not None:
        c, h, w = stored.content
        return c, h, w
    found = shape_of(rows, size)
    with suppress(RunFailed):  # a full disk, which whatever needs the disk reports
        checkpoint.write_json(path, list(found), owner)
    return found
