"""Plots of the page that answers the latent-space papers' questions, from the records of its tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from latentdd_plugin.results.cards import CodecCard
from latentdd_plugin.results.comparison.record import ComparisonRecord
from latentdd_plugin.results.figures import COLOURS, INK, MARKERS, draw_frame, draw_interval, new_figure, png_of
from latentdd_plugin.results.questions import codec_name, timed
from latentdd_plugin.results.record import Record

EXACT = 100.0  # dB, from which on a codec gives back every pixel
Series = Mapping[str, Sequence[tuple[float, float]]]  # points by the name of their line or group


def draw(
    cards: Sequence[CodecCard], comparisons: Sequence[ComparisonRecord], runs: Sequence[Record]
) -> dict[str, bytes]:
    """Return PNG files by section of the page; a section without records has none.

    Args:
        cards: measured codecs.
        comparisons: codecs and methods at one budget, each on images of one size.
        runs: submitted results.
    """
    found = {
        "cost": _cost(comparisons, runs),
        "fidelity": _fidelity(cards),
        "spaces": _spaces(cards),
        "gains": _gains(runs),
        "properties": _properties(cards),
    }
    return {name: png_of(figure) for name, figure in found.items() if figure is not None}


def _cost(comparisons: Sequence[ComparisonRecord], runs: Sequence[Record]) -> Any:
    """Draw milliseconds per step and peak memory by image side, of the method that was timed most often."""
    every = timed(comparisons, runs)
    if not every:
        return None
    method = Counter(one[2] for one in every).most_common(1)[0][0]
    figure, axes = new_figure(2, shared=False)
    for axis, label in zip(axes, (f"ms per step of {method}", "peak memory, MB"), strict=True):
        series: dict[str, list[tuple[float, float]]] = {}
        for dataset, codec, name, _, cost in every:
            value = cost.step_ms_median if axis is axes[0] else cost.distill_peak_rss_mb
            if name == method and value is not None:
                series.setdefault(codec_name(codec), []).append((dataset.image_shape[-1], value))
        _draw_series(axis, series, line="-")
        _on_plain_logarithms(axis.xaxis, base=2)
        _on_plain_logarithms(axis.yaxis)
        axis.set_xlabel("image side, px", color=INK)
        axis.set_ylabel(label, color=INK)
    return _with_legend(figure, axes[0])


def _fidelity(cards: Sequence[CodecCard]) -> Any:
    """Draw PSNR by the values of a code, a panel per dataset; pixels themselves have none."""
    points = _points(cards, lambda card: (card.values.code, card.quality.psnr.mean))
    figure = _panels(points, "values per code", "PSNR, dB")
    for axis in figure.axes if figure else ():
        _on_plain_logarithms(axis.xaxis)
    return figure


def _properties(cards: Sequence[CodecCard]) -> Any:
    """Draw the accuracy on reconstructions by PSNR, a panel per dataset; pixels themselves have none."""
    points = _points(cards, lambda card: (card.quality.psnr.mean, _accuracy(card, "reconstructions")))
    return _panels(points, "PSNR, dB", "accuracy on reconstructions, %")


def _spaces(cards: Sequence[CodecCard]) -> Any:
    """Draw the accuracies on pixels, reconstructions and codes of each codec, a panel per dataset."""
    groups = _by_data(cards)
    names = {data: list(dict.fromkeys(codec_name(card.codec) for card in group)) for data, group in groups.items()}
    points = {
        data: {
            space: [(names[data].index(codec_name(card.codec)), _accuracy(card, space)) for card in group]
            for space in ("pixels", "reconstructions", "codes")
        }
        for data, group in groups.items()
    }
    figure = _panels(points, "", "accuracy, %")
    for axis, places in zip(figure.axes if figure else (), names.values(), strict=False):
        axis.set_xticks(range(len(places)), places, rotation=30, ha="right", fontsize=8)
    return figure


def _gains(runs: Sequence[Record]) -> Any:
    """Draw the gain over random codes by codes per class, with intervals, a panel per dataset."""
    found: dict[str, list[tuple[str, float, float, tuple[float, float]]]] = {}
    for run in runs:
        random = run.random_codes
        for gain in random.gain.values() if random else ():
            if gain.ci95:
                one = (run.distiller.name, run.codes_per_class, gain.mean, gain.ci95)
                found.setdefault(run.dataset.name, []).append(one)
    if not found:
        return None
    figure, axes = new_figure(len(found), 3.8)
    methods = list(dict.fromkeys(one[0] for group in found.values() for one in group))
    for axis, (data, group) in zip(axes, found.items(), strict=True):
        series = {name: [(codes, 100 * mean) for method, codes, mean, _ in group if method == name] for name in methods}
        for method, codes, _, ends in group:
            draw_interval(axis, codes, [100 * end for end in ends], COLOURS[methods.index(method) % len(COLOURS)])
        _draw_series(axis, series)
        axis.axhline(0, color=INK, linewidth=0.8, linestyle="--")
        _on_plain_logarithms(axis.xaxis)
        axis.set_title(data, color=INK, fontsize=10)
        axis.set_xlabel("codes per class", color=INK)
    axes[0].set_ylabel("gain over random codes, points", color=INK)
    return _with_legend(figure, axes[0])


def _points(
    cards: Sequence[CodecCard], place: Callable[[CodecCard], tuple[float, float]]
) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Return the places of the cards by dataset and codec, without codecs that give back every pixel."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for data, group in _by_data(cards).items():
        for card in group:
            if card.quality.psnr.mean < EXACT:
                found.setdefault(data, {}).setdefault(codec_name(card.codec), []).append(place(card))
    return found


def _panels(points: Mapping[str, Series], across: str, up: str) -> Any:
    """Draw groups of points, a panel per dataset with one legend for all."""
    if not points:
        return None
    figure, axes = new_figure(len(points), 3.8, shared=False)
    names = list(dict.fromkeys(name for series in points.values() for name in series))
    for axis, (data, series) in zip(axes, points.items(), strict=True):
        _draw_series(axis, {name: series.get(name, []) for name in names})
        axis.set_title(data, color=INK, fontsize=10)
        axis.set_xlabel(across, color=INK)
    axes[0].set_ylabel(up, color=INK)
    return _with_legend(figure, axes[0])


def _draw_series(axis: Any, series: Series, line: str = "") -> None:
    """Draw each group in a colour and with a mark of its own; empty groups take their place in the legend."""
    for number, (name, points) in enumerate(series.items()):
        colour, mark = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        ordered = sorted(points)
        axis.plot([x for x, _ in ordered], [y for _, y in ordered], marker=mark, linestyle=line, color=colour,
                  linewidth=1.2, markersize=6, label=name)  # fmt: skip
    draw_frame(axis)


def _on_plain_logarithms(axis: Any, base: int = 10) -> None:
    """Give an axis a logarithmic scale with a few whole numbers on it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(base=base, subs=(1,) if base == 2 else (1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_minor_formatter(NullFormatter())


def _with_legend(figure: Any, axis: Any) -> Any:
    """Add the legend of one panel below all of them."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(5, len(labels)),
        frameon=False,
        labelcolor=INK,
        fontsize=9,
    )
    return figure


def _by_data(cards: Iterable[CodecCard]) -> dict[str, list[CodecCard]]:
    """Return the cards by dataset and image side."""
    found: dict[str, list[CodecCard]] = {}
    for card in sorted(cards, key=lambda card: (card.dataset.name, card.codec.name)):
        found.setdefault(f"{card.dataset.name}, {card.dataset.image_shape[-1]} px", []).append(card)
    return found


def _accuracy(card: CodecCard, space: str) -> float:
    """Return the mean accuracy of the first evaluator in a space, in percent."""
    return 100 * next(iter(card.accuracy.spaces[space].summary.values())).mean
