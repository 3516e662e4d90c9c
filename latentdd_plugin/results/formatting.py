"""Numbers and tables as people read them. Every page, plot and command takes its wording from here."""

from __future__ import annotations

from collections.abc import Sequence


def percent(fraction: float | None, digits: int = 1) -> str:
    """Format a fraction: `44.2%`; `-` for None."""
    return "-" if fraction is None else f"{100 * fraction:.{digits}f}%"


def points(difference: float) -> str:
    """Format a difference of fractions in percentage points: `+2.1`."""
    return f"{100 * difference:+.1f}"


def number(n: float) -> str:
    """Format a number of things, a mean with one decimal: `192`, `63.8`."""
    return f"{n:,.1f}".removesuffix(".0")


def count(n: float, noun: str) -> str:
    """Format a number of things with their name: `1 code`, `31 codes`, `63.8 codes`."""
    return f"{number(n)} {noun}{'' if n == 1 else 's'}"


def amount(size: float) -> str:
    """Format bytes in a few characters: `640 B`, `20 kB`, `1.5 MB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size:.3g} B"


def text_table(rows: Sequence[Sequence[str]], *, align: str = "", gap: str = "  ") -> list[str]:
    """Return the lines of a table in plain text.

    Args:
        rows: cells; the first row is the header. The last cell of a shorter row runs on over the columns it lacks.
        align: `<` or `>` per column; columns without one are aligned left.
        gap: text between columns.
    """
    columns = len(rows[0])
    sides = align.ljust(columns, "<")
    full = [row if len(row) == columns else row[:-1] for row in rows]
    widths = [max((len(row[i]) for row in full if i < len(row)), default=0) for i in range(columns)]
    lines = []
    for row in rows:
        counted = len(row) if len(row) == columns else len(row) - 1
        cells = [f"{cell:{side}{width}}" for cell, side, width in zip(row[:counted], sides, widths, strict=False)]
        lines.append(gap.join([*cells, *row[counted:]]).rstrip())
    return lines


def ruled(lines: Sequence[str], mark: str = "-") -> list[str]:
    """Return a table's lines with a rule below the header."""
    return [lines[0], mark * max(map(len, lines)), *lines[1:]]
