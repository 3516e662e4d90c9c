"""Arrays and tensors as people hold them become one dataset, or every fault is named."""

import numpy as np
import pytest
import torch

from latentdd_plugin.core.errors import DataError
from latentdd_plugin.data.in_memory import image_data

GREY = np.arange(4 * 6 * 5, dtype=np.uint8).reshape(4, 6, 5)
RGB = np.arange(4 * 6 * 5 * 3, dtype=np.uint16).reshape(4, 6, 5, 3).astype(np.uint8)
LABELS = [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (GREY, GREY[:, None]),
        (GREY[..., None], GREY[:, None]),
        (GREY[:, None], GREY[:, None]),
        (torch.from_numpy(GREY), GREY[:, None]),
        (torch.from_numpy(GREY)[:, None], GREY[:, None]),
        (RGB, RGB.transpose(0, 3, 1, 2)),
        (RGB.transpose(0, 3, 1, 2), RGB.transpose(0, 3, 1, 2)),
        (torch.from_numpy(RGB), RGB.transpose(0, 3, 1, 2)),
        (RGB.astype(np.float32) / 255, RGB.transpose(0, 3, 1, 2)),
        (torch.from_numpy(RGB).permute(0, 3, 1, 2).double() / 255, RGB.transpose(0, 3, 1, 2)),
        (list(RGB), RGB.transpose(0, 3, 1, 2)),
    ],
)
def test_layouts_and_types_give_the_same_pixels(images, expected):
    data = image_data(images, LABELS)
    assert data.train.pixels.dtype == torch.uint8
    assert np.array_equal(data.train.pixels.numpy(), expected)
    assert data.train.labels.tolist() == LABELS
    assert data.classes == ("0", "1")


def test_where_both_ends_may_be_channels_arrays_are_last_and_tensors_first():
    both = np.zeros((2, 3, 8, 3), dtype=np.uint8)
    assert image_data(both, [0, 0]).image_shape == (3, 3, 8)
    assert image_data(torch.from_numpy(both), [0, 0]).image_shape == (3, 8, 3)


@pytest.mark.parametrize(
    ("labels", "classes", "numbers", "names"),
    [
        (np.array(LABELS, dtype=np.uint8), None, LABELS, ("0", "1")),
        (torch.tensor(LABELS), ["no", "yes"], LABELS, ("no", "yes")),
        ([0.0, 1.0, 1.0, 0.0], None, LABELS, ("0", "1")),
        (["b", "a", "a", "b"], None, [1, 0, 0, 1], ("a", "b")),
        (np.array(["b", "a", "a", "b"], dtype=object), ("b", "a"), LABELS, ("b", "a")),
    ],
)
def test_labels_are_numbers_or_names(labels, classes, numbers, names):
    data = image_data(GREY, labels, classes=classes)
    assert (data.train.labels.tolist(), data.classes) == (numbers, names)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (GREY.astype(np.int64), "int64 values; must be uint8"),
        (GREY.astype(np.float32), "float values from 0 to 119; must be in .0, 1.: divide by 255"),
        (RGB.astype(np.float32) / 127 - 1, "undo the normalisation"),
        (np.full((4, 6, 5), np.nan, dtype=np.float32), "not finite"),
        (np.zeros((4, 6, 5, 4), dtype=np.uint8), "drop the alpha channel"),
        (np.zeros((4, 9, 5, 7), dtype=np.uint8), "neither 1 nor 3 channels"),
        (np.zeros(4, dtype=np.uint8), r"shape \(4,\)"),
        (np.zeros((0, 6, 5), dtype=np.uint8), "holds no image"),
        ([GREY[0], GREY[0][:3]], "images of one size"),
        ("pictures", "must be one array or tensor"),
    ],
)
def test_faults_of_images(images, message):
    with pytest.raises(DataError, match=message):
        image_data(images, LABELS)


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([0, 1], None, "labels: 2 for 4 images"),
        (np.eye(4), None, r"take labels.argmax\(1\)"),
        ([0, 2, 2, 0], None, "no image of 1 class"),
        ([0, -1, 0, 0], None, "negative"),
        ([0.5, 0, 1, 1], None, "float64 values"),
        ([0, 1, 2, 0], ["a", "b"], "up to 2, but 2 class names"),
        (["a", "c", "b", "a"], ["a", "b"], "labels: c: not among the classes"),
        (LABELS, ["a", "a"], "occurs twice"),
    ],
)
def test_faults_of_labels(labels, classes, message):
    with pytest.raises(DataError, match=message):
        image_data(GREY, labels, classes=classes)


def test_all_faults_come_together_and_content_is_what_counts():
    with pytest.raises(DataError) as raised:
        image_data(GREY.astype(np.int32), np.eye(4))
    assert len(raised.value.faults) == 2
    one, other = image_data(GREY, LABELS), image_data(torch.from_numpy(GREY), torch.tensor(LABELS))
    assert one.fingerprint == other.fingerprint != image_data(GREY, [1, 0, 0, 1]).fingerprint
    with pytest.raises(DataError, match="no test split"):
        one.held_out("test")
