"""A first look at a user's good images: which can be used, on which value range, and which should be looked at again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.errors import ImageError, UsageError
from blemish.images import FoundImage, RangeGiven, Samples, ValueRanges, decode
from blemish.io.prefetch import in_order

__all__ = ["Good", "Survey", "survey"]

LEAST_PX = 32
THUMBNAIL_PX = 24
FEW = 6  # fewer images have no "others" to stand out from
STANDS_OUT = 6.0  # robust deviations
BYTES_AHEAD = 400_000_000


@dataclass(frozen=True)
class Good:
    """A usable good image: name below its folder, its file, sha256 of its values, and those that become black and white where it
    is deep."""

    name: str
    path: str
    digest: str
    value_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Survey:
    """What can be used, what cannot and why, and lines worth telling the user."""

    good: tuple[Good, ...]
    unusable: tuple[ImageError, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Look:
    name: str
    path: str
    digest: str
    thumbnail: NDArray[np.float32]  # [t, t, 3], raw values
    extremes: Samples | None  # of a deep image: its smallest and largest value


def survey(
    found: Sequence[FoundImage],
    *,
    value_range: RangeGiven | None = None,
    max_megapixels: float = 200.0,
    threads: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> Survey:
    """Decodes every image once. UsageError where none of them can be used.

    Unusable: what cannot be read, and sides below 32 px. Remarks name images that are the same as others (and left out), tell
    of deep ones (which are written with 8 bits), and name those that stand out from the rest by a robust statistic: they may be
    defective.
    """
    ranges = ValueRanges(value_range)
    looks, unusable = [], []

    def look(image: FoundImage) -> _Look | ImageError:
        try:
            return _look(image, ranges, max_megapixels)
        except ImageError as error:
            return error

    with ThreadPoolExecutor(threads, thread_name_prefix="blemish-survey") as pool:
        for result, _ in in_order(
            pool, look, ((image, 0) for image in found), most=2 * threads, most_bytes=BYTES_AHEAD
        ):
            progress()
            if isinstance(result, ImageError):
                unusable.append(result)
            else:
                looks.append(result)
    unique = {look.digest: look for look in reversed(looks)}
    distinct = [look for look in looks if unique[look.digest] is look]
    if not distinct:
        first = f"; the first: {unusable[0]}" if unusable else ""
        raise UsageError(f"none of the {len(found)} good images can be used{first}")
    try:
        good = tuple(_with_range(look, ranges) for look in distinct)
    except ImageError as error:
        raise UsageError(str(error)) from error
    return Survey(good, tuple(unusable), tuple(_remarks(looks, distinct, good)))


def _look(image: FoundImage, ranges: ValueRanges, max_megapixels: float) -> _Look:
    samples = decode(image.path, max_megapixels=max_megapixels)
    height, width = samples.values.shape[:2]
    if min(height, width) < LEAST_PX:
        raise ImageError(image.path, f"is {width} x {height} px; defects need {LEAST_PX} x {LEAST_PX} px or more")
    ranges.learn(samples)
    values = np.ascontiguousarray(samples.values)
    extremes = None
    if samples.is_deep:
        ends = np.array([[values.min(), values.max()]], values.dtype)
        extremes = replace(samples, values=ends, coverage=None)
    name = image.path.relative_to(image.root).as_posix()
    digest = hashlib.sha256(str(values.shape).encode() + values.tobytes()).hexdigest()
    return _Look(name, str(image.path), digest, _thumbnail(values), extremes)


def _thumbnail(values: NDArray[np.generic]) -> NDArray[np.float32]:
    channels = [values] if values.ndim == 2 else [values[..., c] for c in range(3)]
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    small = []
    for channel in channels:
        plain = channel if channel.dtype == np.uint8 else channel.astype(np.float32)
        image = Image.fromarray(np.ascontiguousarray(plain)).resize(size, Image.Resampling.BOX)
        small.append(np.asarray(image, np.float32))
    return np.stack(small * (3 if len(small) == 1 else 1), -1)


def _with_range(look: _Look, ranges: ValueRanges) -> Good:
    limits = None if look.extremes is None else ranges.picture(look.extremes).value_range
    return Good(look.name, look.path, look.digest, limits)


def _remarks(looks: Sequence[_Look], distinct: Sequence[_Look], good: Sequence[Good]) -> list[str]:
    remarks = []
    same = [look.name for look in looks if all(look is not other for other in distinct)]
    if same and len(distinct) == 1:
        remarks.append(f"all {len(looks)} good images are identical: every defect is drawn on the same picture")
    elif same:
        remarks.append(f"{len(same)} images are identical to others and left out: {_named(same)}")
    deep = [item for item in good if item.value_range is not None]
    if deep:
        low, high = deep[0].value_range or (0.0, 0.0)
        same_for_all = all(item.value_range == deep[0].value_range for item in deep)
        which = f"values {low:g} to {high:g}" if same_for_all else "each its own values"
        remarks.append(f"{len(deep)} images hold more than 8 bits and are written with 8, from {which} (--range)")
    scale = max(high - low for low, high in ((item.value_range or (0.0, 255.0)) for item in good))
    for name, deviations in _standing_out(distinct, scale):
        remarks.append(f"{name} stands out from the other good images ({deviations:.0f} deviations): is it defective?")
    return remarks


def _standing_out(looks: Sequence[_Look], scale: float) -> list[tuple[str, float]]:
    """Names of images of which some place lies further from the median of all images than is usual, with robust deviations."""
    if len(looks) < FEW:
        return []
    small = np.stack([look.thumbnail for look in looks]) / scale  # [N, t, t, 3]
    away = np.abs(small - np.median(small, 0)).max(-1)
    usual = np.median(away, 0) + 0.02
    worst = np.quantile((away / usual).reshape(len(looks), -1), 0.98, axis=1)
    middle = float(np.median(worst))
    spread = 1.4826 * float(np.median(np.abs(worst - middle))) + 0.15 * middle
    scores = (worst - middle) / max(spread, 1e-6)
    return [(look.name, float(score)) for look, score in zip(looks, scores, strict=True) if score > STANDS_OUT]


def _named(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
