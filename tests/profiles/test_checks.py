"""What can be wrong with a folder of good images is found, and nothing in a folder where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from blemish.images import Picture
from blemish.profiles.checks import ImageLook, groups_of, look_of, near_copies, suspicious
from blemish.synthesis import render_series


def looks(seed: int, count: int = 12) -> list[ImageLook]:
    pieces = render_series(seed, pieces=count, defective=0, size_px=64)
    return [look_of(Picture(piece.image, str(number))) for number, piece in enumerate(pieces)]


def noisy(pixels: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(-1, 2, pixels.shape)
    return np.clip(pixels.astype(int) + noise, 0, 255).astype(np.uint8)


def test_scores_far_above_the_others_are_suspicious_and_the_tail_of_good_ones_is_not() -> None:
    rng = np.random.default_rng(0)
    false = 0
    for _ in range(200):
        good = 1 / (1 + np.exp(2 - 0.5 * rng.standard_normal(40)))
        false += bool(suspicious(good))
        assert suspicious([*good, 0.998, 0.996])[:2] == [40, 41]
    assert false == 0
    assert suspicious([0.5] * 30) == []
    assert suspicious([0.1] * 6 + [0.99]) == []  # too few to say what is usual


def test_a_third_of_defective_images_does_not_hide_itself() -> None:
    good = np.linspace(0.05, 0.15, 20)
    assert len(suspicious([*good, *np.linspace(0.8, 0.9, 10)])) == 10


def test_nearly_the_same_photo_is_found() -> None:
    pieces = [piece.image for piece in render_series(3, pieces=8, defective=0, size_px=64)]
    pictures = [Picture(image, "piece") for image in [*pieces, noisy(pieces[2], 1)]]
    assert near_copies([look_of(picture) for picture in pictures]) == [(8, 2)]
    assert near_copies([look_of(picture) for picture in pictures[:8]]) == []
    assert near_copies([]) == []


@pytest.mark.parametrize("seed", range(8))
def test_two_products_in_one_folder_are_two_groups(seed: int) -> None:
    first, second = looks(10 + seed), looks(30 + seed)
    assert groups_of(first) is None
    found = groups_of([*first, *second[:4]])
    assert found is not None
    assert (len(found[0]), sorted(found[1])) == (12, [12, 13, 14, 15])
