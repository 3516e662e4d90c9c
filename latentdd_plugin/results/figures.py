"""The look that all plots share: ink that reads on white and on black, few lines, a PNG without a date."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

INK = "#7c8189"  # read on white and on black alike: the background is transparent
COLOURS = ("#0b8f77", "#d9822b", "#4c7be0", "#c2488d", "#8a63d2", "#9a8b1f", "#2fa3c7", "#c9503c")
MARKERS = "osD^vPX*<>ph"


def new_figure(
    panels: int, width: float = 5.6, height: float = 4.6, *, rows: int = 1, shared: bool = True
) -> tuple[Any, Any]:
    """Return a figure and its axes side by side, row by row.

    Args:
        panels: number of axes in a row.
        width: of one of them, in inches.
        height: of a row, in inches.
        rows: number of rows.
        shared: whether they have one vertical scale; those below each other have one horizontal scale.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * panels, height * rows), dpi=170, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, panels, sharex="col", sharey=shared, squeeze=False).ravel()


def draw_frame(axis: Any) -> None:
    """Draw the grid, and the left and the lower side of the frame."""
    axis.grid(True, which="major", color=INK, alpha=0.25, linewidth=0.6)
    axis.tick_params(colors=INK, which="both")
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)


def draw_interval(axis: Any, x: float, ends: Sequence[float] | None, colour: str) -> None:
    """Draw a thin vertical line between the ends of an interval, if there is one."""
    if ends is not None:
        axis.plot([x, x], list(ends), color=colour, linewidth=1, alpha=0.45, zorder=2)


def png_of(figure: Any) -> bytes:
    """Return the figure as a PNG with a transparent background; equal figures give equal bytes."""
    file = io.BytesIO()
    figure.savefig(file, format="png", transparent=True, metadata={"Software": None})
    return file.getvalue()
