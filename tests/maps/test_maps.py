"""Outlines of regions: exact ones enclose the region's pixels, simplified ones stay near."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage

from blemish import maps as regions
from blemish.inspection.regions import find_regions, peaks_inside
from blemish.maps import Blob, at_original, enlarge, find_blobs, outline, part_above, polygon


def filled(corners: NDArray[np.generic], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels whose centres lie inside: the obvious crossing count, edge by edge."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, bool)
    points = np.asarray(corners, np.float64)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if y0 != y1:
            crosses = (y0 > y) != (y1 > y)
            inside ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


masks = hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


@given(masks)
def test_the_exact_outline_encloses_the_region_with_its_holes_filled(mask: NDArray[np.bool_]) -> None:
    for blob in find_blobs(mask):
        corners = outline(blob.pixels)
        np.testing.assert_array_equal(filled(corners, blob.pixels.shape), ndimage.binary_fill_holes(blob.pixels))
        steps = np.abs(np.roll(corners, -1, axis=0) - corners)
        assert ((steps > 0).sum(1) == 1).all()  # along the edges of pixels, and every corner is one


@given(masks)
def test_blobs_are_the_components_of_the_whole_mask(mask: NDArray[np.bool_]) -> None:
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    blobs = find_blobs(mask)
    assert len(blobs) == count
    together = np.zeros_like(mask)
    for blob in blobs:
        together[blob.slices] |= blob.pixels
        assert len(np.unique(labels[blob.slices][blob.pixels])) == 1
    np.testing.assert_array_equal(together, mask)


@given(masks)
@example(np.array([[0, 1, 0], [0, 1, 1], [1, 0, 0]], bool))  # becomes a triangle
def test_a_polygon_keeps_area_and_box(mask: NDArray[np.bool_]) -> None:
    for blob in find_blobs(mask):
        points = np.array(polygon(blob))
        assert len(points) >= 3
        full = ndimage.binary_fill_holes(blob.pixels).sum()
        x, y = points.T
        area = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
        assert area == pytest.approx(full, rel=0.05)
        x0, y0, x1, y1 = blob.box_px
        assert (points >= (x0, y0)).all()
        assert (points <= (x1, y1)).all()


def test_a_rectangle_has_four_corners_in_pixels_of_the_image() -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:9, 10:25] = True
    (blob,) = find_blobs(mask)
    assert polygon(blob) == ((10, 5), (25, 5), (25, 9), (10, 9))


def test_a_thin_slanting_line_keeps_its_exact_outline() -> None:
    assert len(polygon(Blob((0, 0, 6, 6), np.eye(6, dtype=bool)))) == 24


def test_a_round_region_has_few_corners_and_stays_round() -> None:
    y, x = np.mgrid[:400, :400]
    (blob,) = find_blobs((x - 200) ** 2 + (y - 200) ** 2 < 150**2)
    points = np.array(polygon(blob)) - np.array(blob.box_px[:2])
    assert len(points) < 120
    wrong = filled(points, blob.pixels.shape) ^ blob.pixels
    assert wrong.mean() < 0.01


def test_regions_have_their_size_in_millimetres_where_a_pixel_has_one() -> None:
    scores = np.zeros((10, 10), np.float32)
    scores[2:4, 3:8] = 0.9
    (region,) = find_regions(scores, (10, 10), threshold=0.5, min_area_px=1, mm_per_px=0.5)
    assert region.area_mm2 == pytest.approx(2.5)
    assert region.size_mm == pytest.approx((2.5, 1.0))
    assert region.polygon_px == ((3, 2), (8, 2), (8, 4), (3, 4))
    (bare,) = find_regions(scores, (10, 10), threshold=0.5, min_area_px=1)
    assert (bare.area_mm2, bare.size_mm) == (None, None)


def test_a_map_enlarged_in_bands_is_the_map_enlarged_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(2).random((14, 11), np.float32)
    for size in ((301, 207), (11, 13), (5, 3)):
        at_once = enlarge(array, size)
        with monkeypatch.context() as small:
            small.setattr(regions.resize, "BAND_PX", 1000)
            np.testing.assert_allclose(enlarge(array, size), at_once, atol=1e-5)


def test_maps_count_only_inside() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4) / 12
    inside = np.zeros((6, 8), bool)
    inside[:2, :4] = True
    scores = at_original(array, (8, 6), inside)
    assert not scores[~inside].any()
    np.testing.assert_array_equal(scores[inside], at_original(array, (8, 6))[inside])
    np.testing.assert_allclose(peaks_inside(np.stack([array, 1 - array]), inside), [1 / 12, 1])


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(0, 1, width=32)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.floats(0, 1, width=32),
)
def test_outside_of_its_part_above_a_level_a_map_is_below(
    array: NDArray[np.float32], size: tuple[int, int], level: float
) -> None:
    enlarged = enlarge(array, size)
    part = part_above(array, enlarged, level)
    np.testing.assert_array_equal(part.scores, enlarged[part.slices])
    rest = enlarged.copy()
    rest[part.slices] = -1
    assert (rest < level).all()
    assert not np.shares_memory(part.scores, enlarged)


def test_the_part_above_a_level_is_little_larger_than_what_reaches_it() -> None:
    array = np.zeros((28, 28), np.float32)
    array[10:12, 20] = 1
    part = part_above(array, enlarge(array, (560, 560)), 0.9)
    assert part.box_px == (20 * 20 - 11, 10 * 20 - 11, 21 * 20 + 11, 12 * 20 + 11)
    assert part_above(np.zeros((4, 4), np.float32), np.zeros((40, 40), np.float32), 0.1).scores.shape == (0, 0)
