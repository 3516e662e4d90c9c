"""Runs as jobs: one description of a job, three places to run it, one outcome on disk.

A runner takes jobs and a callback: `run_here`, `run_in_processes`, or a Hydra launcher (`cli/launch.py`). All of them
call `run_job`, which turns every failure into an outcome, so that one failing job does not end the others.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from latentdd_plugin.core import checkpoint
from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.errors import DataError, DDBenchError, TooLong, UsageError
from latentdd_plugin.core.monitor import duration
from latentdd_plugin.core.types import Json
from latentdd_plugin.core.version import __version__
from latentdd_plugin.experiments.run import run_precisions

log = logging.getLogger(__name__)

FILE = "outcome.json"  # in the folder of a job that has no result
OWNER = {"version": __version__}
POLL_S = 0.1
# `python -c` puts the working folder first on the path: nothing in it is imported by its name.
START = (
    "import sys; sys.path = [p for p in sys.path if p]; "
    "from latentdd_plugin.experiments.jobs import main; sys.exit(main())"
)


@dataclass(frozen=True)
class Outcome:
    """The result of a job, apart from its record."""

    status: str  # done | not run | skipped | failed | unfinished
    reason: str | None = None
    estimate_s: float | None = None  # of a distillation that was refused as too long
    data: bool = False  # the fault lies in the dataset, so that every job on it fails

    def is_final(self, limit_s: float | None) -> bool:
        """Return whether running the job again would change nothing: it is done, or too long for this limit too."""
        too_long = limit_s is not None and self.estimate_s is not None and self.estimate_s > limit_s
        return self.status == "done" or too_long


@dataclass(frozen=True)
class Job:
    """A run to be done: one distillation, stored at one or several precisions."""

    name: str
    config: RunConfig
    folder: Path  # of the run; of several precisions, a subfolder for each
    command: str  # for the record
    limit_s: float | None = None  # refuse a distillation estimated to take longer
    progress: bool = False
    precisions: tuple[str, ...] = ()  # several at a fixed number of codes; empty for the configuration's own

    @property
    def folders(self) -> list[Path]:
        """The run folders that the job leaves."""
        several = len(self.precisions) > 1
        return [self.folder / precision for precision in self.precisions] if several else [self.folder]

    def to_json(self) -> str:
        """Return the job as one line of JSON, for another process."""
        values: dict[str, Json] = {**vars(self), "config": self.config.to_json(), "folder": str(self.folder)}
        return json.dumps(values)

    @classmethod
    def from_json(cls, line: str) -> Job:
        """Return the job that a line of JSON describes."""
        values = json.loads(line)
        values |= {
            "config": RunConfig.from_json(values["config"]),
            "folder": Path(values["folder"]),
            "precisions": tuple(values["precisions"]),
        }
        return cls(**values)


Runner = Callable[[Sequence[Job], Callable[[Job], None]], None]  # runs the jobs, calls back after each


def read_outcome(folder: Path) -> Outcome:
    """Return the outcome of the job with this folder; `unfinished` if there is none."""
    if (folder / "result.json").exists():
        return Outcome("done")
    stored = checkpoint.read_json(folder / FILE, OWNER)
    outcome = Outcome(**stored.content) if stored is not None else Outcome("unfinished")
    return outcome if outcome.status != "done" else Outcome("unfinished")  # its result was removed


def run_job(job: Job) -> Outcome:
    """Run a job in this process and return its outcome, which is also left in its folder unless it is done."""
    _forget_outcome(job)
    precisions = job.precisions or (job.config.precision,)
    options = {"progress": job.progress, "command": job.command, "limit_s": job.limit_s}
    try:
        run_precisions(job.config, precisions, out=job.folder, **options)  # type: ignore[arg-type]
    except TooLong as error:
        log.info("%s: %s", job.name, error)
        outcome = Outcome("not run", f"estimated {duration(error.estimate_s)}", error.estimate_s)
    except UsageError as error:
        outcome = Outcome("skipped", one_line(error), data=isinstance(error, DataError))
    except DDBenchError as error:
        outcome = Outcome("failed", one_line(error))
    except Exception as error:
        log.error("%s", traceback.format_exc())
        outcome = Outcome("failed", f"{type(error).__name__}: {one_line(error)}")
    else:
        return Outcome("done")
    _write_outcome(job, outcome)
    return outcome


def one_line(error: Exception) -> str:
    """Return the message of an error as one line."""
    return " ".join(str(error).split())


def _write_outcome(job: Job, outcome: Outcome) -> None:
    try:
        checkpoint.write_json(job.folder / FILE, asdict(outcome), OWNER)
    except (DDBenchError, OSError) as error:  # a folder that cannot be written, which is the outcome then
        log.warning("%s: %s (%s)", job.name, outcome.reason, one_line(error))


def _forget_outcome(job: Job) -> None:
    with suppress(OSError):
        (job.folder / FILE).unlink(missing_ok=True)


# --- runners ----------------------------------------------------------------------------------------------------------


def run_here(jobs: Sequence[Job], finished: Callable[[Job], None]) -> None:
    """Run jobs in this process, one after another."""
    for number, job in enumerate(jobs, 1):
        _announce(job, number, len(jobs))
        run_job(job)
        finished(job)


def _announce(job: Job, number: int, of: int) -> None:
    if of > 1:
        log.info("%s: %d of %d", job.name, number, of)


def run_in_processes(jobs: Sequence[Job], finished: Callable[[Job], None], *, workers: int = 1) -> None:
    """Run each job in a process of its own, so many at a time.

    A process does not outlive this one: when its input closes, it saves its progress and ends.
    """
    waiting, live = list(jobs), dict[subprocess.Popen[str], Job]()
    try:
        while waiting or live:
            while waiting and len(live) < workers:
                job = waiting.pop(0)
                _announce(job, len(jobs) - len(waiting), len(jobs))
                live[_start(job)] = job
            for process in [p for p in live if p.poll() is not None]:
                job = live.pop(process)
                _close_input(process)
                _note_death(job, process.returncode)
                finished(job)
            time.sleep(POLL_S)
    except BaseException:
        for process in live:
            _close_input(process)
        for process in live:
            process.wait()
        raise


def _start(job: Job) -> subprocess.Popen[str]:
    _forget_outcome(job)
    words = [sys.executable, "-c", START, str(log.getEffectiveLevel())]
    # A session of its own: Ctrl-C in the terminal reaches this process only, which passes it on once.
    process = subprocess.Popen(words, stdin=subprocess.PIPE, text=True, start_new_session=True)  # noqa: S603
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.write(job.to_json() + "\n")
            process.stdin.flush()
    return process


def _close_input(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()


def _note_death(job: Job, code: int) -> None:
    """Write the outcome of a process that ended without one, for example because the system killed it."""
    done = all(read_outcome(folder).status == "done" for folder in job.folders)
    if not done and read_outcome(job.folder).status == "unfinished":
        reason = f"its process was killed by signal {-code}, out of memory perhaps" if code < 0 else f"exit code {code}"
        _write_outcome(job, Outcome("failed", reason))


# --- a child process --------------------------------------------------------------------------------------------------


def main() -> int:
    """Run the job that standard input describes; return 130 if it was interrupted, with its progress saved."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it by inheritance
    logger = logging.getLogger("latentdd_plugin")
    logger.setLevel(int(sys.argv[1]))
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("  %(message)s"))
    logger.addHandler(handler)
    job = Job.from_json(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        run_job(job)
    except KeyboardInterrupt:
        return 130
    return 0


def _end_with_parent() -> None:
    while os.read(0, 64):  # not through sys.stdin, whose lock this thread would hold at the end
        pass
    os.kill(os.getpid(), signal.SIGINT)
