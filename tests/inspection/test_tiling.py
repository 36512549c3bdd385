"""Tiles: they cover everything, leave no seams, and a defect that the whole view is too coarse for is found."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from blemish.engines.base import RawScores
from blemish.errors import UsageError
from blemish.inspection.tiling import Blend, Plan, Tile, check_tiles, plan_tiles
from blemish.results import Thresholds
from fakes import GRID, PREPROCESS, DarknessEngine, darkness_inspector

INPUT_PX = PREPROCESS.size


def planned(size: tuple[int, int], tiles: str | int = 128, grid: tuple[int, int] = (GRID, GRID)) -> Plan:
    plan = plan_tiles(size, tiles, input_px=INPUT_PX, grid=grid)
    assert plan is not None
    return plan


def blend(whole: RawScores, plan: Plan, parts: Iterable[tuple[Tile, RawScores]]) -> RawScores:
    blended = Blend(whole, plan)
    for tile, scores in parts:
        blended.add(tile, scores)
    return blended.result()


def raw(anomaly_map: NDArray[np.float32], *, score: float = 0.0, types: int = 1) -> RawScores:
    return RawScores(
        score,
        anomaly_map,
        ("a",) * types,
        np.full(types, score, np.float32),
        np.stack([anomaly_map] * types),
        (GRID, GRID),
    )


@given(
    st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    st.integers(32, 700),
    st.sampled_from([(8, 8), (7, 14), (37, 37)]),
)
def test_tiles_cover_every_pixel_overlap_and_share_out_all_the_weight(
    size: tuple[int, int], side_px: int, grid: tuple[int, int]
) -> None:
    plan = plan_tiles(size, side_px, input_px=INPUT_PX, grid=grid)
    if plan is None:
        assert max(size) <= side_px
        return
    for axis, length in ((plan.columns, size[0]), (plan.rows, size[1])):
        spans = [axis.span_px(start) for start in axis.starts]
        assert (spans[0][0], spans[-1][1]) == (0, length)
        for before, after in zip(axis.starts, axis.starts[1:], strict=False):
            assert before < after <= before + axis.tile_cells * 0.75
        for factor in (1, 3):
            total = np.zeros(axis.cells * factor)
            for start, weights in zip(axis.starts, axis.weights(factor), strict=True):
                assert (weights > 0).all()
                total[start * factor : start * factor + len(weights)] += weights
            np.testing.assert_allclose(total, 1, atol=1e-6)


def test_auto_leaves_small_images_alone_and_makes_about_eight_tiles_across() -> None:
    assert plan_tiles((2 * INPUT_PX, 50), "auto", input_px=INPUT_PX, grid=(GRID, GRID)) is None
    assert plan_tiles((5000, 5000), "off", input_px=INPUT_PX, grid=(GRID, GRID)) is None
    plan = planned((8000, 6000), "auto")
    assert 7 <= len(plan.columns.starts) <= 9
    widths = {tile.box_px[2] - tile.box_px[0] for tile in plan.tiles}
    heights = {tile.box_px[3] - tile.box_px[1] for tile in plan.tiles}
    assert max(widths) / min(heights) < 1.1  # tiles are square, or nearly


@pytest.mark.parametrize("bad", ["", "some", "0", "-3", "1.5"])
def test_senseless_tiles_are_refused(bad: str) -> None:
    with pytest.raises(UsageError, match="--tiles takes"):
        check_tiles(bad)


def test_a_smooth_picture_has_a_map_without_seams() -> None:
    x = np.linspace(0, 255, 900)
    picture = np.repeat(np.add.outer(np.linspace(0, 0, 700), x)[..., None], 3, axis=2).astype(np.uint8)
    anomaly_map = darkness_inspector(tiles=200).inspect(picture).anomaly_map
    columns = anomaly_map.shape[1]
    steps = np.diff(anomaly_map, axis=1)
    assert (steps[:, 2:-2] < 0).all()
    assert np.abs(steps).max() < 2.0 / columns  # twice the slope of the picture itself
    assert np.abs(np.diff(anomaly_map, axis=0)).max() < 1e-3


@given(st.integers(0, 2**32 - 1))
def test_even_tiles_that_disagree_leave_no_edge(seed: int) -> None:
    rng = np.random.default_rng(seed)
    plan = planned((1000, 900), 256)
    whole = raw(np.full((GRID, GRID), 0.5, np.float32))
    parts = [(tile, raw(np.full((GRID, GRID), rng.random(), np.float32))) for tile in plan.tiles]
    blended = blend(whole, plan, parts).anomaly_map
    steps = max(np.abs(np.diff(blended, axis=axis)).max() for axis in (0, 1))
    assert (
        steps <= 0.5 / 2 + 1e-6
    )  # of at most 1 between two tiles, half of which counts, over an overlap of 2 cells and more


def test_whole_view_and_tiles_count_half_each() -> None:
    plan = planned((300, 200))
    whole = raw(np.full((GRID, GRID), 0.2, np.float32), score=0.5, types=2)
    parts = [
        (tile, raw(np.full((GRID, GRID), 0.6, np.float32), score=0.1 * number, types=2))
        for number, tile in enumerate(plan.tiles)
    ]
    result = blend(whole, plan, iter(parts))
    np.testing.assert_allclose(result.anomaly_map, 0.4, atol=1e-6)
    assert result.type_maps is not None
    np.testing.assert_allclose(result.type_maps, 0.4, atol=1e-6)
    assert result.anomaly_map.shape == result.type_maps.shape[1:] == (plan.rows.cells, plan.columns.cells)
    assert result.image_score == pytest.approx((0.5 + 0.1 * (len(parts) - 1)) / 2)
    assert result.image_score == float(np.float32(result.image_score))


def test_maps_finer_than_patches_stay_fine_but_not_finer_than_the_image() -> None:
    fine = raw(np.zeros((GRID * 16, GRID * 16), np.float32))
    for side_px, factor in ((1024, 16), (32, 4)):
        plan = planned((1500, 1200), side_px)
        shape = blend(fine, plan, ((tile, fine) for tile in plan.tiles)).anomaly_map.shape
        assert shape == (plan.rows.cells * factor, plan.columns.cells * factor)


def speck() -> NDArray[np.uint8]:
    image = np.full((900, 1200, 3), 255, np.uint8)
    image[600:632, 300:332] = 0
    return image


def test_a_speck_that_the_whole_view_misses_is_found_and_located() -> None:
    thresholds = Thresholds(image=0.6, pixel=0.3)  # half of what the tiles alone would say
    plain = darkness_inspector(thresholds=thresholds).inspect(speck())
    tiled = darkness_inspector(thresholds=thresholds, tiles=128).inspect(speck())
    assert (plain.regions, plain.image_score_from) == ((), "method")
    assert tiled.image_score_from == "tiles"
    assert tiled.image_score > 2 * plain.image_score
    (region,) = tiled.regions
    np.testing.assert_allclose(region.box_px, (300, 600, 332, 632), atol=16)


def test_batches_tiles_and_order_do_not_mix() -> None:
    images = [np.full((40, 40, 3), 100, np.uint8), speck(), np.full((500, 40, 3), 90, np.uint8)]
    together = darkness_inspector(tiles=128, batch_size=3).inspect(images)
    alone = [darkness_inspector(tiles=128).inspect(image) for image in images]
    for one, other in zip(together, alone, strict=True):
        assert one.regions == other.regions
        assert one.image_score == other.image_score
        np.testing.assert_array_equal(one.anomaly_map, other.anomaly_map)


def test_the_model_never_sees_more_than_a_batch_at_once() -> None:
    inspector = darkness_inspector(tiles=64, batch_size=4)
    inspector.inspect(speck())
    assert isinstance(inspector.engine, DarknessEngine)
    assert max(inspector.engine.batches) == 4
    assert sum(inspector.engine.batches) > 300
    assert torch.is_inference_mode_enabled() is False
