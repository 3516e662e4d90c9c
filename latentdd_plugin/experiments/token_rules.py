"""Runs with a codec of tokens: how its codes are stored by default, and which methods take them."""

from __future__ import annotations

from collections.abc import Iterator

from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.core import plugins
from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.parts import DEFAULT_PRECISION
from latentdd_plugin.core.types import TOKENS
from latentdd_plugin.distillers.base import Distiller


def has_tokens(codec: str) -> bool:
    """Return whether the codes of a codec are tokens; False if it cannot be resolved, which is reported elsewhere."""
    try:
        cls: type[Codec] = plugins.resolve("codecs", codec, base=Codec).cls
    except UsageError:
        return False
    return cls.tokens is not None


def default_precision(codec: str) -> str:
    """Return how a codec's codes are stored if a run does not say so."""
    return TOKENS if has_tokens(codec) else DEFAULT_PRECISION


def precision_of(config: RunConfig) -> str:
    """Return the precision of a configuration that may not be resolved yet."""
    return config.budget.precision or default_precision(config.codec.name)


def method_fault(algo: str, codec: str) -> str:
    """Return why a method that computes codes does not take those of a codec of tokens, and which methods do."""
    return (
        f"algo={algo}: it computes codes, by gradients or otherwise, and those of {codec} are tokens, numbers of a "
        f"codebook's entries, which have no gradient; methods that keep codes as they are work: {', '.join(_keeping())}"
    )


def _keeping() -> Iterator[str]:
    """Yield the names of this package's methods that run on tokens, with the match space that they need."""
    for name, entry in plugins.entries("algos").items():
        if entry.distribution == plugins.OURS:
            cls: type[Distiller] = plugins.resolve("algos", name, base=Distiller).cls
            if not cls.changes_codes and cls.selection != "unknown":
                yield f"{name} (match=pixel)" if cls.compares else name
