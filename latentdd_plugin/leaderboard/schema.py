"""JSON Schema documents and docs/reference/schema.md, generated from the record types.

python -m latentdd_plugin.leaderboard.schema docs    # what `make docs` calls
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from latentdd_plugin.artifacts.header import SCHEMA as ARTIFACT
from latentdd_plugin.artifacts.header import ArtifactHeader
from latentdd_plugin.core.hub_files import SCHEMA as HUB
from latentdd_plugin.core.hub_files import Manifest
from latentdd_plugin.core.json_record import JsonRecord, RecordOf, schema_document
from latentdd_plugin.core.json_schema import Kind, ListOf, MapOf
from latentdd_plugin.leaderboard.literature import SCHEMA as LITERATURE
from latentdd_plugin.leaderboard.literature import Literature
from latentdd_plugin.leaderboard.records import SUBMISSION, VERIFICATION, SubmissionRecord, VerificationRecord
from latentdd_plugin.results import evaluation, record, training
from latentdd_plugin.results.cards import ALGO_CARD, CODEC_CARD, AlgoCard, CodecCard
from latentdd_plugin.results.comparison.comparison import Comparison
from latentdd_plugin.results.comparison.record import SCHEMA as COMPARISON
from latentdd_plugin.results.record import Baseline, BaselineKind, SkippedBaseline

__all__ = ["DOCUMENTS", "Document", "documents"]

FOLDER = "reference"  # within `docs`
INTRODUCTION = """# The files and their fields

This page and the JSON Schema documents in `schema/` are generated from the record types: `make docs`.

Every JSON file names its `schema`. Accuracies and gains are fractions; sizes are bytes; lengths of time are seconds if
a name ends in `_s`; memory is MB of 2^20 bytes; hashes are SHA-256, hexadecimal; times are UTC. `*` stands for any name
or number; `**` for everything below. A file with a field missing, or of another kind, is refused with every fault and
its path. Fields that are not listed are kept as they are. New fields may join a schema; a field that changes its
meaning gives the schema a new number.
"""
TENSORS = """
Tensors: `codes`, packed at the precision, with `codes.scale` for integers; `labels`; `lr` if the method learned one;
`codec.*`, the tables of a codec that was fitted. The header is canonical JSON under the key `dd-bench` of the file's
metadata; a changed byte is found on loading.
"""


@dataclass(frozen=True)
class Document:
    """A kind of file: its record type and its heading."""

    schema: str
    cls: type[JsonRecord]
    heading: str
    remark: str = ""

    @property
    def file(self) -> str:
        """Name of its JSON Schema document: `result.v1.json`."""
        return f"{self.schema.rpartition('/')[2]}.json"


DOCUMENTS = (
    Document(record.SCHEMA, record.Record, "`result.json`: a run"),
    Document(evaluation.SCHEMA, evaluation.Evaluation, "`evaluation.json`: an evaluation of an artifact"),
    Document(COMPARISON, Comparison, "`compare.json`: a comparison"),
    Document(SUBMISSION, SubmissionRecord, "`submissions/<suite>/<slug>.json`: a submission"),
    Document(
        VERIFICATION, VerificationRecord, "`<slug>.verification.json`, or `verification.json` in a run's folder: checks"
    ),
    Document(LITERATURE, Literature, "`literature/<source>.json`: published numbers"),
    Document(CODEC_CARD, CodecCard, "`codecs/<codec>/<dataset>.json`: a codec's card"),
    Document(ALGO_CARD, AlgoCard, "`algos/<distiller>.json`: a distiller's card"),
    Document(HUB, Manifest, "`dd-bench.json`: a repository on the hub"),
    Document(training.SCHEMA, training.Training, "`training.json`: the training of a codec"),
    Document(ARTIFACT, ArtifactHeader, "`distilled.safetensors`: an artifact", TENSORS),
)


def documents() -> dict[str, str]:
    """Return the text of every generated file, by its path inside `docs`."""
    made = {
        f"{FOLDER}/schema/{one.file}": json.dumps(schema_document(one.cls, one.schema), indent=2, ensure_ascii=False)
        + "\n"
        for one in DOCUMENTS
    }
    return {**made, f"{FOLDER}/schema.md": INTRODUCTION + "".join(map(_section, DOCUMENTS))}


def _section(one: Document) -> str:
    rows = [f"| `{path}` | {wanted} | {doc} |\n" for path, wanted, doc in _rows(one.cls, "", {})]
    head = "| field | must be | meaning |\n|---|---|---|\n"
    return f"\n## {one.heading} (`{one.schema}`)\n{one.remark}\n{head}{''.join(rows)}"


def _rows(cls: type[JsonRecord], path: str, seen: dict[type[JsonRecord], str]) -> Iterator[tuple[str, str, str]]:
    """Yield (path, requirement, meaning) of every field; a record type is spelled out once."""
    for key in cls.json_keys():
        yield from _kind_rows(key.kind, f"{path}{key.key}", key.doc, seen)
    if cls.extra_kind is not None:
        yield f"{path}*", cls.extra_kind.wanted, "any other field"


def _kind_rows(kind: Kind, path: str, doc: str, seen: dict[type[JsonRecord], str]) -> Iterator[tuple[str, str, str]]:
    wanted = f"{kind.wanted}; may be missing" if kind.optional else kind.wanted
    if isinstance(kind, ListOf | MapOf):
        inner = kind.member
        while isinstance(inner, ListOf | MapOf):
            path, inner = f"{path}.*", inner.member
        yield from _kind_rows(inner, f"{path}.*", doc, seen)
    elif isinstance(kind, BaselineKind):
        yield from _kind_rows(RecordOf(Baseline), path, doc, seen)
        yield from _rows(SkippedBaseline, f"{path}.", seen)
    elif not isinstance(kind, RecordOf):
        yield path, wanted, doc
    elif kind.cls in seen:
        yield f"{path}.**", wanted, f"{doc}; fields as in `{seen[kind.cls]}`"
    elif any(kind.cls is one.cls for one in DOCUMENTS):
        heading = next(one.heading for one in DOCUMENTS if kind.cls is one.cls)
        yield f"{path}.**", wanted, f"{doc}; fields as in {heading.partition(':')[0]}"
    else:
        seen[kind.cls] = path
        yield from _rows(kind.cls, f"{path}.", seen)


def write(folder: Path) -> None:
    """Write every generated file into a folder, and remove JSON Schema documents of other names."""
    made = documents()
    for path in (folder / FOLDER / "schema").glob("*.json"):
        if f"{FOLDER}/schema/{path.name}" not in made:
            path.unlink()
    for name, text in made.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
