"""Run a grid cell by cell, go on where it was left, and put what came out into one table."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import ClassVar

from latentdd_plugin.core.compute import resolve_device
from latentdd_plugin.core.errors import DataError, UsageError
from latentdd_plugin.core.storage import atomic_write, locked
from latentdd_plugin.core.types import Json, hash_json
from latentdd_plugin.experiments.compare.grid import Cell, Grid, cells
from latentdd_plugin.experiments.compare.outcomes import Order, Outcome, outcome_of, run_apart, run_here
from latentdd_plugin.experiments.run_folder import RunFolder
from latentdd_plugin.results.comparison.page import write_page
from latentdd_plugin.results.comparison.plot import draw
from latentdd_plugin.results.comparison.table import NOT_ASKED, text
from latentdd_plugin.results.environment import command_line
from latentdd_plugin.results.record import Record

log = logging.getLogger(__name__)

COPIED = ("budget", "summary", "scores", "skipped", "cost")  # from a cell's record
SHARED = ("dataset", "protocol", "scored_on", "environment")  # equal in all cells


class Comparison(Record):
    """A comparison: the content of its `compare.json`, and where it lies."""

    schema: ClassVar[str] = "dd-bench/compare.v1"
    file: ClassVar[str] = "compare.json"

    def table(self) -> str:
        """Both ledgers side by side, what each cell costs, what was not run and why, and how to read it."""
        return text(self.data)

    @property
    def failed(self) -> bool:
        """Whether a cell that should have run did not end well."""
        return any(row["status"] in ("failed", "unfinished") for row in self.data["cells"])


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
    outcomes, records = {}, {}
    for cell in found:
        path = folder / "cells" / cell.name
        if cell.config is not None:
            outcomes[cell.name] = outcome_of(path)
            if cell not in chosen and outcomes[cell.name].status == "unfinished":
                outcomes[cell.name] = Outcome("not run", NOT_ASKED)
            if outcomes[cell.name].status == "done":
                records[cell.name] = Record.load(path).data
    rows = [_row(cell, outcomes, records) for cell in found]
    first: Mapping[str, Json] = next(iter(records.values()), {})
    content = {
        "schema": Comparison.schema,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "ipc": grid.base.ipc or 1,
        "ledgers": list(grid.ledgers),
        "evaluators": list(grid.base.evaluators),
        "memory_per_cell": apart,
        **{key: first.get(key) for key in SHARED},
        "cells": rows,
    }
    return Comparison(content, folder)


def _row(cell: Cell, outcomes: Mapping[str, Outcome], records: Mapping[str, Mapping[str, Json]]) -> dict[str, Json]:
    run = cell.same_as or cell.name
    outcome = Outcome("skipped", cell.reason) if cell.reason else outcomes[run]
    row: dict[str, Json] = {key: value for key, value in asdict(cell).items() if key not in ("config", "cost")}
    row |= {"status": outcome.status, "reason": outcome.reason, "estimate_s": outcome.estimate_s}
    record = records.get(run)
    if record is None:
        return {**row, "folder": None}
    control = record["controls"].get("random-codes", {})
    return {
        **row,
        "folder": f"cells/{run}",
        "parts": {"codec": record["codec"], "distiller": record["distiller"]},
        **{key: record[key] for key in COPIED},
        "control": control.get("summary"),
        "gain": control.get("gain", {}),
    }


def _write(comparison: Comparison) -> None:
    comparison.save()
    with atomic_write(comparison.folder / "compare.csv") as temporary:
        temporary.write_text(_csv(comparison.data))
    draw(comparison.folder / "pareto.png", comparison.data)
    write_page(comparison.folder / "report.html", comparison.data)


def _csv(data: Mapping[str, Json]) -> str:
    """One line for each cell and evaluator; fractions and bytes as plain numbers."""
    lines = []
    for row in data["cells"]:
        known = {key: row[key] for key in ("ledger", "codec", "algo", "match", "precision", "status", "reason")}
        spent, cost = row.get("budget", {}), row.get("cost", {})
        for evaluator in data["evaluators"]:
            stats = row.get("summary", {}).get(evaluator) or {}
            gain, interval = row.get("gain", {}).get(evaluator) or {}, stats.get("ci95") or (None, None)
            sure = gain.get("ci95") or (None, None)
            lines.append(
                {
                    **known,
                    "evaluator": evaluator,
                    "accuracy": stats.get("mean"),
                    "std": stats.get("std"),
                    "seeds": stats.get("n"),
                    "ci95_low": interval[0],
                    "ci95_high": interval[1],
                    "gain_over_random": gain.get("mean"),
                    "gain_ci95_low": sure[0],
                    "gain_ci95_high": sure[1],
                    "codes_per_class": spent.get("codes_per_class"),
                    "bytes": spent.get("bytes", {}).get("total"),
                    "bytes_with_decoder": spent.get("bytes", {}).get("total_with_decoder"),
                    "distill_s": cost.get("distill_s"),
                    "step_ms": cost.get("step_ms_median"),
                    "evaluate_s": cost.get("evaluate_s"),
                    "peak_mb": cost.get("distill_peak_rss_mb") if data["memory_per_cell"] else None,
                    "same_as": row["same_as"],
                }
            )
    file = io.StringIO()
    writer = csv.DictWriter(file, list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()
