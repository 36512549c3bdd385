"""Series: several pieces of one product."""

from __future__ import annotations

import numpy as np
import pytest

from blemish.errors import UsageError
from blemish.synthesis import NORMAL, render_series


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_the_last_pieces_have_the_defects_and_the_masks_say_where(seed: int) -> None:
    pieces = render_series(seed, pieces=7, defective=3, size_px=96)
    assert [piece.defect_type == NORMAL for piece in pieces] == [True] * 4 + [False] * 3
    assert [bool(piece.mask.any()) for piece in pieces] == [False] * 4 + [True] * 3
    assert {piece.image.shape for piece in pieces} == {(96, 96, 3)}
    assert {piece.image.dtype for piece in pieces} == {np.dtype(np.uint8)}
    assert len({piece.material for piece in pieces}) == 1
    assert all((piece.contrast > 0) == (piece.defect_type != NORMAL) for piece in pieces)


def test_the_same_seed_gives_the_same_pieces_and_more_of_them_the_same_first_ones() -> None:
    first, again, more = (render_series(5, pieces=count, defective=0, size_px=64) for count in (3, 3, 5))
    for one, other, third in zip(first, again, more, strict=False):
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.image, third.image)


def test_pieces_differ_and_are_nearer_to_each_other_than_to_another_product() -> None:
    def colours(seed: int) -> np.ndarray:
        return np.array([piece.image.mean((0, 1)) for piece in render_series(seed, pieces=5, defective=0, size_px=64)])

    own, other = colours(10), colours(11)
    images = [piece.image for piece in render_series(10, pieces=5, defective=0, size_px=64)]
    assert not any(np.array_equal(images[0], image) for image in images[1:])
    within = np.abs(own[:, None] - own).mean()
    assert within < np.abs(own[:, None] - other).mean()


def test_a_defect_is_where_its_mask_is() -> None:
    """A good piece and the same one with a defect differ inside the mask above all, whatever the camera adds to either."""
    good = render_series(21, pieces=4, defective=0, size_px=96)[-1]
    bad = render_series(21, pieces=4, defective=1, size_px=96)[-1]
    change = np.abs(good.image.astype(float) - bad.image).mean(-1)
    assert change[bad.mask].mean() > change[~bad.mask].mean()


@pytest.mark.parametrize(("pieces", "defective"), [(0, 0), (3, 4), (3, -1)])
def test_impossible_numbers_are_refused(pieces: int, defective: int) -> None:
    with pytest.raises(UsageError, match="cannot have defects"):
        render_series(0, pieces=pieces, defective=defective)
