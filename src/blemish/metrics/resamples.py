"""The Poisson bootstrap over images: every resample keeps its own small histogram, so no image has to be remembered."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from blemish.metrics.bins import Histogram
from blemish.metrics.codes import ScoreEncoding
from blemish.metrics.steps import Steps
from blemish.metrics.values import Value, with_interval

__all__ = ["Resamples"]

_BINS = 1024
_CHANNELS = ("normal", "anomalous", "region")


class Resamples:
    """What `rounds` resamples of the images hold, in coarse bins.

    How often an image is in each resample follows from its name alone, Poisson distributed with mean 1; so the order of images
    and the merging of parts change nothing. The coarse bins move all resamples alike; an interval is shifted by as much as the
    whole set in the same bins differs from the value proper.
    """

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.histogram = Histogram(bins=_BINS, track_ties=False)

    def add(self, fine: Histogram, amounts: Mapping[str, NDArray[np.int64]], *, name: str) -> None:
        """Add one image: its amounts by channel over the bins of a finer histogram, and its name."""
        if not self.rounds:
            return
        used = np.flatnonzero((amounts["normal"] > 0) | (amounts.get("anomalous", 0) > 0))
        indices = self.histogram.indices(fine.lowest_codes(used))
        first = np.flatnonzero(np.diff(indices, prepend=-1))  # they rise, as the finer ones do
        times = np.concatenate([[1], _times(name, self.rounds)])  # row 0 is the set itself
        for channel in _CHANNELS:
            if channel in amounts:
                sums = np.zeros(self.histogram.size, np.int64)
                sums[indices[first]] = np.add.reduceat(amounts[channel][used], first)
                self.histogram.add(channel, times[:, None] * sums)

    def interval(self, metric: Callable[[Steps], Value], value: Value, *, confidence: float) -> Value:
        """The value with the interval that the metric has over the resamples."""
        if not value.defined or not self.rounds:
            return value
        descending = np.arange(self.histogram.size)[::-1]
        thresholds = ScoreEncoding(None).decode(self.histogram.lowest_codes(descending))
        tied = np.ones(len(thresholds), bool)  # the error of the bins is the same for all
        resampled = np.full(self.rounds + 1, np.nan)
        for row in range(self.rounds + 1):
            added = {name: counts[row, ::-1].astype(np.float64) for name, counts in self.histogram.counts.items()}
            result = metric(Steps(thresholds, added, tied))
            if result.value is not None:
                resampled[row] = result.value
        shifted = np.clip(resampled[1:] + (float(value) - resampled[0]), 0, 1)
        return with_interval(value, shifted, confidence=confidence)


def _times(name: str, rounds: int) -> NDArray[np.int64]:
    seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=16).digest(), "little")
    return np.random.Generator(np.random.PCG64(seed)).poisson(1.0, rounds)
