"""`python -m latentdd_plugin.testing` prints the contract reference, from the docstrings of the contracts."""

from __future__ import annotations

import inspect
import sys

from latentdd_plugin.testing import codecs, distillers, evaluators
from latentdd_plugin.testing.contracts import Contract

SUITES = (
    ("Codecs", codecs, codecs.CODEC_CONTRACTS),
    ("Algorithms", distillers, distillers.DISTILLER_CONTRACTS),
    ("Evaluators", evaluators, evaluators.EVALUATOR_CONTRACTS),
)
HEAD = """\
# Contracts

What every codec, algorithm and evaluator keeps to. Made by `make docs` from `latentdd_plugin/testing`, where each of
these is one function. They run over every entry of this package, and over yours:

    dd-bench check codec NAME --contracts-only
    pytest --dd-bench NAME
"""


def reference() -> str:
    """The page, in Markdown."""
    parts = [HEAD]
    for title, module, contracts in SUITES:
        parts.append(f"## {title}\n\n{inspect.cleandoc(module.__doc__ or '')}\n")
        parts += [f"**{contract.__name__}**: {_told(contract)}\n" for contract in contracts]
    return "\n".join(parts)


def _told(contract: Contract) -> str:
    return inspect.cleandoc(contract.__doc__ or "")


if __name__ == "__main__":
    sys.stdout.write(reference())
