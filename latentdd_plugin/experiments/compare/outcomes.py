"""One cell run, here or in a process of its own, and what became of it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
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
from latentdd_plugin.experiments.run import run

log = logging.getLogger(__name__)

FILE = "outcome.json"  # beside a cell's files, while it has no record
OWNER = {"version": __version__}
POLL_S = 0.1
# `python -c` puts the working folder first on the path: nothing in it is imported by its name.
START = (
    "import sys; sys.path = [p for p in sys.path if p]; "
    "from latentdd_plugin.experiments.compare.worker import main; sys.exit(main())"
)


@dataclass(frozen=True)
class Outcome:
    """What became of a cell."""

    status: str  # done | not run | skipped | failed | unfinished
    reason: str | None = None
    estimate_s: float | None = None  # of a distillation that was refused as too long
    data: bool = False  # the data set's own fault, which every cell has

    def settled(self, limit_s: float | None) -> bool:
        """Whether running the cell again would give nothing new: it is done, or estimated above this limit too."""
        too_long = limit_s is not None and self.estimate_s is not None and self.estimate_s > limit_s
        return self.status == "done" or too_long


@dataclass(frozen=True)
class Order:
    """A cell to be run."""

    name: str
    config: RunConfig
    folder: Path
    command: str
    limit_s: float | None
    progress: bool

    def to_json(self) -> str:
        """As one line, for another process."""
        values: dict[str, Json] = {**vars(self), "config": self.config.to_json(), "folder": str(self.folder)}
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> Order:
        """The order that a line describes."""
        values = json.loads(text)
        config, folder = RunConfig.from_json(values["config"]), Path(values["folder"])
        return cls(**{**values, "config": config, "folder": folder})


def outcome_of(folder: Path) -> Outcome:
    """What a cell's folder says."""
    if (folder / "result.json").exists():
        return Outcome("done")
    stored = checkpoint.read_json(folder / FILE, OWNER)
    outcome = Outcome(**stored.content) if stored is not None else Outcome("unfinished")
    return outcome if outcome.status != "done" else Outcome("unfinished")  # it has no result any more


def run_here(order: Order) -> None:
    """Run a cell in this process; its failure is kept as its outcome."""
    with suppress(OSError):
        (order.folder / FILE).unlink(missing_ok=True)
    try:
        limit_s = order.limit_s
        run(order.config, out=order.folder, progress=order.progress, command=order.command, limit_s=limit_s)
    except TooLong as error:
        estimate = f"estimated {duration(error.estimate_s)}"
        _keep(order.folder, Outcome("not run", estimate, error.estimate_s))
        log.info("%s: %s", order.name, error)
    except UsageError as error:
        _keep(order.folder, Outcome("skipped", _line(error), data=isinstance(error, DataError)))
    except DDBenchError as error:
        _keep(order.folder, Outcome("failed", _line(error)))
    except Exception as error:
        log.error("%s", traceback.format_exc())
        _keep(order.folder, Outcome("failed", f"{type(error).__name__}: {_line(error)}"))


def run_apart(orders: Sequence[Order], workers: int, finished: Callable[[Order], None]) -> None:
    """Run cells in processes of their own, so many at a time; `finished` is called after each.

    A worker lives no longer than this process: when its input closes, it saves its progress and ends.
    """
    waiting, live = list(orders), dict[subprocess.Popen[str], Order]()
    try:
        while waiting or live:
            while waiting and len(live) < workers:
                order = waiting.pop(0)
                live[_started(order)] = order
            for process in [p for p in live if p.poll() is not None]:
                order = live.pop(process)
                _close(process)
                _settle(order, process.returncode)
                finished(order)
            time.sleep(POLL_S)
    except BaseException:
        for process in live:
            _close(process)
        for process in live:
            process.wait()
        raise


def _started(order: Order) -> subprocess.Popen[str]:
    with suppress(OSError):
        (order.folder / FILE).unlink(missing_ok=True)
    words = [sys.executable, "-c", START, str(log.getEffectiveLevel())]
    # A session of its own: Ctrl-C in the terminal reaches this process alone, which passes it on once.
    process = subprocess.Popen(words, stdin=subprocess.PIPE, text=True, start_new_session=True)  # noqa: S603
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.write(order.to_json() + "\n")
            process.stdin.flush()
    return process


def _close(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()


def _settle(order: Order, code: int) -> None:
    """A worker that ended without a word, killed by the system perhaps, gets its outcome from us."""
    if outcome_of(order.folder).status == "unfinished":
        reason = f"its process was killed by signal {-code}, out of memory perhaps" if code < 0 else f"exit code {code}"
        _keep(order.folder, Outcome("failed", reason))


def _keep(folder: Path, outcome: Outcome) -> None:
    checkpoint.write_json(folder / FILE, asdict(outcome), OWNER)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
