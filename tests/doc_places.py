"""Data that the documentation's pages assume: `python -m doc_places pictures|mtt FOLDER [SIDE [CLASSES]]`."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

COUNTS = {"train": 12, "test": 5}  # pictures per class


def pictures(folder, side="32", classes="2"):
    """Write handwritten digits as colour pictures of `side` pixels, `<split>/<class>/<number>.png`."""
    images, labels = load_digits(return_X_y=True)
    for label in range(int(classes)):
        rows = iter(images[labels == label].reshape(-1, 8, 8))
        for split, count in COUNTS.items():
            place = Path(folder) / split / f"class_{label}"
            place.mkdir(parents=True)
            for number in range(count):
                grey = Image.fromarray((next(rows) * 15).astype(np.uint8)).resize((int(side), int(side)))
                grey.convert("RGB").save(place / f"{number:02}.png")


def mtt(folder, side="32", classes="2"):
    """Write a distilled set as MTT does, one normalised image per class."""
    import torch

    Path(folder).mkdir(parents=True)
    torch.save(torch.randn(int(classes), 3, int(side), int(side)), Path(folder) / "images_best.pt")
    torch.save(torch.arange(int(classes)), Path(folder) / "labels_best.pt")


if __name__ == "__main__":
    {"pictures": pictures, "mtt": mtt}[sys.argv[1]](*sys.argv[2:])
