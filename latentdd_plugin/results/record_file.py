"""JSON records that lie in a folder: load, save, show."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from latentdd_plugin.core.errors import ArtifactError
from latentdd_plugin.core.json_record import JsonRecord
from latentdd_plugin.core.storage import atomic_write
from latentdd_plugin.core.untrusted import no_key_twice, read_text

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, kw_only=True, repr=False)
class RecordFile(JsonRecord):
    """A record with a schema's name and a file of its own.

    Attributes:
        folder: where the file lies; None for a record that was never written.
    """

    schema_name: ClassVar[str]
    file: ClassVar[str]

    folder_or_none: Path | None = field(default=None, compare=False, repr=False)

    @property
    def folder(self) -> Path:
        """The folder that the record lies in.

        Raises:
            ArtifactError: the record was made in memory and not saved.
        """
        if self.folder_or_none is None:
            raise ArtifactError(f"this {self.file} was never written; record.in_folder(FOLDER).save() writes it")
        return self.folder_or_none

    def in_folder(self, folder: Path) -> Self:
        """Return the same record, to lie in another folder."""
        return replace(self, folder_or_none=folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the record of a folder.

        Raises:
            ArtifactError: there is none, it is damaged or of another schema; every fault.
        """
        path = folder / cls.file
        if not path.exists():
            raise ArtifactError(
                f"{folder} is not the folder of a finished run: it has no {cls.file}{_where_runs_are(folder)}"
            )
        try:
            data = json.loads(read_text(path), object_pairs_hook=no_key_twice)
        except (OSError, ValueError, RecursionError) as error:
            raise ArtifactError(f"{path}: not a readable record ({error})") from None
        if not isinstance(data, dict) or data.get("schema") != cls.schema_name:
            raise ArtifactError(f"{path}: not a record of schema {cls.schema_name!r}")
        try:
            return cls.from_json(data, folder_or_none=folder)
        except ArtifactError as error:
            raise ArtifactError([f"{path}: {fault}" for fault in error.faults]) from None

    def save(self) -> None:
        """Write the file, all or nothing."""
        with atomic_write(self.folder / self.file) as temporary:
            temporary.write_text(json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n")

    @property
    def headline(self) -> str:
        """The result in a line."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """Return the result in a line and the folder; a subclass keeps it by `repr=False` in its decorator."""
        return f"<{type(self).__name__}: {self.headline}; {self.folder_or_none or 'not written'}>"

    def table(self) -> str:
        """Return the result as text."""
        raise NotImplementedError

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield one flat row per score, with the columns that identify it."""
        raise NotImplementedError

    def to_frame(self) -> Any:
        """Return `rows` as a pandas data frame."""
        import pandas as pd

        return pd.DataFrame(list(self.rows()))

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        from markupsafe import escape

        return f"<pre>{escape(self.table())}</pre>"


def _where_runs_are(folder: Path) -> str:
    """Return a hint for the folder of a comparison, whose runs lie in folders of their own."""
    found = [path.parent for place in ("cells", "*/cells") for path in sorted(folder.glob(f"{place}/*/result.json"))]
    cells = next(iter(found), None)
    return f"; the runs of a comparison lie in its cells, such as {cells}" if cells else ""
