"""Thresholds without a promise: from folders that may hold bad images, and from labelled ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.calibration.conformal import check_share, just_above
from blemish.errors import UsageError

__all__ = ["FEWEST_UNLABELLED", "Labelled", "best_f1", "least_cost", "mirrored"]

FEWEST_UNLABELLED = 20
SMALLEST = 1e-7  # scores are kept this far from 0 and 1 where their log-odds are taken


def mirrored(scores: ArrayLike, share: float) -> float:
    """An estimate of the threshold that the share `share` of the good images among unlabelled `scores` [n] reaches.

    Supposes that most images are good and that good scores spread alike to both sides of their middle, as log-odds. The middle
    is that of the shortest half of the scores, where bad ones hardly pull; below it nearly all are good; what lies below is
    mirrored to above. No density is fitted, and nothing is promised. UsageError with fewer than 20 images.
    """
    values = np.asarray(scores, np.float64)
    if len(values) < FEWEST_UNLABELLED:
        raise UsageError(f"an estimate from unlabelled images takes at least {FEWEST_UNLABELLED}, not {len(values)}")
    values = np.sort(np.clip(values, SMALLEST, 1 - SMALLEST))
    odds = np.log(values / (1 - values))
    middle = _middle_of_shortest_half(odds)
    below = odds[odds <= middle]
    # The good ones are about twice those below the middle.
    low = below[min(int(2 * len(below) * check_share(share)), len(below) - 1)]
    mirror = 2 * middle - low
    return min(just_above(1 / (1 + np.exp(-mirror))), 1.0)


def _middle_of_shortest_half(ordered: NDArray[np.float64]) -> float:
    half = len(ordered) // 2 + 1
    first = int(np.argmin(ordered[half - 1 :] - ordered[: len(ordered) - half + 1]))
    return float(np.median(ordered[first : first + half]))


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A threshold chosen on labelled scores, and what it does to those very images."""

    threshold: float
    false_rejects: int  # good images at or above it
    misses: int  # bad images below it
    precision: float  # 0..1, NG is positive; likewise recall and f1
    recall: float
    f1: float


def best_f1(good: ArrayLike, bad: ArrayLike) -> Labelled:
    """The threshold of the highest F1 (NG is positive); of equals the highest. UsageError where one side has no image.

    Example:
        >>> best_f1([0.1, 0.2, 0.3], [0.25, 0.8, 0.9]).misses
        0
    """
    cuts = _Cuts(good, bad)
    return cuts.at(int(np.flatnonzero(cuts.f1 == cuts.f1.max())[-1]))


def least_cost(good: ArrayLike, bad: ArrayLike, *, miss: float, false_reject: float) -> Labelled:
    """The threshold of the least misses × `miss` + false rejects × `false_reject` in this mixture; of equals the highest."""
    if not (miss > 0 and false_reject > 0):
        raise UsageError(f"costs must be above 0, not {miss:g} and {false_reject:g}")
    cuts = _Cuts(good, bad)
    cost = cuts.misses * miss + cuts.false_rejects * false_reject
    return cuts.at(int(np.flatnonzero(cost == cost.min())[-1]))


class _Cuts:
    """All ways to cut labelled scores in two: cut i calls everything from the i-th distinct score up NG, the last one nothing."""

    def __init__(self, good: ArrayLike, bad: ArrayLike) -> None:
        self.good, self.bad = np.sort(np.asarray(good, np.float32)), np.sort(np.asarray(bad, np.float32))
        if not len(self.good) or not len(self.bad):
            raise UsageError("labelled calibration takes at least one good and one bad image")
        self.levels = np.unique(np.concatenate([self.good, self.bad]))
        edges = np.append(self.levels, np.float32(np.inf))
        self.false_rejects = len(self.good) - np.searchsorted(self.good, edges)
        self.misses = np.searchsorted(self.bad, edges)
        self.hits = len(self.bad) - self.misses
        self.f1 = 2 * self.hits / (2 * self.hits + self.false_rejects + self.misses)

    def at(self, index: int) -> Labelled:
        flagged = int(self.hits[index] + self.false_rejects[index])
        return Labelled(
            threshold=self._threshold(index),
            false_rejects=int(self.false_rejects[index]),
            misses=int(self.misses[index]),
            precision=float(self.hits[index] / flagged) if flagged else 1.0,
            recall=float(self.hits[index] / len(self.bad)),
            f1=float(self.f1[index]),
        )

    def _threshold(self, index: int) -> float:
        """Half-way down to the next lower score, so that neither side touches the threshold."""
        if index == len(self.levels):
            return just_above(self.levels[-1])
        if index == 0:
            return float(self.levels[0])
        between = (self.levels[index - 1] + self.levels[index]) / np.float32(2)
        return float(between if between > self.levels[index - 1] else self.levels[index])
