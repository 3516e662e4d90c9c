"""The order of classes by name: whole numbers sort as numbers, everything else as text."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

log = logging.getLogger(__name__)

NUMBER = re.compile(r"[+-]?[0-9]+")
WNID = re.compile(r"n[0-9]{8}")


def class_order(names: Iterable[str]) -> list[str]:
    """Return the distinct names in class order: by value if all are whole numbers, else by code point."""
    distinct = sorted(set(names))
    if all(NUMBER.fullmatch(name) for name in distinct):
        return sorted(distinct, key=lambda name: (int(name), name))
    return distinct


def imagenet_descriptions(names: Iterable[str]) -> dict[str, str]:
    """Return a description of each class if all are ImageNet synsets (n01440764), else nothing. Source: timm."""
    wnids = list(names)
    if not wnids or not all(WNID.fullmatch(name) for name in wnids):
        return {}
    from timm.data import ImageNetInfo

    try:
        info = ImageNetInfo("imagenet-22k")  # holds the 1,000 of ImageNet-1K as well
        known = set(info.label_names())
    except (ValueError, OSError):
        return {}
    return {name: info.label_name_to_description(name, detailed=False) for name in wnids if name in known}
