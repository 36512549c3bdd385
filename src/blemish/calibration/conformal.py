"""Thresholds from good scores alone, by the order in which they lie: no assumption on their distribution, ties included.

A decision is `score >= threshold`, so a threshold lies just above one of the good scores: of n, at most e reach it.

On average over calibrations (split conformal prediction; Vovk, Gammerman, Shafer 2005; Angelopoulos, Bates 2021): if the n good
scores and the next good one are exchangeable, the next one reaches the threshold with probability at most (e + 1) / (n + 1).
For this very calibration, with confidence 1 - d (a one-sided tolerance limit; Wilks 1941): if they are independent draws of one
distribution, the share of good images at or above the threshold exceeds s with probability at most P(Binomial(n, s) <= e).
Ties only lower both.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.errors import UsageError

__all__ = ["allowed_above", "best_share", "check_share", "just_above", "needed", "threshold_above"]


def allowed_above(n: int, share: float, *, confidence: float | None = None) -> int | None:
    """How many of `n` good scores may reach the threshold so that the promise holds; None where n is too small.

    Args:
        n: The number of good images.
        share: The share of good images that may be NG, 0..1.
        confidence: 0..1, for a promise about this very calibration; None for one on average over calibrations.

    Example:
        >>> allowed_above(99, 0.01), allowed_above(98, 0.01), allowed_above(299, 0.01, confidence=0.95)
        (0, None, 0)
    """
    exact = check_share(share)
    if confidence is None:
        most = math.floor(exact * (n + 1)) - 1
    else:
        from scipy.special import bdtr

        counts = np.arange(math.ceil(exact * n) + 1)
        broken = bdtr(counts, n, float(exact))  # P(Binomial(n, share) <= count), rising
        most = int(np.searchsorted(broken, 1 - check_confidence(confidence), side="right")) - 1
    return most if most >= 0 else None


def best_share(n: int, *, confidence: float | None = None) -> float:
    """The smallest share that `n` good images can promise: 1 / (n + 1), or 1 - (1 - confidence)^(1/n).

    Example:
        >>> best_share(99)
        0.01
    """
    if confidence is None:
        return 1 / (n + 1)
    return 1.0 if n == 0 else float(-np.expm1(np.log1p(-check_confidence(confidence)) / n))


def needed(share: float, *, confidence: float | None = None) -> int:
    """The fewest good images that can promise `share`.

    Example:
        >>> needed(0.01), needed(0.01, confidence=0.95)
        (99, 299)
    """
    exact = check_share(share)
    if confidence is None:
        return math.ceil(1 / exact) - 1
    guess = math.ceil(math.log1p(-check_confidence(confidence)) / math.log1p(-float(exact)))
    return next(n for n in range(max(guess - 2, 1), guess + 3) if allowed_above(n, share, confidence=confidence) == 0)


def threshold_above(scores: ArrayLike, most: int) -> float:
    """The lowest threshold that at most `most` of the scores [n] reach; a float32 number, above 1 where all must stay below.

    Example:
        >>> threshold_above([0.25, 0.5, 0.75], 1) > 0.5, round(threshold_above([0.25, 0.5, 0.75], 1), 6)
        (True, 0.5)
    """
    ordered = np.sort(np.asarray(scores, np.float32))
    return just_above(ordered[len(ordered) - 1 - most])


def just_above(score: float | np.floating) -> float:
    """The next float32 number: scores and maps are float32, so nothing lies between, and every comparison agrees."""
    value: NDArray[np.float32] = np.float32(score)  # type: ignore[assignment]
    return float(np.nextafter(value, np.float32(np.inf)))


def check_share(share: float) -> Fraction:
    """A share above 0 and below 1 as the decimal it was written as (0.07 × 100 is 7, not 7.000000000000001)."""
    if not 0 < share < 1:
        raise UsageError(f"a share must be above 0 and below 1 (as 1% or 0.01), not {share:g}")
    return Fraction(repr(float(share)))


def check_confidence(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise UsageError(f"a confidence must be above 0 and below 1 (as 95% or 0.95), not {confidence:g}")
    return confidence
