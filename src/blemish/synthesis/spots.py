"""Where a defect is drawn, and what it gives back: the contract between placing (`placing.py`) and painting (`damage`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from blemish.synthesis.fields import Field, Random
from blemish.synthesis.shapes import Pixels, Real, blur, clouds

__all__ = [
    "Circle",
    "DefectKind",
    "Painted",
    "Painter",
    "Spot",
    "Where",
    "grain",
    "luminance",
    "matter",
    "over",
    "smooth_surface",
    "thing_at",
    "tint",
]

Circle = tuple[float, float, float]  # x, y, radius in pixels
Where = Literal["inside", "edge", "part", "structure"]

REACHABLE = (0.02, 0.98)


@dataclass(frozen=True)
class Spot:
    """A square patch of a good image, its middle the place of the defect; all lengths in its own pixels."""

    pixels: Pixels  # [n, n, 3], 0..1
    inside: Field  # [n, n], 0..1: the inspected thing
    behind: Pixels  # [n, n, 3], 0..1: what shows where the thing is missing
    size_px: float  # extent of the defect, end to end
    contrast: float  # mean absolute change that is asked for, 0..1
    light: float  # where it comes from, in radians
    outward: float  # at an edge, the way out of the thing, in radians
    grain: float  # spread of the image's noise
    grey: bool  # the image has no colours
    fills_image: bool  # the thing fills the image to its borders
    part: Circle | None = None  # the part in question, if the place has one
    parts: tuple[Circle, ...] = ()  # the other parts that the patch shows

    @property
    def n(self) -> int:
        return int(self.pixels.shape[0])


@dataclass(frozen=True)
class Painted:
    """What a defect makes of its patch: pixels [n, n, 3], coverage [n, n] in 0..1 where it is.

    fixed: it shows real content (what lies behind, a part of the image), so that weakening it would make it see-through.
    most: how far the change may be strengthened; opaque matter stays what it is, shade may be deepened.
    """

    pixels: Real
    coverage: Real
    fixed: bool = False
    most: float = 4.0


Painter: TypeAlias = Callable[[Spot, Random], Painted]


@dataclass(frozen=True)
class DefectKind:
    """A type of defect."""

    paint: Painter
    where: Where  # the places where it belongs
    share: tuple[float, float]  # its extent (low, high) as a share of the image's shorter side
    margin: float = 1.5  # side of the patch, in extents
    clipped: bool = True  # it ends where the thing ends
    # The contrast beyond which it would not look like itself: stronger ones are drawn only where nothing weaker is asked for.
    ceiling: float = 0.45


def luminance(pixels: Pixels) -> Field:
    """The grey of pixels [..., 3]."""
    return (pixels @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.float32)


def over(pixels: Real, alpha: Real, colour: Real | float) -> Pixels:
    """`colour` laid over the pixels with the opacity `alpha` [n, n]."""
    return (pixels + alpha[..., None] * (colour - pixels)).astype(np.float32)


def tint(rng: Random, *, grey: bool, strength: float = 0.3) -> Pixels:
    """A random colour direction [3] with mean 1."""
    if grey:
        return np.ones(3, np.float32)
    direction = 1 + rng.normal(0, strength, 3)
    return (direction / max(float(np.abs(direction).mean()), 1e-3)).astype(np.float32)


def matter(
    spot: Spot,
    rng: Random,
    coverage: Real,
    *,
    dark: float = 0.5,
    rough: float = 0.3,
    hue: float = 0.35,
    scale_px: float | None = None,
) -> Pixels:
    """Pixels [n, n, 3] of an opaque material that differs from what lies under `coverage` by about the asked contrast.

    dark: how often it is darker than the surface, where both can be had. rough: the spread of its texture as a share of the
    contrast. hue: how far its colour strays.
    """
    weight = coverage / max(float(coverage.sum()), 1e-6)
    base = (spot.pixels * weight[..., None]).sum((0, 1))
    level = float(base.mean())
    below, above = level - REACHABLE[0], REACHABLE[1] - level
    sign = -1.0 if rng.random() < dark else 1.0
    if (below if sign < 0 else above) < 1.2 * spot.contrast:
        sign = -1.0 if below > above else 1.0
    hue *= min(1.0, 0.4 + 0.08 / max(spot.contrast, 0.01))  # what differs much in hue as well would glow
    colour = np.clip(base + sign * spot.contrast * 1.15 * tint(rng, grey=spot.grey, strength=hue), 0.01, 0.99)
    if not spot.grey and hue > 0 and rng.random() < 0.3:  # the surface's hue is none of its own
        colour = np.full(3, colour.mean()) + rng.normal(0, 0.3 * spot.contrast, 3)
    scale_px = max(1.5, spot.size_px * rng.uniform(0.03, 0.15)) if scale_px is None else scale_px
    texture = clouds(spot.n, rng, scale_px=scale_px, octaves=3, roughness=0.7) * rough * spot.contrast
    texture = texture + grain(spot, rng)
    return (colour + texture[..., None]).astype(np.float32)


def grain(spot: Spot, rng: Random) -> Field:
    """Noise [n, n] like that of the image, for what would be too clean without it."""
    if spot.grain <= 0:
        return np.zeros((spot.n, spot.n), np.float32)
    return rng.standard_normal((spot.n, spot.n), dtype=np.float32) * np.float32(spot.grain)


def smooth_surface(spot: Spot, radius_px: float) -> Pixels:
    """The patch without its texture [n, n, 3]."""
    return np.stack([blur(spot.pixels[..., channel], radius_px) for channel in range(3)], -1)


def thing_at(spot: Spot, outwards_px: float) -> NDArray[np.bool_]:
    """The connected thing that lies `outwards_px` from the middle, with a rim of two pixels [n, n]; all where none does."""
    labels, _ = ndimage.label(spot.inside > 0.3)
    x = int(np.clip(spot.n / 2 + outwards_px * np.cos(spot.outward), 0, spot.n - 1))
    y = int(np.clip(spot.n / 2 + outwards_px * np.sin(spot.outward), 0, spot.n - 1))
    if not labels[y, x]:
        return np.ones((spot.n, spot.n), bool)
    return np.asarray(ndimage.binary_dilation(labels == labels[y, x], iterations=2))
