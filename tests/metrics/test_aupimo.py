"""AUPIMO by hand, and against a slow twin written from its definition."""

from __future__ import annotations

import numpy as np
import pytest

from blemish.errors import UsageError
from blemish.metrics import PixelRanking, aupimo
from maps import make_maps, slow_aupimo

BOUNDS = (1e-3, 1e-1)  # wide enough for the 46,080 normal pixels of these small sets


def test_by_hand_recall_rises_in_the_middle_of_the_logarithm() -> None:
    # 100 normal pixels of scores 0.01 .. 1.00: the rate is 1/100 from 1.00 on, 2/100 from 0.99 on.
    normal = np.arange(1, 101).reshape(10, 10) / 100
    mask = np.zeros((10, 10), bool)
    mask[0, :4] = True
    anomalous = np.zeros((10, 10))
    anomalous[0, :4] = (2, 0.995, 0.905, 0.3)  # found at a rate of 0, 1/100, 10/100 (after 0.91) and far beyond
    found = aupimo([normal, anomalous], [0 * mask, mask], bounds=(0.001, 0.1))
    # Recall 1/4 below the rate 1/100 and 2/4 from there on: each has half of the logarithm of 0.001..0.1.
    assert float(found.mean) == pytest.approx((1 / 4 + 2 / 4) / 2, abs=1e-12)
    assert found.per_image == (None, pytest.approx(3 / 8, abs=1e-12))


def test_by_hand_a_tie_is_a_line_in_the_logarithm() -> None:
    normal = np.full((10, 10), 0.1)
    normal[0, 0] = 0.9
    normal[1] = 0.5  # rates: 1/100 at 0.9, then 11/100 at 0.5
    mask = np.ones((10, 10), bool)
    anomalous = np.full((10, 10), 0.5)
    found = aupimo([normal, anomalous], [~mask, mask], bounds=(0.01, 0.11))
    assert float(found.mean) == pytest.approx(0.5, abs=1e-12)  # the line from (0.01, 0) to (0.11, 1)


def test_by_hand_the_mean_counts_images_and_not_pixels_or_regions() -> None:
    normal = np.zeros((10, 10))
    small, large = np.zeros((10, 10), bool), np.ones((10, 10), bool)
    small[0, 0] = True
    found = aupimo([normal, small * 1.0, large * 0.0], [~large, small, large])
    assert found.per_image == (None, 1.0, 0.0)
    assert float(found.mean) == 0.5


def test_anomalous_images_give_no_false_positives() -> None:
    mask = np.zeros((10, 10), bool)
    mask[0] = True
    loud = np.where(mask, 0.5, 0.9)  # wrong almost everywhere on the anomalous image itself
    assert float(aupimo([np.zeros((10, 10)), loud], [~mask & mask, mask]).mean) == 1.0


@pytest.mark.parametrize("kind", ["random", "tied", "saturated", "saturated softly", "outlier-ridden"])
def test_equals_its_slow_twin(kind: str) -> None:
    maps, masks = make_maps(kind, images=6, side=40)
    if kind == "random":
        maps = [np.round(one, 2) for one in maps]  # so that the twin has fewer thresholds
    found = aupimo(maps, masks, bounds=BOUNDS)
    assert list(found.per_image) == pytest.approx(slow_aupimo(maps, masks, bounds=BOUNDS), abs=2e-4)  # the twin's grid


@pytest.mark.parametrize("kind", ["random", "tied", "saturated", "saturated softly", "binary", "outlier-ridden"])
@pytest.mark.parametrize("bounds", [BOUNDS, (1e-5, 1e-4)])
def test_streaming_equals_the_exact_mean_within_its_bound(kind: str, bounds: tuple[float, float]) -> None:
    maps, masks = make_maps(kind)
    ranking = PixelRanking(rounds=0)
    for scores, mask in zip(maps, masks, strict=True):
        ranking.add(scores, mask)
    found = ranking.aupimo(bounds=bounds)
    assert abs(float(found) - float(aupimo(maps, masks, bounds=bounds).mean)) <= found.error_bound + 1e-6
    assert found.error_bound < 5e-3


def test_images_of_different_sizes_count_the_same() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.random((20, 20)), rng.random((60, 30)), rng.random((20, 20))]
    masks = [np.zeros((20, 20), bool), np.zeros((60, 30), bool), np.zeros((20, 20), bool)]
    masks[2][:3] = True
    ranking = PixelRanking(rounds=0)
    for scores, mask in zip(maps, masks, strict=True):
        ranking.add(scores, mask)
    twin = slow_aupimo([one.astype(np.float32) for one in maps], masks, bounds=BOUNDS)[2]
    assert aupimo(maps, masks, bounds=BOUNDS).per_image[2] == pytest.approx(twin, abs=2e-4)
    assert float(ranking.aupimo(bounds=BOUNDS)) == pytest.approx(twin, abs=1e-3)


def test_what_is_missing_is_named() -> None:
    zeros, ones = np.zeros((2, 2)), np.ones((2, 2))
    assert aupimo([zeros], [zeros]).mean.reason == "AUPIMO needs an anomalous image with a mask, and there is none"
    assert aupimo([zeros], [ones]).mean.reason == "AUPIMO needs a normal image, and there is none"
    assert aupimo([], []).per_image == ()
    for bounds in ((0, 1e-4), (1e-4, 1e-5), (1e-5, 2)):
        with pytest.raises(UsageError, match="0 < lower < upper"):
            aupimo([zeros, zeros], [zeros, ones], bounds=bounds)
