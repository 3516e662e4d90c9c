"""Names of splits: the words that a folder, a file or a column uses for training, validation and test."""

from __future__ import annotations

import re

WORDS = {
    "train": "train", "training": "train",
    "test": "test", "testing": "test",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "eval": "validation", "evaluation": "validation",
}  # fmt: skip
AFTER = ("set", "data", "split", "dataset", "images", "image", "imgs")
LOOKED_FOR = "test, testing, test_set, val, valid, validation, dev, eval; in any case"


def split_of(name: str) -> str | None:
    """Return the split that a folder's name stands for, or None.

    `train`, `Training`, `train_set`, `Train Set` and `trainset` are the training split; `train_station` and `val 2` are
    no splits.
    """
    words = [word for word in re.split(r"[\s_\-.]+", name.casefold()) if word]
    if words and words[0] not in WORDS:
        glued = re.fullmatch(rf"({'|'.join(WORDS)})({'|'.join(AFTER)})", words[0])
        words = [*glued.groups(), *words[1:]] if glued else words
    if not words or words[0] not in WORDS or not all(word in AFTER for word in words[1:]):
        return None
    return WORDS[words[0]]


def loose_split_of(name: str) -> str | None:
    """Return the split that a folder's name ends with: `seg_train`, `val2017`, `test 1`; None if it ends otherwise."""
    words = [word for word in re.split(r"[\s_\-.0-9]+", name.casefold()) if word]
    return split_of(name) or (WORDS.get(words[-1]) if words else None)


def split_of_file(stem: str) -> str | None:
    """Return the split that a data file's stem stands for: its first word, `train-00000-of-00002`, or its last."""
    words = [word for word in re.split(r"[\s_\-.]+", stem.casefold()) if word]
    if not words:
        return None
    return split_of(stem) or WORDS.get(words[0]) or WORDS.get(words[-1])
