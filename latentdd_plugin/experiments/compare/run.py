"""Run a grid cell by cell, continue an interrupted one, and write one table of all cells."""

from __future__ import annotations

import csv
import functools
import io
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from latentdd_plugin.core.compute import resolve_device
from latentdd_plugin.core.errors import DataError, UsageError
from latentdd_plugin.core.monitor import duration
from latentdd_plugin.core.storage import atomic_write, locked
from latentdd_plugin.core.types import hash_json
from latentdd_plugin.experiments.compare.grid import Cell, Grid, cells
from latentdd_plugin.experiments.jobs import Job, Outcome, Runner, read_outcome, run_here, run_in_processes
from latentdd_plugin.experiments.run_folder import RunFolder
from latentdd_plugin.results.comparison.comparison import Comparison
from latentdd_plugin.results.comparison.page import write_page
from latentdd_plugin.results.comparison.plot import draw
from latentdd_plugin.results.comparison.rate_plot import PublishedPoint, draw_curves
from latentdd_plugin.results.comparison.record import NOT_ASKED, ComparedCell
from latentdd_plugin.results.environment import command_line
from latentdd_plugin.results.record import Record
from latentdd_plugin.results.statistics import gains

log = logging.getLogger(__name__)


def compare(
    grid: Grid,
    *,
    out: Path | str | None = None,
    limit_s: float | None = 3600.0,
    jobs: int = 1,
    in_process: bool = False,
    progress: bool = False,
    command: str | None = None,
    only: Callable[[Cell], bool] | None = None,
    runner: Runner | None = None,
    published: Callable[[Comparison], Sequence[PublishedPoint]] | None = None,
) -> Comparison:
    """Run every cell that has no result yet, cheap ones first, and write table, plot and page.

    Args:
        grid: the axes of the comparison.
        out: the folder; None makes `runs/compare-<dataset>-<hash>`. Cells are ordinary run folders in its `cells/`;
            finished ones are not run again, unfinished ones are continued.
        limit_s: seconds; a cell whose distillation is estimated, from its first steps, to take longer is not run.
        jobs: number of cells to run at a time; each takes the threads of its configuration.
        in_process: run cells in this process, one after another; their peak memory is unknown then.
        progress: show progress bars on stderr.
        command: the command to record; None takes this process's.
        only: selects the cells to run; None runs all. The others are rows without a result, if they have none.
        runner: runs the jobs somewhere else, for example on a cluster; None runs them on this machine.
        published: gives the points of other works that the plot of a rate curve shows beside the results.

    Returns:
        The comparison, also in `out/compare.json`. A cell that cannot be run, or fails, is a row with a reason.

    Raises:
        UsageError: a fault of the grid or the dataset, or the folder holds other runs under these names.
    """
    found = cells(grid)
    resolve_device(grid.base.device)
    folder = Path(out) if out is not None else _default_out(found)
    RunFolder(folder).refuse_unwritable()
    _check_folders(found, folder)
    command = command or command_line()
    here = runner is None
    apart = here and (not in_process or jobs > 1)
    if runner is None:
        runner = functools.partial(run_in_processes, workers=max(1, jobs)) if apart else run_here
    with locked(folder, wait=False):
        chosen = [cell for cell in found if only is None or only(cell)]
        missing = _missing_jobs(chosen, folder, limit_s, command, progress=progress and jobs == 1)
        log.info("%d cells, %d to run%s", len(found), len(missing), _added(chosen))
        ended, started = 0, time.monotonic()

        def finished(job: Job) -> None:
            nonlocal ended
            ended += 1
            outcome = read_outcome(job.folder)
            if outcome.data:  # every other cell has this fault too
                raise DataError(outcome.reason or "")
            told = f"{outcome.status}: {outcome.reason}" if outcome.reason else outcome.status
            left = _left(time.monotonic() - started, ended, len(missing)) if here else ""
            log.info("%s: %s%s", job.name, told, left)
            _comparison(grid, found, chosen, folder, command, apart=apart).save()

        runner(missing, finished)
        comparison = _comparison(grid, found, chosen, folder, command, apart=apart)
        _write(comparison, published(comparison) if published and comparison.rates else ())
    return comparison


def _left(elapsed_s: float, ended: int, of: int) -> str:
    """Return a remark on the cells that have not ended and the time they take at the pace so far; empty if none are."""
    left = of - ended
    return f"; {left} to go, {duration(elapsed_s / ended * left)} at this pace" if left else ""


def _added(chosen: Sequence[Cell]) -> str:
    """Return a remark on the baselines among the cells that were not asked for by name."""
    added = sum(cell.added and cell.config is not None for cell in chosen)
    return f"; {added} are baselines beside those asked for (--controls none leaves them out)" if added else ""


def _default_out(found: Sequence[Cell]) -> Path:
    configs = [cell.config for cell in found if cell.config]
    name = Path(configs[0].dataset.name).name if configs else "nothing"
    return Path("runs") / f"compare-{name}-{hash_json([config.to_json() for config in configs])[:8]}"


def _check_folders(found: Sequence[Cell], folder: Path) -> None:
    faults: list[str] = []
    for cell in found:
        try:
            if cell.config is not None:
                RunFolder(folder / "cells" / cell.name).finished(cell.config)
        except UsageError as error:
            faults += error.faults
    if faults:
        raise UsageError(faults)


def _missing_jobs(
    found: Sequence[Cell], folder: Path, limit_s: float | None, command: str, *, progress: bool
) -> list[Job]:
    """Return a job for each cell that has no result, in the order in which to run them."""
    missing = []
    for cell in sorted(found, key=lambda cell: cell.cost):
        if cell.config is not None:
            path = folder / "cells" / cell.name
            if not read_outcome(path).is_final(limit_s):
                own = f"cell {cell.name} of: {command}"
                missing.append(Job(cell.name, cell.config, path, own, limit_s, progress))
    return missing


# --- results ----------------------------------------------------------------------------------------------------------


def _comparison(
    grid: Grid, found: Sequence[Cell], chosen: Sequence[Cell], folder: Path, command: str, *, apart: bool
) -> Comparison:
    outcomes, records = dict[str, Outcome](), dict[str, Record]()
    for cell in found:
        path = folder / "cells" / cell.name
        if cell.config is not None:
            outcomes[cell.name] = read_outcome(path)
            if cell not in chosen and outcomes[cell.name].status == "unfinished":
                outcomes[cell.name] = Outcome("not run", NOT_ASKED)
            if outcomes[cell.name].status == "done":
                records[cell.name] = Record.load(path)
    first = next(iter(records.values()), None)
    return Comparison(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=command,
        ipc=grid.base.ipc or 1,
        ledgers=("bytes",) if grid.rates else tuple(grid.ledgers),
        rates=tuple(grid.rates) or None,
        evaluators=tuple(grid.base.evaluators),
        memory_per_cell=apart,
        dataset=first.dataset if first else None,
        protocol=first.protocol if first else None,
        scored_on=first.scored_on if first else None,
        environment=first.environment if first else None,
        cells=_with_gains([_compared(cell, outcomes, records) for cell in found]),
        folder_or_none=folder,
    )


def _compared(cell: Cell, outcomes: Mapping[str, Outcome], records: Mapping[str, Record]) -> ComparedCell:
    run = cell.same_as or cell.name
    outcome = Outcome("skipped", cell.reason) if cell.reason else outcomes[run]
    record = records.get(run)
    result = {"folder": None} if record is None else ComparedCell.result_of(record, f"cells/{run}")
    return ComparedCell(
        name=cell.name,
        ledger=cell.ledger,
        codec=cell.codec,
        algo=cell.algo,
        match=cell.match,
        precision=cell.precision,
        labels=None if cell.labels == "own" else cell.labels,
        reason=outcome.reason,
        same_as=cell.same_as,
        added=cell.added,
        rate=cell.rate,
        status=outcome.status,
        estimate_s=outcome.estimate_s,
        **result,
    )


def _with_gains(compared: Sequence[ComparedCell]) -> tuple[ComparedCell, ...]:
    """Return the cells, those without baselines of their own compared with random codes among the cells.

    Random codes are of the same codec, precision, labels and column.
    """
    random = {cell.place: cell for cell in compared if cell.is_random and cell.status == "done"}
    return tuple(_against(cell, random.get(cell.place)) for cell in compared)


def _against(cell: ComparedCell, random: ComparedCell | None) -> ComparedCell:
    if random is None or cell.is_random or cell.scores is None or cell.control is not None:
        return cell
    return replace(cell, control=random.summary, gain=gains(cell.scores, random.scores or ()))


def _write(comparison: Comparison, published: Sequence[PublishedPoint]) -> None:
    comparison.save()
    with atomic_write(comparison.folder / "compare.csv") as temporary:
        temporary.write_text(_csv(comparison))
    draw(comparison.folder / "pareto.png", comparison)
    draw_curves(comparison.folder / "rate.png", comparison, published)
    write_page(comparison.folder / "report.html", comparison)


def _csv(comparison: Comparison) -> str:
    """Return one line per cell and evaluator; fractions and bytes as plain numbers."""
    lines = list(comparison.rows())
    file = io.StringIO()
    writer = csv.DictWriter(file, list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()
