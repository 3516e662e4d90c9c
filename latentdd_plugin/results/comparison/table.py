"""A comparison as text for a person at 120 columns: both ledgers side by side, then what each cell costs."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from latentdd_plugin.core.monitor import duration
from latentdd_plugin.core.types import Json
from latentdd_plugin.results.pages import amount
from latentdd_plugin.results.statistics import mean_std, points

GAP = "   "  # between the ledgers
NOT_ASKED = "not asked for"


@dataclass(frozen=True)
class Line:
    """One line of the table: a codec, a method and a precision, with its cell in each ledger."""

    codec: str
    method: str
    precision: str
    random: bool  # random codes, what the lines after it have to beat
    cells: Mapping[str, Mapping[str, Json]]  # by ledger


def lines(data: Mapping[str, Json]) -> list[Line]:
    """The table's lines in order. Cells that are one run in two match spaces share a line; those left out have none."""
    rows = {row["name"]: row for row in data["cells"] if not left_out(row)}
    told = len({row["match"] for row in rows.values() if row["algo"] != "random"}) > 1
    one_space = {(row["codec"], row["algo"]) for row in rows.values() if _same_ledger(row, rows)}
    found: dict[tuple[str, str, str], dict[str, Mapping[str, Json]]] = {}
    for row in rows.values():
        if _same_ledger(row, rows):
            continue
        tag = told and row["algo"] != "random" and (row["codec"], row["algo"]) not in one_space
        method = f"{row['algo']} ({row['match']})" if tag else row["algo"]
        found.setdefault((row["codec"], method, row["precision"]), {})[row["ledger"]] = row
    return [Line(*key, random=key[1] == "random", cells=by) for key, by in found.items()]


def left_out(row: Mapping[str, Json]) -> bool:
    """Whether a cell has no result because nobody asked for it this time."""
    return bool(row["status"] == "not run" and row["reason"] == NOT_ASKED)


def _same_ledger(row: Mapping[str, Json], rows: Mapping[str, Mapping[str, Json]]) -> bool:
    other = rows.get(str(row["same_as"]))
    return other is not None and other["match"] != row["match"]


def reasons(data: Mapping[str, Json]) -> dict[str, int]:
    """Why cells, or evaluators in them, have no score, numbered in the order of the table."""
    found: dict[str, int] = {}
    for line in lines(data):
        for row in line.cells.values():
            texts = [row["reason"]] if row["status"] in ("skipped", "failed") else []
            texts += [f"{skip['evaluator']}: {skip['reason']}" for skip in row.get("skipped", [])]
            for text_ in texts:
                found.setdefault(str(text_), len(found) + 1)
    return found


def state(row: Mapping[str, Json] | None, evaluator: str, notes: Mapping[str, int]) -> str | None:
    """Why a cell shows no accuracy, in a few words with the number of its note; None where it has one."""
    if row is None:
        return "-"
    if row["status"] == "done":
        if evaluator in row["summary"]:
            return None
        why = [note for text_, note in notes.items() if text_.startswith(f"{evaluator}: ")]
        return f"unsuitable [{why[0]}]" if why else "no score"
    if row["status"] == "not run":
        return f"not run: {row['reason']}"
    note = notes.get(str(row["reason"]))
    return f"{row['status']} [{note}]" if note else str(row["status"])


def ledger_title(data: Mapping[str, Json], ledger: str) -> str:
    """What a ledger holds equal, with its amount."""
    images = f"{data['ipc']} image{'s' if data['ipc'] > 1 else ''}"
    if ledger == "count":
        return f"EQUAL COUNT: {images} a class"
    shape = (data["dataset"] or {}).get("image_shape")
    amount = f"{data['ipc'] * shape[0] * shape[1] * shape[2] * 4:,} bytes" if shape else images
    return f"EQUAL BYTES: {amount} a class"


# --- text -------------------------------------------------------------------------------------------------------------


def text(data: Mapping[str, Json]) -> str:
    """The whole comparison."""
    found, notes = lines(data), reasons(data)
    parts = []
    for evaluator in data["evaluators"]:
        parts.append(f"{_where(data)}, {evaluator}; codes and bytes a class")
        parts += _table(data, found, [_scores(data, line, evaluator, notes) for line in found], _score_heads(data))
        parts.append("")
    if any(row["status"] == "done" for row in data["cells"]):
        memory = ", peak memory of the process until then" if data["memory_per_cell"] else ""
        parts.append(f"What it takes: bytes of the whole set, time of the distillation{memory}")
        scored = [line for line in found if any(row["status"] == "done" for row in line.cells.values())]
        parts += _table(data, scored, [_costs(data, line) for line in scored], _cost_heads(data))
        parts.append("")
    parts += [f"[{number}] {reason}" for reason, number in notes.items()]
    others = sum(left_out(row) for row in data["cells"])
    parts += [f"{others} other cells were not asked for"] if others else []
    told = [textwrap.fill(paragraph, 110) for paragraph in reading(data)]
    return "\n".join([*parts, *([""] if notes else []), *told])


def _where(data: Mapping[str, Json]) -> str:
    if data["dataset"] is None:
        return "nothing has been scored"
    seeds = f"mean ± std over {data['protocol']['seeds']} seeds"
    scored = f"accuracy on {data['dataset']['test_size']:,} {data['scored_on']} images in %"
    return f"{data['dataset']['name']}, {data['protocol']['name']}, {scored}, {seeds}"


Block = list[str]  # a line's cells in one ledger; a single cell stands for all of them


def _score_heads(data: Mapping[str, Json]) -> list[Block]:
    return [["codes" if ledger == "bytes" else "bytes", "accuracy", "gain over random"] for ledger in data["ledgers"]]


def _scores(data: Mapping[str, Json], line: Line, evaluator: str, notes: Mapping[str, int]) -> list[Block]:
    blocks = []
    for ledger in data["ledgers"]:
        row = line.cells.get(ledger)
        why = state(row, evaluator, notes)
        if row is None or why is not None:
            blocks.append(["", str(why)])
            continue
        spent = row["budget"]
        held = spent["codes_per_class"] if ledger == "bytes" else spent["bytes_per_class"]
        gain = points(row["gain"].get(evaluator)) if row["gain"] else ""
        blocks.append([f"{held:,}", mean_std(row["summary"][evaluator]).replace("%", ""), gain])
    return blocks


def _cost_heads(data: Mapping[str, Json]) -> list[Block]:
    memory = ["peak MB"] if data["memory_per_cell"] else []
    return [["bytes", "with decoder", "time", *memory] for _ in data["ledgers"]]


def _costs(data: Mapping[str, Json], line: Line) -> list[Block]:
    blocks = []
    for ledger in data["ledgers"]:
        row = line.cells.get(ledger)
        if row is None or row["status"] != "done":
            blocks.append([""])
            continue
        spent, cost = row["budget"]["bytes"], row["cost"]
        memory = [f"{peak_mb(cost):,.0f}"] if data["memory_per_cell"] else []
        blocks.append(
            [amount(spent["total"]), amount(spent["total_with_decoder"]), duration(cost["distill_s"]), *memory]
        )
    return blocks


def peak_mb(cost: Mapping[str, Json]) -> float:
    """Peak memory until the end of the distillation, of the accelerator where there was one; nan if unknown."""
    return float(cost.get("distill_peak_device_mb") or cost.get("distill_peak_rss_mb") or "nan")


def _table(
    data: Mapping[str, Json], found: Sequence[Line], blocks: Sequence[list[Block]], heads: list[Block]
) -> list[str]:
    """Lines of text; every ledger is a group of columns under its title."""
    stubs = [["codec", "method", "stored"], *([line.codec, line.method, line.precision] for line in found)]
    left = [max(len(stub[i]) for stub in stubs) for i in range(3)]
    every = [heads, *blocks]
    widths = [
        [max((len(b[i][c]) for b in every if len(b[i]) == len(head)), default=0) for c in range(len(head))]
        for i, head in enumerate(heads)
    ]
    titles = [ledger_title(data, ledger) for ledger in data["ledgers"]]
    sums = [max(sum(w) + 2 * (len(w) - 1), len(title)) for w, title in zip(widths, titles, strict=True)]
    out = [GAP.join([" " * (sum(left) + 4), *(t.ljust(s) for t, s in zip(titles, sums, strict=True))]).rstrip()]
    last, signed = "", heads[0][-1].startswith("gain")
    for n, (stub, cells) in enumerate(zip(stubs, every, strict=True)):
        group = f"{stub[0]} {stub[2]}"
        if n == 1 or (n > 1 and group != last):
            out.append(("-" if n == 1 else "·") * (sum(left) + 4 + sum(sums) + len(GAP) * len(sums)))
        last = group
        shown = [_joined(cell, w, signed=signed).ljust(s) for cell, w, s in zip(cells, widths, sums, strict=True)]
        out.append(GAP.join(["  ".join(c.ljust(w) for c, w in zip(stub, left, strict=True)), *shown]).rstrip())
    return out


def _joined(block: Block, widths: Sequence[int], *, signed: bool) -> str:
    if len(block) < len(widths):
        return "  ".join([block[0].rjust(widths[0]), *block[1:]])
    numbers = [cell.rjust(w) for cell, w in zip(block[:-1], widths, strict=False)]
    last = block[-1].ljust(widths[-1]) if signed else block[-1].rjust(widths[-1])
    return "  ".join([*numbers, last])


def reading(data: Mapping[str, Json]) -> list[str]:
    """How to read the ledgers, in a few sentences."""
    told = []
    if "bytes" in data["ledgers"]:
        told.append(
            "Equal bytes: every line may store as much, so small or coarsely stored codes are more in number. It tells "
            "what is best for that storage; much of it is the codec's work."
        )
    if "count" in data["ledgers"]:
        told.append(
            "Equal count: every line trains on as many images, whatever they take. It tells how good one image is; "
            "mind the bytes beside it."
        )
    told.append(
        "Gain: points above random codes of the same codec, precision and number, paired by seed, with Student's t 95% "
        "interval. That is the algorithm's own work; an interval around 0 shows none. The decoder is the codec's, the "
        "same for any number of codes."
    )
    return told
