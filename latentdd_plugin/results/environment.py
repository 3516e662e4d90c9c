"""Versions, processor and commit of the machine that made a result."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from latentdd_plugin.core.types import Json
from latentdd_plugin.results.entries import Environment

PACKAGES = ("latentdd-plugin", "torch", "timm", "diffusers", "datasets", "numpy", "scikit-learn", "safetensors")


def environment(numerics: Mapping[str, Json]) -> Environment:
    """Return the machine and software of this process, with the arithmetic that a result was computed in."""
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        cpu=_cpu(),
        cores=os.cpu_count(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        packages={name: _version(name) for name in PACKAGES},
        git=_git(),
        numerics=dict(numerics),
    )


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
    """Return the commit of this package's checkout and whether it was changed; None for an installed package."""
    top = Path(__file__).parents[2]
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
    """Return this process's command, for a record made from Python."""
    return " ".join(Path(word).name if i == 0 else word for i, word in enumerate(sys.argv))
