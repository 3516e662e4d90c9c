"""The rule that turns folders of pictures into splits and classes. Reads no file; see docs/your-own-data.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.splits import split_of
from latentdd_plugin.data.walk import printable

OUTSIDE_CLASSES = "a picture outside the class folders"
OUTSIDE_SPLITS = "a picture outside the split folders"
GENERIC = {"images", "image", "imgs", "img", "pictures", "photos", "jpegimages", "jpg", "png", "data", "raw", "files"}

Parts = tuple[str, ...]


@dataclass(frozen=True)
class Assignment:
    """The split and class of every picture that is used, and the reason for every one that is not."""

    used: Mapping[str, tuple[str, str]]  # name -> (split, class)
    left_out: Mapping[str, str]  # name -> reason
    notes: tuple[str, ...]  # decisions worth telling
    warnings: tuple[str, ...]


def has_class_folders(names: Sequence[str]) -> bool:
    """Return whether any picture lies in a class folder: a folder that is not merely a split."""
    return any(class_path(name) for name in names)


def class_path(name: str) -> Parts:
    """Return the folders of a picture that may be its class: not its split, and not words such as `images` alone."""
    folders = tuple(name.split("/")[:-1])
    inside = folders[1:] if folders and split_of(folders[0]) else folders
    return inside if any(part.casefold() not in GENERIC for part in inside) else ()


def assign(names: Sequence[str], where: str) -> Assignment:
    """Return the split and class of each picture.

    Args:
        names: the pictures, relative to the data set's folder, with `/`.
        where: the data set, for messages.

    Raises:
        DataError: there are no class folders, or splits and classes cannot be told apart.
    """
    folders = {name: tuple(name.split("/")[:-1]) for name in names}
    notes: list[str] = []
    left_out = {name: OUTSIDE_CLASSES for name, parts in folders.items() if not parts}
    inside, wrapper = _unwrap({name: parts for name, parts in folders.items() if parts}, where)
    if wrapper:
        notes.append(f"splits and classes are looked for in {wrapper}/")
        left_out |= {name: OUTSIDE_CLASSES for name, parts in inside.items() if not parts}
        inside = {name: parts for name, parts in inside.items() if parts}
    warnings: list[str] = []
    splits = _splits(inside, where, warnings)
    placed: dict[str, tuple[str, Parts]] = {}
    for name, parts in inside.items():
        if not splits:
            placed[name] = ("train", parts)
        elif parts[0] not in splits:
            left_out[name] = OUTSIDE_SPLITS
        elif len(parts) == 1:
            left_out[name] = OUTSIDE_CLASSES
        else:
            placed[name] = (splits[parts[0]], parts[1:])
    strays = sorted({parts[0] for name, parts in inside.items() if left_out.get(name) == OUTSIDE_SPLITS})
    if strays:
        warnings.append(f"not in a split, and not read: {printable(strays, 5)}")
    classes = _class_names(placed, notes)
    _refuse_odd(classes, left_out, where)
    used = {name: (split, classes[name]) for name, (split, _) in placed.items()}
    return Assignment(used, left_out, tuple(notes), tuple(warnings))


def _unwrap(inside: Mapping[str, Parts], where: str) -> tuple[dict[str, Parts], str]:
    """Return the folders without the outer ones that merely wrap the data set, and the wrapper's name."""
    found, wrapper = dict(inside), []
    while True:
        tops = {parts[0] for parts in found.values() if parts}
        if len(tops) != 1:
            break
        (top,) = tops
        below: dict[str, list[Parts]] = {}
        for parts in found.values():
            if len(parts) > 1 and parts[0] == top:
                below.setdefault(parts[1], []).append(parts)
        direct = any(parts == (top,) for parts in found.values())
        kinds = {split_of(name) for name, members in below.items() if any(len(parts) > 2 for parts in members)} - {None}
        both = "train" in kinds and len(kinds) > 1
        if split_of(top) and both:
            raise DataError(
                f"{where}: the one folder {top}/ is named as a split and holds folders named "
                f"{', '.join(sorted(below))}; give the folder {top} itself if these are the splits, else rename them"
            )
        if not below or split_of(top) or (direct and not both):
            break
        wrapper.append(top)
        found = {name: parts[1:] if parts and parts[0] == top else () for name, parts in found.items()}
    return found, "/".join(wrapper)


def _splits(inside: Mapping[str, Parts], where: str, warnings: list[str]) -> dict[str, str]:
    """Return the split of every top folder that is one; nothing if all top folders are classes.

    A folder is a split if its name says so and it holds class folders rather than pictures.
    """
    deep: dict[str, set[str]] = {}  # top folder -> the class folders in it
    counts: dict[str, list[int]] = {}  # top folder -> pictures directly in it, and below
    for parts in inside.values():
        count = counts.setdefault(parts[0], [0, 0])
        count[len(parts) > 1] += 1
        if len(parts) > 1:
            deep.setdefault(parts[0], set()).add(parts[1])
    named = {top: split for top in sorted(counts) if (split := split_of(top))}
    others = sorted(set(counts) - set(named))
    holding = [top for top in named if counts[top][1] > counts[top][0]]
    if not named:
        return {}
    if not holding and others:
        few = printable([f"{top}/" for top in named], 5)
        warnings.append(f"{few} taken for a class: pictures lie directly in it, as in the other folders")
        return {}
    train = [top for top in holding if named[top] == "train"]
    held = [top for top in holding if named[top] != "train"]
    if not holding or (not train and (others or len(named) > 1)):
        raise DataError(
            f"{where}: {printable([f'{top}/' for top in (holding or named)], 5)} has the name of a split, but there "
            f"are no training class folders (train/<class>/*.png); if it is a class, put all classes into train/"
        )
    shared = {name for top in train for name in deep[top]} & {name for top in held for name in deep[top]}
    if others and not shared:
        raise DataError(
            f"{where}: {printable([f'{top}/' for top in holding], 5)} may be a split or a class beside "
            f"{printable([f'{top}/' for top in others], 5)}; if it is a class, put all classes into train/, "
            "if it is a split, move the other folders away or into it"
        )
    if len(set(named.values())) < len(named):
        raise DataError(f"{where}: two folders for one split among {', '.join(named)}; merge or rename one")
    return named


def _class_names(placed: Mapping[str, tuple[str, Parts]], notes: list[str]) -> dict[str, str]:
    """Return the class name of each picture: its folders joined by `/`, without those that say nothing."""
    paths: dict[str, set[Parts]] = {}
    for split, parts in placed.values():
        paths.setdefault(split, set()).add(parts)
    start, dropped = 0, []
    while paths and all(min(map(len, group)) > start + 1 for group in paths.values()):
        firsts = [{parts[start] for parts in group} for group in paths.values()]
        if any(len(names) > 1 for names in firsts) or max(map(len, paths.values())) < 2:
            break
        dropped += sorted({f"{name}/" for names in firsts for name in names})
        start += 1
    ends = {parts[-1] if len(parts) > start + 1 else "" for group in paths.values() for parts in group}
    deep = {s for s, group in paths.items() if all(len(parts) > start + 1 for parts in group)}
    flat = {s for s, group in paths.items() if all(len(parts) == start + 1 for parts in group)}
    ends -= {""}
    several = max((len({parts[:-1] for parts in paths[s]}) for s in deep), default=0) > 1
    last = len(ends) == 1 and bool(deep) and deep | flat == set(paths) and several
    if last:
        dropped += [f"/{name}" for name in ends]
    if dropped:
        notes.append(f"folders that all classes share are left out of the class names: {printable(dropped, 5)}")
    names = {}
    for name, (split, parts) in placed.items():
        names[name] = "/".join(parts[start : len(parts) - (last and split in deep)])
    if joined := sorted({one for one in names.values() if "/" in one}):
        notes.append(f"nested class folders are joined: {printable(joined)}")
    return names


def _refuse_odd(classes: Mapping[str, str], left_out: Mapping[str, str], where: str) -> None:
    distinct = set(classes.values())
    if not distinct or all(part.casefold() in GENERIC for name in distinct for part in name.split("/")):
        found = f"pictures lie in {printable(sorted(distinct))}/ only, " if distinct else ""
        raise DataError(
            f"{where}: {found}no class folders; pictures of a folder need one sub-folder per class "
            "(train/<class>/*.png or <class>/*.png), or a table of labels (labels.csv with file_name, label)"
        )
    outside = [name for name, reason in left_out.items() if reason == OUTSIDE_CLASSES and "/" not in name]
    if len(outside) > len(classes):
        raise DataError(
            f"{where}: {len(outside)} pictures lie outside the class folders ({printable(outside)}), only "
            f"{len(classes)} in them; put each into a class folder, or add a table of labels (labels.csv)"
        )
