"""Hydra multirun: one configuration a job, on any launcher, and one table over all of them."""

from __future__ import annotations

import functools
import logging
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from latentdd_plugin.cli import overrides as words_of
from latentdd_plugin.cli import request
from latentdd_plugin.cli.logs import start_logging
from latentdd_plugin.core.errors import DDBenchError, UsageError

if TYPE_CHECKING:
    from latentdd_plugin.results.record import Record

log = logging.getLogger("latentdd_plugin")
DEFAULT_OUT = "runs"
BASIC = "basic_launcher.BasicLauncher"


@dataclass(frozen=True)
class Outcome:
    """What became of one job."""

    overrides: tuple[str, ...]
    rows: tuple[tuple[str, str, str], ...]  # (evaluator and precision, accuracy, folder)
    error: str | None = None


def execute(words: Sequence[str], faults: Sequence[str], *, quiet: bool, command: str, limit_s: float | None) -> int:
    """Check every job, run them all, print one table; 1 if any of them failed."""
    found = [*faults, *_job_faults(words)]
    if found:
        raise UsageError(list(dict.fromkeys(found)))
    base = words_of.composed([w for w in words if w.startswith("out=")])["out"] or DEFAULT_OUT
    task = functools.partial(job, quiet=quiet, command=command, limit_s=limit_s)
    arguments = [*words, f"hydra.sweep.dir={words_of.quoted(str(base))}"]
    try:
        with initialize_config_dir(str(words_of.CONF), job_name="dd-bench", version_base="1.3"):
            hydra = GlobalHydra.instance().hydra
            returned = hydra.multirun("config", task, arguments, with_log_configuration=False) if hydra else None
    except HydraException as error:
        hint = "; install 'latentdd-plugin[joblib]' or [slurm] for more launchers" if "launcher" in str(error) else ""
        raise UsageError(" ".join(str(error).split()) + hint) from error
    if not isinstance(returned, list):
        sys.stdout.write(f"This sweeper returns no jobs; their records are under {base}\n")
        return 0
    outcomes = [j.return_value for batch in returned for j in batch]
    sys.stdout.write(table(outcomes) + "\n")
    return 1 if any(outcome.error for outcome in outcomes) else 0


def _job_faults(words: Sequence[str]) -> Iterable[str]:
    level = log.level
    log.setLevel(logging.WARNING)  # each job says again what it resolves
    try:
        for job_words in words_of.expanded(words):
            yield from request.inspect(words_of.composed(job_words))[1]
    finally:
        log.setLevel(level)


def job(cfg: DictConfig, *, quiet: bool, command: str, limit_s: float | None) -> Outcome:
    """One job of a sweep, in whatever process the launcher chose. Its failure is a row, not the end of the others."""
    from latentdd_plugin.experiments.run import default_out

    start_logging(quiet=quiet)
    hydra = HydraConfig.get()
    names = tuple(str(word) for word in hydra.overrides.task)
    one_by_one = str(hydra.launcher.get("_target_", "")).endswith(BASIC)
    try:
        tree: Any = OmegaConf.to_container(cfg, resolve=True)
        wanted = request.read(tree)
        folder = (wanted.out or Path(DEFAULT_OUT)) / default_out(wanted.config).name
        wanted = replace(wanted, out=folder)
        progress = one_by_one and not quiet and sys.stderr.isatty()
        records = request.perform(wanted, progress=progress, command=command, limit_s=limit_s)
    except DDBenchError as error:
        return Outcome(names, (), " ".join(str(error).split()))
    except Exception as error:
        log.error("%s", traceback.format_exc())
        return Outcome(names, (), f"{type(error).__name__}: {error}")
    return Outcome(names, tuple(row for record in records for row in _rows(record)))


def _rows(record: Record) -> Iterable[tuple[str, str, str]]:
    precision, folder = record.budget.precision, str(record.folder)
    for evaluator, accuracy in record.summary.items():
        yield f"{evaluator} {precision}", str(accuracy), folder
    for skipped in record.skipped:
        yield f"{skipped.evaluator} {precision}", f"skipped: {skipped.reason}", folder


def table(outcomes: Sequence[Outcome]) -> str:
    """Return a row for each job and evaluator; what all jobs share is left out of the first column."""
    from latentdd_plugin.results.formatting import text_table

    shared = set.intersection(*(set(o.overrides) for o in outcomes)) if len(outcomes) > 1 else set()
    rows = [["job", "evaluator", "accuracy", "folder"]]
    for outcome in outcomes:
        name = " ".join(w.lstrip("+") for w in outcome.overrides if w not in shared and not w.startswith("out="))
        for evaluator, accuracy, folder in outcome.rows:
            spoken = accuracy.startswith("skipped")
            rows.append([name, evaluator, f"{accuracy}  {folder}"] if spoken else [name, evaluator, accuracy, folder])
        if outcome.error:
            rows.append([name, "-", f"failed: {outcome.error}  -"])
    return "\n".join(text_table(rows))
