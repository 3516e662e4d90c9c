"""`python -m latentdd_plugin.testing` prints the contract reference, made from the docstrings of the contracts."""

from __future__ import annotations

import inspect
import sys

from latentdd_plugin.testing import codecs, distillers, evaluators
from latentdd_plugin.testing.contracts import Contract, rule

SUITES = (
    ("Codecs", codecs, codecs.CODEC_CONTRACTS),
    ("Distillers", distillers, distillers.DISTILLER_CONTRACTS),
    ("Evaluators", evaluators, evaluators.EVALUATOR_CONTRACTS),
)
HEAD = """\
# Contracts

The rules for codecs, distillers and evaluators. Each rule is one function in `latentdd_plugin/testing`, and
`make docs` writes this page from their docstrings. The package's tests apply them to every built-in plug-in. To apply
them to yours:

    dd-bench check codec NAME --contracts-only
    pytest --dd-bench NAME
"""


def reference() -> str:
    """Return the contract reference as a Markdown page."""
    parts = [HEAD]
    for title, module, contracts in SUITES:
        parts.append(f"## {title}\n\n{inspect.cleandoc(module.__doc__ or '')}\n")
        parts += [f"**{contract.__name__}**: {_rule_and_details(contract)}\n" for contract in contracts]
    return "\n".join(parts)


def _rule_and_details(contract: Contract) -> str:
    details = inspect.cleandoc(contract.__doc__ or "").partition("\n\n")[2]
    return "\n\n".join(filter(None, (rule(contract), details)))


if __name__ == "__main__":
    sys.stdout.write(reference())
