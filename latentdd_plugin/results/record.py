"""`result.json`: everything needed to repeat and to judge a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from latentdd_plugin.core.errors import ArtifactError
from latentdd_plugin.core.storage import atomic_write
from latentdd_plugin.core.types import Json
from latentdd_plugin.results.statistics import mean_std, points

if TYPE_CHECKING:
    from typing_extensions import Self

SCHEMA = "dd-bench/result.v1"


@dataclass(frozen=True)
class Record:
    """A finished run: the content of its `result.json`, and where it lies."""

    schema: ClassVar[str] = SCHEMA
    file: ClassVar[str] = "result.json"

    data: Mapping[str, Json]
    folder: Path

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder's record; ArtifactError where it is damaged or of another schema."""
        path = folder / cls.file
        if not path.exists():
            raise ArtifactError(f"{folder} is no folder of a finished run: it holds no {cls.file}{_instead(folder)}")
        try:
            data = json.loads(path.read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise ArtifactError(f"{path}: not a readable record ({error})") from None
        if not isinstance(data, dict) or data.get("schema") != cls.schema:
            raise ArtifactError(f"{path}: not a record of schema {cls.schema!r}")
        return cls(data, folder)

    def save(self) -> None:
        """Write the file, all or nothing."""
        with atomic_write(self.folder / self.file) as temporary:
            temporary.write_text(json.dumps(self.data, indent=2, allow_nan=False) + "\n")

    def table(self) -> str:
        """The outcome as text for a person: method and controls, accuracy, gain, bytes, seconds."""
        return "\n".join(_table(self.data))


def _instead(folder: Path) -> str:
    """Where the runs may be, in a folder that is not one."""
    found = [path.parent for place in ("cells", "*/cells") for path in sorted(folder.glob(f"{place}/*/result.json"))]
    cells = next(iter(found), None)
    return f"; a comparison's runs lie in its cells, as {cells}" if cells else ""


def _table(data: Mapping[str, Json]) -> list[str]:
    budget, spent, cost = data["budget"], data["budget"]["bytes"], data["cost"]
    names = list(data["summary"])
    method = f"{data['codec']['name']} + {data['distiller']['name']}"
    gains = [f"gain over it ({n})" for n in names] if data["controls"] else []
    header = ["", *names, "codes/class", "bytes", *gains]
    rows = [
        [method, *(mean_std(data["summary"][n]) for n in names), str(budget["codes_per_class"]), f"{spent['total']:,}"]
    ]
    rows[0] += [""] * len(gains)
    for control, entry in data["controls"].items():
        if "skipped" in entry:
            rows.append([control, f"not run: {entry['skipped']}"])
            continue
        cells = [mean_std(entry["summary"].get(n)) for n in names]
        held = [str(entry["budget"]["codes_per_class"]), f"{entry['budget']['bytes']['total']:,}"]
        rows.append([control, *cells, *held, *(points(entry["gain"].get(n)) for n in names)])
    width = [max(len(r[i]) for r in [header, *rows] if len(r) > max(i, 2)) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width[i]) for i, cell in enumerate(row)).rstrip() for row in [header, *rows]]
    lines.insert(1, "-" * max(len(line) for line in lines))
    lines += [f"skipped: {row['evaluator']}: {row['reason']}" for row in data["skipped"]]
    where = f"{data['dataset']['name']}, {data['protocol']['name']}, accuracy on {data['scored_on']}"
    lines.append(f"{where} (mean ± std over seeds)")
    parts = ", ".join(f"{part} {spent[part]:,}" for part in ("codes", "labels", "side", "decoder", "file"))
    lines.append(f"bytes at {budget['precision']}: {parts}")
    if budget.get("shortfall"):
        lines.append(f"shortfall: {budget['shortfall']}")
    lines.append(
        f"seconds: encode {cost['encode_s']:.1f}, distil {cost['distill_s']:.1f}, evaluate {cost['evaluate_s']:.1f}, "
        f"controls {cost['controls_s']:.1f}; peak memory {cost['peak_rss_mb']:.0f} MB"
    )
    return lines
