"""Dataset distillation in latent space: any codec, any distiller, one honest byte budget.

from latentdd_plugin import RunConfig, distill, run
record = run(RunConfig(codec="dct", algo="dm", ipc=1))
artifact = distill(images, labels, codec="dct", distiller="dm", ipc=1)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from latentdd_plugin.core.version import __version__ as __version__

if TYPE_CHECKING:
    from latentdd_plugin.artifacts.artifact import Artifact
    from latentdd_plugin.artifacts.file import load_artifact, save_artifact
    from latentdd_plugin.core.config import (
        BudgetConfig,
        ComputeConfig,
        DatasetConfig,
        EvaluationConfig,
        PartSpec,
        RunConfig,
        ScoringConfig,
    )
    from latentdd_plugin.core.plugins import Preset
    from latentdd_plugin.experiments.api import (
        compare,
        create_codec,
        create_distiller,
        create_evaluator,
        distill,
        evaluate,
    )
    from latentdd_plugin.experiments.catalogue import list_codecs, list_datasets, list_distillers, list_evaluators
    from latentdd_plugin.experiments.run import run, run_precisions
    from latentdd_plugin.leaderboard.zoo import describe_run, list_distilled, load_distilled
    from latentdd_plugin.results.evaluation import Evaluation
    from latentdd_plugin.results.frame import results_frame
    from latentdd_plugin.results.record import Record

__all__ = [
    "Artifact",
    "BudgetConfig",
    "ComputeConfig",
    "DatasetConfig",
    "Evaluation",
    "EvaluationConfig",
    "PartSpec",
    "Preset",
    "Record",
    "RunConfig",
    "ScoringConfig",
    "compare",
    "create_codec",
    "create_distiller",
    "create_evaluator",
    "describe_run",
    "distill",
    "evaluate",
    "list_codecs",
    "list_datasets",
    "list_distilled",
    "list_distillers",
    "list_evaluators",
    "load_artifact",
    "load_distilled",
    "results_frame",
    "run",
    "run_precisions",
    "save_artifact",
]

_MODULES = {
    "artifacts.artifact": ("Artifact",),
    "artifacts.file": ("load_artifact", "save_artifact"),
    "core.config": (
        "BudgetConfig",
        "ComputeConfig",
        "DatasetConfig",
        "EvaluationConfig",
        "PartSpec",
        "RunConfig",
        "ScoringConfig",
    ),
    "core.plugins": ("Preset",),
    "experiments.api": (
        "compare",
        "create_codec",
        "create_distiller",
        "create_evaluator",
        "distill",
        "evaluate",
    ),
    "experiments.catalogue": ("list_codecs", "list_datasets", "list_distillers", "list_evaluators"),
    "experiments.run": ("run", "run_precisions"),
    "leaderboard.zoo": ("describe_run", "list_distilled", "load_distilled"),
    "results.evaluation": ("Evaluation",),
    "results.frame": ("results_frame",),
    "results.record": ("Record",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use: `import latentdd_plugin` alone loads neither torch nor Hydra."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names, for completion."""
    return sorted([*globals(), *__all__])
