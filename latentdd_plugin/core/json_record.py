"""Frozen dataclasses that are read from JSON, checked, written back unchanged and documented.

Each field states its kind and its meaning once, in `json_field`. The checks of `from_json`, the JSON Schema documents
and `docs/reference/schema.md` all come from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

from latentdd_plugin.core.errors import ArtifactError
from latentdd_plugin.core.json_schema import MISSING, Definitions, Json, Kind, dumped, short

R = TypeVar("R", bound="JsonRecord")
KIND, DOC, KEY = "kind", "doc", "key"  # of a field's metadata


def json_field(kind: Kind, doc: str, *, key: str | None = None, default: Any = NO_DEFAULT, **more: Any) -> Any:
    """Return a dataclass field that is stored in JSON.

    Args:
        kind: what the JSON value must be.
        doc: one line for docs/reference/schema.md.
        key: the JSON key, if it is not the field's name.
        default: as of a dataclass field.
        **more: passed to `dataclasses.field`.
    """
    return field(metadata={KIND: kind, DOC: doc, KEY: key}, default=default, **more)


@dataclass(frozen=True)
class JsonKey:
    """A key of a record's JSON object."""

    key: str
    name: str  # the attribute
    kind: Kind
    doc: str
    derived: bool  # computed from the other fields; a file must agree with it


@dataclass(frozen=True)
class JsonRecord:
    """A JSON object with declared keys.

    Attributes:
        extra: keys of the file that this version does not know; they survive a round trip.
        key_order: the keys in the order of the file that was read; None for a record made in memory.
    """

    derived: ClassVar[Mapping[str, tuple[Kind, str, str]]] = {}  # property -> kind, doc, fault if a file disagrees
    extra_kind: ClassVar[Kind | None] = None  # what keys that are not declared must hold; None takes anything

    extra: Mapping[str, Json] = field(default_factory=dict, repr=False, kw_only=True)
    key_order: tuple[str, ...] | None = field(default=None, repr=False, compare=False, kw_only=True)

    @classmethod
    def json_keys(cls) -> Iterator[JsonKey]:
        """Yield the declared keys, in the order in which they are written."""
        for one in fields(cls):
            if KIND in one.metadata:
                yield JsonKey(
                    one.metadata[KEY] or one.name, one.name, one.metadata[KIND], one.metadata[DOC], derived=False
                )
        for name, (kind, doc, _) in cls.derived.items():
            yield JsonKey(name, name, kind, doc, derived=True)

    @classmethod
    def from_json(cls: type[R], value: Json, **more: Any) -> R:
        """Return the record that a JSON object describes.

        Args:
            value: what `json.loads` gives.
            **more: fields that are not in the JSON.

        Raises:
            ArtifactError: the object is not of this form; every fault, with its path.
        """
        faults: list[str] = []
        found = cls.parse(value, "", faults, **more)
        if faults or found is None:
            raise ArtifactError(list(dict.fromkeys(faults)))
        return found

    @classmethod
    def parse(cls: type[R], value: Json, path: str, faults: list[str], **more: Any) -> R | None:
        """Return the record, or None after appending every fault with its path to `faults`."""
        if not isinstance(value, Mapping):
            faults.append(f"{path or 'the file'}: must be an object")
            return None
        before, found, stated = len(faults), dict(more), dict[str, Any]()
        for one in cls.json_keys():
            there = one.kind.read(value.get(one.key, MISSING), _join(path, one.key), faults)
            (stated if one.derived else found)[one.name] = there
        known = {one.key for one in cls.json_keys()}
        extra = {key: member for key, member in value.items() if key not in known}
        if cls.extra_kind is not None:
            for key, member in extra.items():
                cls.extra_kind.read(member, _join(path, short(key)), faults)
        if len(faults) > before:
            return None
        made = cls(**found, extra=extra, key_order=tuple(value))
        for name, (_, _, fault) in cls.derived.items():
            if stated[name] != getattr(made, name):
                faults.append(f"{_join(path, name)}: {fault}")
        return made

    def to_json(self) -> dict[str, Json]:
        """Return the JSON object; equal to the one that was read, if one was."""
        order = self.key_order or ()
        written: dict[str, Json] = {}
        keys = {one.key: one for one in self.json_keys()}
        for key in dict.fromkeys((*order, *keys, *self.extra)):
            if key not in keys:
                if key in self.extra:
                    written[key] = self.extra[key]
                continue
            one = keys[key]
            value = getattr(self, one.name)
            if value is None and key not in order and (one.kind.omit or self.key_order is not None):
                continue
            written[key] = dumped(one.kind, value)
        return written

    @classmethod
    def json_schema(cls, definitions: Definitions) -> dict[str, Json]:
        """Return the JSON Schema of this class's objects; nested classes are added to `definitions`."""
        found: dict[str, Json] = {
            "type": "object",
            "properties": {
                one.key: {**one.kind.schema(definitions), "description": one.doc} for one in cls.json_keys()
            },
            "required": [one.key for one in cls.json_keys() if not one.kind.optional],
        }
        if cls.extra_kind is not None:
            found["additionalProperties"] = cls.extra_kind.schema(definitions)
        return found


@dataclass(frozen=True)
class RecordOf(Kind):
    """The kind of a nested record."""

    wanted: str = field(default="an object", kw_only=True)
    cls: type[JsonRecord]

    def parse(self, value: Json, path: str, faults: list[str]) -> Any:
        """Return the nested record."""
        if not isinstance(value, Mapping):
            return self._refuse(value, path, faults)
        return self.cls.parse(value, path, faults)

    def dump(self, value: JsonRecord) -> Json:
        """Return its JSON."""
        return value.to_json()

    def fragment(self, definitions: Definitions) -> Json:
        """Return a reference to the class's definition."""
        name = self.cls.__name__
        if name not in definitions:
            definitions[name] = {}  # before its members, which may refer to it
            definitions[name] = self.cls.json_schema(definitions)
        return {"$ref": f"#/$defs/{name}"}


def schema_document(cls: type[JsonRecord], title: str) -> dict[str, Json]:
    """Return a complete JSON Schema document of a record."""
    definitions: Definitions = {}
    found = cls.json_schema(definitions)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title}
    return {
        **head,
        "description": (cls.__doc__ or "").splitlines()[0],
        **found,
        "$defs": dict(sorted(definitions.items())),
    }


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
