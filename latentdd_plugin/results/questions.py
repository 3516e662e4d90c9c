"""Questions of the latent-space papers, answered from codec cards, comparisons and runs: a Markdown page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from latentdd_plugin.results.cards import CodecCard
from latentdd_plugin.results.comparison.record import ComparisonRecord
from latentdd_plugin.results.entries import BudgetEntry, CodecEntry, Cost, DatasetEntry
from latentdd_plugin.results.formatting import number
from latentdd_plugin.results.record import Record
from latentdd_plugin.results.statistics import text_of

PROPERTIES: dict[str, Callable[[CodecCard], float]] = {
    "PSNR": lambda card: card.quality.psnr.mean,
    "SSIM": lambda card: card.quality.ssim.mean,
    "values per code": lambda card: card.values.code,
    "fewer decoder bytes": lambda card: -card.codec.decoder_bytes,
}
FEWEST = 5  # codecs that a rank correlation needs
SMALLEST = 32  # px; below, a step takes as long as starting it


def questions_page(
    title: str,
    cards: Sequence[CodecCard],
    comparisons: Sequence[ComparisonRecord],
    runs: Sequence[Record],
    pictures: Mapping[str, str] | None = None,
) -> str:
    """Return the page.

    Args:
        title: of the page.
        cards: measured codecs.
        comparisons: codecs and methods at one budget, each on images of one size.
        runs: submitted results.
        pictures: address of a plot by the name that `questions_plots.draw` gives it.
    """
    sections: list[tuple[str, str, str, list[list[str]]]] = [
        ("cost", "Time, memory and bytes by resolution", COSTS, costs(comparisons, runs)),
        ("fidelity", "The reduction factor: values and fidelity", FACTORS, fidelity(cards)),
        ("spaces", "Classification in codes and in pixels", SPACES, spaces(cards)),
        ("gains", "Distilled against random codes", GAINS, gains(runs)),
        ("properties", "Properties of a codec and accuracy", RANKS, ranks(cards)),
    ]
    parts = [f"# {title}\n\n{OPENING}\n"]
    for name, heading, text, rows in sections:
        address = (pictures or {}).get(name)
        parts += [f"## {heading}\n\n{text}\n", *([f"![{heading}]({address})\n"] if address else [])]
        parts.append(f"{table(rows) if len(rows) > 1 else 'Nothing is on record yet.'}\n")
    return "\n".join(parts)


OPENING = """\
Written by `dd-bench suite page` from records alone: codec cards, submitted results and the runs of the suite. Every
accuracy can be computed again from its record's configuration; times depend on the machine and on its other work."""
COSTS = """\
Each row is a run at the bytes of one image per class, from the registry or from the suite. Milliseconds are the median
step of the distillation; encoding is short where codes lay in the cache; memory is the peak of the process up to the
end of the distillation, Python and its libraries included."""
FACTORS = """\
From the codec cards. `f` pixels of a side become one value of a side of the code; PSNR and SSIM are those of held-out
training images that were encoded and decoded."""
SPACES = """\
Networks of one recipe trained on all real images: on pixels, on images that went through the codec, and on codes. The
last column is codes less pixels, in percentage points with the 95% interval over seeds."""
GAINS = """\
From the registry. The gain is the method's accuracy less that of as many random codes of the same codec, in percentage
points with the 95% interval over seeds. Results with fewer than three seeds have no interval and are left out."""
RANKS = """\
Spearman's rank correlation over the codecs that were measured on a dataset, with the two-sided p-value. Few codecs
give wide uncertainty, and pixels themselves are one of them."""


def costs(comparisons: Sequence[ComparisonRecord], runs: Sequence[Record]) -> list[list[str]]:
    """Return the rows of time, memory and bytes, by image side; runs without timed steps are left out."""
    rows = [
        ["dataset", "codec", "method", "values per code", "codes per class", "encode, s", "ms per step", "peak MB",
         "bytes"]
    ]  # fmt: skip
    return rows + [_cost(*one) for one in timed(comparisons, runs)]


Measured = tuple[DatasetEntry, CodecEntry, str, BudgetEntry, Cost]  # dataset, codec, method, bytes and cost of a run


def timed(comparisons: Sequence[ComparisonRecord], runs: Sequence[Record]) -> list[Measured]:
    """Return the runs whose steps were timed, by image side."""
    found = [one for one in _measured(comparisons, runs) if one[-1].step_ms_median is not None]
    return sorted(found, key=lambda one: (one[0].image_shape[-1], one[0].name, one[2], one[1].name))


def _measured(comparisons: Sequence[ComparisonRecord], runs: Sequence[Record]) -> Iterator[Measured]:
    """Yield dataset, codec, method, bytes and cost of every run."""
    for comparison in comparisons:
        for cell in comparison.cells:
            if comparison.dataset and cell.parts and cell.budget and cell.cost:
                yield comparison.dataset, cell.parts.codec, cell.algo, cell.budget, cell.cost
    for run in runs:
        if run.dataset.image_shape[-1] >= SMALLEST:
            yield run.dataset, run.codec, run.distiller.name, run.budget, run.cost


def _cost(dataset: DatasetEntry, codec: CodecEntry, method: str, budget: BudgetEntry, cost: Cost) -> list[str]:
    c, h, w = codec.code_shape
    return [
        f"{dataset.name}, {dataset.image_shape[-1]} px",
        _codec(codec),
        f"`{method}`",
        f"{c * h * w:,}",
        number(budget.stored_per_class(len(dataset.classes))),
        _number(cost.encode_s, 1),
        _number(cost.step_ms_median, 0),
        _number(cost.distill_peak_rss_mb, 0),
        f"{budget.bytes.total:,}",
    ]


def fidelity(cards: Sequence[CodecCard]) -> list[list[str]]:
    """Return the rows of size and fidelity, by dataset and by the number of values."""
    rows = [["dataset", "codec", "f", "values per code", "compression", "PSNR, dB", "SSIM", "decoder bytes"]]
    order = sorted(cards, key=lambda card: (card.dataset.name, -card.values.code, card.codec.name))
    return rows + [_fidelity(card) for card in order]


def _fidelity(card: CodecCard) -> list[str]:
    return [
        _data(card),
        _codec(card.codec),
        f"{card.dataset.image_shape[-1] / card.codec.code_shape[-1]:g}" if card.codec.spatial else "-",
        f"{card.values.code:,}",
        f"{card.values.compression:g}",
        f"{card.quality.psnr.mean:.1f}",
        f"{card.quality.ssim.mean:.3f}",
        f"{card.codec.decoder_bytes:,}",
    ]


def spaces(cards: Sequence[CodecCard]) -> list[list[str]]:
    """Return the rows of accuracies in pixels, reconstructions and codes."""
    rows = [["dataset", "codec", "pixels", "reconstructions", "codes", "codes - pixels"]]
    for card in sorted(cards, key=lambda card: (card.dataset.name, card.codec.name, card.values.compression)):
        found = card.accuracy
        for name in found.pixels.summary:
            accuracies = [text_of(space.summary, name) for space in found.spaces.values()]
            rows.append([_data(card), _codec(card.codec), *accuracies, text_of(found.codes.difference, name)])
    return rows


def gains(runs: Sequence[Record]) -> list[list[str]]:
    """Return the rows of accuracies of methods and of random codes, with the gain."""
    rows = [["dataset", "method", "codes per class", "bytes", "evaluator", "distilled", "random codes", "gain"]]
    for run in sorted(runs, key=lambda run: (run.dataset.name, run.codec.name, run.codes_per_class)):
        random = run.random_codes
        for name, gain in random.gain.items() if random else ():
            if random and gain.ci95:
                size = [number(run.codes_per_class), f"{run.budget.bytes.total:,}"]
                accuracies = [text_of(run.summary, name), text_of(random.summary, name)]
                rows.append([run.dataset.name, f"`{run.method}`", *size, name, *accuracies, str(gain)])
    return rows


def ranks(cards: Sequence[CodecCard]) -> list[list[str]]:
    """Return the rows of rank correlations between a property and the accuracy on reconstructions and on codes."""
    rows = [["dataset", "codecs", "property", "with accuracy on reconstructions", "with accuracy on codes"]]
    for data in dict.fromkeys(_data(card) for card in sorted(cards, key=lambda card: card.dataset.name)):
        measured = [card for card in cards if _data(card) == data]
        if len(measured) < FEWEST:
            continue
        for name, value in PROPERTIES.items():
            values = [value(card) for card in measured]
            cells = [_correlation(values, list(_means(measured, space))) for space in ("reconstructions", "codes")]
            rows.append([data, str(len(measured)), name, *cells])
    return rows


def _means(cards: Sequence[CodecCard], space: str) -> Iterator[float]:
    for card in cards:
        yield next(iter(card.accuracy.spaces[space].summary.values())).mean


def _correlation(values: Sequence[float], accuracies: Sequence[float]) -> str:
    from scipy.stats import spearmanr

    found = spearmanr(values, accuracies)
    return f"{found.statistic:+.2f} (p = {found.pvalue:.2f})"


def _data(card: CodecCard) -> str:
    return f"{card.dataset.name}, {card.dataset.image_shape[-1]} px"


def codec_name(codec: CodecEntry) -> str:
    """Return the codec's name with its reduction factor and its enlargement, if it has them."""
    words = [codec.name, *(f"f={value}" for key, value in codec.config.items() if key == "f")]
    return " ".join([*words, *([f"u={codec.upsample}"] if codec.upsample > 1 else [])])


def _codec(codec: CodecEntry) -> str:
    return f"`{codec_name(codec)}`"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, the header first, as a Markdown table."""
    lines = [f"| {' | '.join(row)} |" for row in rows if row]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
