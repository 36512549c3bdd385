"""Putting one defect into a good image: where, how large, how strong, and exactly which pixels it changed.

The work is done on a patch about the defect, at the image's own resolution up to `MOST_PX`, so that its time and memory do not
grow with the image. Outside the mask the image keeps its very values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from blemish.data.files import Box
from blemish.errors import UnknownNameError, UsageError
from blemish.synthesis.damage import KINDS
from blemish.synthesis.fields import Field, Random, log_uniform
from blemish.synthesis.shapes import Pixels
from blemish.synthesis.spots import DefectKind, Painted, Spot
from blemish.synthesis.subjects import Place, Subject

__all__ = ["CONTRASTS", "Drawn", "draw_defect"]

# Mean absolute change inside the mask, of the whole range of values: from barely visible to plain.
CONTRASTS = (0.02, 0.4)
MOST_PX = 320  # side of the largest patch that is painted at full resolution
STRIP_PX = 512  # rows of a large image that are changed at a time
TRIES = 8
LEAST_AREA_PX = 12
MOST_SHARE = 0.7
EDGE_OF_MASK, FULL = 0.12, 0.4  # coverage where the mask begins, and from where the change counts in full
TOLERANCE = 0.08  # share by which the reached contrast may differ from the asked one


@dataclass(frozen=True)
class Drawn:
    """An image with one defect."""

    pixels: NDArray[Any]  # [H, W, 3], of the subject's type
    mask: NDArray[np.bool_]  # [H, W]
    defect_type: str
    contrast: float  # mean absolute change inside the mask, 0..1
    size_px: float  # extent of the defect, end to end
    at: tuple[float, float]  # its middle (x, y) in pixels


@dataclass(frozen=True)
class _Settled:
    delta: Pixels
    coverage: Field
    near: NDArray[np.bool_]
    contrast: float


def draw_defect(
    subject: Subject,
    rng: Random,
    *,
    defect_type: str,
    contrast: tuple[float, float] = CONTRASTS,
    size: tuple[float, float] = (0.0, 1.0),
) -> Drawn | None:
    """The subject with one defect; None where none could be drawn as asked in `TRIES` tries.

    Args:
        subject: The good image, which stays as it is.
        rng: Decides everything that is left open.
        defect_type: A key of `damage.KINDS`.
        contrast: Range (low, high) of the mean absolute change inside the mask, 0..1 each; equal ends ask for one contrast.
        size: Range of the extent within what the type allows, 0 (smallest) to 1 (largest).

    Raises:
        UnknownNameError: There is no such type.
        UsageError: A range is none.
    """
    if defect_type not in KINDS:
        raise UnknownNameError("defect type", defect_type, KINDS)
    for name, (low, high) in (("contrast", contrast), ("size", size)):
        if not 0 <= low <= high <= 1:
            raise UsageError(f"{name} is a range within 0 to 1, the lower end first, not {low:g}:{high:g}")
    kind = KINDS[defect_type]
    for _ in range(TRIES):
        least = max(contrast[0], 0.004)
        target = log_uniform(rng, least, max(least, min(contrast[1], kind.ceiling)))
        extent = _extent(subject, kind, rng, size)
        place = subject.place(rng, kind.where, extent)
        if place.part is not None:
            extent = 2.2 * place.part[2]
        window = _window(place, extent * kind.margin + 12)
        spot, valid, scale = _look(subject, place, window, extent, target)
        painted = kind.paint(spot, rng)
        if kind.clipped and not subject.fills_image:
            painted = replace(painted, coverage=painted.coverage * np.clip(spot.inside * 3 - 1, 0, 1))
        settled = _settle(spot, _camera_soft(painted, subject, rng), valid, scale, contrast)
        if settled is not None:
            pixels, mask = _compose(subject, settled, window, spot.n)
            if int(mask.sum()) >= LEAST_AREA_PX:
                return Drawn(pixels, mask, defect_type, settled.contrast, extent, (place.x, place.y))
    return None


def _extent(subject: Subject, kind: DefectKind, rng: Random, size: tuple[float, float]) -> float:
    low, high = (np.log(share) for share in kind.share)
    share = np.exp(low + (high - low) * rng.uniform(*size))
    return float(max(share * min(subject.shape), 5.0))


def _window(place: Place, side: float) -> Box:
    half = int(np.ceil(side / 2))
    left, top = round(place.x) - half, round(place.y) - half
    return left, top, left + 2 * half, top + 2 * half


def _look(
    subject: Subject, place: Place, window: Box, extent: float, target: float
) -> tuple[Spot, NDArray[np.bool_], float]:
    """The patch in the window, which of its pixels [n, n] lie in the image, and its pixels per pixel of the image."""
    side = window[2] - window[0]
    n = min(side, MOST_PX)
    scale = n / side
    left, top = window[:2]

    def inside(x: float, y: float, radius: float) -> tuple[float, float, float]:
        return (x - left) * scale, (y - top) * scale, radius * scale

    spot = Spot(
        pixels=subject.crop(window, n),
        inside=subject.crop_foreground(window, n),
        behind=subject.crop_behind(window, n),
        size_px=extent * scale,
        contrast=target,
        light=subject.light,
        outward=place.outward,
        grain=subject.grain,
        grey=subject.grey,
        fills_image=subject.fills_image,
        part=None if place.part is None else inside(*place.part),
    )
    height, width = subject.shape
    rows, columns = ((np.arange(n) + 0.5) / scale + start for start in (top, left))
    valid = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))[None, :]
    return spot, valid, scale


def _camera_soft(painted: Painted, subject: Subject, rng: Random) -> Painted:
    """As sharp as a photo is: what is drawn by lines is sharper than any lens."""
    if subject.softness <= 0 or painted.fixed:
        return painted
    sigma = subject.softness * rng.uniform(0.6, 1.2)
    pixels = np.stack([ndimage.gaussian_filter(painted.pixels[..., c], sigma, truncate=2.5) for c in range(3)], -1)
    base = np.maximum(ndimage.gaussian_filter(painted.coverage, sigma, truncate=2.5), painted.coverage * 0.5)
    return replace(painted, pixels=np.where(painted.coverage[..., None] > 0, pixels, painted.pixels), coverage=base)


def _settle(
    spot: Spot, painted: Painted, valid: NDArray[np.bool_], scale: float, contrast: tuple[float, float]
) -> _Settled | None:
    """The change, brought to the asked contrast, with the pixels that it is confined to; None where it cannot be."""
    coverage = np.where(valid, np.nan_to_num(painted.coverage), 0).astype(np.float32)
    mask = coverage > EDGE_OF_MASK
    if not LEAST_AREA_PX * scale**2 <= mask.sum() <= MOST_SHARE * valid.sum():
        return None
    gate = np.clip((coverage - EDGE_OF_MASK) / (FULL - EDGE_OF_MASK), 0, 1)
    delta = (painted.pixels - spot.pixels) * gate[..., None]
    if spot.grey:
        delta = np.repeat(delta.mean(-1, keepdims=True), 3, -1)
    most = 1.0 if painted.fixed else painted.most
    strength = 1.0
    for _ in range(2):  # confined to where the change shows, and measured there again
        strength = 1.0 if painted.fixed else _strength(spot, delta, mask, most)
        change = np.abs(np.clip(spot.pixels + strength * delta, 0, 1) - spot.pixels)
        shown = (change.max(-1) > 0.5 / 255) & mask
        reach = 2 * int(1 + 0.03 * spot.size_px) + 1
        near = ndimage.maximum_filter(shown.view(np.uint8), reach) > 0
        mask = mask & ndimage.binary_fill_holes(near & mask)  # the flat bottom of a dent belongs to it
        if int(mask.sum()) < LEAST_AREA_PX * scale**2:
            return None
    reached = float(change.mean(-1)[mask].mean())
    asked = contrast if painted.fixed else (spot.contrast, spot.contrast)
    if not asked[0] * (1 - TOLERANCE) <= reached <= asked[1] * (1 + TOLERANCE):
        return None
    return _Settled((delta * np.float32(strength)).astype(np.float32), coverage, mask, reached)


def _strength(spot: Spot, delta: Pixels, mask: NDArray[np.bool_], most: float) -> float:
    """The factor, up to `most`, by which the change has the asked contrast: the mean change grows with it, so halve and halve."""
    before, change = spot.pixels[mask], delta[mask]
    if len(before) > 4000:  # enough for a mean
        step = len(before) // 2000
        before, change = before[::step], change[::step]
    low, high = 0.0, most
    for _ in range(14):
        middle = (low + high) / 2
        reached = float(np.abs(np.clip(before + middle * change, 0, 1) - before).mean())
        low, high = (middle, high) if reached < spot.contrast else (low, middle)
    return (low + high) / 2


def _compose(subject: Subject, settled: _Settled, window: Box, n: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The whole image with the change in it, and the mask, both at the image's own size."""
    height, width = subject.shape
    pixels, mask = subject.pixels.copy(), np.zeros((height, width), bool)
    left, right = max(window[0], 0), min(window[2], width)
    for top, bottom in _strips(max(window[1], 0), min(window[3], height)):
        box = (left, top, right, bottom)
        near = _at(settled.near.astype(np.float32), box, window, n) > 0.5
        inside = near & (_at(settled.coverage, box, window, n) > EDGE_OF_MASK)
        delta = np.stack([_at(settled.delta[..., c], box, window, n) for c in range(3)], -1) * inside[..., None]
        part = pixels[top:bottom, left:right]
        if pixels.dtype == np.uint8:
            part[...] = np.clip(part + np.rint(delta * 255), 0, 255).astype(np.uint8)
        else:
            part[...] = np.where(inside[..., None], np.clip(part + delta, 0, 1), part)
        mask[top:bottom, left:right] = inside
    return pixels, mask


def _strips(top: int, bottom: int) -> Iterator[tuple[int, int]]:
    for start in range(top, bottom, STRIP_PX):
        yield start, min(start + STRIP_PX, bottom)


def _at(field: Field, box: Box, window: Box, n: int) -> Field:
    """A field [n, n] of the window at the image's resolution, in the part `box` of the image."""
    left, top, right, bottom = box
    if n == window[2] - window[0]:
        return field[top - window[1] : bottom - window[1], left - window[0] : right - window[0]]
    scale = n / (window[2] - window[0])
    part = (
        (left - window[0]) * scale,
        (top - window[1]) * scale,
        (right - window[0]) * scale,
        (bottom - window[1]) * scale,
    )
    image = Image.fromarray(np.asarray(field, np.float32))
    return np.asarray(image.resize((right - left, bottom - top), Image.Resampling.BILINEAR, box=part))
