"""Anomaly maps of the kinds that metrics go wrong on, and slow twins of what they are compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label

Maps = list[NDArray[np.float32]]
Masks = list[NDArray[np.bool_]]

KINDS = ("random", "tied", "saturated", "saturated softly", "binary", "outlier-ridden")


def make_maps(kind: str, *, images: int = 10, side: int = 96, seed: int = 0) -> tuple[Maps, Masks]:
    """Smooth maps in 0..1 and their masks; every other image is anomalous, with one to four regions of many sizes."""
    rng = np.random.default_rng([KINDS.index(kind), seed])
    maps, masks = [], []
    for image in range(images):
        mask = np.zeros((side, side), bool)
        for _ in range(rng.integers(1, 5) if image % 2 else 0):
            y, x = rng.integers(0, side - 30, 2)
            height, width = rng.integers(1, 30, 2)
            mask[y : y + height, x : x + width] = True
        logit = gaussian_filter(rng.normal(size=(side, side)), 2) * 5 + 1.5 * mask - 1
        scores = 1 / (1 + np.exp(-logit))
        if kind == "tied":
            scores = np.round(scores * 12) / 12
        elif kind == "saturated":  # mostly exactly 0 or 1
            scores = np.clip(logit + 0.5, 0, 1)
        elif kind == "saturated softly":  # as a softmax does: 0.9999993 is more than 0.9999991
            scores = 1 / (1 + np.exp(-10 * logit))
        elif kind == "binary":
            scores = (scores > 0.6) * 1.0
        elif kind == "outlier-ridden":
            scores = scores / 50
            scores[tuple(rng.integers(0, side, 2))] = 1.0
        maps.append(scores.astype(np.float32))
        masks.append(mask)
    return maps, masks


def joined(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate([array.ravel() for array in arrays])


def slow_aupimo(maps: Maps, masks: Masks, *, bounds: tuple[float, float]) -> list[float | None]:
    """AUPIMO from its definition, image by image: at every score as a threshold the mean false positive rate of the normal images
    and the recall; then the mean recall over the log of the rate, on the line through these points, level to the left of them."""
    normal = [scores for scores, mask in zip(maps, masks, strict=True) if not mask.any()]
    thresholds = np.unique(joined(list(maps)))[::-1]
    rates = np.array([0.0] + [float(np.mean([(one >= t).mean() for one in normal])) for t in thresholds])
    found: list[float | None] = []
    for scores, mask in zip(maps, masks, strict=True):
        if not mask.any():
            found.append(None)
            continue
        recalls = np.array([0.0] + [float((scores[mask] >= t).mean()) for t in thresholds])
        grid = np.exp(np.linspace(*np.log(bounds), 20_001))
        values = [recall_at(rate, rates, recalls) for rate in (grid[1:] + grid[:-1]) / 2]
        found.append(float(np.mean(values)))
    return found


def recall_at(rate: float, rates: NDArray[np.float64], recalls: NDArray[np.float64]) -> float:
    after = int(np.searchsorted(rates, rate, side="right"))  # the first point with more false positives
    before = after - 1
    if rates[before] == 0:
        return float(recalls[before])
    share = np.log(rate / rates[before]) / np.log(rates[after] / rates[before])
    return float(recalls[before] + share * (recalls[after] - recalls[before]))


def slow_legacy_aupro(maps: Maps, masks: Masks, *, steps: int = 200, limit: float = 0.3) -> float:
    """The papers' loop: every region again at every threshold."""
    stacked, truth = np.stack(maps), np.stack(masks)
    lowest, highest = stacked.min(), stacked.max()
    rates, overlaps = [], []
    for threshold in np.arange(lowest, highest, (highest - lowest) / steps):
        found = stacked > threshold
        regions = []
        for one, mask in zip(found, truth, strict=True):
            numbers, count = label(mask, np.ones((3, 3)))
            regions += [one[numbers == number].mean() for number in range(1, count + 1)]
        rates.append((found & ~truth).sum() / (~truth).sum())
        overlaps.append(np.mean(regions))
    x, y = np.array(rates), np.array(overlaps)
    x, y = x[x < limit], y[x < limit]
    x = (x - x.min()) / (x.max() - x.min())
    return float(np.sum((y[1:] + y[:-1]) / 2 * -np.diff(x)))
