"""The keys of a claim: those that a run writes, no more and no fewer.

Records keep keys that they do not know, so that files of other versions survive a round trip. A claim is a statement,
and a statement that no check reads must not reach a page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from latentdd_plugin.core.json_record import JsonRecord
from latentdd_plugin.core.json_schema import short
from latentdd_plugin.leaderboard.publish import SETTINGS
from latentdd_plugin.results.entries import CodecEntry, DatasetEntry, NamedPart, ProtocolEntry, Settings

# Records whose further keys are compared one by one: options with those of the result, numbers with the protocol's.
COMPARED = (NamedPart, ProtocolEntry)
ALLOWED: Mapping[type[JsonRecord], tuple[str, ...]] = {Settings: (*SETTINGS, "code")}

# Keys that old records may lack, but that every run has written since there are claims.
ALWAYS: Mapping[type[JsonRecord], tuple[str, ...]] = {
    DatasetEntry: ("train", "test", "validation_size", "flip"),
    CodecEntry: ("spatial",),
}


def key_faults(record: JsonRecord, path: str = "") -> Iterator[str]:
    """Yield every key below a record that is unknown, and every key that a run always writes and that is missing.

    Args:
        record: a claim, or a run's record, as it was read.
        path: its place in the file, for messages.
    """
    known = {one.key: one for one in record.json_keys()}
    if not isinstance(record, COMPARED):
        allowed = ALLOWED.get(type(record), ())
        yield from (f"{_join(path, short(key))}: unknown" for key in record.extra if key not in allowed)
    for key, one in known.items():
        there = record.key_order is None or key in record.key_order
        always = key in ALWAYS.get(type(record), ()) or (one.kind.optional and not one.kind.omit)
        if not there and always:
            yield f"{_join(path, key)}: missing; it must be {one.kind.wanted}"
        if not one.derived:
            yield from _below(getattr(record, one.name), _join(path, key))


def _below(value: Any, path: str) -> Iterator[str]:
    """Yield the faults of the records inside a value."""
    if isinstance(value, JsonRecord):
        yield from key_faults(value, path)
    elif isinstance(value, Mapping):
        for key, member in value.items():
            yield from _below(member, _join(path, short(key)))
    elif isinstance(value, tuple):
        for number, member in enumerate(value):
            yield from _below(member, _join(path, str(number)))


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
