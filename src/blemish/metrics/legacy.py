"""The papers' AUPRO: 200 thresholds between the lowest and the highest score, and no interpolation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import trapezoid

from blemish.errors import UsageError
from blemish.metrics.checks import checked_map, find_mask_regions
from blemish.metrics.steps import AUPRO_LIMIT
from blemish.metrics.values import Value, undefined

__all__ = ["LEGACY_STEPS", "SteppedAupro"]

LEGACY_STEPS = 200
_MOST_STEPS = 1_000_000


class SteppedAupro:
    """AUPRO as FAPrompt, AnomalyCLIP, MultiADS and DAPO compute it, map by map, with regions labelled once.

    Thresholds are arange(lowest, highest, (highest - lowest) / steps) in the type of the two scores, which must be the extremes
    over all maps that will be added, and of the maps' own type: float32 rounding decides whether there are 200 or 201. A pixel
    counts as found where map > threshold; points with a false positive rate below the limit count, their rates stretched to
    0..1, and the area taken by trapezoids. So the curve starts at the lowest of these rates and not in (0, 0), and nothing is
    interpolated at the limit.
    """

    def __init__(
        self,
        lowest: float | np.floating[Any],
        highest: float | np.floating[Any],
        *,
        steps: int = LEGACY_STEPS,
        limit: float = AUPRO_LIMIT,
    ) -> None:
        if not 0 < limit <= 1:
            raise UsageError(f"the limit of the false positive rate must lie in (0, 1], not {limit:g}")
        if not 1 <= steps <= _MOST_STEPS:
            raise UsageError(f"the number of steps must lie in 1..{_MOST_STEPS}, not {steps}")
        if not (np.isfinite(lowest) and np.isfinite(highest) and lowest <= highest):
            raise UsageError(
                f"the lowest and the highest score must be finite and in order, not {lowest:g}, {highest:g}"
            )
        self.limit = limit
        delta = (highest - lowest) / steps
        self.thresholds = np.arange(lowest, highest, delta) if delta > 0 else np.zeros(0)
        slots = len(self.thresholds) + 1
        self._normal = np.zeros(slots, np.int64)
        self._overlap = np.zeros(slots)
        self._regions = 0

    def add(self, anomaly_map: ArrayLike, mask: ArrayLike) -> None:
        """One image: its map [H, W] and its mask [H, W]; UsageError as for every metric."""
        scores, truth = checked_map(anomaly_map, mask)
        exceeded = np.searchsorted(self.thresholds, scores.ravel())  # how many thresholds a score exceeds
        own = exceeded[truth.ravel()]
        slots = len(self._normal)
        self._normal += np.bincount(exceeded, minlength=slots) - np.bincount(own, minlength=slots)
        regions = find_mask_regions(truth)
        if len(own):
            weights = (1 / regions.areas_px)[regions.region_of]
            self._overlap += np.bincount(own, weights=weights, minlength=slots)
            self._regions += len(regions.areas_px)

    def value(self) -> Value:
        """The papers' number; undefined, and not a crash, where theirs fails: without regions, or too few thresholds left."""
        if not self._regions or not self._normal.sum():
            what = "an anomalous region" if not self._regions else "a normal pixel"
            return undefined(f"AUPRO needs {what}, and there is none")
        if not len(self.thresholds):
            return undefined("AUPRO by steps needs scores that differ, and all are the same")
        # of threshold k: the scores that exceed more than k thresholds
        exceeding = self._normal[::-1].cumsum()[::-1][1:]
        rates: NDArray[np.float64] = exceeding / self._normal.sum()
        overlaps = self._overlap[::-1].cumsum()[::-1][1:] / self._regions
        is_below = rates < self.limit
        if not is_below.any() or np.ptp(rates[is_below]) == 0:
            return undefined(
                f"AUPRO by steps needs two false positive rates below {self.limit:g}, and {len(self.thresholds)} steps give "
                f"{len(np.unique(rates[is_below]))}"
            )
        x, y = rates[is_below], overlaps[is_below]
        x = (x - x.min()) / np.ptp(x)
        return Value(value=float(abs(trapezoid(y, x))))
