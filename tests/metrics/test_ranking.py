"""AUROC against scikit-learn, and its intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from blemish.errors import UsageError
from blemish.metrics import PixelRanking, auroc, bootstrap_auroc


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=60))
def test_auroc_equals_scikit_learn_ties_included(pairs: list[tuple[int, bool]]) -> None:
    scores, labels = zip(*pairs, strict=True)
    if len(set(labels)) == 2:
        assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_auroc_names_the_missing_class() -> None:
    with pytest.raises(UsageError, match="nothing normal"):
        auroc([0.1, 0.2], [1, 1])
    with pytest.raises(UsageError, match="nothing anomalous"):
        bootstrap_auroc([0.1, 0.2], [0, 0])


def test_interval_holds_the_estimate_and_is_repeatable() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    scores = rng.normal(labels * 1.0)
    low, high = bootstrap_auroc(scores, labels, seed=1)
    assert low < auroc(scores, labels) < high
    assert (low, high) == bootstrap_auroc(scores, labels, seed=1)


def test_interval_of_a_perfect_ranking_is_a_point() -> None:
    assert bootstrap_auroc([0, 0, 1, 1], [0, 0, 1, 1]) == (1.0, 1.0)


def pixels(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mask = np.zeros((20, 30), bool)
    mask[5:9, 10:20] = seed % 2 == 0
    return np.clip(rng.normal(0.4 + 0.2 * mask, 0.15), 0, 1), mask


def test_pixel_auroc_equals_the_exact_one_within_its_bins() -> None:
    ranking, maps, masks = PixelRanking(), [], []
    for seed in range(8):
        anomaly_map, mask = pixels(seed)
        ranking.add(anomaly_map, mask)
        maps.append(anomaly_map.ravel())
        masks.append(mask.ravel())
    exact = roc_auc_score(np.concatenate(masks), np.concatenate(maps))
    assert ranking.auroc() == pytest.approx(exact, abs=1e-4)
    low, high = ranking.interval(rounds=50)
    assert low < exact < high


def test_pixel_auroc_keeps_its_resolution_where_probabilities_saturate() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((60, 60), bool)
    mask[:20] = True
    for centre in (-12.0, 12.0):
        scores = (1 / (1 + np.exp(-rng.normal(centre + mask, 1.0)))).astype(np.float32)
        ranking = PixelRanking()
        ranking.add(scores, mask)
        assert ranking.auroc() == pytest.approx(roc_auc_score(mask.ravel(), scores.ravel()), abs=2e-3)


def test_pixel_ranking_refuses_maps_it_would_misjudge() -> None:
    ranking = PixelRanking()
    with pytest.raises(UsageError, match="cannot be compared"):
        ranking.add(np.zeros((2, 2)), np.zeros((2, 3), bool))
    with pytest.raises(UsageError, match=r"0\.\.1"):
        ranking.add(np.full((2, 2), 1.5), np.zeros((2, 2), bool))
    with pytest.raises(UsageError, match=r"0\.\.1"):
        ranking.add(np.full((2, 2), np.nan), np.zeros((2, 2), bool))
    ranking.add(np.zeros((2, 2)), np.zeros((2, 2), bool))
    with pytest.raises(UsageError, match="nothing anomalous"):
        ranking.auroc()
