"""Words that a user may type instead of the command line's own."""

from __future__ import annotations

SYNONYMS = {"distiller": "algo", "baselines": "controls", "evaluators": "evaluator"}


def normal_key(key: str) -> str:
    """Return a configuration key by its own name instead of a synonym: `distiller.lr` is `algo.lr`."""
    node, dot, rest = key.partition(".")
    return f"{SYNONYMS.get(node, node)}{dot}{rest}"


def kind_of(word: str) -> str:
    """Return the kind of plug-in that a word means: `distiller` is `algo`."""
    return {"distiller": "algo"}.get(word, word)


def group_of(word: str) -> str:
    """Return the group of plug-ins that a word means: `distillers` is `algos`."""
    return {"distillers": "algos"}.get(word, word)
