"""Run a grid cell by cell, go on where it was left, and put what came out into one table."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from latentdd_plugin.core.compute import resolve_device
from latentdd_plugin.core.errors import DataError, UsageError
from latentdd_plugin.core.storage import atomic_write, locked
from latentdd_plugin.core.types import hash_json
from latentdd_plugin.experiments.compare.grid import Cell, Grid, cells
from latentdd_plugin.experiments.compare.outcomes import Order, Outcome, outcome_of, run_apart, run_here
from latentdd_plugin.experiments.run_folder import RunFolder
from latentdd_plugin.results.comparison.comparison import Comparison
from latentdd_plugin.results.comparison.page import write_page
from latentdd_plugin.results.comparison.plot import draw
from latentdd_plugin.results.comparison.record import NOT_ASKED, ComparedCell
from latentdd_plugin.results.environment import command_line
from latentdd_plugin.results.record import Record

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
    launch: Callable[[Sequence[Order]], None] | None = None,
) -> Comparison:
    """Run every cell that has no result yet, cheap ones first, and write table, plot and page.

    Args:
        grid: what to compare.
        out: the folder; None makes `runs/compare-<dataset>-<hash>`. Cells are ordinary run folders in its `cells/`;
            those that are finished are not run again, unfinished ones are continued.
        limit_s: a cell whose distillation is estimated, from its first steps, to take more seconds is not run.
        jobs: how many cells at a time; each takes the threads of its configuration.
        in_process: run cells in this process, one after another; their peak memory cannot be told apart then.
        progress: show progress bars on stderr.
        command: what to record as the command; None takes this process's.
        only: which cells to run; None runs all. The others are rows without a result, if they have none.
        launch: runs the orders in its own way, on other machines perhaps, and returns when all have ended; None runs
            them here.

    Returns:
        The comparison, also in `out/compare.json`. A cell that cannot be run, or fails, is a row that says why.

    Raises:
        UsageError: the grid or the data set is at fault, or the folder holds other runs under these names.
    """
    found = cells(grid)
    resolve_device(grid.base.device)
    folder = Path(out) if out is not None else _default_out(found)
    RunFolder(folder).refuse_unwritable()
    _check_folders(found, folder)
    command = command or command_line()
    apart = launch is None and (not in_process or jobs > 1)
    with locked(folder, wait=False):
        chosen = [cell for cell in found if only is None or only(cell)]
        orders = _orders(chosen, folder, limit_s, command, progress=progress and jobs == 1)
        log.info("%d cells, %d to run", len(found), len(orders))

        def finished(order: Order) -> None:
            outcome = outcome_of(order.folder)
            _refuse_bad_data(outcome)
            log.info("%s: %s", order.name, f"{outcome.status}: {outcome.reason}" if outcome.reason else outcome.status)
            _comparison(grid, found, chosen, folder, command, apart=apart).save()

        if launch is not None:
            launch(orders)
            for order in orders:
                _refuse_bad_data(outcome_of(order.folder))
        elif apart:
            run_apart(orders, max(1, jobs), finished)
        else:
            for order in orders:
                run_here(order)
                finished(order)
        comparison = _comparison(grid, found, chosen, folder, command, apart=apart)
        _write(comparison)
    return comparison


def _refuse_bad_data(outcome: Outcome) -> None:
    """DataError where a cell met a fault of the data set, which all others have too."""
    if outcome.data:
        raise DataError(outcome.reason or "")


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


def _orders(found: Sequence[Cell], folder: Path, limit_s: float | None, command: str, *, progress: bool) -> list[Order]:
    """What is left to do, in the order in which to do it."""
    orders = []
    for cell in sorted(found, key=lambda cell: cell.cost):
        if cell.config is not None:
            path, why = folder / "cells" / cell.name, f"cell {cell.name} of: {command}"
            if not outcome_of(path).settled(limit_s):
                orders.append(Order(cell.name, cell.config, path, why, limit_s, progress))
    return orders


# --- what it leaves ---------------------------------------------------------------------------------------------------


def _comparison(
    grid: Grid, found: Sequence[Cell], chosen: Sequence[Cell], folder: Path, command: str, *, apart: bool
) -> Comparison:
    outcomes, records = dict[str, Outcome](), dict[str, Record]()
    for cell in found:
        path = folder / "cells" / cell.name
        if cell.config is not None:
            outcomes[cell.name] = outcome_of(path)
            if cell not in chosen and outcomes[cell.name].status == "unfinished":
                outcomes[cell.name] = Outcome("not run", NOT_ASKED)
            if outcomes[cell.name].status == "done":
                records[cell.name] = Record.load(path)
    first = next(iter(records.values()), None)
    return Comparison(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=command,
        ipc=grid.base.ipc or 1,
        ledgers=tuple(grid.ledgers),
        evaluators=tuple(grid.base.evaluators),
        memory_per_cell=apart,
        dataset=first.dataset if first else None,
        protocol=first.protocol if first else None,
        scored_on=first.scored_on if first else None,
        environment=first.environment if first else None,
        cells=tuple(_compared(cell, outcomes, records) for cell in found),
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
        reason=outcome.reason,
        same_as=cell.same_as,
        added=cell.added,
        status=outcome.status,
        estimate_s=outcome.estimate_s,
        **result,
    )


def _write(comparison: Comparison) -> None:
    comparison.save()
    with atomic_write(comparison.folder / "compare.csv") as temporary:
        temporary.write_text(_csv(comparison))
    draw(comparison.folder / "pareto.png", comparison)
    write_page(comparison.folder / "report.html", comparison)


def _csv(comparison: Comparison) -> str:
    """Return one line per cell and evaluator; fractions and bytes as plain numbers."""
    lines = list(comparison.rows())
    file = io.StringIO()
    writer = csv.DictWriter(file, list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()
