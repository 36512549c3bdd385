"""From the samples that a file holds to a picture: the value range of images with more than 8 bits."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blemish.errors import ImageError, UsageError

__all__ = ["CANDIDATE_BITS", "Learned", "Picture", "RangeGiven", "Samples", "ValueRanges"]

RangeGiven: TypeAlias = tuple[float | str, float | str]  # a value, or a percentile such as "0.5%"

STEP = 16  # rows and columns of a first look
CANDIDATE_BITS = (10, 12, 14, 16)  # what cameras deliver in 16-bit files that do not say their depth


@dataclass(frozen=True)
class Picture:
    """An upright RGB image [H, W, 3]: uint8, or float32 in 0..1 where the source holds more than 8 bits.

    `value_range` are the source values that became 0 and 1; None for 8-bit sources. `tags` are what a DICOM file says of
    itself and, under "note", what should be known of how the values were read. `inside` [H, W] are the pixels that belong
    to the image; None: all of them.
    """

    pixels: NDArray[np.uint8] | NDArray[np.float32]
    source: str
    value_range: tuple[float, float] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    inside: NDArray[np.bool_] | None = None

    @property
    def width_px(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height_px(self) -> int:
        return int(self.pixels.shape[0])

    def as_bytes(self) -> NDArray[np.uint8]:
        """The pixels with 8 bits [H, W, 3], an array of its own, for what shows them."""
        if self.pixels.dtype == np.uint8:
            return self.pixels.astype(np.uint8)
        return (self.pixels * np.float32(255) + np.float32(0.5)).astype(np.uint8)


@dataclass(frozen=True)
class Samples:
    """Upright values as the source holds them, before a value range is chosen: [H, W] or [H, W, 3].

    uint8 values are always [H, W, 3] and final. `declared_bits` is the depth that the file states, `inverted` says
    that 0 is white, `coverage` [H, W] in 0..1 is the alpha channel of deep images (0 = background). `window` is the value
    range that the file asks for, or that was found for it alone; `tags` are its words about itself. `inside` [H, W] are the
    pixels that belong to the image, where others are padding: those count in no range, and become black.
    """

    values: NDArray[Any]
    source: str
    declared_bits: int | None = None
    inverted: bool = False
    coverage: NDArray[np.float32] | None = None
    window: tuple[float, float] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    inside: NDArray[np.bool_] | None = None

    @property
    def counting(self) -> NDArray[Any]:
        """The values that have a say in a range: not those of padding, nor of what is wholly transparent."""
        if self.inside is not None:
            return self.values[self.inside]
        if self.coverage is not None:
            shown = self.values[self.coverage > 0]
            return shown if shown.size else self.values
        return self.values

    @property
    def is_deep(self) -> bool:
        return self.values.dtype != np.uint8


@dataclass(frozen=True)
class Learned:
    """What `ValueRanges` learns from the images of a batch."""

    spread: tuple[float, float] | None = None  # the lowest and the highest value that percentiles came to
    bits: tuple[tuple[int | None, int], ...] = ()  # declared depth of a file (None: none) -> the depth that holds all

    def merged(self, other: Learned) -> Learned:
        """What one instance had learned from the images of both."""
        spreads = [spread for spread in (self.spread, other.spread) if spread is not None]
        bits = dict(self.bits)
        for declared, depth in other.bits:
            bits[declared] = max(depth, bits.get(declared, 0))
        ends = (min(low for low, _ in spreads), max(high for _, high in spreads)) if spreads else None
        return Learned(ends, tuple(bits.items()))


class ValueRanges:
    """Gives deep images of one batch the same value range, so that the same value is the same grey in all of them.

    `value_range` given: it holds for every deep image, and values outside become its ends. An end may be a percentile, as in
    ("1%", "99%"): black is then the lowest of that percentile of the images shown to `learn`, or of the first one that `picture`
    meets, and white the highest, so that in none of them more is cut off. Else the window of the image, which
    a DICOM file has for itself. Else the depth that the file declares; else the smallest of 10, 12, 14 and 16 bits that
    holds the maximum of the images shown to `learn`, or of the first one that `picture` meets. 8-bit images stay as they
    are in every case.

    A PNG that declares n bits (sBIT) may hold plain n-bit values, as cameras write them, or values scaled to 16 bits,
    as the PNG standard asks: one value above n bits shows the latter, for all images of the batch that declare n.

    `learned` given: what another instance has learned from all images of the batch; nothing more need be learned then.
    """

    def __init__(self, value_range: RangeGiven | None = None, *, learned: Learned | None = None) -> None:
        self._given = None if value_range is None else _ends(value_range)
        self._was_taught = learned is not None
        self._spread = None if learned is None else learned.spread
        self._bits: dict[int | None, int] = {} if learned is None else dict(learned.bits)
        self._lock = threading.Lock()

    @property
    def learned(self) -> Learned:
        """What was learned so far, for instances in other processes."""
        return Learned(self._spread, tuple(self._bits.items()))

    @property
    def is_settled(self) -> bool:
        """Whether the images of the batch need not be looked at before the first `picture`."""
        return self.is_fixed or self._was_taught

    @property
    def fixed(self) -> tuple[float, float] | None:
        """The range that was given in values; None where images decide."""
        if self._given is None or any(end.percentile for end in self._given):
            return None
        low, high = self._given
        return low.value, high.value

    @property
    def is_fixed(self) -> bool:
        """Whether nothing need be learned."""
        return self.fixed is not None

    def learn(self, samples: Samples) -> None:
        """Take note of one image of the batch, before its first `picture` is asked for; any thread may."""
        if self.is_fixed or not samples.is_deep:
            return
        if self._given is not None:
            low, high = (end.of(samples) for end in self._given)
            with self._lock:
                before = self._spread or (low, high)
                self._spread = min(low, before[0]), max(high, before[1])
        elif np.issubdtype(samples.values.dtype, np.integer):
            bits = _smallest_bits(samples)
            if bits is not None:
                key = samples.declared_bits
                with self._lock:
                    self._bits[key] = max(bits, self._bits.get(key, 0))

    def picture(self, samples: Samples) -> Picture:
        """The picture of `samples`; an ImageError where its values are outside the range of the batch."""
        if not samples.is_deep:
            return Picture(samples.values, samples.source, tags=samples.tags)
        _check_finite(samples)
        low, high = self.fixed or self._learned(samples) or samples.window or self._range_of(samples)
        pixels = _between(samples.values, low, high)
        if samples.inverted:
            np.subtract(1, pixels, out=pixels)
        if samples.coverage is not None:
            coverage = samples.coverage if pixels.ndim == 2 else samples.coverage[..., None]
            pixels = pixels * coverage + (1 - coverage)  # transparent shows white, as for 8 bits
        if samples.inside is not None:
            pixels[~samples.inside] = 0
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)  # [H, W] -> [H, W, 3]
        tags = samples.tags if self._given is not None else _noted(samples, high)
        return Picture(
            np.ascontiguousarray(pixels, dtype=np.float32), samples.source, (low, high), tags, samples.inside
        )

    def _learned(self, samples: Samples) -> tuple[float, float] | None:
        """The range of the percentiles that were given; None where none were."""
        if self._given is None:
            return None
        if self._spread is None:
            self.learn(samples)
        assert self._spread is not None
        low, high = self._spread
        return low, max(high, low + 1e-6 * max(1.0, abs(low)))  # of an even image, or 16-bit values above a percentile

    def _range_of(self, samples: Samples) -> tuple[float, float]:
        low, high = _extremes(samples)
        if np.issubdtype(samples.values.dtype, np.floating):
            if not (low >= 0 and high <= 1):
                raise _outside(samples, low, high, "floating-point images are read as 0..1")
            return 0, 1
        if samples.declared_bits not in self._bits:
            self.learn(samples)
        bits = self._bits.get(samples.declared_bits)
        if bits is None or low < 0:
            raise _outside(samples, low, high, "no depth of 10 to 16 bits holds them")
        if high > 2**bits - 1:
            raise _outside(samples, low, high, f"the images before it set the range to 0:{2**bits - 1}")
        return 0, 2**bits - 1


@dataclass(frozen=True)
class _End:
    """An end of a value range: a value or, for `percentile`, so many percent of an image's pixels at or below it."""

    value: float
    percentile: bool

    def of(self, samples: Samples) -> float:
        """The value in one image; what is wholly transparent does not count."""
        if not self.percentile:
            return self.value
        _check_finite(samples)
        return float(np.percentile(samples.counting, self.value))


def _ends(value_range: RangeGiven) -> tuple[_End, _End]:
    low, high = (_end(given, value_range) for given in value_range)
    if low.percentile == high.percentile and not low.value < high.value:
        raise _senseless(value_range)
    return low, high


def _end(given: float | str, value_range: RangeGiven) -> _End:
    text = str(given).strip()
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        raise _senseless(value_range) from None
    percentile = text.endswith("%")
    if not math.isfinite(value) or (percentile and not 0 <= value <= 100):
        raise _senseless(value_range)
    return _End(value, percentile)


def _senseless(value_range: RangeGiven) -> UsageError:
    return UsageError(
        f"value range {':'.join(map(str, value_range))} must be two numbers or percentiles (1%:99%), the lower one first"
    )


def _smallest_bits(samples: Samples) -> int | None:
    candidates = CANDIDATE_BITS if samples.declared_bits is None else (samples.declared_bits, 16)
    low, high = _extremes(samples)
    return next((bits for bits in candidates if low >= 0 and high <= 2**bits - 1), None)


def _between(values: NDArray[Any], low: float, high: float) -> NDArray[np.float32]:
    """Values as 0..1 between the ends of a range, which a range given by the user, or a window, may leave outside."""
    many_bits = values.dtype.itemsize >= 4 and values.dtype != np.float32  # more than float32 holds
    pixels: NDArray[Any] = values.astype(np.float64 if many_bits else np.float32)
    pixels -= pixels.dtype.type(low)
    pixels /= pixels.dtype.type(high - low)
    np.clip(pixels, 0, 1, out=pixels)
    return pixels.astype(np.float32, copy=False)


def _noted(samples: Samples, high: float) -> Mapping[str, str]:
    """The tags, with a note where 16 bits hold no more than 8: which of both is meant, nobody but the user knows."""
    if samples.values.dtype != np.uint16 or high <= 255 or samples.window is not None:
        return samples.tags
    if samples.values[::STEP, ::STEP].max() > 255:  # as in nearly every image: no need to look at all of it
        return samples.tags
    highest = int(samples.counting.max())
    if highest > 255:
        return samples.tags
    note = (
        f"its 16-bit values fit into 8 bits (highest: {highest}), and were read as 0 to {high:g}; if they are 8-bit values, "
        f"give the value range 0:255"
    )
    return {**samples.tags, "note": note}


def _check_finite(samples: Samples) -> None:
    if np.issubdtype(samples.values.dtype, np.floating) and not np.isfinite(samples.values).all():
        raise ImageError(samples.source, "holds values that are not numbers (NaN or infinity)")


def _extremes(samples: Samples) -> tuple[float, float]:
    _check_finite(samples)
    values = samples.values if samples.inside is None else samples.counting
    return values.min().item(), values.max().item()


def _outside(samples: Samples, low: float, high: float, why: str) -> ImageError:
    return ImageError(
        samples.source,
        f"holds values from {low:g} to {high:g}, but {why}: give value_range=(low, high) (--range low:high)",
    )
