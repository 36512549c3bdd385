"""k-means against scikit-learn, whose draws AdaCLIP's released scores depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans, kmeans_plusplus

from blemish.methods.kmeans import choose_starts, cluster


def points(seed: int, count: int, width: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centres = 3 * generator.standard_normal((6, width))
    return centres[generator.integers(6, size=count)] + generator.standard_normal((count, width))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), count=st.integers(20, 60), clusters=st.integers(1, 20), width=st.integers(1, 8))
def test_starts_and_labels_are_scikit_learn_s(seed: int, count: int, clusters: int, width: int) -> None:
    data = points(seed, count, width)
    centred = data - data.mean(0)
    _, starts = kmeans_plusplus(centred, clusters, random_state=np.random.RandomState(seed))
    ours = cluster(data, clusters, generator=np.random.RandomState(seed))
    assert ours.starts.tolist() == starts.tolist()
    reference = KMeans(clusters, init=centred[starts], n_init=1).fit(centred)
    assert ours.labels.tolist() == reference.labels_.tolist()
    assert ours.rounds == reference.n_iter_


@pytest.mark.parametrize("clusters", [1, 2, 7, 20])
def test_the_generator_gives_as_many_numbers_as_the_specification_says(clusters: int) -> None:
    ours, counted = np.random.RandomState(5), np.random.RandomState(5)
    choose_starts(points(0, 40, 3), clusters, generator=ours)
    counted.random_sample(1 + (clusters - 1) * (2 + int(np.log(clusters))))
    assert ours.random_sample() == counted.random_sample()


def test_fewer_distinct_points_than_clusters_leave_clusters_empty() -> None:
    twice = np.repeat(np.eye(3), 4, axis=0)
    found = cluster(twice, 5, generator=np.random.RandomState(0))
    assert len(set(found.labels.tolist())) == 3
    for group in range(3):
        assert len(set(found.labels[4 * group : 4 * group + 4].tolist())) == 1


def test_no_more_clusters_than_points() -> None:
    assert sorted(cluster(np.eye(3), 20, generator=np.random.RandomState(0)).labels.tolist()) == [0, 1, 2]
