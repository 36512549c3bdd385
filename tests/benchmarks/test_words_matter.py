"""Whether words matter: pictures with two defects, and what counts as an answer."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.words_matter import APART_PX, answer, balances, rate, rendered_pairs, shuffled

from blemish.synthesis import HELD_OUT_SEEDS


def masks() -> tuple[np.ndarray, np.ndarray]:
    left, right = np.zeros((2, 32, 32), bool)
    left[8:16, 0:8], right[8:16, 24:32] = True, True
    return left, right


def test_a_map_that_follows_the_word_leads_and_is_raised() -> None:
    maps = np.zeros((2, 4, 4), np.float32)
    maps[0, 1, 0], maps[1, 1, 3] = 0.5, 0.5
    found = balances(maps, masks())
    assert found == pytest.approx([0.5, -0.5])
    assert answer(("scratch", "stain"), (found[0], found[1])).leads == (True, True)
    assert answer(("scratch", "stain"), (found[0], found[1])).raised


def test_a_defect_that_only_stands_out_more_leads_one_way_and_not_the_other() -> None:
    maps = np.zeros((2, 4, 4), np.float32)
    maps[:, 1, 0], maps[:, 1, 3] = 0.9, 0.1
    found = balances(maps, masks())
    deaf = answer(("scratch", "stain"), (found[0], found[1]))
    assert deaf.leads == (True, False)
    assert not deaf.raised


def test_shuffled_words_are_two_others() -> None:
    names, rng = ("a", "b", "c", "d"), np.random.default_rng(0)
    assert {shuffled(("a", "b"), names, rng) for _ in range(50)} == {("c", "d"), ("d", "c")}


def test_pictures_hold_both_defects_apart_and_are_the_same_again() -> None:
    def picture() -> list:
        return list(rendered_pairs(("scratch", "stain"), 1, first_seed=HELD_OUT_SEEDS))

    (found,), (again,) = picture(), picture()
    assert set(found.types) == {"scratch", "stain"}
    first, second = found.masks
    assert first.any()
    assert second.any()
    assert ndimage.distance_transform_edt(~first)[second].min() >= APART_PX
    assert np.array_equal(found.image, again.image)


def test_the_rate_has_an_interval_about_it() -> None:
    found = rate(np.array([1.0, 0.0, 1.0, 1.0] * 25))
    assert float(found) == pytest.approx(0.75)
    assert found.interval is not None
    assert 0.6 < found.interval[0] < 0.75 < found.interval[1] < 0.9
