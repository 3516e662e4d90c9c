"""An estimate of a run: stages with their seconds, memory and disk, for one process or several; as text and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from latentdd_plugin.core.monitor import duration
from latentdd_plugin.core.types import Json

SHORT_S = 10.0  # a run below this is not itemised


@dataclass(frozen=True)
class Stage:
    """One stage of a run."""

    name: str
    seconds: float | None  # by one process; None if it is not known
    basis: str  # measured | counted | assumed | not known
    pieces: int = 1  # that several processes share; 1 is done by one of them
    note: str = ""

    def on(self, processes: int) -> float | None:
        """Return the seconds with so many processes, each as fast as the one."""
        if self.seconds is None:
            return None
        return self.seconds * math.ceil(self.pieces / min(processes, self.pieces)) / self.pieces


@dataclass(frozen=True)
class Estimate:
    """Expected seconds, memory and disk of a run."""

    stages: tuple[Stage, ...]
    memory: Mapping[str, int]  # bytes at the peak of one process, by what they hold
    disk: Mapping[str, int]  # bytes in the cache and in the run's folder, by what they hold
    sizes: Mapping[str, Json]  # what the estimate was made for

    def seconds(self, processes: int = 1) -> float:
        """Return the seconds of all stages that are known."""
        return sum(stage.on(processes) or 0.0 for stage in self.stages)

    @property
    def unknown(self) -> tuple[Stage, ...]:
        """The stages of which nothing is known."""
        return tuple(stage for stage in self.stages if stage.seconds is None)

    def line(self, processes: int = 1) -> str:
        """Return the estimate as one line for the log."""
        total, more = self.seconds(processes), "".join(f"; {stage.name}: {stage.note}" for stage in self.unknown)
        if total < SHORT_S:
            return f"estimated time: less than {duration(SHORT_S)}{more}"
        parts = ", ".join(
            f"{stage.name} {duration(found)}"
            for stage in self.stages
            if (found := stage.on(processes)) is not None and found >= 0.5
        )
        return f"estimated time: {'at least ' if self.unknown else ''}{duration(total)} ({parts}){more}"

    def table(self, processes: Sequence[int] = (1,)) -> str:
        """Return the estimate as text: a row per stage, a column per number of processes."""
        head = ["stage", *(f"{n} process{'' if n == 1 else 'es'}" for n in processes), "basis"]
        rows = [
            [stage.name, *(_shown(stage.on(n)) for n in processes), stage.note or stage.basis] for stage in self.stages
        ]
        rows.append(["all", *(duration(self.seconds(n)) for n in processes), ""])
        sizes = ", ".join(f"{name} {value}" for name, value in self.sizes.items())
        return "\n".join([sizes, "", *_aligned([head, *rows]), "", *self._bytes()])

    def _bytes(self) -> list[str]:
        lines = []
        for title, parts in (("memory of a process", self.memory), ("disk", self.disk)):
            each = ", ".join(f"{name} {size(count)}" for name, count in parts.items() if count)
            lines.append(f"{title}: {size(sum(parts.values()))}{f' ({each})' if each else ''}")
        return lines

    def to_fields(self) -> dict[str, Json]:
        """Return everything that `from_fields` needs."""
        return asdict(self)

    @classmethod
    def from_fields(cls, value: Mapping[str, Json]) -> Estimate:
        """Return the estimate that `to_fields` described."""
        return cls(**{**value, "stages": tuple(Stage(**stage) for stage in value["stages"])})

    def to_json(self, processes: Sequence[int] = (1,)) -> dict[str, Json]:
        """Return the estimate as plain JSON."""
        stages: list[Json] = [
            {
                "name": stage.name,
                "seconds": {str(n): stage.on(n) for n in processes},
                "basis": stage.basis,
                "pieces": stage.pieces,
                "note": stage.note,
            }
            for stage in self.stages
        ]
        return {
            "sizes": dict(self.sizes),
            "stages": stages,
            "seconds": {str(n): self.seconds(n) for n in processes},
            "memory_bytes": dict(self.memory),
            "disk_bytes": dict(self.disk),
        }


def size(count: float) -> str:
    """Return a number of bytes with three digits: `3.1 kB`, `193 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _shown(seconds: float | None) -> str:
    return "not known" if seconds is None else duration(seconds)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
