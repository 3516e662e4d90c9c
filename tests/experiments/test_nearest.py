"""Nearest real images: copies of either split are found, whatever their size, and honest sets are not accused."""

import pytest
import torch

from latentdd_plugin.experiments.nearest import nearest_images


def pixels(n, seed, side=8):
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("side", [8, 48])
def test_copies_of_test_images_are_counted(side):
    train, test = pixels(40, 0, side), pixels(10, 1, side)
    found = nearest_images(test[:6].float() / 255, train, test)
    assert (found.samples, found.nearer_to_test, found.copies_of_test, found.copies_of_train) == (6, 6, 6, 0)
    assert found.expected == pytest.approx(0.2)


def test_copies_of_training_images_accuse_nobody():
    train, test = pixels(40, 0), pixels(10, 1)
    found = nearest_images(train[:5].float() / 255, train, test)
    assert (found.nearer_to_test, found.copies_of_test, found.copies_of_train) == (0, 0, 5)


def test_a_coarsely_stored_copy_is_still_one():
    train, test = pixels(40, 0), pixels(10, 1)
    coarse = (test[:4].float() / 255 * 3).round() / 3
    assert nearest_images(coarse, train, test).copies_of_test == 4


def test_samples_that_know_neither_split_come_near_what_is_expected(digits):
    noise = torch.rand((50, 1, 8, 8), generator=torch.Generator().manual_seed(2))
    train, test = digits.train.pixels, digits.held_out("test").pixels
    found = nearest_images(noise, train, test)
    assert found.copies_of_test == found.copies_of_train == 0
    assert found.nearer_to_test < 25
