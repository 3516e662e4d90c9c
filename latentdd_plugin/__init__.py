"""Dataset distillation in latent space: any codec, any distiller, one honest byte budget.

from latentdd_plugin import RunConfig, run
record = run(RunConfig(codec="dct", algo={"name": "dm", "preset": "quick"}))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from latentdd_plugin.artifact import Artifact
    from latentdd_plugin.artifact import load as load_artifact
    from latentdd_plugin.assess import evaluate_artifact as evaluate
    from latentdd_plugin.evaluation import Evaluation, EvaluationConfig
    from latentdd_plugin.plugins import Preset
    from latentdd_plugin.record import Record
    from latentdd_plugin.road import run, run_precisions
    from latentdd_plugin.types import DatasetConfig, RunConfig

__all__ = [
    "Artifact",
    "DatasetConfig",
    "Evaluation",
    "EvaluationConfig",
    "Preset",
    "Record",
    "RunConfig",
    "evaluate",
    "load_artifact",
    "run",
    "run_precisions",
]

_WHERE = {
    "Artifact": ("artifact", "Artifact"),
    "load_artifact": ("artifact", "load"),
    "evaluate": ("assess", "evaluate_artifact"),
    "Evaluation": ("evaluation", "Evaluation"),
    "EvaluationConfig": ("evaluation", "EvaluationConfig"),
    "Preset": ("plugins", "Preset"),
    "Record": ("record", "Record"),
    "run": ("road", "run"),
    "run_precisions": ("road", "run_precisions"),
    "DatasetConfig": ("types", "DatasetConfig"),
    "RunConfig": ("types", "RunConfig"),
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use: `import latentdd_plugin` alone loads neither torch nor Hydra."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _WHERE[name]
    return getattr(import_module(f"{__name__}.{module}"), attribute)
