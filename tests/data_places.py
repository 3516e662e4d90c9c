"""Makes small datasets on disk for the tests of this folder."""

import io
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from latentdd_plugin.core.config import DatasetConfig
from latentdd_plugin.data.load import load_dataset

DIGITS = np.rint(load_digits(return_X_y=True)[0].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)


def encoded(pixels, kind="png", **options):
    """Return an array as the bytes of a picture file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=kind, **options)
    return file.getvalue()


class Place:
    """A folder being filled with distinct pictures."""

    def __init__(self, root):
        self.root = Path(root)
        self.root.mkdir(parents=True, exist_ok=True)
        self.count = 0

    def pixels(self):
        """Return the next digit."""
        self.count += 1
        return DIGITS[self.count % len(DIGITS)]

    def picture(self, name, pixels=None, kind=None, **options):
        """Write one picture; a new digit unless pixels are given."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = kind or {".jpg": "jpeg", ".tif": "tiff"}.get(path.suffix.lower(), path.suffix[1:].lower() or "png")
        path.write_bytes(encoded(self.pixels() if pixels is None else pixels, kind, **options))
        return path

    def pictures(self, folder, count, start=0):
        """Write some pictures into a folder."""
        return [self.picture(f"{folder}/{i:03}.png".lstrip("/")) for i in range(start, start + count)]

    def text(self, name, content):
        """Write a text file."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def load(self, **options):
        """Load the folder as a dataset."""
        return load_dataset(DatasetConfig(name=str(self.root), **options))


def counts(data, images):
    """Return how many images each class has."""
    return dict(Counter(data.classes[label] for label in images.labels.tolist()))


def per_split(data):
    """Return the number of rows per class of the training and the test images."""
    return counts(data, data.train), counts(data, data.held_out("test"))
