"""Verdicts, records and maps of one inspection."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from blemish.errors import UsageError
from blemish.inspection.decide import decide, resolve_thresholds
from blemish.inspection.regions import find_regions
from blemish.maps import enlarge, find_blobs, grow_blobs
from blemish.results import Inspection, ModelInfo, Region, Thresholds, Verdict

THRESHOLDS = Thresholds(image=0.5, review=0.25, pixel=0.5)


def inspection(**changes: object) -> Inspection:
    values: dict[str, object] = {
        "source": "part.png",
        "width_px": 6,
        "height_px": 4,
        "image_score": 0.75,
        "verdict": Verdict.NG,
        "thresholds": THRESHOLDS,
        "anomaly_map": np.array([[0.5, 0.25], [0, 0.75]], np.float32),
        "types": ("scratch", "hole"),
        "type_scores": np.array([0.25, 0.5], np.float32),
        "type_maps": None,
        "regions": (Region(box_px=(0, 0, 2, 1), area_px=2, mean_score=0.5, peak_score=0.625),),
        "value_range": None,
        "model": ModelInfo(backbone="tiny", method="darkness", version="0"),
    }
    return Inspection(**{**values, **changes})  # type: ignore[arg-type]


def test_a_decision_is_score_at_or_above_threshold_everywhere() -> None:
    assert decide(0.5, THRESHOLDS) is Verdict.NG
    assert decide(np.nextafter(0.5, 0), THRESHOLDS) is Verdict.REVIEW
    assert decide(0.25, THRESHOLDS) is Verdict.REVIEW
    assert decide(np.nextafter(0.25, 0), THRESHOLDS) is Verdict.OK
    just_below = np.nextafter(np.float32(0.5), np.float32(0))
    flat = np.array([[0.5, 0, just_below]], np.float32)
    found = find_regions(flat, (3, 1), threshold=0.5, min_area_px=1)
    assert [region.box_px for region in found] == [(0, 0, 1, 1)]
    mask = inspection(anomaly_map=flat, width_px=3, height_px=1).mask()
    np.testing.assert_array_equal(mask, [[True, False, False]])


def test_without_a_review_threshold_there_is_no_band() -> None:
    assert decide(0.49, Thresholds(image=0.5, pixel=0.5)) is Verdict.OK


@pytest.mark.parametrize("bad", [{"image": 1.5}, {"pixel": -0.1}, {"review": 0.5}, {"image": float("nan")}])
def test_senseless_thresholds_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="threshold"):
        Thresholds(**{"image": 0.5, "pixel": 0.5, **bad})  # type: ignore[arg-type]


def test_the_users_threshold_makes_the_verdict_and_is_marked() -> None:
    card = {"image": 0.6, "review": 0.4, "pixel": 0.7}
    assert resolve_thresholds(card) == Thresholds(image=0.6, review=0.4, pixel=0.7)
    assert resolve_thresholds(card, image=0.5) == Thresholds(image=0.5, review=0.4, pixel=0.7, calibration="user")
    assert resolve_thresholds(card, image=0.4).review is None
    assert resolve_thresholds(card, pixel=0.1).pixel_calibration == "user"
    assert resolve_thresholds({}) == Thresholds(image=0.5, pixel=0.5)


def test_records_are_json_with_the_documented_fields() -> None:
    record = json.loads(json.dumps(inspection().to_dict()))
    assert record == {
        "schema": "blemish.inspection/1",
        "source": "part.png",
        "width_px": 6,
        "height_px": 4,
        "verdict": "ng",
        "image_score": 0.75,
        "image_score_from": "method",
        "map_peak": None,
        "thresholds": {
            "image": 0.5,
            "review": 0.25,
            "pixel": 0.5,
            "calibration": "uncalibrated",
            "pixel_calibration": "uncalibrated",
        },
        "top_type": "hole",
        "types": {"scratch": 0.25, "hole": 0.5},
        "regions": [
            {
                "type": None,
                "type_probability": None,
                "type_margin": None,
                "best_guess": None,
                "box_px": [0, 0, 2, 1],
                "area_px": 2,
                "mean_score": 0.5,
                "peak_score": 0.625,
                "polygon_px": [],
                "area_mm2": None,
                "size_mm": None,
            }
        ],
        "region_threshold": None,
        "min_area_px": 1.0,
        "mm_per_px": None,
        "value_range": None,
        "tags": {},
        "statistics": {},
        "reasons": None,
        "model": {"backbone": "tiny", "method": "darkness", "prompts": "", "fingerprint": "", "version": "0"},
    }


def test_image_scores_are_recorded_exactly() -> None:
    score = float(np.float32(0.1))
    assert json.loads(json.dumps(inspection(image_score=score).to_dict()))["image_score"] == score


def test_results_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        inspection().image_score = 0.0  # type: ignore[misc]


def test_maps_come_back_at_original_size_and_in_their_own_range() -> None:
    result = inspection()
    enlarged = result.map_at_original()
    assert enlarged.shape == (4, 6)
    assert enlarged.max() == result.anomaly_map.max()
    assert enlarged.min() == result.anomaly_map.min()
    np.testing.assert_array_equal(result.mask(), enlarged >= 0.5)


def test_a_map_at_original_size_is_no_view_of_the_frozen_one() -> None:
    result = inspection(width_px=2, height_px=2)
    kept = result.anomaly_map.copy()
    assert result.map_at_original().shape == kept.shape
    result.map_at_original()[:] = 7
    np.testing.assert_array_equal(result.anomaly_map, kept)


def test_enlarging_is_bilinear_between_cell_centres() -> None:
    np.testing.assert_allclose(enlarge(np.array([[0, 1]], np.float32), (4, 1)), [[0, 0.25, 0.75, 1]])


def test_regions_are_8_connected_with_half_open_boxes() -> None:
    mask = np.zeros((6, 7), bool)
    mask[[1, 2, 3], [1, 2, 3]] = True
    mask[5, 6] = True
    blobs = find_blobs(mask)
    assert [blob.box_px for blob in blobs] == [(1, 1, 4, 4), (6, 5, 7, 6)]
    assert [int(blob.pixels.sum()) for blob in blobs] == [3, 1]
    assert [blob.box_px for blob in find_blobs(mask, min_area_px=2)] == [(1, 1, 4, 4)]


def test_regions_are_sorted_by_peak_and_measured() -> None:
    scores = np.zeros((4, 8), np.float32)
    scores[1, 1:3] = [0.5, 0.7]
    scores[3, 6] = 0.9
    first, second = find_regions(scores, (8, 4), threshold=0.5, min_area_px=1)
    assert first.box_px == (6, 3, 7, 4)
    assert first.peak_score == pytest.approx(0.9)
    assert (second.box_px, second.area_px) == ((1, 1, 3, 2), 2)
    assert second.mean_score == pytest.approx(0.6)
    assert second.type is None


def test_a_region_takes_the_type_with_the_highest_mean_over_its_area() -> None:
    scores = np.zeros((4, 4), np.float32)
    scores[:, 3] = 0.8
    type_maps = np.stack([np.full((4, 4), 0.2), np.tile([0.9, 0.9, 0.9, 0.6], (4, 1))]).astype(np.float32)
    (region,) = find_regions(scores, (4, 4), threshold=0.5, min_area_px=1, types=("hole", "stain"), type_maps=type_maps)
    assert region.type == "stain"
    assert region.type_probability == pytest.approx(0.75)
    assert region.type_margin == pytest.approx(0.5)


def test_type_means_equal_the_obvious_ones_at_any_size() -> None:
    rng = np.random.default_rng(3)
    anomaly_map, type_maps = rng.random((5, 6), np.float32), rng.random((3, 5, 6), np.float32)
    for width, height in ((31, 23), (6, 5), (3, 2), (1, 1)):
        scores = enlarge(anomaly_map, (width, height))
        level = float(np.median(scores))
        regions = find_regions(
            anomaly_map, (width, height), threshold=level, min_area_px=1, types=("a", "b", "c"), type_maps=type_maps
        )
        by_box = {region.box_px: region for region in regions}
        for blob in grow_blobs(scores, threshold=level):
            total = np.zeros(3)
            for y, x in np.argwhere(blob.pixels):
                row = int((y + blob.box_px[1] + 0.5) * 5 / height)
                column = int((x + blob.box_px[0] + 0.5) * 6 / width)
                total += type_maps[:, row, column]
            shares = sorted(total / total.sum())
            assert by_box[blob.box_px].type_probability == pytest.approx(shares[-1])
            assert by_box[blob.box_px].type_margin == pytest.approx(shares[-1] - shares[-2])
