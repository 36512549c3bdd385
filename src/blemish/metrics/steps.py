"""All ranking metrics from one table: what each distinct threshold, from the highest down, adds to each count.

The exact mode has one row for each distinct score, the streaming mode one for each bin of scores. A row whose pixels all have
the same score is a true tie; inside the others the order was lost, and every metric says how much that can matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.errors import UsageError
from blemish.metrics.values import Value, undefined

__all__ = ["AUPIMO_BOUNDS", "AUPRO_LIMIT", "Steps", "aupimo", "aupro", "auroc", "average_precision", "f1_max"]

Floats = NDArray[np.float64]
AUPRO_LIMIT = 0.3
AUPIMO_BOUNDS = (1e-5, 1e-4)

_CLASSES = {"normal": "normal", "anomalous": "anomalous"}
_REGIONS = {"normal": "a normal pixel", "region": "an anomalous region"}
_IMAGES = {"share": "a normal image", "image": "an anomalous image with a mask"}


@dataclass(frozen=True, eq=False)
class Steps:
    """K rows from the highest score down.

    The names of what is added: "normal" and "anomalous" count items (pixels, images); "region" adds 1 / area of the pixel's
    region, "image" 1 / area of its image's mask, "share" 1 / size of its normal image, each up to a common factor.
    """

    thresholds: Floats  # [K], falling
    added: Mapping[str, Floats]  # name -> what each row adds [K]
    tied: NDArray[np.bool_]  # [K], whether all items of the row have the same score

    def reached(self, name: str) -> Floats:
        """The share of the total at or above each threshold, [K + 1] from 0 to 1."""
        running = np.cumsum(self.added[name])
        return np.concatenate([[0.0], running / running[-1]])

    def reason(self, metric: str, needed: Mapping[str, str]) -> str:
        """Why the metric is undefined here: what it needs and is not there; empty where all is there."""
        missing = [words for name, words in needed.items() if not self.added.get(name, np.zeros(0)).sum() > 0]
        if not missing:
            return ""
        if needed is _CLASSES:
            return f"{metric} needs both classes: there is nothing {' and nothing '.join(missing)} among these"
        return f"{metric} needs {' and '.join(missing)}, and there is none"


def auroc(steps: Steps) -> Value:
    """The probability that an anomalous item scores higher than a normal one, ties counting half."""
    if reason := steps.reason("AUROC", _CLASSES):
        return undefined(reason)
    value, bound = _area(steps.reached("normal"), steps.reached("anomalous"), steps.tied, low=0, high=1)
    return Value(value=value, error_bound=bound)


def average_precision(steps: Steps) -> Value:
    """The mean precision over the anomalous items, each at its own threshold (the step sum, as in scikit-learn)."""
    if reason := steps.reason("AP", _CLASSES):
        return undefined(reason)
    normal, anomalous = steps.added["normal"], steps.added["anomalous"]
    true, false = np.cumsum(anomalous), np.cumsum(normal)
    # Inside a bin the precision of an anomalous item is at most what it would be if all of them came before every normal one.
    # The i-th is at least (TP + i) / (TP + i + FP') with all of these first; as that is concave in i, its sum is at least the
    # integral from 1/2 to n + 1/2.
    at_most = anomalous * true / np.maximum(true + false - normal, 1)
    at_least = anomalous - false * np.log1p(anomalous / (true - anomalous + false + 0.5))
    parts = np.where(steps.tied, anomalous * true / np.maximum(true + false, 1), (at_least + at_most) / 2)
    value = float(parts.sum())
    bound = _bound(value, parts, at_least, at_most, steps.tied)
    return Value(value=value / float(true[-1]), error_bound=bound / float(true[-1]))


def f1_max(steps: Steps) -> Value:
    """The highest F1 over all thresholds, with the threshold (score >= threshold) that reaches it."""
    if reason := steps.reason("F1-max", _CLASSES):
        return undefined(reason)
    normal, true = steps.added["normal"], np.cumsum(steps.added["anomalous"])
    false = np.cumsum(normal)
    f1 = 2 * true / (true + false + true[-1])
    best = int(f1.argmax())
    at_most = np.where(steps.tied, f1, 2 * true / (true + false - normal + true[-1]))
    return Value(
        value=float(f1[best]),
        threshold=float(steps.thresholds[best]),
        error_bound=max(0.0, float(at_most.max() - f1[best])),
    )


def aupro(steps: Steps, *, limit: float = AUPRO_LIMIT) -> Value:
    """The area under the mean overlap of regions over the false positive rate of all normal pixels, up to `limit`, in 0..1.

    The curve starts in (0, 0), is interpolated at the limit, and the area is divided by the limit, as in MVTec's own evaluation
    (Bergmann et al., IJCV 2021). UsageError where the limit is outside (0, 1].
    """
    if not 0 < limit <= 1:
        raise UsageError(f"the limit of the false positive rate must lie in (0, 1], not {limit:g}")
    if reason := steps.reason("AUPRO", _REGIONS):
        return undefined(reason)
    value, bound = _area(steps.reached("normal"), steps.reached("region"), steps.tied, low=0, high=limit)
    return Value(value=value, error_bound=bound)


def aupimo(steps: Steps, *, bounds: tuple[float, float] = AUPIMO_BOUNDS) -> Value:
    """The area under the mean recall of anomalous images over the log of the mean false positive rate of normal images, in 0..1.

    Both are averaged over images: recall over the images with a mask, the false positive rate over normal images only
    (Bertoldo et al., AUPIMO, 2024). Between two rates that thresholds reach, the recall is that of the stricter one, except
    that ties are interpolated in the log; below the lowest rate it is the recall without any false positive.
    UsageError where the bounds are not 0 < lower < upper <= 1.
    """
    lower, upper = bounds
    if not 0 < lower < upper <= 1:
        raise UsageError(
            f"the bounds of the false positive rate must be 0 < lower < upper <= 1, not {lower:g}, {upper:g}"
        )
    if reason := steps.reason("AUPIMO", _IMAGES):
        return undefined(reason)
    with np.errstate(divide="ignore"):
        rate = np.log(steps.reached("share"))
    value, bound = _area(rate, steps.reached("image"), steps.tied, low=math.log(lower), high=math.log(upper))
    return Value(value=value, error_bound=bound)


def _area(x: Floats, y: Floats, tied: NDArray[np.bool_], *, low: float, high: float) -> tuple[float, float]:
    """The mean height of the line through (x, y) between low and high, and how far the exact one can be from it.

    x may begin with -inf; the line is level from there. Inside a row the exact line rises somehow from its left to its right end.
    """
    left, right = np.clip(x[:-1], low, high), np.clip(x[1:], low, high)
    width = right - left
    start, end = y[:-1], y[1:]
    inside = (width > 0) & np.isfinite(x[:-1])
    from_x, to_x = np.where(inside, x[:-1], 0.0), np.where(inside, x[1:], 1.0)
    slope = np.where(inside, (end - start) / (to_x - from_x), 0.0)
    offset = (left + right) / 2 - from_x
    areas = width * (start + slope * offset)
    value = float(areas.sum())
    span = high - low
    bound = _bound(value, areas, width * start, width * end, tied)
    return min(max(value / span, 0.0), 1.0), bound / span


def _bound(value: float, parts: Floats, at_least: Floats, at_most: Floats, tied: NDArray[np.bool_]) -> float:
    """How far the sum of exact parts can be from `value`, the sum of `parts`: true ties are exact."""
    down = value - float(np.where(tied, parts, np.minimum(at_least, parts)).sum())
    up = float(np.where(tied, parts, np.maximum(at_most, parts)).sum()) - value
    return max(down, up, 0.0)
