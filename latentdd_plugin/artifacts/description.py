"""Everything a reader must know of a distilled set before using it, and the card that says so on a hub."""

from __future__ import annotations

from dataclasses import dataclass

from latentdd_plugin.core.hub_files import TAG
from latentdd_plugin.core.json_record import JsonRecord, RecordOf, json_field
from latentdd_plugin.core.json_schema import COUNT, FRACTION, LINE, NOTE, SHA256, WHOLE, Leaf, ListOf
from latentdd_plugin.core.types import Shape

CLASSES = Leaf(
    "class names in label order",
    lambda v: isinstance(v, list) and all(isinstance(name, str) for name in v),
    {"type": "array", "items": {"type": "string"}},
)
SHAPE = Leaf(
    "whole numbers from 1",
    lambda v: isinstance(v, list) and all(COUNT.holds(n) for n in v),
    {"type": "array", "items": {"type": "integer", "minimum": 1}},
)
UNSTATED = "not stated; the dataset's own terms apply"


@dataclass(frozen=True)
class SetScore(JsonRecord):
    """An accuracy that a set reached."""

    evaluator: str = json_field(LINE, "architecture that was trained on it")
    protocol: str = json_field(LINE, "how it was trained")
    scored_on: str = json_field(LINE, "images that scored: `test` or `validation`")
    mean: float = json_field(FRACTION, "mean accuracy over seeds, a fraction")
    std: float | None = json_field(FRACTION.or_null(), "sample standard deviation over seeds, or null")
    seeds: int = json_field(COUNT, "number of seeds")

    def __str__(self) -> str:
        """Format it: `45.7% ± 0.3 (convnet, quick.v1, test, 3 seeds)`."""
        spread = f" ± {100 * self.std:.1f}" if self.std is not None else ""
        seeds = f"{self.seeds} seed{'' if self.seeds == 1 else 's'}"
        return f"{100 * self.mean:.1f}%{spread} ({self.evaluator}, {self.protocol}, {self.scored_on}, {seeds})"


@dataclass(frozen=True, kw_only=True)
class SetDescription(JsonRecord):
    """A distilled set in words and numbers."""

    name: str = json_field(LINE, "name: `cifar10/dct-dm-int8-ipc1`")
    sha256: str | None = json_field(SHA256.or_null(), "hash of its file, or null before it is written", default=None)
    file_bytes: int | None = json_field(WHOLE.or_null(), "size of its file, or null before it is written", default=None)
    dataset: str = json_field(LINE, "dataset that it was distilled from")
    image_shape: Shape = json_field(SHAPE, "C, H, W of a decoded image")
    classes: tuple[str, ...] = json_field(CLASSES, "class names; the label is the place in this list")
    value_space: str = json_field(LINE, "units of decoded values")
    labels: str = json_field(LINE, "`hard`, `probabilities` or `logits`")
    codec: str = json_field(LINE, "what decodes it")
    precision: str = json_field(LINE, "how its codes are stored")
    images: int = json_field(WHOLE, "decoded images in all")
    budget_bytes: int = json_field(WHOLE, "bytes of codes and soft labels in all")
    method: str | None = json_field(LINE.or_null(), "distiller, or null", default=None)
    licence: str | None = json_field(LINE.or_null(), "terms of the set; null if none are stated", default=None)
    scores: tuple[SetScore, ...] = json_field(
        ListOf(RecordOf(SetScore)), "accuracies, if any were measured", default=()
    )
    verification: str | None = json_field(
        LINE.or_null(), "state of its verification, or null if it was not submitted", default=None
    )
    note: str | None = json_field(NOTE.or_null(), "anything else, or null", default=None)

    def facts(self) -> list[tuple[str, str]]:
        """Return (what, text) of everything, for a table."""
        size = "" if self.file_bytes is None else f"{self.file_bytes:,} bytes; "
        return [
            ("dataset", f"{self.dataset}, images {'×'.join(map(str, self.image_shape))}"),
            ("classes, in label order", ", ".join(f"{i} {name}" for i, name in enumerate(self.classes))),
            ("values", self.value_space),
            ("labels", self.labels),
            ("images", f"{self.images:,} ({self.images / max(1, len(self.classes)):g} per class)"),
            ("bytes", f"{size}codes and soft labels {self.budget_bytes:,}"),
            ("codec", f"{self.codec}, codes at {self.precision}"),
            ("method", self.method or "not stated"),
            ("accuracy", "; ".join(map(str, self.scores)) or "not measured"),
            ("verification", self.verification or "not submitted"),
            ("licence", self.licence or UNSTATED),
            ("sha256", self.sha256 or "-"),
            *([("note", self.note)] if self.note else []),
        ]


def dataset_card(about: SetDescription, repo: str) -> str:
    """Return the text of README.md: metadata that the hub reads, the facts, and how to load the set."""
    import yaml

    head = {
        "license": about.licence or "other",
        "tags": [TAG, "dataset-distillation"],
        "task_categories": ["image-classification"],
        "pretty_name": about.name,
    }
    rows = "".join(f"| {what} | {_cell(text)} |\n" for what, text in about.facts())
    return f"""---
{yaml.safe_dump(head, sort_keys=True, allow_unicode=True)}---

# {_cell(about.name)}

A distilled dataset: a few synthetic images that a network is trained on in place of {_cell(about.dataset)}. One file,
`distilled.safetensors`, holds codes, labels and everything that decoding needs; loading it executes nothing.

    from torch.utils.data import DataLoader
    from latentdd_plugin import Artifact
    loader = DataLoader(Artifact.from_pretrained("{repo}").to_torch(), batch_size=128, shuffle=True)

| | |
|---|---|
{rows}"""


def _cell(text: str) -> str:
    """Return text that Markdown shows as it is, in one table cell."""
    flat = " ".join(text.split()).replace("\\", "\\\\")
    for mark in "|<>[]`*_":
        flat = flat.replace(mark, f"\\{mark}")
    return flat
