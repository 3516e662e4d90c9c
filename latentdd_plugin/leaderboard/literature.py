"""Published numbers as data: what papers report, with its source. They are shown, and never ranked or verified.

One file per source, `registry/literature/<name>.json`. A detail that the source does not state is null. A number that
should not be taken at face value is flagged, not deleted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from latentdd_plugin.artifacts.budget import image_bytes
from latentdd_plugin.core.json_record import JsonRecord, RecordOf, json_field
from latentdd_plugin.core.json_schema import COUNT, FRACTION, LINE, NOTE, POSITIVE, URL, Leaf, ListOf, word
from latentdd_plugin.core.types import Shape
from latentdd_plugin.results.formatting import count, percent

SCHEMA = "dd-bench/literature.v1"
REGIMES = ("hard", "soft", "views", "teacher")
WHOLE = "whole training set"  # the method of a number that no distilled set gave
ARXIV = Leaf(
    "an arXiv id like 2311.15547",
    lambda v: isinstance(v, str) and bool(re.fullmatch(r"\d{4}\.\d{4,5}", v, re.ASCII)),
    {"type": "string", "pattern": r"^\d{4}\.\d{4,5}$"},
)


@dataclass(frozen=True, kw_only=True)
class PublishedSource(JsonRecord):
    """A paper, or a page of a project."""

    title: str = json_field(LINE, "title of the paper or page")
    arxiv: str | None = json_field(ARXIV.or_null(), "arXiv id, or null")
    url: str = json_field(URL, "address where the numbers can be read")


@dataclass(frozen=True, kw_only=True)
class PublishedNumber(JsonRecord):
    """One accuracy as a source prints it."""

    method: str = json_field(LINE, f"method, as the source names it; `{WHOLE}` for no distillation")
    paper: str | None = json_field(ARXIV.or_null(), "arXiv id of the method's own paper, or null")
    dataset: str = json_field(LINE, "dataset")
    resolution: int | None = json_field(COUNT.or_null(), "side of its images in pixels, or null")
    ipc: int | None = json_field(COUNT.or_null(), "budget in images per class, or null")
    bytes_per_class: float | None = json_field(POSITIVE.or_null(), "budget in bytes per class, or null")
    counted: str | None = json_field(LINE.or_null(), "parts of the set that the budget counts, or null")
    evaluator: str | None = json_field(LINE.or_null(), "architecture that was trained, or null")
    protocol: str | None = json_field(LINE.or_null(), "how it was trained and scored, or null")
    labels: str | None = json_field(word(*REGIMES).or_null(), "label regime, or null")
    accuracy: float = json_field(FRACTION, "top-1 accuracy on test images, a fraction")
    deviation: float | None = json_field(FRACTION.or_null(), "its stated deviation, a fraction, or null")
    reported_by: str | None = json_field(
        word("authors", "others").or_null(), "`authors` of the method or `others`; null if that is unclear"
    )
    place: str | None = json_field(LINE.or_null(), "table or section of the source, or null")
    flag: str | None = json_field(LINE.or_null(), "reason not to take it at face value, or null")
    note: str | None = json_field(NOTE.or_null(), "anything else that a reader should know, or null")

    @property
    def accuracy_text(self) -> str:
        """The accuracy as text: `46.2% ± 0.8`."""
        return percent(self.accuracy) + (f" ± {100 * self.deviation:.1f}" if self.deviation is not None else "")

    @property
    def budget_text(self) -> str:
        """The budget as text: `10 IPC`, `13,400 bytes per class`."""
        if self.ipc is not None:
            return f"{self.ipc:,} IPC"
        return "all" if self.bytes_per_class is None else f"{self.bytes_per_class:,.0f} bytes per class"

    def size(self, image_shape: Shape) -> float | None:
        """Return its budget in bytes per class, an image counted at 32 bits per value; None without a budget."""
        if self.bytes_per_class is not None:
            return self.bytes_per_class
        return None if self.ipc is None else float(self.ipc * image_bytes(image_shape))

    @property
    def identity(self) -> tuple[object, ...]:
        """The statements that two numbers of one source may not share."""
        return (self.method, self.dataset, self.resolution, self.ipc, self.bytes_per_class, self.evaluator,
                self.protocol, self.labels, self.place)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Literature(JsonRecord):
    """The numbers of one source."""

    schema: str = json_field(word(SCHEMA), "name of this schema", default=SCHEMA)
    source: PublishedSource = json_field(RecordOf(PublishedSource), "where the numbers are printed")
    numbers: tuple[PublishedNumber, ...] = json_field(ListOf(RecordOf(PublishedNumber)), "the numbers")

    @property
    def link(self) -> str:
        """The source in a few characters: `arXiv 2311.15547`, or its title."""
        return f"arXiv {self.source.arxiv}" if self.source.arxiv else self.source.title


@dataclass(frozen=True)
class Reported:
    """A number beside its source."""

    number: PublishedNumber
    source: Literature

    @property
    def text(self) -> str:
        """The number in one line."""
        one = self.number
        parts = [one.budget_text, one.evaluator, f"{one.labels} labels" if one.labels else None]
        who = f", reported by {one.reported_by}" if one.reported_by else ""
        return f"{one.method}: {one.accuracy_text}, {', '.join(filter(None, parts))}{who}; {self.source.link}"


def faults(found: Literature) -> list[str]:
    """Return what is wrong with numbers beyond their form: a missing budget, two budgets, the same number twice."""
    wrong, seen = [], dict[tuple[object, ...], int]()
    if not found.numbers:
        wrong.append("numbers: none; there is nothing to show")
    for i, one in enumerate(found.numbers):
        budgets = sum(size is not None for size in (one.ipc, one.bytes_per_class))
        if budgets != (0 if one.method == WHOLE else 1):
            needed = "no budget" if one.method == WHOLE else "either ipc or bytes_per_class"
            wrong.append(f"numbers.{i}: {one.method} has {count(budgets, 'budget')}; it needs {needed}")
        if one.identity in seen:
            wrong.append(f"numbers.{i}: the same as numbers.{seen[one.identity]} in all but the accuracy")
        seen.setdefault(one.identity, i)
    return wrong


def reported(found: Sequence[Literature]) -> Iterator[Reported]:
    """Yield every number beside its source."""
    for source in found:
        yield from (Reported(one, source) for one in source.numbers)


def comparable(found: Sequence[Literature], dataset: str, image_shape: Shape, evaluator: str) -> list[Reported]:
    """Return the numbers for a dataset at a resolution under an architecture, the best first.

    A number's dataset and resolution name it together too: `imagenette` at 128 px is `imagenette128`. `ConvNet-D3` is
    a `convnet`. What a source does not state excludes nothing.
    """
    side = image_shape[-1]
    names = (dataset, dataset.removesuffix(str(side)))

    def fits(one: PublishedNumber) -> bool:
        trained = _plain(one.evaluator or evaluator)
        return one.dataset in names and one.resolution in (None, side) and trained.startswith(_plain(evaluator))

    kept = [one for one in reported(found) if fits(one.number)]
    return sorted(kept, key=lambda one: (-one.number.accuracy, one.text))


def _plain(name: str) -> str:
    """Return an architecture's name without case and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def by_dataset(found: Sequence[Literature]) -> dict[str, list[Reported]]:
    """Return the numbers by dataset and resolution, each list by budget and accuracy."""
    groups: dict[str, list[Reported]] = {}
    for one in reported(found):
        side = one.number.resolution
        groups.setdefault(one.number.dataset + (f", {side} px" if side else ""), []).append(one)
    for members in groups.values():
        members.sort(key=lambda r: (r.number.ipc or 0, r.number.bytes_per_class or 0, -r.number.accuracy, r.text))
    return dict(sorted(groups.items()))
