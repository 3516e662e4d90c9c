"""Damage done to real files: what hypothesis draws, and how it is applied."""

import io
import json
import zipfile

from hypothesis import strategies as st

NUMBERS = [0, 1, 2**31 - 1, 2**32, 2**34, 2**40, 2**63 - 1, 2**64 - 1]
TOKENS = [
    b"NaN",
    b"1e999",
    b"-1",
    b"[",
    b"{",
    b'"',
    b"null",
    b"99999999999999",
    b"../../x",
    b"\xff\xfe",
    b"\0",
    b"&a [*a]",
]
PLACE = st.integers(0, 2**20)
CHANGE = st.one_of(
    st.tuples(st.just("flip"), PLACE, st.integers(1, 255)),
    st.tuples(st.just("cut"), PLACE, st.just(0)),
    st.tuples(st.just("insert"), PLACE, st.binary(max_size=40)),
    st.tuples(st.just("number"), PLACE, st.tuples(st.sampled_from(NUMBERS), st.sampled_from([2, 4, 8]))),
    st.tuples(st.just("copy"), PLACE, st.tuples(PLACE, st.integers(1, 64))),
    st.tuples(st.just("token"), PLACE, st.sampled_from(TOKENS)),
    st.tuples(st.just("all"), PLACE, st.binary(max_size=200)),
    st.tuples(st.just("remove"), PLACE, st.just(0)),
)
DAMAGE = st.lists(st.tuples(PLACE, st.booleans(), CHANGE), min_size=1, max_size=4)  # (which file, inside it, change)


def damaged(folder, damage):
    """Apply the changes to the files below `folder`."""
    for which, inside, change in damage:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if not files:
            return
        path = files[which % len(files)]
        if change[0] == "remove":
            path.unlink()
        elif inside:
            path.write_bytes(_inside(path.read_bytes(), change, which))
        else:
            path.write_bytes(changed(path.read_bytes(), change))


def changed(data, change):
    """One change to some bytes."""
    kind, place, what = change
    if kind == "all":
        return what
    place %= max(len(data), 1)
    if kind == "flip" and data:
        return data[:place] + bytes([data[place] ^ what]) + data[place + 1 :]
    if kind == "cut":
        return data[:place]
    if kind in ("insert", "token"):
        return data[:place] + what + data[place:]
    if kind == "number":
        value, size = what
        return data[:place] + (value % 2 ** (8 * size)).to_bytes(size, "little") + data[place + size :]
    if kind == "copy":
        start, length = what[0] % max(len(data), 1), what[1]
        return data[:place] + data[start : start + length] + data[place:]
    return data


def _inside(data, change, which):
    """One change to a part of an archive, or to the header of a safetensors file, that leaves the rest sound."""
    if data[:2] == b"PK":
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                parts = [(info.filename, archive.read(info)) for info in archive.infolist()]
        except Exception:  # damaged before
            return changed(data, change)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for number, (name, content) in enumerate(parts):
                archive.writestr(name, changed(content, change) if number == which % len(parts) else content)
        return out.getvalue()
    size = int.from_bytes(data[:8], "little")
    if size < len(data) and data[8:9] == b"{":
        header = changed(data[8 : 8 + size], change)
        return len(header).to_bytes(8, "little") + header + data[8 + size :]
    return changed(data, change)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(-1e9, 1e9) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


def replaced(tree, place, value):
    """A copy of a JSON tree with one of its nodes replaced, or removed where `value` is the text `remove`."""
    tree = json.loads(json.dumps(tree))
    nodes = list(_nodes(tree))
    holder, key = nodes[place % len(nodes)]
    if value == "remove":
        del holder[key]
    else:
        holder[key] = value
    return tree


def _nodes(tree):
    keys = tree.keys() if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _nodes(tree[key])
