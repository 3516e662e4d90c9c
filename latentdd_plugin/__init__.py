"""Dataset distillation in latent space: any codec, any distiller, one honest byte budget.

from latentdd_plugin import RunConfig, run
record = run(RunConfig(codec="dct", algo={"name": "dm", "preset": "quick"}))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from latentdd_plugin.core.version import __version__ as __version__

if TYPE_CHECKING:
    from latentdd_plugin.artifacts.artifact import Artifact
    from latentdd_plugin.artifacts.file import load_artifact
    from latentdd_plugin.core.config import DatasetConfig, EvaluationConfig, RunConfig
    from latentdd_plugin.core.plugins import Preset
    from latentdd_plugin.experiments.evaluate import evaluate_artifact as evaluate
    from latentdd_plugin.experiments.run import run, run_precisions
    from latentdd_plugin.results.evaluation import Evaluation
    from latentdd_plugin.results.record import Record

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
    "Artifact": ("artifacts.artifact", "Artifact"),
    "load_artifact": ("artifacts.file", "load_artifact"),
    "evaluate": ("experiments.evaluate", "evaluate_artifact"),
    "Evaluation": ("results.evaluation", "Evaluation"),
    "EvaluationConfig": ("core.config", "EvaluationConfig"),
    "Preset": ("core.plugins", "Preset"),
    "Record": ("results.record", "Record"),
    "run": ("experiments.run", "run"),
    "run_precisions": ("experiments.run", "run_precisions"),
    "DatasetConfig": ("core.config", "DatasetConfig"),
    "RunConfig": ("core.config", "RunConfig"),
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use: `import latentdd_plugin` alone loads neither torch nor Hydra."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _WHERE[name]
    return getattr(import_module(f"{__name__}.{module}"), attribute)
