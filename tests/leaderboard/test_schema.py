"""docs/reference/schema.md and schema/*.json are what the record types say, and real files are valid by them."""

import json
from pathlib import Path

import pytest

from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.json_record import RecordOf
from latentdd_plugin.core.json_schema import ListOf, MapOf
from latentdd_plugin.leaderboard import schema
from latentdd_plugin.leaderboard.publish import SETTINGS
from latentdd_plugin.leaderboard.registry import read

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", schema.documents())
def test_what_is_committed_is_what_the_record_types_say(name):
    assert (DOCS / name).read_text() == schema.documents()[name], "run `make docs`"


def test_every_key_of_a_configuration_is_published_but_the_code_of_plug_ins():
    config = RunConfig(labels="soft", teacher="convnet", bytes=4000, code={"algo": "0" * 64})
    assert set(config.to_json()) == {*SETTINGS, "code"}


def test_nothing_else_lies_beside_the_generated_documents():
    assert {path.name for path in (DOCS / "reference" / "schema").iterdir()} == {one.file for one in schema.DOCUMENTS}


def is_valid(value, rule, root):
    """A JSON Schema validator of the keywords that the documents use; an unknown one is a KeyError."""
    if "$ref" in rule:
        rule = root["$defs"][rule["$ref"].rpartition("/")[2]]
    types = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    numbers = {"integer": int, "number": (int, float)}

    def of_type(name):
        if name in numbers:
            return isinstance(value, numbers[name]) and not isinstance(value, bool)
        return isinstance(value, types[name])

    checks = {
        "type": of_type,
        "enum": lambda allowed: value in allowed,
        "anyOf": lambda rules: any(is_valid(value, one, root) for one in rules),
        "required": lambda names: all(name in value for name in names),
        "properties": lambda rules: all(is_valid(value[k], r, root) for k, r in rules.items() if k in value),
        "additionalProperties": lambda one: all(
            is_valid(v, one, root) for k, v in value.items() if k not in rule.get("properties", {})
        ),
        "items": lambda one: all(is_valid(v, one, root) for v in value),
        "minItems": lambda n: len(value) >= n,
        "maxItems": lambda n: len(value) <= n,
        "uniqueItems": lambda _: len(set(value)) == len(value),
        "minLength": lambda n: len(value) >= n,
        "maxLength": lambda n: len(value) <= n,
        "minimum": lambda n: value >= n,
        "maximum": lambda n: value <= n,
        "exclusiveMinimum": lambda n: value > n,
        "pattern": lambda text: __import__("re").search(text, value) is not None,
    }
    words = {"$schema", "title", "description", "$defs"}
    return all(checks[key](arg) for key, arg in rule.items() if key not in words)


@pytest.fixture(scope="module")
def written(filled):
    """Real files: a submission with its checks, a codec's card."""
    claim = next(s for s in read(filled).submissions if s.status == "verified")
    path = filled / "submissions" / claim.suite / f"{claim.slug}.verification.json"
    return [json.loads(claim.raw), json.loads(claim.raw)["record"], json.loads(path.read_text())] + [
        json.loads(card.raw) for card in read(filled).cards
    ]


def test_real_files_are_valid_by_the_documents(written):
    for data in written:
        document = json.loads((DOCS / "reference" / "schema" / f"{data['schema'].rpartition('/')[2]}.json").read_text())
        assert is_valid(data, document, document), data["schema"]
        assert not is_valid({**data, "created": 3, "submitted": 3, "claim_sha256": 3}, document, document)


def leaves(cls, value, path=""):
    """Paths of every value that a record type does not declare."""
    keys = {one.key: one.kind for one in cls.json_keys()}
    for key, member in value.items():
        if key not in keys:
            yield f"{path}{key}"
            continue
        kinds = [(keys[key], member)]
        while kinds:
            kind, there = kinds.pop()
            if there is None:
                continue
            if isinstance(kind, RecordOf):
                yield from leaves(kind.cls, there, f"{path}{key}.")
            elif isinstance(kind, ListOf | MapOf):
                kinds += [(kind.member, one) for one in (there.values() if isinstance(there, dict) else there)]


OPEN = ("config.", "protocol.", "algo.", "codec.")  # settings and recipes have options of their own


def test_what_a_run_writes_is_declared(written):
    classes = {one.schema: one.cls for one in schema.DOCUMENTS}
    for data in written:
        strays = [path for path in leaves(classes[data["schema"]], data) if not any(part in path for part in OPEN)]
        assert strays == []
