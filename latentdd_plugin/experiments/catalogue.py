"""Names of what is installed, from metadata alone: nothing is imported, torch neither."""

from __future__ import annotations

from fnmatch import fnmatchcase

from latentdd_plugin.core import plugins
from latentdd_plugin.nn.timm_names import CONVNETS, timm_names


def list_codecs(pattern: str = "*") -> list[str]:
    """Return the names of the installed codecs that match a pattern, for example `*vae*`."""
    return _matching("codecs", pattern)


def list_distillers(pattern: str = "*") -> list[str]:
    """Return the names of the installed distillers that match a pattern."""
    return _matching("algos", pattern)


def list_datasets(pattern: str = "*") -> list[str]:
    """Return the names of the installed datasets that match a pattern; any folder or Hugging Face id is one too."""
    return _matching("datasets", pattern)


def list_evaluators(pattern: str | None = None) -> list[str]:
    """Return the names of the installed evaluators and, with a pattern, of all timm architectures that match it."""
    own = {"convnet", *plugins.entries("evaluators")}
    if pattern is None:
        return sorted(own)
    return sorted(name for name in own | set(CONVNETS) | timm_names() if fnmatchcase(name, pattern))


def _matching(group: str, pattern: str) -> list[str]:
    return [name for name in plugins.entries(group) if fnmatchcase(name, pattern)]
