"""Hydra multirun: the one place that runs jobs on Hydra's launchers (joblib, Slurm through submitit, …)."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig

from latentdd_plugin.cli import overrides as words_of
from latentdd_plugin.core.errors import UsageError

if TYPE_CHECKING:
    from latentdd_plugin.experiments.jobs import Job, Runner

EXTRAS = "install 'latentdd-plugin[joblib]' or [slurm] for more launchers"


def multirun(task: Callable[[DictConfig], Any], words: Sequence[str], folder: Path | str) -> Any:
    """Call `task` once per combination of the overrides, wherever the launcher runs it.

    Args:
        task: a picklable function of the composed configuration.
        words: overrides, those of Hydra itself included: `hydra/launcher=joblib`, `hydra.launcher.n_jobs=2`.
        folder: Hydra's own files go here.

    Returns:
        What the sweeper returns: for the basic sweeper, batches of `JobReturn`.

    Raises:
        UsageError: an unknown launcher, or an option it does not have.
    """
    arguments = [*words, f"hydra.sweep.dir={words_of.quoted(str(folder))}"]
    try:
        with initialize_config_dir(str(words_of.CONF), job_name="dd-bench", version_base="1.3"):
            hydra = GlobalHydra.instance().hydra
            return hydra.multirun("config", task, arguments, with_log_configuration=False) if hydra else None
    except HydraException as error:
        hint = f"; {EXTRAS}" if "launcher" in str(error) else ""
        raise UsageError(" ".join(str(error).split()) + hint) from error


def launcher(words: Sequence[str], *, quiet: bool) -> Runner | None:
    """Return a runner on the launcher that Hydra's own overrides name; None if there are no such overrides."""
    return functools.partial(run_on_launcher, words=words, quiet=quiet) if words else None


def run_on_launcher(jobs: Sequence[Job], finished: Callable[[Job], None], *, words: Sequence[str], quiet: bool) -> None:
    """Run jobs as one Hydra multirun, and call `finished` for each when all have ended.

    Args:
        jobs: jobs of one comparison; Hydra's files go to `launcher/` beside its cells.
        finished: called with each job.
        words: Hydra's own overrides.
        quiet: write no log lines.
    """
    if not jobs:
        return
    task = functools.partial(_run_one, jobs=tuple(jobs), quiet=quiet)
    numbers = f"+job={','.join(str(i) for i in range(len(jobs)))}"
    multirun(task, [numbers, *words], jobs[0].folder.parents[1] / "launcher")
    for job in jobs:
        finished(job)


def _run_one(cfg: DictConfig, *, jobs: Sequence[Job], quiet: bool) -> None:
    from latentdd_plugin.cli.logs import start_logging
    from latentdd_plugin.experiments.jobs import run_job

    start_logging(quiet=quiet)
    job = jobs[int(cfg.job)]
    logging.getLogger("latentdd_plugin").info("%s", job.name)
    run_job(job)


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return Hydra's own overrides among these words, and the others."""
    own = [word for word in words if word.lstrip("+~").startswith(("hydra/", "hydra."))]
    return own, [word for word in words if word not in own]
