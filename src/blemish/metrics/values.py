"""What a metric says: a number with its uncertainty, or in words why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import UsageError

__all__ = ["Value", "admit_few", "mean", "undefined", "with_interval"]

Floats = NDArray[np.float64]
ROUNDING = 1e-9  # of a sum of shares
_LEAST_DEFINED = 0.8  # of the resamples, for an interval to mean something


@dataclass(frozen=True, kw_only=True)
class Value:
    """One metric: a number, or the reason why there is none.

    Example:
        >>> value = Value(value=0.91, interval=(0.88, 0.94))
        >>> print(value)
        0.910 (0.880–0.940)
        >>> float(value)
        0.91
        >>> print(undefined("there are no masks"))
        undefined: there are no masks
    """

    value: float | None  # never NaN; None where it is undefined
    reason: str = ""  # why it is undefined, in words
    interval: tuple[float, float] | None = None  # bootstrap percentile interval over images
    error_bound: float = 0.0  # how far the exact value can be, as scores are counted in bins; 0 in exact mode
    threshold: float | None = None  # of F1-max, to be used with >=
    without: tuple[str, ...] = ()  # what a mean left out as undefined, by name
    replicates: Floats | None = field(
        default=None, repr=False, compare=False
    )  # the resampled values; NaN: class missing

    def __post_init__(self) -> None:
        if self.value is None and not self.reason:
            raise ValueError("an undefined value has a reason")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"a value is finite or None, not {self.value}")

    @property
    def defined(self) -> bool:
        return self.value is not None

    def __float__(self) -> float:
        """The number; a UsageError with the reason where there is none."""
        if self.value is None:
            raise UsageError(self.reason)
        return self.value

    def __str__(self) -> str:
        if self.value is None:
            return f"undefined: {self.reason}"
        interval = f" ({self.interval[0]:.3f}–{self.interval[1]:.3f})" if self.interval else ""
        without = f" without {', '.join(self.without)}" if self.without else ""
        return f"{self.value:.3f}{interval}{without}"

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; the same keys whether or not the value is defined."""
        return {
            "value": self.value,
            "why": self.reason,  # the key of the first version
            "interval": None if self.interval is None else list(self.interval),
            "error_bound": self.error_bound,
            "threshold": self.threshold,
            "without": list(self.without),
        }


def undefined(reason: str) -> Value:
    """No number, and the reason."""
    return Value(value=None, reason=reason)


def admit_few(value: Value, images: int, *, confidence: float = 0.95) -> Value:
    """The value with an interval that admits how little a perfect result on few images says.

    Where every resample is perfect, a bootstrap says 1 to 1 whatever their number. The lower end is then the least share of
    right images that so many right ones do not exclude (Clopper and Pearson 1934).

    Args:
        value: A metric of at most 1, with its bootstrap interval.
        images: The number of images of the smaller class.
        confidence: Of the interval.

    Example:
        >>> admit_few(Value(value=1.0, interval=(1.0, 1.0)), 4).interval
        (0.398, 1.0)
    """
    if value.interval is None or value.interval[0] < 1 - ROUNDING:
        return value
    low = ((1 - confidence) / 2) ** (1 / images)
    return replace(value, interval=(round(low, 3), 1.0))


def mean(values: Mapping[str, Value], *, confidence: float = 0.95) -> Value:
    """The unweighted mean of the defined values; the names of the others stand in `without`.

    The error bounds average; the interval comes from the replicates, round by round, where all the values have them.

    Example:
        >>> print(mean({"bolt": Value(value=0.5), "nut": Value(value=1.0), "pin": undefined("no masks")}))
        0.750 without pin
    """
    defined = {name: value for name, value in values.items() if value.value is not None}
    without = tuple(name for name in values if name not in defined)
    if len(defined) == 1 and not without:
        return next(iter(defined.values()))
    if not defined:
        reasons = "; ".join(f"{name}: {value.reason}" for name, value in values.items())
        return undefined(f"there is nothing to average ({reasons or 'no values at all'})")
    result = Value(
        value=float(np.mean([float(value) for value in defined.values()])),
        error_bound=float(np.mean([value.error_bound for value in defined.values()])),
        without=without,
    )
    replicates = [value.replicates for value in defined.values() if value.replicates is not None]
    if len(replicates) < len(defined) or len({len(replicate) for replicate in replicates}) > 1:
        return result
    return with_interval(result, np.mean(replicates, axis=0), confidence=confidence)


def with_interval(value: Value, replicates: Floats, *, confidence: float = 0.95) -> Value:
    """The value with its percentile interval; without one where too many resamples lacked a class."""
    if value.value is None:
        return value
    finite = replicates[np.isfinite(replicates)]
    interval = None
    if len(finite) and len(finite) >= _LEAST_DEFINED * len(replicates):
        low, high = np.quantile(finite, [(1 - confidence) / 2, (1 + confidence) / 2])
        interval = (float(low), float(high))
    return Value(
        value=value.value,
        interval=interval,
        error_bound=value.error_bound,
        threshold=value.threshold,
        without=value.without,
        replicates=replicates,
    )
