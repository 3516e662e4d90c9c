"""`result.json`: everything needed to repeat and to judge a run."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch

from latentdd_plugin.cache import atomic_write
from latentdd_plugin.errors import ArtifactError
from latentdd_plugin.types import Json, Score

if TYPE_CHECKING:
    from typing_extensions import Self

SCHEMA = "dd-bench/result.v1"
PACKAGES = ("latentdd-plugin", "torch", "timm", "diffusers", "datasets", "numpy", "scikit-learn", "safetensors")


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


def summarise(accuracies: Sequence[float]) -> dict[str, Json]:
    """Mean, sample standard deviation, count and Student's t 95% interval; null where there are too few seeds."""
    n = len(accuracies)
    mean = math.fsum(accuracies) / n
    if n < 2:
        return {"mean": mean, "std": None, "n": n, "ci95": None}
    std = math.sqrt(math.fsum((a - mean) ** 2 for a in accuracies) / (n - 1))
    if n < 3:
        return {"mean": mean, "std": std, "n": n, "ci95": None}
    from scipy.stats import t

    half = float(t.ppf(0.975, n - 1)) * std / math.sqrt(n)
    return {"mean": mean, "std": std, "n": n, "ci95": [mean - half, mean + half]}


def by_evaluator(scores: Sequence[Score]) -> dict[str, dict[int, float]]:
    """Accuracies by evaluator and seed."""
    rows: dict[str, dict[int, float]] = {}
    for score in scores:
        rows.setdefault(score.evaluator, {})[score.seed] = score.accuracy
    return rows


def summary(scores: Sequence[Score]) -> dict[str, Json]:
    """`summarise` for each evaluator."""
    return {name: summarise(list(seeds.values())) for name, seeds in by_evaluator(scores).items()}


def gain(method: Sequence[Score], control: Sequence[Score]) -> dict[str, Json]:
    """`summarise` of the differences method - control, paired by seed, for each evaluator both have."""
    ours, theirs = by_evaluator(method), by_evaluator(control)
    pairs = {
        name: [seeds[s] - theirs[name][s] for s in seeds if s in theirs[name]]
        for name, seeds in ours.items()
        if name in theirs
    }
    return {name: summarise(differences) for name, differences in pairs.items() if differences}


def environment(numerics: Mapping[str, Json]) -> dict[str, Json]:
    """Where the numbers were made: versions, processor, commit."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "packages": {name: _version(name) for name in PACKAGES},
        "git": _git(),
        "numerics": dict(numerics),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git() -> dict[str, Json] | None:
    """Commit of this package's checkout and whether it was changed; None for an installed package."""
    top = Path(__file__).parents[1]
    if not (top / ".git").exists():
        return None

    def git(*words: str) -> str:
        return subprocess.run(  # noqa: S603
            ["git", "-C", str(top), *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def command_line() -> str:
    """This process's command, for a record made from Python."""
    return " ".join(Path(word).name if i == 0 else word for i, word in enumerate(sys.argv))


def percent(value: float | None) -> str:
    """A fraction for a person: `44.2%`."""
    return "-" if value is None else f"{100 * value:.1f}%"


def mean_std(stats: Mapping[str, Json] | None) -> str:
    """A summary for a person: `44.2% ± 0.8`."""
    if stats is None:
        return "-"
    return percent(stats["mean"]) + (f" ± {100 * stats['std']:.1f}" if stats["std"] is not None else "")


def points(stats: Mapping[str, Json] | None) -> str:
    """A summary of differences for a person, in percentage points: `+2.1 [+0.4, +3.8]`."""
    if stats is None:
        return "-"
    text = f"{100 * stats['mean']:+.1f}"
    return text if stats["ci95"] is None else f"{text} [{100 * stats['ci95'][0]:+.1f}, {100 * stats['ci95'][1]:+.1f}]"


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
