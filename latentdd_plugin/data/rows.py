"""Rows of a split as undecoded image files: read block by block, from inside the dataset's folder alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.core.untrusted import refuse_irregular
from latentdd_plugin.data.members import Member

BLOCK = 256  # images per task of the pool that decodes them
MAX_PIXELS = 178_956_970  # of one image: Pillow's own limit against decompression bombs
MOST_FAULTS = 20  # broken files reported together


@dataclass(frozen=True)
class ImageRows:
    """Rows of one split, as undecoded image files."""

    dataset: Any  # datasets.Dataset
    column: str  # its image column
    rows: NDArray[np.int64]  # (N,) row numbers in the split
    where: str  # for messages: "dataset cifar10, split train"
    roots: tuple[Path, ...] | None = None  # folders inside which a cell's path is read; None: anywhere
    max_pixels: int = MAX_PIXELS  # of one image; larger ones are refused

    def blocks(self) -> Iterator[tuple[int, list[bytes]]]:
        """Yield (position of the first, files) of every `BLOCK` rows, in order."""
        for start in range(0, len(self.rows), BLOCK):
            yield start, self.files(start)

    def files(self, start: int) -> list[bytes]:
        """Return the image files at positions start … start + BLOCK, as they were stored.

        Raises:
            DataError: files are missing, cannot be read, or lie outside the dataset's folder; up to 20 are named.
        """
        cells, files, faults = self._cells(start), [], []
        for position, cell in enumerate(cells, start):
            try:
                files.append(self._file(cell))
            except (OSError, ValueError) as error:
                faults.append(f"{self.name(position, cell)}: {error}")
        if faults:
            raise DataError(listed(self.where, faults))
        return files

    def name(self, position: int, cell: Any = None) -> str:
        """Return the name of the image at a position: its file if it has one, else its row."""
        row = int(self.rows[position])
        cell = cell or self._cells(position, 1)[0]
        path = (cell or {}).get("path")
        if not path:
            return f"row {row}"
        if cell["bytes"] is not None:
            return f"row {row} ({path})"
        member = Member.of(path)
        file = Path(path if member is None else member.tar)
        inside = next((file.relative_to(root) for root in self.roots or () if file.is_relative_to(root)), file)
        return str(inside) if member is None else f"row {row} ({inside}/{member.name})"

    def _cells(self, start: int, count: int = BLOCK) -> list[Any]:
        rows = self.rows[start : start + count].tolist()
        cells: list[Any] = self.dataset.with_format("arrow")[rows].column(self.column).to_pylist()
        return cells

    def _file(self, cell: dict[str, Any] | None) -> bytes:
        if cell is None or (cell["bytes"] is None and cell["path"] is None):
            raise ValueError("no image")
        data: bytes | None = cell["bytes"]
        if data is not None:
            return data
        member = Member.of(cell["path"])
        path = Path(cell["path"] if member is None else member.tar)
        if self.roots is not None:
            real = (self.roots[0] / path).resolve()
            if not any(real.is_relative_to(root) for root in self.roots):
                raise ValueError("lies outside the dataset's folder, where nothing is read")
            path = real
        refuse_irregular(path)
        return path.read_bytes() if member is None else member.read(path)


def listed(where: str, faults: Sequence[str]) -> str:
    """Return up to 20 faults as one message."""
    if len(faults) == 1:
        return f"{where}, {faults[0]}; repair or remove it"
    more = "" if len(faults) < MOST_FAULTS else " or more"
    lines = "\n  ".join(faults[:MOST_FAULTS])
    return f"{where}: {min(len(faults), MOST_FAULTS)}{more} images cannot be read; repair or remove them:\n  {lines}"
