"""Run the cells of a comparison on any Hydra launcher: joblib, Slurm through submitit, or one after another."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig

from latentdd_plugin.cli import overrides as words_of
from latentdd_plugin.core.errors import UsageError

if TYPE_CHECKING:
    from latentdd_plugin.experiments.compare.outcomes import Order

EXTRAS = "install 'latentdd-plugin[joblib]' or [slurm] for more launchers"


def launcher(words: Sequence[str], *, quiet: bool) -> Callable[[Sequence[Order]], None] | None:
    """Return a function that runs cells on the launcher in Hydra's own overrides; None if there are none."""
    return functools.partial(launch, words=words, quiet=quiet) if words else None


def launch(orders: Sequence[Order], *, words: Sequence[str], quiet: bool) -> None:
    """Run each order as a job of a Hydra multirun; the jobs' own files go to `launcher/` beside the cells.

    Args:
        orders: cells to run.
        words: Hydra's own overrides: `hydra/launcher=joblib`, `hydra.launcher.n_jobs=2`.
        quiet: write no log lines.

    Raises:
        UsageError: the launcher does not exist, or does not have an option.
    """
    if not orders:
        return
    folder = orders[0].folder.parents[1] / "launcher"
    task = functools.partial(job, orders=tuple(orders), quiet=quiet)
    sweep = f"+order={','.join(str(i) for i in range(len(orders)))}"
    try:
        with initialize_config_dir(str(words_of.CONF), job_name="dd-bench", version_base="1.3"):
            hydra = GlobalHydra.instance().hydra
            if hydra:
                arguments = [sweep, *words, f"hydra.sweep.dir={words_of.quoted(str(folder))}"]
                hydra.multirun("config", task, arguments, with_log_configuration=False)
    except HydraException as error:
        hint = f"; {EXTRAS}" if "launcher" in str(error) else ""
        raise UsageError(" ".join(str(error).split()) + hint) from error


def job(cfg: DictConfig, *, orders: Sequence[Order], quiet: bool) -> None:
    """Run one order in the process that the launcher chose."""
    from latentdd_plugin.cli.logs import start_logging
    from latentdd_plugin.experiments.compare.outcomes import run_here

    start_logging(quiet=quiet)
    order = orders[int(cfg.order)]
    logging.getLogger("latentdd_plugin").info("%s", order.name)
    run_here(order)


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split words into Hydra's own overrides and the others."""
    own = [word for word in words if word.lstrip("+~").startswith(("hydra/", "hydra."))]
    return own, [word for word in words if word not in own]
