"""Other projects' files, one module a format: `FORMATS` by the name on the command line, imported when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.plugins import near

if TYPE_CHECKING:
    from latentdd_plugin.artifacts.formats.base import Format

FORMATS = {  # name -> module, class, what it reads
    "dc": ("condensation", "Condensation", "DatasetCondensation (DC, DSA, DM): res_*.pt"),
    "mtt": ("trajectories", "Trajectories", "MTT, DATM, GLaD: images_*.pt, labels_*.pt, lr_*.pt"),
    "dc-bench": ("dc_bench", "DCBench", "DC-BENCH: a folder distilled_results/<METHOD>/<dataset>/IPC<n>; import only"),
    "ddranking": ("ddranking", "DDRanking", "DD-Ranking 0.2.0: a folder with images.pt, labels.pt, lr.pt, config.yaml"),
    "imagefolder": ("imagefolder", "ImageFolder", "SRe2L, RDED, D4M, …: <class>/<picture>.png or .jpg, 8 bits"),
    "huggingface": ("huggingface", "HuggingFace", "a folder of save_to_disk, or a .parquet file"),
}


def listed() -> str:
    """The formats as lines of a help text."""
    return "\n".join(["formats:", *(f"  {name:13}{what}" for name, (_, _, what) in FORMATS.items())])


def get(name: str) -> Format:
    """The format of that name; UsageError lists those there are."""
    if name not in FORMATS:
        raise UsageError(f"unknown format {name!r}{near(name, FORMATS)}; there are: {', '.join(FORMATS)}")
    module, attribute, _ = FORMATS[name]
    made: Format = getattr(import_module(f"{__name__}.{module}"), attribute)()
    return made
