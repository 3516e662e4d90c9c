"""Every result under a folder as one data frame, or as a table for a paper."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from latentdd_plugin.core.errors import ArtifactError, UsageError
from latentdd_plugin.results.evaluation import Evaluation
from latentdd_plugin.results.formatting import number
from latentdd_plugin.results.record import RANDOM_CODES, Baseline, Record
from latentdd_plugin.results.record_file import RecordFile
from latentdd_plugin.results.statistics import Accuracy, Gain

log = logging.getLogger(__name__)

FORMATS = ("csv", "md", "latex")
LATEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "%": r"\%", "&": r"\&", "_": r"\_", "#": r"\#", "$": r"\$",
         "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}  # fmt: skip


def results_frame(folder: Path | str) -> Any:
    """Return a pandas data frame with one row per trained network of every run and evaluation under a folder.

    Its columns are those of `record.rows()` and `folder`, where the record lies. Rows of a baseline name it in
    `baseline`, which is empty for the method itself.

    Args:
        folder: a run, a comparison, or any folder above them.

    Raises:
        UsageError: there is no result under it.
    """
    import pandas as pd

    return pd.DataFrame(list(_rows(Path(folder))))


def results_text(folder: Path | str, kind: str) -> str:
    """Return the results under a folder as text.

    Args:
        folder: as for `results_frame`.
        kind: `csv`, a line per trained network; `md` or `latex` (with booktabs), a line per method and baseline with
            mean ± deviation over seeds and the gain over random codes.

    Raises:
        UsageError: there is no result under the folder.
    """
    if kind == "csv":
        rows = list(_rows(Path(folder)))
        file = io.StringIO()
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return file.getvalue()
    runs = [record for record in _records(Path(folder)) if isinstance(record, Record)]
    if not runs:
        raise UsageError(f"{folder}: evaluations alone, and no run; --format csv shows them")
    table = _table(runs)
    return _markdown(table) if kind == "md" else _latex(table)


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    for record in _records(folder):
        yield from ({**row, "folder": str(record.folder)} for row in record.rows())


def _records(folder: Path) -> list[RecordFile]:
    """Return every run and evaluation under a folder; what cannot be read is named in the log."""
    found: list[RecordFile] = []
    kinds: tuple[type[RecordFile], ...] = (Record, Evaluation)
    for cls in kinds:
        for path in sorted(folder.rglob(cls.file)):
            try:
                found.append(cls.load(path.parent))
            except ArtifactError as error:
                log.warning("left out: %s", error.faults[0])
    if not found:
        raise UsageError(f"{folder}: there is no result.json or evaluation.json in it or below it that can be read")
    return found


# --- a table for a paper ----------------------------------------------------------------------------------------------


def _table(runs: Sequence[Record]) -> list[list[str]]:
    """Return a header and a row per method and baseline; baselines that runs share stand there once."""
    evaluators = list(dict.fromkeys(name for run in runs for name in run.summary))
    labelled = any(run.regime != "own" for run in runs)
    head = ["dataset", "method", "precision", *(["labels"] if labelled else []), "codes/class", "bytes", "protocol"]
    head += [text for name in evaluators for text in (f"{name}, %", "gain")]
    rows, own = [], {_identity(run, run) for run in runs}
    for run in runs:
        gains = {name: run.gain(name) for name in evaluators}
        rows.append(_row(run, run.method, run, evaluators, gains, labelled=labelled))
        for name, one in run.scored_baselines.items():
            if _identity(run, one) in own:  # it is a run under this folder too
                continue
            title = f"{name} ({run.codec.name})" if name == RANDOM_CODES else name
            rows.append(_row(run, title, one, evaluators, {}, labelled=labelled))
    return [head, *sorted({tuple(row): row for row in rows}.values(), key=lambda row: row[0])]


def _identity(run: Record, entry: Record | Baseline) -> tuple[str, ...]:
    """Return what makes two rows one: the file, the labels and the recipe under which it was scored."""
    return entry.artifact.sha256, run.regime, run.protocol.sha256, run.scored_on


def _row(
    run: Record,
    title: str,
    entry: Record | Baseline,
    evaluators: Sequence[str],
    gains: Mapping[str, Gain | None],
    *,
    labelled: bool,
) -> list[str]:
    budget = entry.budget
    codes = number(budget.stored_per_class(len(run.dataset.classes)))
    cells = [run.dataset.name, title, budget.precision, *([run.regime] if labelled else []), codes]
    cells += [f"{budget.bytes.total:,}", run.protocol.name]
    for name in evaluators:
        gain = gains.get(name)
        cells.append(_accuracy(entry.summary.get(name)))
        cells.append("" if gain is None else f"{100 * gain.mean:+.1f} {gain.interval}".strip())
    return cells


def _accuracy(found: Accuracy | None) -> str:
    if found is None:
        return "-"
    return f"{100 * found.mean:.1f}" + (f" ± {100 * found.std:.1f}" if found.std is not None else "")


def _markdown(table: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
    return "\n".join([lines[0], "|" + "---|" * len(table[0]), *lines[1:]]) + "\n"


def _latex(table: Sequence[Sequence[str]]) -> str:
    lines = [" & ".join("".join(LATEX.get(sign, sign) for sign in cell) for cell in row) + r" \\" for row in table]
    left = table[0].index("codes/class")
    right = len(table[0]) - left
    head = [rf"\begin{{tabular}}{{{'l' * left}{'r' * right}}}", r"\toprule", lines[0], r"\midrule"]
    return "\n".join([*head, *lines[1:], r"\bottomrule", r"\end{tabular}"]) + "\n"
