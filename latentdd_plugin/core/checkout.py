"""The source tree that this package runs from, if it is not installed."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
NAMED = 'name = "latentdd-plugin"'


def checkout(package: Path = PACKAGE) -> Path | None:
    """Return the source tree around the package, a clone or an unpacked archive; None if the package is installed."""
    project = package.parent / "pyproject.toml"
    is_ours = project.is_file() and NAMED in project.read_text(encoding="utf-8").splitlines()
    return package.parent if is_ours else None
