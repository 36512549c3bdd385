"""Area under the ROC curve: exact over images, streaming over pixels, each with a bootstrap interval over images."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from blemish.errors import UsageError

__all__ = ["PixelRanking", "auroc", "bootstrap_auroc"]

Floats = NDArray[np.float64]
_LOGIT_REACH = 16.0


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """The probability that an anomalous item scores higher than a normal one, ties counting half (Mann-Whitney).

    scores [n], labels [n] (0 normal, 1 anomalous). UsageError where one of the classes is missing.
    """
    values, truth = np.asarray(scores, float), np.asarray(labels).astype(bool)
    _require_both(int(truth.sum()), int((~truth).sum()))
    positives, negatives = int(truth.sum()), int((~truth).sum())
    ranks = rankdata(values)
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def bootstrap_auroc(
    scores: ArrayLike, labels: ArrayLike, *, rounds: int = 1000, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The percentile interval of `auroc` over resampled images, each class resampled on its own."""
    values, truth = np.asarray(scores, float), np.asarray(labels).astype(bool)
    _require_both(int(truth.sum()), int((~truth).sum()))
    rng = np.random.default_rng(seed)
    anomalous, normal = values[truth], values[~truth]
    results = []
    for _ in range(rounds):
        drawn_anomalous = rng.choice(anomalous, len(anomalous))
        drawn_normal = np.sort(rng.choice(normal, len(normal)))
        below = np.searchsorted(drawn_normal, drawn_anomalous, "left")
        not_above = np.searchsorted(drawn_normal, drawn_anomalous, "right")
        results.append(float((below + not_above).mean() / 2 / len(normal)))
    return _percentiles(results, confidence)


class PixelRanking:
    """Pixel AUROC over images fed one by one, from histograms of scores in 0..1; a score outside is an error.

    Memory does not depend on the image size; each image keeps two histograms of `bins` counts so that images can be resampled.
    The bins are even in log(p / (1 - p)) from -16 to 16, which is as far as float32 probabilities reach: scores of a softmax
    crowd at both ends. The error of binning is at most half the share of pixel pairs that fall into the same bin.
    """

    def __init__(self, *, bins: int = 4096) -> None:
        self.bins = bins
        self._normal: list[NDArray[np.int32]] = []
        self._anomalous: list[NDArray[np.int32]] = []

    def add(self, anomaly_map: NDArray[np.floating], mask: NDArray[np.bool_]) -> None:
        """One image: its map [H, W] in 0..1 and its mask [H, W] of the same size."""
        if anomaly_map.shape != mask.shape:
            raise UsageError(f"a map of {anomaly_map.shape} and a mask of {mask.shape} cannot be compared")
        if not (anomaly_map.min() >= 0 and anomaly_map.max() <= 1):
            raise UsageError(f"map scores must lie in 0..1, not {anomaly_map.min():.4g}..{anomaly_map.max():.4g}")
        cells = self._cells(anomaly_map)
        for kept, chosen in ((self._normal, cells[~mask]), (self._anomalous, cells[mask])):
            kept.append(np.bincount(chosen, minlength=self.bins).astype(np.int32))

    def _cells(self, scores: NDArray[np.floating]) -> NDArray[np.int32]:
        p = np.clip(scores.astype(np.float64), 1e-9, 1 - 1e-9)
        position = (np.log(p / (1 - p)) + _LOGIT_REACH) / (2 * _LOGIT_REACH)
        return np.clip((position * self.bins).astype(np.int32), 0, self.bins - 1)

    def auroc(self) -> float:
        """Pixel AUROC over all pixels of all images."""
        return _histogram_auroc(np.sum(self._normal, 0, dtype=np.float64), np.sum(self._anomalous, 0, dtype=np.float64))

    def interval(self, *, rounds: int = 300, confidence: float = 0.95, seed: int = 0) -> tuple[float, float]:
        """The percentile interval of `auroc` over resampled images, those with and without anomalous pixels apart."""
        rng = np.random.default_rng(seed)
        normal, anomalous = np.stack(self._normal).astype(np.float64), np.stack(self._anomalous).astype(np.float64)
        defective = anomalous.sum(1) > 0
        groups = [np.flatnonzero(defective), np.flatnonzero(~defective)]
        results = []
        for _ in range(rounds):
            weights = np.zeros(len(normal))
            for group in groups:
                np.add.at(weights, rng.choice(group, len(group)) if len(group) else group, 1)
            results.append(_histogram_auroc(weights @ normal, weights @ anomalous))
        return _percentiles(results, confidence)


def _histogram_auroc(normal: Floats, anomalous: Floats) -> float:
    _require_both(int(anomalous.sum()), int(normal.sum()))
    below = np.cumsum(normal) - normal
    return float(((below + normal / 2) * anomalous).sum() / (normal.sum() * anomalous.sum()))


def _percentiles(results: list[float], confidence: float) -> tuple[float, float]:
    low, high = np.quantile(results, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _require_both(anomalous: int, normal: int) -> None:
    if anomalous == 0 or normal == 0:
        missing = "anomalous" if anomalous == 0 else "normal"
        raise UsageError(f"AUROC needs both classes: there is nothing {missing} among these")
