"""Multirun (`-m`): one job per combination of values, on any Hydra launcher, and one table of all jobs."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from latentdd_plugin.cli import overrides as words_of
from latentdd_plugin.cli import request
from latentdd_plugin.cli.launch import multirun
from latentdd_plugin.cli.logs import start_logging
from latentdd_plugin.core.errors import UsageError

if TYPE_CHECKING:
    from latentdd_plugin.experiments.jobs import Job, Outcome
    from latentdd_plugin.results.record import Record

log = logging.getLogger("latentdd_plugin")
DEFAULT_OUT = "runs"
BASIC = "basic_launcher.BasicLauncher"


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep after it has ended."""

    overrides: tuple[str, ...]
    outcome: Outcome
    job: Job | None = None  # None if the overrides do not make a valid run

    @property
    def error(self) -> str | None:
        """The reason why there is no result, with its status; None if there is one."""
        if self.outcome.status == "done":
            return None
        return f"{'not run' if self.outcome.status == 'not run' else 'failed'}: {self.outcome.reason}"


def execute(words: Sequence[str], faults: Sequence[str], *, quiet: bool, command: str, limit_s: float | None) -> int:
    """Check every job, run them all and print one table; return 1 if any of them has no result."""
    found = [*faults, *_job_faults(words)]
    if found:
        raise UsageError(list(dict.fromkeys(found)))
    base = words_of.composed([w for w in words if w.startswith("out=")])["out"] or DEFAULT_OUT
    returned = multirun(functools.partial(run_one, quiet=quiet, command=command, limit_s=limit_s), words, base)
    if not isinstance(returned, list):
        sys.stdout.write(f"This sweeper returns no jobs; their records are under {base}\n")
        return 0
    jobs = [j.return_value for batch in returned for j in batch]
    sys.stdout.write(table(jobs) + "\n")
    return 1 if any(job.error for job in jobs) else 0


def _job_faults(words: Sequence[str]) -> Iterable[str]:
    level = log.level
    log.setLevel(logging.WARNING)  # each job logs again what it resolves
    try:
        for job_words in words_of.expanded(words):
            yield from request.inspect(words_of.composed(job_words))[1]
    finally:
        log.setLevel(level)


def run_one(cfg: DictConfig, *, quiet: bool, command: str, limit_s: float | None) -> SweepJob:
    """Run one job of a sweep, in the process that the launcher chose."""
    from latentdd_plugin.experiments.jobs import Job, Outcome, one_line, run_job
    from latentdd_plugin.experiments.run import default_out

    start_logging(quiet=quiet)
    hydra = HydraConfig.get()
    overrides = tuple(str(word) for word in hydra.overrides.task)
    one_by_one = str(hydra.launcher.get("_target_", "")).endswith(BASIC)
    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    try:
        wanted = request.read(tree)
    except UsageError as error:
        return SweepJob(overrides, Outcome("skipped", one_line(error)))
    job = Job(
        name=" ".join(overrides),
        config=wanted.config,
        folder=(wanted.out or Path(DEFAULT_OUT)) / default_out(wanted.config).name,
        command=command,
        limit_s=limit_s,
        progress=one_by_one and not quiet and sys.stderr.isatty(),
        precisions=wanted.precisions,
    )
    return SweepJob(overrides, run_job(job), job)


def table(jobs: Sequence[SweepJob]) -> str:
    """Return a row for each job and evaluator; overrides that all jobs share are left out of the first column."""
    from latentdd_plugin.results.formatting import text_table
    from latentdd_plugin.results.record import Record

    shared = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    rows = [["job", "evaluator", "accuracy", "folder"]]
    for one in jobs:
        name = " ".join(w.lstrip("+") for w in one.overrides if w not in shared and not w.startswith("out="))
        if one.error or one.job is None:
            rows.append([name, "-", f"{one.error}  -"])
            continue
        for folder in one.job.folders:
            rows += [[name, *cells] for cells in _rows(Record.load(folder))]
    return "\n".join(text_table(rows))


def _rows(record: Record) -> Iterable[list[str]]:
    precision, folder = record.budget.precision, str(record.folder)
    for evaluator, accuracy in record.summary.items():
        yield [f"{evaluator} {precision}", str(accuracy), folder]
    for skipped in record.skipped:
        yield [f"{skipped.evaluator} {precision}", f"skipped: {skipped.reason}  {folder}"]
