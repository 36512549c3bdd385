"""What a metric says: a number with its uncertainty, or in words why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import UsageError

__all__ = ["Value", "mean", "undefined", "with_interval"]

Floats = NDArray[np.float64]
_LEAST_DEFINED = 0.8  # of the resamples, for an interval to mean something


@dataclass(frozen=True, kw_only=True)
class Value:
    """One metric. `value` is None where it is undefined, and then `why` says so in words; it is never NaN.

    interval: a bootstrap percentile interval over images. error_bound: how far the exact value can be from `value`, because
    scores were counted in cells; 0 in exact mode. threshold: the score of F1-max, to be used with >=. without: what a mean left
    out as undefined, by name. replicates: the resampled values behind the interval, NaN where a resample lacked a class.
    """

    value: float | None
    why: str = ""
    interval: tuple[float, float] | None = None
    error_bound: float = 0.0
    threshold: float | None = None
    without: tuple[str, ...] = ()
    replicates: Floats | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.value is None and not self.why:
            raise ValueError("an undefined value says why")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"a value is finite or None, not {self.value}")

    @property
    def defined(self) -> bool:
        return self.value is not None

    def __float__(self) -> float:
        """The number; a UsageError that says why where there is none."""
        if self.value is None:
            raise UsageError(self.why)
        return self.value

    def __str__(self) -> str:
        if self.value is None:
            return f"undefined: {self.why}"
        interval = f" ({self.interval[0]:.3f}–{self.interval[1]:.3f})" if self.interval else ""
        without = f" without {', '.join(self.without)}" if self.without else ""
        return f"{self.value:.3f}{interval}{without}"

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; the same keys whether or not the value is defined."""
        return {
            "value": self.value,
            "why": self.why,
            "interval": None if self.interval is None else list(self.interval),
            "error_bound": self.error_bound,
            "threshold": self.threshold,
            "without": list(self.without),
        }


def undefined(why: str) -> Value:
    """No number, and the reason."""
    return Value(value=None, why=why)


def mean(values: Mapping[str, Value], *, confidence: float = 0.95) -> Value:
    """The unweighted mean of the defined values; the names of the others stand in `without`.

    The error bounds average; the interval comes from the replicates, round by round, where all the values have them.
    """
    kept = {name: value for name, value in values.items() if value.value is not None}
    without = tuple(name for name in values if name not in kept)
    if not kept:
        reasons = "; ".join(f"{name}: {value.why}" for name, value in values.items())
        return undefined(f"there is nothing to average ({reasons or 'no values at all'})")
    result = Value(
        value=float(np.mean([float(value) for value in kept.values()])),
        error_bound=float(np.mean([value.error_bound for value in kept.values()])),
        without=without,
    )
    replicates = [value.replicates for value in kept.values() if value.replicates is not None]
    if len(replicates) < len(kept) or len({len(one) for one in replicates}) > 1:
        return result
    return with_interval(result, np.mean(replicates, axis=0), confidence=confidence)


def with_interval(value: Value, replicates: Floats, *, confidence: float = 0.95) -> Value:
    """The value with its percentile interval; without one where too many resamples lacked a class."""
    if value.value is None:
        return value
    found = replicates[np.isfinite(replicates)]
    interval = None
    if len(found) and len(found) >= _LEAST_DEFINED * len(replicates):
        low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
        interval = (float(low), float(high))
    return Value(
        value=value.value,
        interval=interval,
        error_bound=value.error_bound,
        threshold=value.threshold,
        without=value.without,
        replicates=replicates,
    )
