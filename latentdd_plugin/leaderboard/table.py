"""The leaderboard's table: submissions that may be compared, at equal bytes, at equal count, and by every byte.

In the first two ledgers, labels of one regime compete. The third counts labels, decoder and teacher, so all regimes
compete there, and a rank counts the entries that reach more with as few bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from latentdd_plugin.core.types import Shape
from latentdd_plugin.leaderboard.records import WITHIN
from latentdd_plugin.leaderboard.registry import STALE, STATUSES, Submission
from latentdd_plugin.results.formatting import count, percent, points
from latentdd_plugin.results.record import RANDOM_CODES, Record

UNRANKED = ("failed", STALE)
LEDGERS = {"bytes": "Equal bytes", "count": "Equal count", "all": "Every byte"}
LEARNED = "learned"  # soft labels that the method made itself


@dataclass(frozen=True)
class Field:
    """The conditions that two accuracies must share to be compared."""

    dataset: str
    images: str  # shape
    protocol: str
    evaluator: str
    split: str
    labels: str  # regime; `hard` if the method's own labels are class numbers, empty if all compete
    fingerprints: tuple[str, str]  # of the dataset and of the protocol
    shape: Shape  # of an image

    @property
    def title(self) -> str:
        """The conditions in a few words."""
        split = "" if self.split == "test" else f", {self.split} images"
        labels = "" if self.labels in ("", "hard") else f", {self.labels} labels"
        return f"{self.dataset} {self.images}, {self.evaluator}{split}{labels}"


@dataclass(frozen=True)
class Reference:
    """A baseline's accuracy; bytes are those of a class."""

    name: str  # of the baseline, and for random codes of the codec
    codec: str  # empty for pixels
    accuracy: float
    bytes: float
    bytes_all: float  # with the decoder


@dataclass(frozen=True)
class Entry:
    """One submission's accuracy under one evaluator. Accuracies are fractions, bytes are those of a class."""

    field: Field
    key: str  # `<suite>/<slug>`
    name: str  # what was run
    submitter: str
    codec: str
    fingerprint: str  # of the codec
    algo: str
    match: str
    precision: str
    architectures: tuple[str, ...]
    status: str
    levels: tuple[str, ...]  # of verification that it has passed
    selection: str
    accuracy: float  # recomputed if the bits did not have to agree
    accuracy_text: str
    claimed_text: str  # the claim's own, if another one is shown
    interval: tuple[float, float] | None
    gain: float | None
    gain_text: str
    gain_interval: str
    clear: str  # up or down where the gain's interval leaves out zero
    budget: int  # bytes that were allowed
    bytes: float  # spent on codes and labels
    bytes_all: float  # and on the decoder
    decoder: int  # bytes of the whole decoder
    labels: str  # regime
    label_bytes: float
    teacher: int  # bytes of the whole teacher; 0 if there is none
    teacher_name: str
    bytes_everything: float  # codes, labels, decoder and teacher
    images: float  # decoded images per class, a mean
    references: tuple[Reference, ...]  # its baselines

    @property
    def ranked(self) -> bool:
        """True if it may hold a rank: not refuted, not changed since it was checked, selection known."""
        return self.status not in UNRANKED and self.selection == "last-iterate"


@dataclass(frozen=True)
class Group:
    """Entries that compete: one field, one size."""

    field: Field
    size: str
    rows: tuple[tuple[Entry, str, str], ...]  # entry, its rank, its rank with the decoder counted; best first


def entries(submissions: Sequence[Submission]) -> list[Entry]:
    """Every accuracy of every submission."""
    return [_entry(s, evaluator) for s in submissions for evaluator in s.record.summary]


def _entry(submission: Submission, evaluator: str) -> Entry:
    record = submission.record
    budget, classes = record.budget, len(record.dataset.classes)
    accuracy, gain = submission.accuracy(evaluator), record.gain(evaluator)
    return Entry(
        field=_field(record, evaluator),
        key=f"{submission.suite}/{submission.slug}",
        name=record.method,
        submitter=submission.claim.name,
        codec=record.codec.name,
        fingerprint=record.codec.fingerprint,
        algo=record.distiller.name,
        match=record.distiller.match,
        precision=budget.precision,
        architectures=tuple(record.summary),
        status=submission.status,
        levels=submission.levels,
        selection=record.selection,
        accuracy=accuracy.mean,
        accuracy_text=str(accuracy),
        claimed_text=str(record.summary[evaluator]) if submission.status == WITHIN else "",
        interval=accuracy.ci95,
        gain=gain.mean if gain else None,
        gain_text=points(gain.mean) if gain else "",
        gain_interval=gain.interval if gain else "",
        clear=gain.direction if gain else "",
        budget=budget.bytes_per_class,
        bytes=budget.bytes.total / classes,
        bytes_all=budget.bytes.total_with_decoder / classes,
        decoder=budget.bytes.decoder,
        labels=_labels(record),
        label_bytes=budget.bytes.labels / classes,
        teacher=budget.bytes.teacher or 0,
        teacher_name=_teacher_name(record),
        bytes_everything=budget.bytes.total_with_teacher / classes,
        images=budget.stored_per_class(classes),
        references=_references(record, evaluator),
    )


def _field(record: Record, evaluator: str) -> Field:
    """Return the competition that a result enters."""
    dataset, protocol = record.dataset, record.protocol
    return Field(
        dataset=dataset.name,
        images=dataset.shape_text,
        protocol=protocol.name,
        evaluator=evaluator,
        split=record.scored_on,
        labels=_labels(record),
        fingerprints=(dataset.fingerprint, protocol.sha256),
        shape=dataset.image_shape,
    )


def _labels(record: Record) -> str:
    """Return the regime that competes: the method's own labels are class numbers, or soft ones that it learned."""
    if record.regime != "own":
        return record.regime
    return LEARNED if record.budget.bytes.labels else "hard"


def _teacher_name(record: Record) -> str:
    if record.teacher is None:
        return ""
    networks = f"{record.teacher.networks} x " if record.teacher.networks > 1 else ""
    return f"{networks}{record.teacher.arch}, {percent(record.teacher.accuracy)}"


def _references(record: Record, evaluator: str) -> tuple[Reference, ...]:
    """Return the baselines that were scored under an evaluator; random codes of pixels are random pixels."""
    classes, found = len(record.dataset.classes), []
    for name, one in record.scored_baselines.items():
        codec = record.codec.name if name == RANDOM_CODES else ""
        if evaluator in one.summary and codec != "identity":
            spent = one.budget.bytes
            title = f"{name}, {codec}" if codec else name
            sizes = (spent.total / classes, spent.total_with_decoder / classes)
            found.append(Reference(title, codec, one.summary[evaluator].mean, *sizes))
    return tuple(found)


def ledgers(found: Sequence[Entry]) -> dict[str, list[Group]]:
    """Return the groups of each ledger, by field and size."""
    return {
        "bytes": _groups(
            found, lambda e: e.budget, lambda n: f"{n:,} bytes per class", lambda e: e.bytes_all <= e.budget
        ),
        "count": _groups(found, lambda e: e.images, lambda n: f"{count(n, 'decoded image')} per class", lambda e: True),
        "all": _by_front(found),
    }


def _groups(
    found: Sequence[Entry],
    size: Callable[[Entry], float],
    said: Callable[[float], str],
    within: Callable[[Entry], bool],
) -> list[Group]:
    """Entries by field and size; `within` says who keeps a rank when the decoder is counted."""
    groups: dict[tuple[Field, float], list[Entry]] = {}
    for entry in found:
        groups.setdefault((entry.field, size(entry)), []).append(entry)
    made = []
    for (field, n), members in sorted(groups.items(), key=lambda item: (_order(item[0][0]), item[0][1])):
        best = sorted(members, key=lambda e: (not e.ranked, -e.accuracy, e.key))
        plain = _ranks(best, lambda e: e.ranked)
        counted = _ranks(best, lambda e: e.ranked and within(e))
        made.append(Group(field, said(n), tuple((e, plain.get(e.key, "–"), counted.get(e.key, "–")) for e in best)))
    return made


def _by_front(found: Sequence[Entry]) -> list[Group]:
    """Return one group per field, whatever the labels; a rank counts those more accurate with as few bytes in all."""
    groups: dict[Field, list[Entry]] = {}
    for entry in found:
        groups.setdefault(replace(entry.field, labels=""), []).append(entry)
    made = []
    for field, members in sorted(groups.items(), key=lambda item: _order(item[0])):
        ranked = [entry for entry in members if entry.ranked]
        ranks = {entry.key: str(1 + sum(_beats(other, entry) for other in ranked)) for entry in ranked}
        rows = sorted(members, key=lambda e: (not e.ranked, e.bytes_everything, -e.accuracy, e.key))
        made.append(Group(field, "any budget", tuple((e, ranks.get(e.key, "–"), ranks.get(e.key, "–")) for e in rows)))
    return made


def _beats(one: Entry, other: Entry) -> bool:
    return one.accuracy > other.accuracy and one.bytes_everything <= other.bytes_everything


def _order(field: Field) -> tuple[str, ...]:
    conditions = (field.dataset, field.images, field.protocol, field.evaluator, field.split, field.labels)
    return (*conditions, *field.fingerprints)


def _ranks(best: Sequence[Entry], counts: Callable[[Entry], bool]) -> dict[str, str]:
    """Ranks from 1 by entry; equal accuracies share one."""
    ranked = [entry for entry in best if counts(entry)]
    above = [entry.accuracy for entry in ranked]
    return {entry.key: str(1 + sum(a > entry.accuracy for a in above)) for entry in ranked}


def choices(found: Sequence[Entry]) -> list[tuple[str, str, list[str]]]:
    """(key, label, values) of every filter."""
    there: Mapping[str, set[str]] = {
        "codec": {e.codec for e in found},
        "algo": {e.algo for e in found},
        "arch": {e.field.evaluator for e in found},
        "labels": {e.labels for e in found},
        "status": {e.status for e in found},
    }
    titles = {"codec": "codec", "algo": "algorithm", "arch": "architecture", "labels": "labels", "status": "status"}
    made = [(key, titles[key], sorted(values)) for key, values in there.items()]
    return [(k, label, values if k != "status" else [s for s in STATUSES if s in values]) for k, label, values in made]
