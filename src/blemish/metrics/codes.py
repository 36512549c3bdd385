"""Integers that sort like scores, so that scores can be counted in bins without knowing where they lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import UsageError

__all__ = ["BLOCK", "Codes", "ScoreEncoding"]

Codes = NDArray[np.uint32]

BLOCK = 1 << 15  # scores that are worked on at a time: they stay in the processor's cache
_SIGN = np.uint32(0x80000000)
_HALF_BITS = np.int32(0x3F000000)  # of 0.5
_FINE_BITS = np.int32(0x33800000)  # of 2**-24, the step of float32 below 1
_COARSER = 4  # bits fewer below 2**-24, where a softmax scatters noise over a hundred octaves
_FINE_CODE = _FINE_BITS >> _COARSER
_MIDDLE_CODE = _HALF_BITS - _FINE_BITS + _FINE_CODE
_TOLERANCE = 1e-5  # of the range: sums of softmax probabilities miss 1 by some rounding errors


@dataclass(frozen=True)
class ScoreEncoding:
    """Codes, unsigned 32-bit integers, that sort like float32 scores.

    With a range, both ends are resolved alike: scores of a softmax crowd at 1 as they do at 0. Without one, any finite score has
    a code, and resolution is relative to the distance from 0.

    Example:
        >>> encoding = ScoreEncoding((0.0, 1.0))
        >>> codes = encoding.encode(np.array([0.25, 0.5, 0.999], np.float32))
        >>> bool((np.diff(codes.astype(np.int64)) > 0).all())
        True
        >>> encoding.decode(codes).round(3).tolist()
        [0.25, 0.5, 0.999]
    """

    low_high: tuple[float, float] | None  # the range of the scores; None where nobody knows it

    def __post_init__(self) -> None:
        if self.low_high is not None and not (np.isfinite(self.low_high).all() and self.low_high[0] < self.low_high[1]):
            raise UsageError(f"a score range is two finite numbers, low < high, not {self.low_high}")

    def encode(self, scores: NDArray[np.floating[Any]]) -> Codes:
        """The code of each finite score, in the same shape; scores just outside the range count as its ends.

        Raises:
            UsageError: A score lies outside the range by more than 1e-5 of its width.
        """
        if self.low_high is None:
            return _in_blocks(scores, _encode_any)
        low, high = self.low_high
        width = high - low
        lowest, highest = float(scores.min()), float(scores.max())
        if lowest < low - _TOLERANCE * width or highest > high + _TOLERANCE * width:
            raise UsageError(f"map scores must lie in {low:g}..{high:g}, not {lowest:.4g}..{highest:.4g}")
        clean = (low, high) == (0, 1) and scores.dtype == np.float32 and lowest > 0 and highest <= 1
        return _in_blocks(scores, _encode_shares if clean else self._encode_in_range)

    def _encode_in_range(self, scores: NDArray[np.floating[Any]]) -> Codes:
        low, high = self.low_high or (0.0, 1.0)
        share = np.clip((scores - low) / (high - low), 0, 1).astype(np.float32)
        return _encode_shares(share + np.float32(0))  # + 0: there is no -0

    def decode(self, codes: Codes) -> NDArray[np.float64]:
        """The lowest score with each code."""
        if self.low_high is None:
            bits = np.where(codes & _SIGN, codes ^ _SIGN, ~codes).astype(np.uint32)
            with np.errstate(invalid="ignore"):  # codes at both ends stand for no number; nothing is counted there
                return bits.view(np.float32).astype(np.float64)
        low, high = self.low_high
        upper = codes > _MIDDLE_CODE
        mirrored = np.where(upper, 2 * _MIDDLE_CODE - codes.view(np.int32), codes.view(np.int32))
        bits = np.where(mirrored < _FINE_CODE, mirrored << _COARSER, mirrored + (_FINE_BITS - _FINE_CODE))
        share = bits.astype(np.int32).view(np.float32).astype(np.float64)
        return low + np.where(upper, 1 - share, share) * (high - low)


def _encode_any(scores: NDArray[np.floating[Any]]) -> Codes:
    """Codes of any scores: the bits of a float32 sort like it, once those of negative numbers are turned round."""
    limit = np.finfo(np.float32).max
    bits = (np.clip(scores, -limit, limit).astype(np.float32) + np.float32(0)).view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _encode_shares(share: NDArray[np.floating[Any]]) -> Codes:
    """Codes of float32 shares in 0..1: those above 1/2 mirror those below, for 1 - share is exact there."""
    mirrored = np.subtract(1, share, dtype=np.float32)
    upper = share > mirrored
    np.minimum(share, mirrored, out=mirrored)
    codes = mirrored.view(np.int32)
    coarse = codes >> _COARSER
    codes -= _FINE_BITS - _FINE_CODE
    np.maximum(codes, coarse, out=codes)
    np.copyto(codes, 2 * _MIDDLE_CODE - codes, where=upper)
    return codes.view(np.uint32)


def _in_blocks(scores: NDArray[np.floating[Any]], encode: Callable[[NDArray[np.floating[Any]]], Codes]) -> Codes:
    flat = scores.reshape(-1)
    codes = np.empty(flat.shape, np.uint32)
    for start in range(0, len(flat), BLOCK):
        codes[start : start + BLOCK] = encode(flat[start : start + BLOCK])
    return codes.reshape(scores.shape)
