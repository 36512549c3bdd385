"""What happens at the edge of a thing, or of a surface that fills the image: chips, breaks, frays, bends."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy import ndimage

from blemish.synthesis.fields import Field, Random
from blemish.synthesis.shapes import Pixels, blob, blur, clouds, fracture, grid, hillshade, smoothstep, strokes
from blemish.synthesis.spots import Painted, Spot, grain, luminance, matter, over, thing_at, tint

__all__ = ["bend", "break_", "chip", "fray"]

WARPS = 4  # how often a bend is corrected towards the asked contrast


def chip(spot: Spot, rng: Random) -> Painted:
    """A small flake has sprung off an edge: a shell-shaped bite whose face is lighter or darker than the surface, with curved
    steps around the point of impact."""
    n, radius = spot.n, spot.size_px * 0.48
    inward = spot.outward + np.pi
    depth = radius * rng.uniform(0.1, 0.5)
    middle = (n / 2 + depth * np.cos(inward), n / 2 + depth * np.sin(inward))
    bite = blob(n, rng, radius_px=radius, ragged=rng.uniform(0.15, 0.4), softness=0.03, centre=middle) * _solid(spot)
    x, y = grid(n)
    ripples = np.sin(
        np.hypot(x, y) / radius * rng.uniform(9, 22) + 0.8 * clouds(n, rng, scale_px=max(3.0, radius * 0.4))
    )
    face = matter(spot, rng, bite, dark=0.4, rough=0.15, hue=0.12)
    facets = clouds(n, rng, scale_px=max(2.5, radius * 0.35), octaves=3, roughness=0.6) * radius * 0.12
    relief = np.clip(hillshade(facets.astype(np.float32), spot.light), -1, 1) + 0.3 * ripples
    face += (relief * rng.uniform(0.3, 0.8) * spot.contrast)[..., None]
    if not spot.fills_image and rng.random() < 0.3:  # deep enough to see past the thing
        return Painted(over(spot.pixels, bite, spot.behind), bite, fixed=True)
    rim = np.clip(blur(bite, 0.9) * (1 - bite), 0, 1) * rng.uniform(0, 1.5) * spot.contrast
    return Painted(
        over(spot.pixels + rim[..., None], bite, face), np.maximum(bite, rim / max(spot.contrast, 1e-3)), most=1.3
    )


def break_(spot: Spot, rng: Random) -> Painted:
    """A large piece of the border is gone along a rough line: one sees what lies behind, or the raw face of the fracture."""
    u, depth = _depths(spot, rng, rough=rng.uniform(0.08, 0.2), deep=rng.uniform(0.25, 0.55))
    gone = smoothstep(depth - u, -0.7, 0.7) * _solid(spot)
    width = max(1.5, spot.size_px * rng.uniform(0.01, 0.06))
    if rng.random() < 0.5:  # nothing is left there
        face = smoothstep(depth + width - u, -0.7, 0.7) * _solid(spot)  # the broken wall, seen from above
        wall = _raw(spot, rng, face, dark=0.4)
        pixels = over(over(spot.pixels, face, wall), gone, spot.behind)
        return Painted(pixels, np.maximum(face, gone), fixed=True)
    raw = _raw(spot, rng, gone, dark=0.5)
    crest = np.exp(-(((depth - u) / max(1.0, 0.4 * width)) ** 2)).astype(np.float32) * rng.uniform(-0.5, 0.9)
    return Painted(over(spot.pixels, gone, raw + (crest * spot.contrast)[..., None]), gone, most=1.3)


def fray(spot: Spot, rng: Random) -> Painted:
    """The border is worn or torn to shreds: fingers and splinters across it, gaps between them, loose ends sticking out."""
    n = spot.n
    u, depth = _depths(spot, rng, rough=0.04, deep=rng.uniform(0.1, 0.28))
    across = spot.outward + np.pi / 2
    x, y = grid(n)
    v = x * np.cos(across) + y * np.sin(across)
    pitch = max(1.6, spot.size_px * rng.uniform(0.006, 0.02))
    profile = np.convolve(rng.standard_normal(2 * n), np.ones(max(1, round(pitch))), "same")
    tufts = np.convolve(rng.standard_normal(2 * n), np.ones(max(2, round(5 * pitch))), "same")
    teeth = 0.7 * profile / profile.std() + 0.7 * tufts / tufts.std()
    lean = rng.normal(0, 0.25) + 0.15 * clouds(n, rng, scale_px=8 * pitch, octaves=1)
    finger = np.interp(v + lean * u, np.arange(2 * n) - n, teeth).astype(np.float32)
    band = smoothstep(depth * (0.7 + 0.22 * finger) - u, -0.8, 0.8) * _solid(spot)
    gaps = smoothstep(
        finger + 0.6 * clouds(n, rng, scale_px=pitch * 1.5) + 1.2 * (1 - u / np.maximum(depth, 1)), 0.3, 1.2
    )
    worn = _raw(spot, rng, band, dark=0.5, streaks=finger)
    void = spot.behind if not spot.fills_image else spot.pixels * max(0.05, 1 - 2.5 * spot.contrast)
    pixels = over(spot.pixels, band, over(worn, gaps * rng.uniform(0.2, 0.8), void))
    loose = _loose_ends(spot, rng, max(0.8, pitch * 0.3))
    fibre = spot.pixels.mean((0, 1)) + rng.choice([-1, 1]) * spot.contrast * tint(rng, grey=spot.grey, strength=0.1)
    return Painted(over(pixels, loose, fibre), np.maximum(band, loose), most=1.05)


def _loose_ends(spot: Spot, rng: Random, width: float) -> Field:
    """Fibres that stick out across the edge, bent."""
    n, across = spot.n, spot.outward + np.pi / 2
    ends = []
    for _ in range(int(rng.integers(4, 16))):
        at = rng.uniform(-0.45, 0.45) * spot.size_px
        heading = spot.outward + rng.normal(0, 0.5)
        reach = spot.size_px * rng.uniform(0.04, 0.14)
        root = np.array([n / 2 + at * np.cos(across), n / 2 + at * np.sin(across)])
        bent = heading + np.linspace(0, rng.normal(0, 0.8), 8)
        path = root + np.cumsum(np.stack([np.cos(bent), np.sin(bent)], 1), 0) * reach / 8
        ends.append((path, np.full(8, width), np.ones(8)))
    return strokes(n, ends)


def bend(spot: Spot, rng: Random) -> Painted:
    """The thing itself, or the lines on it, are out of shape: everything in a region is displaced, most in its middle."""
    n, reach = spot.n, spot.size_px * 0.5
    x, y = grid(n)
    sway = np.clip(1 - (x**2 + y**2) / reach**2, 0, 1) ** 2
    angle = spot.outward + (np.pi if rng.random() < 0.5 else 0.0) + rng.normal(0, 0.3)
    rows, columns = np.mgrid[0:n, 0:n].astype(np.float32)
    far = reach * rng.uniform(0.12, 0.35)
    envelope = np.zeros((n, n), np.float32)
    pixels: Pixels = spot.pixels
    for _ in range(WARPS):
        at = np.stack([rows - sway * far * np.sin(angle), columns - sway * far * np.cos(angle)])
        pixels = np.stack(
            [ndimage.map_coordinates(spot.pixels[..., c], at, order=1, mode="nearest") for c in range(3)], -1
        )
        change = np.abs(luminance(pixels) - luminance(spot.pixels))
        envelope = blur(ndimage.maximum_filter(change, 3), 1.0)
        peak = float(np.quantile(envelope[sway > 0], 0.995)) if (sway > 0).any() else 0.0
        envelope = np.where(sway > 0.002, np.clip(envelope / max(2.5 * spot.grain, 0.35 * peak, 1e-4), 0, 1), 0)
        reached = float(change[envelope > 0.3].mean()) if (envelope > 0.3).any() else 0.0
        if reached <= 0 or abs(reached - spot.contrast) < 0.1 * spot.contrast:
            break
        far = float(np.clip(far * np.clip(spot.contrast / reached, 0.4, 2.0), 0.8, 0.42 * reach))
    return Painted(pixels, envelope.astype(np.float32), fixed=True)


def _solid(spot: Spot) -> Field:
    """The thing whose edge this is, and no other that the patch shows, [n, n] in 0..1."""
    return np.clip(spot.inside * 1.6, 0, 1) * thing_at(spot, -3.0)


def _depths(spot: Spot, rng: Random, *, rough: float, deep: float) -> tuple[Field, Field]:
    """How far in from the edge each pixel lies, and how far in the damage goes at its place along the edge, [n, n] each."""
    n, length = spot.n, spot.size_px
    x, y = grid(n)
    u = -(x * np.cos(spot.outward) + y * np.sin(spot.outward))
    v = y * np.cos(spot.outward) - x * np.sin(spot.outward)
    knots = np.sort(rng.uniform(-0.4, 0.4, 2)) * length
    tops = length * deep * rng.uniform(0.4, 1.0, 2)
    corners = [(-length / 2, 0.0), (knots[0], tops[0]), (knots[1], tops[1]), (length / 2, 0.0)]
    line = np.concatenate(
        [
            fracture(rng, (float(a[0]), float(a[1])), (float(b[0]), float(b[1])), rough=rough, levels=4)
            for a, b in pairwise(corners)
        ]
    )
    order = np.argsort(line[:, 0], kind="stable")
    depth = np.interp(v, line[order, 0], line[order, 1], left=-3.0, right=-3.0)
    if spot.fills_image:  # beyond the border of the image there is nothing to keep
        return np.maximum(u, -1.0).astype(np.float32), depth.astype(np.float32)
    return u.astype(np.float32), np.where(depth > -2, np.maximum(depth, 0.0), depth).astype(np.float32)


def _raw(spot: Spot, rng: Random, region: Field, *, dark: float, streaks: Field | None = None) -> Pixels:
    """The inside of the material: coarse, faceted, of another tone than its surface."""
    face = matter(spot, rng, region, dark=dark, rough=0.35, hue=0.12, scale_px=max(2.0, spot.size_px * 0.06))
    facets = clouds(spot.n, rng, scale_px=max(2.5, spot.size_px * 0.08), octaves=4, roughness=0.7) * spot.size_px * 0.02
    relief = np.clip(hillshade(facets.astype(np.float32), spot.light), -1, 1)
    if streaks is not None:
        relief = 0.4 * relief + 0.5 * streaks
    return (face + ((relief * rng.uniform(0.3, 0.7) * spot.contrast) + 0.5 * grain(spot, rng))[..., None]).astype(
        np.float32
    )
