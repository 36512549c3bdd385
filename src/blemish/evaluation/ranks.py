"""Curves, and how well one map ranks its own pixels: for pages and for finding the best and the worst images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.metrics.steps import Steps, average_precision

__all__ = ["Curve", "curves_of", "image_steps", "own_ap"]

Curve = list[tuple[float, float]]
OWN_LEVELS = 1024  # of scores in one map; it ranks images and makes no metric
POINTS = 160  # of a drawn curve


def own_ap(anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """The pixel AP of one image, its scores counted in 1,024 levels between its own lowest and highest."""
    low, high = float(anomaly_map.min()), float(anomaly_map.max())
    scale = (OWN_LEVELS - 1) / (high - low) if high > low else 0.0
    levels = ((anomaly_map - np.float32(low)) * np.float32(scale)).astype(np.int64)
    anomalous = np.bincount(levels[mask], minlength=OWN_LEVELS)[::-1]
    normal = np.bincount(levels[~mask], minlength=OWN_LEVELS)[::-1]
    steps = _steps(np.arange(OWN_LEVELS)[::-1], normal, anomalous)
    return 1.0 if mask.all() else float(average_precision(steps))


def image_steps(scores: ArrayLike, anomalous: ArrayLike) -> Steps:
    """The table of image scores [n] with their labels [n]: a row for each distinct score."""
    values, labels = np.asarray(scores, np.float64), np.asarray(anomalous, bool)
    thresholds, row = np.unique(values, return_inverse=True)
    found = [np.bincount(row[chosen], minlength=len(thresholds))[::-1] for chosen in (~labels, labels)]
    return _steps(thresholds[::-1], *found)


def curves_of(steps: Steps, *, limit: float) -> dict[str, Curve]:
    """The points of "roc", "pr" and, where regions were counted, "pro" up to `limit`; without those that lack a class."""
    if steps.reason("a curve", {"normal": "normal", "anomalous": "anomalous"}):
        return {}
    normal, anomalous = steps.reached("normal"), steps.reached("anomalous")
    true, false = np.cumsum(steps.added["anomalous"]), np.cumsum(steps.added["normal"])
    precision = true / np.maximum(true + false, 1)
    found = {"roc": _thinned(normal, anomalous), "pr": _thinned(anomalous[1:], precision)}
    if not steps.reason("a curve", {"region": "region"}):
        overlap = steps.reached("region")
        end = float(np.interp(limit, normal, overlap))
        inside = normal < limit
        found["pro"] = _thinned(np.append(normal[inside], limit), np.append(overlap[inside], end))
    return found


def _steps(thresholds: NDArray[Any], normal: NDArray[Any], anomalous: NDArray[Any]) -> Steps:
    added = {"normal": normal.astype(np.float64), "anomalous": anomalous.astype(np.float64)}
    return Steps(thresholds.astype(np.float64), added, np.ones(len(thresholds), bool))


def _thinned(x: NDArray[np.float64], y: NDArray[np.float64]) -> Curve:
    """At most `POINTS` of the points, evenly along the curve, both ends among them."""
    way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    places: Sequence[int] = np.unique(np.searchsorted(way, np.linspace(0, way[-1], POINTS))).tolist()
    return [(round(float(x[place]), 5), round(float(y[place]), 5)) for place in places if place < len(x)]
