"""The contract suite: rules for every codec, distiller and evaluator, as plain functions and as a pytest plug-in.

    @pytest.mark.parametrize("contract", CODEC_CONTRACTS, ids=lambda contract: contract.__name__)
    def test_contract(contract, subject=CodecSubject("my-codec")):
        contract(subject)

`pytest --dd-bench my-codec` and `dd-bench check codec my-codec` run the same contracts without a test file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentdd_plugin.testing.codecs import CODEC_CONTRACTS
    from latentdd_plugin.testing.contracts import ContractBroken, Finding, NotApplicable, run_contracts
    from latentdd_plugin.testing.distillers import DISTILLER_CONTRACTS
    from latentdd_plugin.testing.evaluators import EVALUATOR_CONTRACTS
    from latentdd_plugin.testing.subjects import CodecSubject, DistillerSubject, EvaluatorSubject

__all__ = [
    "CODEC_CONTRACTS",
    "DISTILLER_CONTRACTS",
    "EVALUATOR_CONTRACTS",
    "CodecSubject",
    "ContractBroken",
    "DistillerSubject",
    "EvaluatorSubject",
    "Finding",
    "NotApplicable",
    "run_contracts",
]

_MODULES = {
    "codecs": ("CODEC_CONTRACTS",),
    "contracts": ("ContractBroken", "Finding", "NotApplicable", "run_contracts"),
    "distillers": ("DISTILLER_CONTRACTS",),
    "evaluators": ("EVALUATOR_CONTRACTS",),
    "subjects": ("CodecSubject", "DistillerSubject", "EvaluatorSubject"),
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use: pytest imports this package at every start and must not load torch."""
    module = next((module for module, names in _MODULES.items() if name in names), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{module}"), name)
