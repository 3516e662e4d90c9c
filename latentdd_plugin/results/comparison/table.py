"""A comparison as text of about 120 columns: both ledgers side by side, then the cost of each cell."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from latentdd_plugin.core.monitor import duration
from latentdd_plugin.results.comparison.record import ComparedCell, ComparisonRecord
from latentdd_plugin.results.entries import TeacherEntry
from latentdd_plugin.results.formatting import amount, count, number, percent, text_table

GAP = "   "  # between the ledgers
Block = list[list[str]]  # a header and the cells of every line in one ledger; a short row runs on


@dataclass(frozen=True)
class Line:
    """One line of the table: a codec, a method and a precision, with its cell in each ledger."""

    codec: str
    method: str
    precision: str
    random: bool  # random codes, what the lines after it must beat
    cells: Mapping[str, ComparedCell]  # by column: ledger, or budget in bytes per class

    @property
    def done(self) -> bool:
        """True if a cell of the line has a result."""
        return any(cell.status == "done" for cell in self.cells.values())


def lines(comparison: ComparisonRecord) -> list[Line]:
    """Return the table's lines, those of one codec, precision and label regime together.

    Cells that are one run in two match spaces share a line.
    """
    cells = {cell.name: cell for cell in comparison.cells if not cell.left_out}
    tagged = len({cell.match for cell in cells.values() if not cell.is_random}) > 1
    one_space = {(cell.codec, cell.algo) for cell in cells.values() if _other_space(cell, cells)}
    found: dict[tuple[str, str, str], dict[str, ComparedCell]] = {}
    for cell in cells.values():
        if _other_space(cell, cells):
            continue
        tag = tagged and not cell.is_random and (cell.codec, cell.algo) not in one_space
        method = f"{cell.algo} ({cell.match})" if tag else cell.algo
        found.setdefault((cell.codec, method, cell.stored), {})[cell.column] = cell
    made = [Line(*key, random=key[1] == "random", cells=by_ledger) for key, by_ledger in found.items()]
    groups = list(dict.fromkeys((line.codec, line.precision) for line in made))
    return sorted(made, key=lambda line: groups.index((line.codec, line.precision)))


def _other_space(cell: ComparedCell, cells: Mapping[str, ComparedCell]) -> bool:
    """Return True if the cell is the same run as one in another match space."""
    other = cells.get(str(cell.same_as))
    return other is not None and other.match != cell.match


def reasons(comparison: ComparisonRecord) -> dict[str, int]:
    """Return why cells, or evaluators in them, have no score or fewer codes, numbered in the order of the table."""
    found: dict[str, int] = {}
    for line in lines(comparison):
        for cell in line.cells.values():
            texts = [str(cell.reason)] if cell.status in ("skipped", "failed") else []
            texts += [f"{row.evaluator}: {row.reason}" for row in cell.skipped or ()]
            texts += [cell.budget.shortfall] if cell.budget and cell.budget.shortfall else []
            for text_ in texts:
                found.setdefault(text_, len(found) + 1)
    return found


def state(cell: ComparedCell | None, evaluator: str, notes: Mapping[str, int]) -> str | None:
    """Return why a cell shows no accuracy, with the number of its note; None if it has one."""
    if cell is None:
        return "-"
    if cell.status == "done":
        if cell.accuracy(evaluator) is not None:
            return None
        why = [note for text_, note in notes.items() if text_.startswith(f"{evaluator}: ")]
        return f"unsuitable [{why[0]}]" if why else "no score"
    if cell.status == "not run":
        return f"not run: {cell.reason}"
    note = notes.get(str(cell.reason))
    return f"{cell.status} [{note}]" if note else cell.status


def mark(cell: ComparedCell, notes: Mapping[str, int]) -> str:
    """Return the number of the note that says why a cell holds fewer codes than fit; empty if it does not."""
    short = cell.budget and cell.budget.shortfall
    return f" [{notes[short]}]" if short else ""


def ledger_title(comparison: ComparisonRecord, ledger: str) -> tuple[str, str]:
    """Return the name of a column and the amount that it holds equal."""
    if ledger.isdigit():
        return "equal bytes", f"{int(ledger):,} bytes per class"
    images = f"{count(comparison.ipc, 'image')} per class"
    if ledger == "count":
        return "equal count", images
    if comparison.dataset is None:
        return "equal bytes", images
    c, h, w = comparison.dataset.image_shape
    return "equal bytes", f"{comparison.ipc * c * h * w * 4:,} bytes per class"


# --- text -------------------------------------------------------------------------------------------------------------


def text(comparison: ComparisonRecord) -> str:
    """Return the whole comparison as text."""
    found, notes = lines(comparison), reasons(comparison)
    parts = []
    for evaluator in comparison.evaluators:
        parts.append(f"{_where(comparison)}, {evaluator}; codes and bytes per class")
        blocks = [_scores(comparison, found, ledger, evaluator, notes) for ledger in comparison.columns]
        parts += [*_table(comparison, found, blocks), ""]
    scored = [line for line in found if line.done]
    if scored:
        memory = ", peak memory of the process until then" if comparison.memory_per_cell else ""
        parts.append(f"Cost: bytes of the whole set, time of the distillation{memory}")
        blocks = [_costs(scored, ledger, comparison) for ledger in comparison.columns]
        parts += [*_table(comparison, scored, blocks), ""]
    parts += [f"[{n}] {reason}" for reason, n in notes.items()]
    others = sum(cell.left_out for cell in comparison.cells)
    parts += [f"{others} other cells were not asked for"] if others else []
    paragraphs = [textwrap.fill(paragraph, 110) for paragraph in reading(comparison)]
    return "\n".join([*parts, *([""] if notes else []), *paragraphs, *_to_take(comparison)])


def _to_take(comparison: ComparisonRecord) -> list[str]:
    """Return where the set with the highest accuracy lies, and how to score it on the test images."""
    best = comparison.best(comparison.evaluators[0], comparison.columns[0])
    if best is None or best.artifact is None or comparison.folder_or_none is None:
        return []
    path = comparison.folder_or_none / best.artifact
    title, equal = ledger_title(comparison, comparison.columns[0])
    found = ["", f"Highest at {title} ({equal}): {best.codec} + {best.algo}, {best.stored}:", str(path)]
    if comparison.scored_on == "validation":
        found.append("The test images have not been read. To score this set on them, once:")
        found.append(f"dd-bench evaluate {path} split=test")
    return found


def _where(comparison: ComparisonRecord) -> str:
    dataset, protocol = comparison.dataset, comparison.protocol
    if dataset is None or protocol is None:
        return "nothing has been scored"
    scored = f"accuracy on {dataset.test_size:,} {comparison.scored_on} images in %"
    return f"{dataset.name}, {protocol.name}, {scored}, mean ± std over {protocol.seeds} seeds"


def _scores(
    comparison: ComparisonRecord, found: Sequence[Line], ledger: str, evaluator: str, notes: Mapping[str, int]
) -> Block:
    block = [["bytes" if ledger == "count" else "codes", "accuracy", "gain over random"]]
    for line in found:
        cell = line.cells.get(ledger)
        why = state(cell, evaluator, notes)
        accuracy = None if cell is None else cell.accuracy(evaluator)
        if cell is None or cell.budget is None or accuracy is None:
            block.append(["", str(why)])
            continue
        held = comparison.codes_per_class(cell) if ledger != "count" else cell.budget.bytes_per_class
        gain = cell.gain_over_random(evaluator) or ("-" if cell.gain else "")
        block.append([number(held) + mark(cell, notes), str(accuracy).replace("%", ""), str(gain)])
    return block


def _costs(found: Sequence[Line], ledger: str, comparison: ComparisonRecord) -> Block:
    memory = comparison.memory_per_cell
    block = [[*size_heads(comparison), "time", *(["peak MB"] if memory else [])]]
    for line in found:
        cell = line.cells.get(ledger)
        if cell is None or cell.status != "done" or cell.budget is None or cell.cost is None:
            block.append([""])
            continue
        peak = [f"{cell.cost.distill_peak_mb:,.0f}"] if memory else []
        block.append([*map(amount, sizes(cell, comparison)), duration(cell.cost.distill_s or 0), *peak])
    return block


def size_heads(comparison: ComparisonRecord) -> list[str]:
    """Return what the sizes of a cell are: with labels or a teacher, their bytes too, and the sum of all."""
    if comparison.has_label_bytes:
        return ["bytes", "of labels", "decoder", "teacher", "in all", "file"]
    return ["bytes", "decoder", "file"]


def sizes(cell: ComparedCell, comparison: ComparisonRecord) -> list[int]:
    """Return the sizes of a finished cell that `size_heads` names."""
    if cell.budget is None:
        return []
    spent = cell.budget.bytes
    if comparison.has_label_bytes:
        parts = [spent.labels, spent.decoder, spent.teacher or 0]
        return [spent.total, *parts, spent.total_with_teacher, spent.file]
    return [spent.total, spent.decoder, spent.file]


def _table(comparison: ComparisonRecord, found: Sequence[Line], blocks: Sequence[Block]) -> list[str]:
    """Return lines of text; every ledger is a group of columns under its title."""
    stubs = text_table([["codec", "method", "stored"], *([x.codec, x.method, x.precision] for x in found)])
    groups = [text_table(block, align=">><" if block[0][-1].startswith("gain") else ">>>>>>") for block in blocks]
    titles = []
    for ledger in comparison.columns:
        name, equal = ledger_title(comparison, ledger)
        titles.append(equal if comparison.rates else f"{name.upper()}: {equal}")
    rows = text_table([["", *titles], *([*cells] for cells in zip(stubs, *groups, strict=True))], gap=GAP)
    width, out = max(map(len, rows)), rows[:2]
    for n, line in enumerate(found):
        before = found[n - 1] if n else None
        if before is None or (before.codec, before.precision) != (line.codec, line.precision):
            out.append(("·" if n else "-") * width)
        out.append(rows[n + 2])
    return out


def reading(comparison: ComparisonRecord) -> list[str]:
    """Return a few sentences on how to read the ledgers."""
    paragraphs = []
    if "bytes" in comparison.ledgers:
        paragraphs.append(
            "Equal bytes: every line may store the same number of bytes, so small or coarsely stored codes are more in "
            "number. This shows what is best for that storage; much of it is due to the codec."
        )
    if "count" in comparison.ledgers:
        paragraphs.append(
            "Equal count: every line trains on the same number of images, whatever bytes they take. This shows how "
            "good one image is; mind the bytes beside it."
        )
    if comparison.has_label_bytes:
        paragraphs.append(
            "Every byte: the set with its labels, the decoder and the teacher. Stored labels are inside the budget, so "
            "fewer codes fit. The teacher is outside of it: under `teacher` labels it is asked at every step and must "
            "be kept with the set; stored labels and chosen samples need it only once."
        )
        paragraphs += [f"Teacher: {_described(one)} on {comparison.scored_on} images." for one in comparison.teachers]
    paragraphs.append(
        "File: everything on disk. Scales, class numbers and the header are in it, and outside of the budget."
    )
    same = "codec, precision, labels" if comparison.has_label_bytes else "codec, precision"
    paragraphs.append(
        f"Gain: points above random codes of the same {same} and number, paired by seed, with Student's t 95% "
        f"interval{_unlike(comparison)}. The gain is due to the distiller; an interval around 0 shows none. The "
        "decoder belongs to the codec and is the same for any number of codes."
    )
    return paragraphs


def _described(teacher: TeacherEntry) -> str:
    networks = "" if teacher.networks == 1 else f"{teacher.networks} networks of "
    return f"{networks}{teacher.arch}, {amount(teacher.bytes)}, {percent(teacher.accuracy)}"


def _unlike(comparison: ComparisonRecord) -> str:
    """Return a remark on gains over fewer random codes; empty if all are over equal numbers."""
    pairs = [(cell, comparison.random_beside(cell)) for cell in comparison.cells if cell.gain]
    short = any(one and comparison.codes_per_class(cell) != comparison.codes_per_class(one) for cell, one in pairs)
    return " (over fewer random codes where a note says that a class has no more images)" if short else ""
