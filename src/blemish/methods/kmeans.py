"""k-means with greedily chosen starts, draw for draw that of scikit-learn, on which AdaCLIP's released scores depend.

Arthur, Vassilvitskii: "k-means++: The Advantages of Careful Seeding", SODA 2007; Lloyd: "Least Squares Quantization in PCM",
IEEE Transactions on Information Theory, 1982.
n points, D numbers each, K clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Clustering", "choose_starts", "cluster"]

MOST_ROUNDS = 300
TOLERANCE = 1e-4  # of the centres' movement, as a share of the points' variance

Points = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Clustering:
    """Points in clusters; a cluster may be empty where there are fewer distinct points than clusters."""

    starts: Indices  # [K], the points that the centres began as
    labels: Indices  # [n], the cluster of each point, 0..K-1
    rounds: int


def cluster(points: Points, clusters: int, *, generator: np.random.RandomState) -> Clustering:
    """Clusters points [n, D]; with as many points as clusters or fewer, each is one of its own.

    The generator gives 1 + (K - 1) (2 + ⌊ln K⌋) numbers. It is numpy's older one, as the released code uses it.
    """
    points = np.asarray(points, np.float64)
    points = points - points.mean(0)
    starts = choose_starts(points, min(clusters, len(points)), generator=generator)
    labels, rounds = _lloyd(points, points[starts])
    return Clustering(starts, labels, rounds)


def choose_starts(points: Points, clusters: int, *, generator: np.random.RandomState) -> Indices:
    """The indices [K] of points to begin from: each is the best of 2 + ⌊ln K⌋ that were drawn in proportion to their squared
    distance from those before it."""
    count, trials = len(points), 2 + int(np.log(clusters))
    starts = [int(generator.choice(count, p=np.full(count, 1 / count)))]
    nearest = _distances(points, points[starts])[:, 0]  # [n], squared, to the nearest start so far
    for _ in range(clusters - 1):
        drawn = generator.uniform(size=trials) * nearest.sum()
        candidates = np.minimum(np.searchsorted(np.cumsum(nearest), drawn), count - 1)
        left = np.minimum(nearest[:, None], _distances(points, points[candidates]))  # [n, trials]
        best = int(left.sum(0).argmin())
        starts.append(int(candidates[best]))
        nearest = left[:, best]
    return np.array(starts, np.int64)


def _lloyd(points: Points, centres: Points) -> tuple[Indices, int]:
    """The labels [n] after moving centres [K, D] until they rest, and the number of rounds."""
    enough = TOLERANCE * points.var(0).mean()
    before = np.full(len(points), -1, np.int64)
    for number in range(1, MOST_ROUNDS + 1):
        distances = _distances(points, centres)
        labels = distances.argmin(1)
        moved = _means(points, labels, distances)
        if (labels == before).all():
            return labels, number
        shift, centres, before = float(((moved - centres) ** 2).sum()), moved, labels
        if shift <= enough:
            break
    return _distances(points, centres).argmin(1), number


def _means(points: Points, labels: Indices, distances: Points) -> Points:
    """The clusters' means [K, D]; an empty one takes the point that lies farthest from its centre."""
    clusters = distances.shape[1]
    counts = np.bincount(labels, minlength=clusters)
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        labels = labels.copy()
        own = distances[np.arange(len(points)), labels]
        for cluster_number, farthest in zip(empty, own.argsort()[::-1], strict=False):
            if own[farthest] > 0:
                labels[farthest] = cluster_number
        counts = np.bincount(labels, minlength=clusters)
    member = labels[None] == np.arange(clusters)[:, None]  # [K, n]
    return np.asarray(member @ points / np.maximum(counts, 1)[:, None])


def _distances(points: Points, centres: Points) -> Points:
    """Squared distances [n, K]."""
    products = points @ centres.T
    squared = (points**2).sum(1)[:, None] - 2 * products + (centres**2).sum(1)
    return np.maximum(squared, 0.0)
