"""Other projects' files, one module per format: `FORMATS` by the name on the command line, imported when needed."""

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
    "idc": ("idc", "IDC", "IDC: data.pt with --factor, or folders *_phase<n> of them; import only"),
    "dc-bench": ("dc_bench", "DCBench", "DC-BENCH: a folder distilled_results/<METHOD>/<dataset>/IPC<n>; import only"),
    "ddranking": ("ddranking", "DDRanking", "DD-Ranking 0.2.0: a folder with images.pt, labels.pt, lr.pt, config.yaml"),
    "imagefolder": (
        "imagefolder",
        "ImageFolder",
        "SRe2L, RDED, D4M, …: <class>/<picture>.png or another picture format",
    ),
    "huggingface": ("huggingface", "HuggingFace", "a folder of save_to_disk, or a .parquet file"),
    "tensors": ("tensors", "Tensors", "any project's .pt, .npz, .npy or .safetensors, whole or in shards; import only"),
}


def list_formats() -> str:
    """Return the formats as lines of a help text."""
    return "\n".join(["formats:", *(f"  {name:13}{what}" for name, (_, _, what) in FORMATS.items())])


def get(name: str) -> Format:
    """Return the format of a name; raise UsageError, listing the formats, if there is none."""
    if name not in FORMATS:
        raise UsageError(f"unknown format {name!r}{near(name, FORMATS)}; there are: {', '.join(FORMATS)}")
    module, attribute, _ = FORMATS[name]
    made: Format = getattr(import_module(f"{__name__}.{module}"), attribute)()
    return made
