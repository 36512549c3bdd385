"""Shapes and textures of scenes and defects: clouds, blobs, strokes, fractures. All on square patches, quick at any size.

A "coverage" lies in 0..1; "clouds" and other textures have zero mean and unit spread. Sides, radii and widths are in pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from blemish.synthesis.fields import Field, Path, Random, standardised

__all__ = [
    "Pixels",
    "Point",
    "Real",
    "blob",
    "blur",
    "clouds",
    "fracture",
    "grid",
    "hillshade",
    "lumps",
    "resized",
    "shifted",
    "slopes",
    "smoothstep",
    "strokes",
    "value_noise",
]

Pixels = NDArray[np.float32]
Real = NDArray[np.floating]
Point = tuple[float, float]  # x, y

SUPERSAMPLED = 3
WIDE_BLUR_PX = 5.0  # from here on a blur is done on a smaller copy, which nobody can tell apart


def grid(n: int, centre: Point | None = None) -> tuple[Field, Field]:
    """x and y of each pixel in pixels from `centre` (default: the middle), [n, n] each."""
    cx, cy = (n / 2, n / 2) if centre is None else centre
    steps = np.arange(n, dtype=np.float32) + np.float32(0.5)
    x, y = np.broadcast_arrays((steps - np.float32(cx))[None, :], (steps - np.float32(cy))[:, None])
    return np.ascontiguousarray(x), np.ascontiguousarray(y)


def smoothstep(values: NDArray[np.floating], low: float, high: float) -> Field:
    """0 up to `low`, 1 from `high` on, smooth in between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def resized(field: NDArray[np.floating], width: int, height: int, *, smooth: bool = True) -> Field:
    """The field [h, w] at another size; `smooth` by cubics, else by straight lines (which never leave its range)."""
    how = Image.Resampling.BICUBIC if smooth else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(np.asarray(field, np.float32)).resize((width, height), how))


def blur(field: Real | NDArray[np.bool_], sigma: float) -> Field:
    """The field [n, n] under a Gaussian of `sigma` pixels, its borders continued."""
    field = np.asarray(field, np.float32)
    if sigma < WIDE_BLUR_PX:
        return ndimage.gaussian_filter(field, sigma, truncate=2.5, mode="nearest")
    height, width = field.shape
    factor = sigma / 2.5
    small = resized(field, max(3, round(width / factor)), max(3, round(height / factor)), smooth=False)
    return resized(ndimage.gaussian_filter(small, 2.3, mode="nearest"), width, height)


def shifted(field: NDArray[np.floating], right: float, down: float) -> Field:
    """The field moved by whole pixels, zeros coming in."""
    out = np.zeros_like(field, dtype=np.float32)
    dx, dy, (height, width) = round(right), round(down), field.shape
    if abs(dx) >= width or abs(dy) >= height:
        return out
    out[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)] = field[
        max(-dy, 0) : height - max(dy, 0), max(-dx, 0) : width - max(dx, 0)
    ]
    return out


def value_noise(n: int, rng: Random, *, scale_px: float) -> Field:
    """Smooth lumps of about `scale_px`."""
    count = max(4, int(np.ceil(n / max(scale_px, 1.0))) + 3)
    values = rng.standard_normal((min(count, n), min(count, n)), dtype=np.float32)
    return standardised(resized(values, n, n)) if count < n else standardised(values[:n, :n])


def clouds(n: int, rng: Random, *, scale_px: float, octaves: int = 3, roughness: float = 0.5) -> Field:
    """Lumps of `scale_px`, and of halves of it, each octave `roughness` as strong as the one before."""
    total = value_noise(n, rng, scale_px=scale_px)
    for octave in range(1, octaves):
        if scale_px / 2**octave < 1:
            break
        total = total + roughness**octave * value_noise(n, rng, scale_px=scale_px / 2**octave)
    return standardised(total)


def blob(
    n: int,
    rng: Random,
    *,
    radius_px: float,
    ragged: float = 0.2,
    softness: float = 0.1,
    centre: Point | None = None,
    aspect: float | None = None,
) -> Field:
    """Coverage of a round patch with a wobbling outline; `softness` is the share of the radius over which it fades inwards."""
    x, y = grid(n, centre)
    angle = rng.uniform(0, np.pi)
    aspect = float(np.exp(rng.normal(0, 0.25))) if aspect is None else aspect
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    u, v = u * aspect, v / aspect
    turns = np.linspace(0, 2 * np.pi, 257)
    outline = np.ones_like(turns)
    for order in range(2, 16):
        outline += ragged * rng.normal(0, 1.0) / order**1.1 * np.cos(order * turns + rng.uniform(0, 2 * np.pi)) * 0.7
    outline = np.clip(outline, 0.35, 1.8).astype(np.float32)
    place = ((np.arctan2(v, u) + np.float32(np.pi)) * np.float32(256 / (2 * np.pi))).astype(np.int32)
    radius = max(radius_px, 0.7)
    distance = np.hypot(u, v) / (outline[np.clip(place, 0, 256)] * np.float32(radius))
    fade = max(softness, 1.2 / radius)
    return smoothstep(1 - distance, -0.5 / radius, fade - 0.5 / radius)


def lumps(
    n: int, rng: Random, *, count: int, radius_px: tuple[float, float], spread_px: float, ragged: float, softness: float
) -> Field:
    """Coverage of several small blobs about the middle."""
    total = np.zeros((n, n), np.float32)
    for _ in range(count):
        radius = float(np.exp(rng.uniform(*np.log(radius_px))))
        cx, cy = n / 2 + rng.normal(0, spread_px, 2)
        reach = int(radius * 2.6) + 3  # each is drawn on a patch of its own
        left, top = int(cx) - reach, int(cy) - reach
        one = blob(2 * reach, rng, radius_px=radius, ragged=ragged, softness=softness, centre=(cx - left, cy - top))
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + 2 * reach, n), min(top + 2 * reach, n)
        if x0 < x1 and y0 < y1:
            part = total[y0:y1, x0:x1]
            np.maximum(part, one[y0 - top : y1 - top, x0 - left : x1 - left], out=part)
    return total


def strokes(n: int, paths: Iterable[tuple[Path, NDArray[np.floating], NDArray[np.floating]]]) -> Field:
    """Coverage of polylines: each (points [k, 2], width at each point [k], strength 0..1 at each point [k])."""
    scale = SUPERSAMPLED
    canvas = Image.new("L", (n * scale, n * scale))
    draw = ImageDraw.Draw(canvas)
    for points, widths, strengths in paths:
        at = [(float(x), float(y)) for x, y in np.asarray(points) * scale]
        for index, (start, end) in enumerate(pairwise(at)):
            wide = float(widths[index]) * scale
            thin = min(1.0, wide)  # narrower than a pixel is fainter than a pixel
            fill = round(255 * float(np.clip(strengths[index], 0, 1)) * thin)
            draw.line((start, end), fill=fill, width=max(1, round(wide)))
            if wide > 2.5:
                half = wide / 2 - 0.5
                draw.ellipse((end[0] - half, end[1] - half, end[0] + half, end[1] + half), fill=fill)
    return np.asarray(canvas.reduce(scale), np.float32) / np.float32(255)


def fracture(rng: Random, start: Point, end: Point, *, rough: float, levels: int = 5) -> Path:
    """A jagged path [2^levels + 1, 2] between two points, by displacing midpoints: `rough` is their share of the length."""
    points = np.array([start, end], np.float64)
    length = float(np.hypot(*(points[1] - points[0])))
    step = length * rough
    for _ in range(levels):
        middles = (points[1:] + points[:-1]) / 2
        ahead = points[1:] - points[:-1]
        normal = np.stack([-ahead[:, 1], ahead[:, 0]], 1) / (np.hypot(ahead[:, 0], ahead[:, 1])[:, None] + 1e-9)
        middles = middles + normal * rng.normal(0, step, (len(middles), 1)) * 0.5
        woven = np.empty((len(points) + len(middles), 2))
        woven[0::2], woven[1::2] = points, middles
        points, step = woven, step * 0.6
    return points


def slopes(height: Real) -> tuple[Field, Field]:
    """How much a field [n, n] rises downwards and to the right, by pixel."""
    field = np.asarray(height, np.float32)
    return np.asarray(np.gradient(field, axis=0)), np.asarray(np.gradient(field, axis=1))


def hillshade(height: Real, light: float) -> Field:
    """How a height field [n, n] in pixels is lit from the direction `light` (radians): slopes towards it positive."""
    down, right = slopes(height)
    return (-(right * np.cos(light) + down * np.sin(light))).astype(np.float32)
