"""The exact metrics against scikit-learn and MVTec's own evaluation code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from blemish.errors import UsageError
from blemish.metrics import Value, aupro, auroc, average_precision, f1_max, image_metrics
from maps import KINDS, Maps, Masks, joined, make_maps, slow_legacy_aupro

EXACT = 1e-9
METRICS: dict[str, Callable[..., Value]] = {"auroc": auroc, "ap": average_precision, "f1": f1_max}


def expected(scores: Any, labels: Any) -> dict[str, float]:
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    auc, ap = roc_auc_score(labels, scores), average_precision_score(labels, scores)
    return {"auroc": float(auc), "ap": float(ap), "f1": float(f1.max())}


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=60))
def test_image_metrics_equal_scikit_learn_ties_included(pairs: list[tuple[int, bool]]) -> None:
    scores, labels = zip(*pairs, strict=True)
    if len(set(labels)) == 2:
        for name, value in expected(scores, labels).items():
            assert float(METRICS[name](scores, labels)) == pytest.approx(value, abs=EXACT)


@pytest.mark.parametrize("kind", KINDS)
def test_pixel_metrics_equal_scikit_learn(kind: str) -> None:
    maps, masks = make_maps(kind)
    scores, labels = joined(maps), joined(masks)
    for name, value in expected(scores, labels).items():
        assert float(METRICS[name](scores, labels)) == pytest.approx(value, abs=EXACT)


def test_f1_max_is_reached_at_its_threshold() -> None:
    maps, masks = make_maps("random")
    scores, labels = joined(maps), joined(masks)
    found = f1_max(scores, labels)
    assert found.threshold is not None
    decided = scores >= found.threshold
    assert 2 * (decided & labels).sum() / (decided.sum() + labels.sum()) == pytest.approx(float(found), abs=EXACT)


def mvtec_aupro(maps: Maps, masks: Masks, *, limit: float) -> float:
    """MVTec's curve (pyaupro has its code), its area up to the limit with the last piece interpolated, divided by the limit."""
    reference = pytest.importorskip("pyaupro._reference")
    x, y = reference.compute_pro(np.stack(maps), np.stack(masks).astype(int))
    x = x.astype(np.float64)
    inside = x <= limit
    area = trapezoid(y[inside], x[inside])
    after = int(inside.sum())
    if after < len(x):
        height = y[after - 1] + (y[after] - y[after - 1]) * (limit - x[after - 1]) / (x[after] - x[after - 1])
        area += (limit - x[after - 1]) * (height + y[after - 1]) / 2
    return float(area / limit)


def with_power_of_two_normal_pixels(kind: str) -> tuple[Maps, Masks]:
    """MVTec's code holds false positive rates in float32, which is exact where the normal pixels are 2**n; 65,536 here."""
    maps, masks = make_maps(kind, images=8)
    left = int((~joined(masks)).sum()) - 65536
    assert left >= 0
    normal = masks[0]  # an image that was normal takes a region of what is too much
    normal.ravel()[:left] = True
    return maps, masks


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_aupro_equals_mvtec_code(kind: str, limit: float) -> None:
    maps, masks = with_power_of_two_normal_pixels(kind)
    assert float(aupro(maps, masks, limit=limit)) == pytest.approx(mvtec_aupro(maps, masks, limit=limit), abs=EXACT)


def test_aupro_equals_mvtec_code_within_its_float32() -> None:
    maps, masks = make_maps("random", seed=7)
    assert float(aupro(maps, masks)) == pytest.approx(mvtec_aupro(maps, masks, limit=0.3), abs=1e-6)


def test_a_diagonal_scratch_is_one_region() -> None:
    mask = np.eye(8, dtype=bool)
    mask[0, 7] = True
    scores = np.where(np.eye(8, dtype=bool), 0.9, 0.1)
    assert float(aupro([scores], [mask])) == pytest.approx(
        0.5 + 0.5 * 0.15, abs=EXACT
    )  # one region of two; the rest is tied


def test_perfect_maps_score_one_and_constant_maps_half_the_limit() -> None:
    masks = make_maps("random")[1]
    assert float(aupro([mask * 1.0 for mask in masks], masks)) == 1.0
    assert float(aupro([mask * 0.0 for mask in masks], masks)) == pytest.approx(0.15, abs=EXACT)


def test_legacy_steps_equal_the_papers_loop() -> None:
    for kind in ("random", "saturated softly", "outlier-ridden"):
        maps, masks = make_maps(kind, images=4, side=48)
        assert float(aupro(maps, masks, legacy_steps=200)) == pytest.approx(slow_legacy_aupro(maps, masks), abs=EXACT)


def test_legacy_steps_say_where_the_papers_loop_breaks() -> None:
    maps, masks = make_maps("binary")
    assert "two false positive rates" in aupro(maps, masks, legacy_steps=200).reason
    flat = [np.zeros_like(one) for one in maps]
    assert "all are the same" in aupro(flat, masks, legacy_steps=200).reason


def test_a_missing_class_is_named_and_is_no_number() -> None:
    for metric in METRICS.values():
        assert "nothing normal" in metric([0.1, 0.2], [1, 1]).reason
        assert "nothing anomalous" in metric([0.1, 0.2], [0, 0]).reason
        assert "nothing normal and nothing anomalous" in metric([], []).reason
        with pytest.raises(UsageError, match="nothing normal"):
            float(metric([0.1, 0.2], [1, 1], rounds=10))
    ones = np.ones((3, 3))
    assert aupro([ones], [ones]).reason == "AUPRO needs a normal pixel, and there is none"
    assert aupro([ones], [0 * ones]).reason == "AUPRO needs an anomalous region, and there is none"
    assert aupro([], []).reason == "AUPRO needs a normal pixel and an anomalous region, and there is none"
    assert aupro([], [], legacy_steps=200).reason


@pytest.mark.parametrize(
    ("scores", "mask", "words"),
    [
        (np.zeros((2, 2)), np.zeros((2, 3)), "cannot be compared"),
        (np.zeros(4), np.zeros(4), "two dimensions"),
        (np.array([[0, np.nan]]), np.zeros((1, 2)), "1 of 2 scores are not"),
        (np.array([[0, np.inf]]), np.zeros((1, 2)), "finite"),
        (np.zeros((1, 2)), np.array([[0, 255]]), r"only 0 \(normal\) and 1 \(anomalous\), this one holds 0..255"),
        (np.zeros((1, 2)), np.array([[0, 0.5]]), "only 0"),
        (np.array([["a", "b"]]), np.zeros((1, 2)), "are numbers"),
    ],
)
def test_bad_maps_are_refused_in_words(scores: NDArray[Any], mask: NDArray[Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        aupro([scores], [mask])


def test_bad_requests_are_refused_in_words() -> None:
    good = np.arange(4.0).reshape(2, 2)
    for limit in (0, 1.1, -1, np.nan):
        with pytest.raises(UsageError, match=r"\(0, 1\]"):
            aupro([good], [good > 2], limit=limit)
        with pytest.raises(UsageError, match=r"\(0, 1\]"):
            aupro([good], [good > 2], limit=limit, legacy_steps=200)
    with pytest.raises(UsageError, match="number of steps"):
        aupro([good], [good > 2], legacy_steps=0)
    with pytest.raises(UsageError, match="1 maps and 2 masks"):
        aupro([good], [good > 2, good > 2])
    with pytest.raises(UsageError, match="a label holds only 0"):
        auroc([0.1, 0.2], [1, 2])


@given(st.integers(0, 2**32), st.permutations(range(6)))
def test_neither_monotone_transforms_nor_order_change_anything(seed: int, order: list[int]) -> None:
    rng = np.random.default_rng(seed)
    maps = [rng.integers(0, 20, (6, 7)).astype(np.float64) for _ in order]
    masks = [rng.random((6, 7)) < 0.2 for _ in order]
    masks[0][0, :2] = (True, False)
    plain = results(maps, masks)
    assert results([np.exp(one / 3) - 5 for one in maps], masks) == pytest.approx(plain, abs=1e-12)
    assert results([maps[index] for index in order], [masks[index] for index in order]) == pytest.approx(
        plain, abs=1e-12
    )


def results(maps: list[NDArray[Any]], masks: list[NDArray[Any]]) -> list[float]:
    found = image_metrics(joined(maps), joined(masks))
    return [float(value) for value in found.values()] + [float(aupro(maps, masks))]


def test_intervals_hold_the_estimate_and_are_repeatable() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    scores = rng.normal(labels * 1.0)
    found = image_metrics(scores, labels, rounds=300, seed=1)
    again = image_metrics(scores, labels, rounds=300, seed=1)
    for name, value in found.items():
        assert value.interval is not None
        assert value.interval[0] < float(value) < value.interval[1]
        assert value.interval == again[name].interval
    wider = auroc(scores, labels, rounds=300, seed=1, confidence=0.99).interval
    assert wider is not None
    assert wider[0] < found["auroc"].interval[0]  # type: ignore[index]


@pytest.mark.parametrize(("images", "low"), [(4, 0.398), (100, 0.964)])
def test_perfect_separation_of_few_images_admits_how_little_that_is(images: int, low: float) -> None:
    scores = np.r_[np.linspace(0, 0.4, images), np.linspace(0.6, 1, 200)]
    value = auroc(scores, np.r_[np.zeros(images), np.ones(200)], rounds=50)
    assert value.value == 1
    assert value.interval == (low, 1.0)
