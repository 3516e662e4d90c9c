"""Pictures inside tars, known by their place: each is read when it is decoded, so that no tar is held in memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FORM = re.compile(r"(?s)(?P<tar>.*\.tar)//(?P<offset>\d{1,18})\+(?P<size>\d{1,18})//(?P<name>.*)", re.IGNORECASE)


@dataclass(frozen=True)
class Member:
    """A file inside a tar; as text it stands in a dataset's cell in place of a path."""

    tar: str
    offset: int  # of its first byte in the tar
    size: int  # in bytes
    name: str  # in the tar

    def __str__(self) -> str:
        return f"{self.tar}//{self.offset}+{self.size}//{self.name}"

    @classmethod
    def of(cls, text: str) -> Member | None:
        """Return the member that a cell's path names; None for the path of a file."""
        found = FORM.fullmatch(text)
        return None if found is None else cls(found["tar"], int(found["offset"]), int(found["size"]), found["name"])

    def read(self, tar: Path) -> bytes:
        """Return its bytes from the tar, which lies at this path.

        Raises:
            OSError: the tar is gone, cannot be read, or ends before the member does.
        """
        with tar.open("rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) < self.size:
            raise OSError(f"the tar {tar.name} is shorter than it was when it was listed")
        return data
