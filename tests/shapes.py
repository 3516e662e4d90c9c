"""A small folder of coloured pictures that can be learned: a shape a class, the same on every machine."""

import numpy as np
from PIL import Image

CLASSES = ("cross", "disc", "square")


def folder(path, side, train=20, test=20, seed=0):
    """Write `train/<class>/*.png` and `test/<class>/*.png`; returns the path as text.

    Args:
        path: folder to write; its name becomes the dataset's name.
        side: of the pictures, in pixels.
        train, test: pictures a class.
        seed: of every draw.
    """
    draw = np.random.RandomState(seed)  # its streams are frozen for ever
    for split, count in (("train", train), ("test", test)):
        for label, name in enumerate(CLASSES):
            place = path / split / name
            place.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(picture(draw, label, side)).save(place / f"{number:03d}.png")
    return str(path)


def picture(draw, label, side):
    """One picture, uint8 (side, side, 3): a soft shape before a slope of colours, in colours that the class favours."""
    y, x = np.meshgrid(*2 * [(np.arange(side) + 0.5) / side], indexing="ij")
    down, right = 0.5 + 0.15 * (draw.rand(2) - 0.5)
    size, thin = 0.25 + 0.1 * draw.rand(), 0.08 + 0.04 * draw.rand()
    tall, wide = abs(y - down), abs(x - right)
    outside = (
        np.maximum(np.minimum(tall, wide) - thin, np.maximum(tall, wide) - size),
        np.sqrt(tall * tall + wide * wide) - size,
        np.maximum(tall, wide) - 0.9 * size,
    )[label]
    inside = np.clip(0.5 - side / 3 * outside, 0, 1)[..., None]
    ink, ground, slope = draw.rand(3), draw.rand(3), draw.rand(3) - 0.5
    ink[label] = 0.5 + 0.5 * ink[label]
    ground = np.clip(ground / 2 + slope * (x - y)[..., None], 0, 1)
    noisy = inside * ink + (1 - inside) * ground + 0.04 * (draw.rand(side, side, 3) - 0.5)
    return np.rint(255 * np.clip(noisy, 0, 1)).astype(np.uint8)
