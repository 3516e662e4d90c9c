"""The rule that turns folders of pictures into splits and classes. Reads no file; see docs/guides/your-own-data.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.splits import loose_split_of, split_of
from latentdd_plugin.data.walk import printable

OUTSIDE_CLASSES = "a picture outside the class folders"
OUTSIDE_SPLITS = "a picture outside the split folders"
GENERIC = {
    "images",
    "image",
    "imgs",
    "img",
    "pictures",
    "photos",
    "jpegimages",
    "jpg",
    "png",
    "data",
    "raw",
    "files",
    "dataset",
}

Parts = tuple[str, ...]


@dataclass(frozen=True)
class Assignment:
    """The split and class of every picture that is used, and the reason for every one that is not."""

    used: Mapping[str, tuple[str, str]]  # name -> (split, class)
    left_out: Mapping[str, str]  # name -> reason
    notes: tuple[str, ...]  # decisions worth telling
    warnings: tuple[str, ...]


def has_class_folders(names: Iterable[str]) -> bool:
    """Return whether any picture lies in a folder that may be a class: not a split, and not one such as `images`."""
    return any(part.casefold() not in GENERIC for name in names for part in class_path(name))


def class_path(name: str) -> Parts:
    """Return the folders of a picture without its split."""
    folders = tuple(name.split("/")[:-1])
    return folders[1:] if folders and split_of(folders[0]) else folders


def assign(names: Sequence[str], where: str) -> Assignment:
    """Return the split and class of each picture.

    Args:
        names: the pictures, relative to the dataset's folder, with `/`.
        where: the dataset, for messages.

    Raises:
        DataError: there are no class folders, or splits and classes cannot be told apart.
    """
    folders = {name: tuple(name.split("/")[:-1]) for name in names}
    notes: list[str] = []
    warnings: list[str] = []
    left_out = {name: OUTSIDE_CLASSES for name, parts in folders.items() if not parts}
    inside, wrapper = _unwrap({name: parts for name, parts in folders.items() if parts}, where)
    if wrapper:
        notes.append(f"splits and classes are looked for in {wrapper}/")
        outside = [name for name, parts in inside.items() if not parts]
        left_out |= dict.fromkeys(outside, OUTSIDE_CLASSES)
        inside = {name: parts for name, parts in inside.items() if parts}
        if apart := sorted({name.split("/")[0] for name in outside} - {wrapper.split("/")[0]}):
            warnings.append(f"not in {wrapper}/, and not read: {printable(apart, 5)}")
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
    warnings += _odd_nesting(classes.values())
    _refuse_odd(classes, left_out, where)
    used = {name: (split, classes[name]) for name, (split, _) in placed.items()}
    return Assignment(used, left_out, tuple(notes), tuple(warnings))


def _unwrap(inside: Mapping[str, Parts], where: str) -> tuple[dict[str, Parts], str]:
    """Return the folders without the outer ones that merely wrap the dataset, and the wrapper's name.

    A wrapper is the only top folder, or the only one with a name such as `images` or `dataset` that holds several class
    folders. The pictures outside it get no folders.
    """
    found, wrapper = dict(inside), []
    while top := _wrapper(_survey({name: parts for name, parts in found.items() if parts})):
        within = [parts[1:] for parts in found.values() if len(parts) > 1 and parts[0] == top]
        direct = any(parts == (top,) for parts in found.values())
        kinds = {split for parts in within if len(parts) > 1 and (split := split_of(parts[0]))}
        both = "train" in kinds and len(kinds) > 1
        if split_of(top) and both:
            names = ", ".join(sorted({parts[0] for parts in within}))
            raise DataError(
                f"{where}: the one folder {top}/ is named as a split and holds folders named {names}; give the folder "
                f"{top} itself if these are the splits, else rename them"
            )
        if not within or split_of(top) or (direct and not both):
            break
        wrapper.append(top)
        found = {name: parts[1:] if parts and parts[0] == top else () for name, parts in found.items()}
    return found, "/".join(wrapper)


def _wrapper(tops: Mapping[str, _Top]) -> str | None:
    """Return the top folder that may wrap all others, if there is one."""
    if len(tops) == 1:
        return next(iter(tops))
    generic = [name for name, top in tops.items() if name.casefold() in GENERIC and top.wraps]
    return generic[0] if len(generic) == 1 and not any(map(split_of, tops)) else None


@dataclass
class _Top:
    """A top folder: the pictures directly in it and below it, and the last folders of those below."""

    direct: int = 0
    below: int = 0
    classes: set[str] = field(default_factory=set)

    @property
    def holds_classes(self) -> bool:
        return self.below > self.direct

    @property
    def wraps(self) -> bool:
        return self.holds_classes and len(self.classes) > 1


def _survey(inside: Mapping[str, Parts]) -> dict[str, _Top]:
    tops: dict[str, _Top] = {}
    for parts in inside.values():
        top = tops.setdefault(parts[0], _Top())
        if len(parts) > 1:
            top.below += 1
            top.classes.add(parts[-1])
        else:
            top.direct += 1
    return dict(sorted(tops.items()))


def _splits(inside: Mapping[str, Parts], where: str, warnings: list[str]) -> dict[str, str]:
    """Return the split of every top folder that is one; nothing if all top folders are classes.

    A folder is a split if its name says so and it holds class folders rather than pictures. Names such as `seg_train`
    and `val2017` count only if training and test folders of that kind hold the same classes.
    """
    tops = _survey(inside)
    named = {top: split for top in tops if (split := split_of(top))}
    loose = {top: split for top in tops if (split := loose_split_of(top))}
    if not _both(named) and _both(loose):
        named = loose
    if not named:
        return {}
    others = [top for top in tops if top not in named]
    holding = [top for top in named if tops[top].holds_classes]
    if not holding and others:
        warnings.append(f"{_slashed(named)} taken for a class: pictures lie directly in it, as in the other folders")
        return {}
    train = [top for top in holding if named[top] == "train"]
    held = [top for top in holding if named[top] != "train"]
    if not holding or (not train and (others or len(named) > 1)):
        raise DataError(
            f"{where}: {_slashed(holding or named)} has the name of a split, but there are no training class folders "
            "(train/<class>/*.png); if it is a class, put all classes into train/"
        )
    shared = {c for top in train for c in tops[top].classes} & {c for top in held for c in tops[top].classes}
    if (others or named is loose) and not shared:
        raise DataError(
            f"{where}: {_slashed(holding)} may be a split or a class beside {_slashed(others or held)}; if it is a "
            "class, put all classes into train/, if it is a split, move the other folders away or into it"
        )
    if len(set(named.values())) < len(named):
        raise DataError(f"{where}: two folders for one split among {', '.join(named)}; merge or rename one")
    if named is loose:
        warnings.append("taken for splits: " + ", ".join(f"{top}/ ({split})" for top, split in named.items()))
    return named


def _both(named: Mapping[str, str]) -> bool:
    """Return whether there is a training split and another one."""
    return "train" in named.values() and len(set(named.values())) > 1


def _slashed(names: Iterable[str]) -> str:
    return printable([f"{name}/" for name in names], 5)


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


def _odd_nesting(names: Iterable[str]) -> list[str]:
    """Return warnings for nested class folders that may not be meant as such."""
    paths = {tuple(name.split("/")) for name in names}
    found = []
    both = sorted({"/".join(a) for a in paths for b in paths if len(b) > len(a) and b[: len(a)] == a})
    if both:
        found.append(
            f"pictures and class folders lie side by side in {printable(both)}; the inner folders are classes too"
        )
    inner: dict[Parts, set[Parts]] = {}
    for parts in paths:
        inner.setdefault(parts[:1], set()).add(parts[1:])
    groups = list(inner.values())
    if len(groups) > 1 and len(groups[0]) > 1 and all(group == groups[0] for group in groups) and () not in groups[0]:
        parents = printable(sorted(parts[0] for parts in inner))
        found.append(f"{parents} hold the same class folders; if they are parts of one set, merge them")
    return found


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
