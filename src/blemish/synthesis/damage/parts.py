"""What is wrong with the arrangement: a part is missing, is there once too often, or sits where it should not."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from blemish.synthesis.fields import Field, Random
from blemish.synthesis.shapes import Pixels, blur, grid, hillshade, shifted, smoothstep
from blemish.synthesis.spots import Painted, Spot, grain, luminance, matter, over, smooth_surface

__all__ = ["extra_part", "misplacement", "missing_part"]


def missing_part(spot: Spot, rng: Random) -> Painted:
    """What should be there is not: a part is gone and the ground shows; or a clean-cut portion of the thing is absent."""
    n, radius = spot.n, spot.size_px * 0.46
    if spot.part is not None:
        region, ground = _part(spot, rng)
        return Painted(over(spot.pixels, region, ground), region * _changed(spot, ground), fixed=True)
    x, y = grid(n)
    angle = spot.outward
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    if not spot.fills_image:  # a sector, a slot or a corner of the thing, as if it had never been made
        slot = smoothstep(-np.abs(v), -radius * rng.uniform(0.35, 1.0), -radius * 0.3) * smoothstep(
            u, -radius, -radius + 1.5
        )
        region = smoothstep(slot, 0.3, 0.7) * np.clip(spot.inside * 1.6, 0, 1) * (np.hypot(u, v) < 1.6 * radius)
        return Painted(over(spot.pixels, region, spot.behind), region.astype(np.float32), fixed=True)
    power = rng.choice([2.0, 6.0])
    region = smoothstep(1 - (np.abs(u / radius) ** power + np.abs(v / radius) ** power) ** (1 / power), -0.02, 0.08)
    bare = _healed(spot, rng, region, grow=0.0)
    return Painted(over(spot.pixels, region, bare), region, fixed=True)


def extra_part(spot: Spot, rng: Random) -> Painted:
    """Something is there once too often: a disc, washer, nut or block of its own material, crisp, with body and shadow."""
    n, radius = spot.n, spot.size_px * 0.44
    x, y = grid(n)
    angle = rng.uniform(0, np.pi)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kind = rng.integers(4)
    if kind == 0:  # washer or disc
        body = _disc(n, radius, softness=0.0)
        if rng.random() < 0.6:
            body = body * (1 - _disc(n, radius * rng.uniform(0.3, 0.6), softness=0.0))
    elif kind == 1:  # nut: six sides
        theta = np.arctan2(v, u)
        reach = radius / np.cos((theta % (np.pi / 3)) - np.pi / 6) * 0.9
        body = smoothstep(reach - np.hypot(u, v), -0.7, 0.7)
        body = body * (1 - _disc(n, radius * rng.uniform(0.3, 0.5), softness=0.0) * (rng.random() < 0.7))
    else:  # chip, clip, block
        wide, tall = radius, radius * rng.uniform(0.3, 0.9)
        body = smoothstep(np.minimum(wide - np.abs(u), tall - np.abs(v)), -0.7, 0.7)
    own = matter(spot, rng, body, dark=0.5, rough=0.08, hue=0.35)
    high = blur(body, max(0.8, 0.07 * radius)) * 0.2 * radius
    own = own + (np.clip(hillshade(high, spot.light), -1, 1) * rng.uniform(0.5, 1.2) * spot.contrast)[..., None]
    if kind != 0 and rng.random() < 0.6:  # a slot, a mark, a bore
        slot = smoothstep(np.minimum(radius * 0.55 - np.abs(u), max(0.8, radius * 0.09) - np.abs(v)), -0.6, 0.6)
        own = own - (slot * 0.8 * spot.contrast)[..., None]
    far = max(1.0, radius * rng.uniform(0.05, 0.18))
    shadow = blur(shifted(body, -far * np.cos(spot.light), -far * np.sin(spot.light)), max(0.7, 0.4 * far)) * (1 - body)
    shadow = shadow * rng.uniform(0.15, 0.6)
    ground = spot.pixels * (1 - shadow * min(1.0, 2 * spot.contrast))[..., None]
    return Painted(over(ground, body, own), np.maximum(body, np.where(shadow > 0.12, shadow, 0)), most=1.3)


def misplacement(spot: Spot, rng: Random) -> Painted:
    """A part is not where, or not turned as, it should be: it is gone from its place and there again beside it or askew."""
    n = spot.n
    radius = spot.part[2] if spot.part is not None else spot.size_px * 0.32
    x, y = grid(n)
    if spot.part is not None:
        region, ground = _part(spot, rng)
    else:
        square = rng.random() < 0.5
        region = smoothstep(radius - (np.maximum(np.abs(x), np.abs(y)) if square else np.hypot(x, y)), -1.0, 1.5)
        ground = spot.pixels
    turned = rng.uniform(0.25, 1.4) * rng.choice([-1, 1]) if rng.random() < 0.6 else rng.normal(0, 0.1)
    far = radius * rng.uniform(0.25, 0.75) if abs(turned) < 0.3 or rng.random() < 0.4 else 0.0
    way = rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[0:n, 0:n].astype(np.float32)
    x, y = columns - n / 2 - far * np.cos(way), rows - n / 2 - far * np.sin(way)
    at = np.stack([n / 2 + y * np.cos(turned) - x * np.sin(turned), n / 2 + x * np.cos(turned) + y * np.sin(turned)])
    moved = np.stack([ndimage.map_coordinates(spot.pixels[..., c], at, order=1, mode="nearest") for c in range(3)], -1)
    there = ndimage.map_coordinates(region, at, order=1, mode="constant")
    pixels = over(over(spot.pixels, region, ground), there, moved)
    return Painted(pixels, np.maximum(region, there) * _changed(spot, pixels), fixed=True)


def _part(spot: Spot, rng: Random) -> tuple[Field, Pixels]:
    """Where the part in the middle of the patch is [n, n], and the patch without it: what lies behind a thing that stands free,
    or the surface carried on under what is mounted on it."""
    assert spot.part is not None  # asked by the callers
    radius = spot.part[2]
    x, y = grid(spot.n)
    around = np.hypot(x, y)
    ring = (around > 1.05 * radius) & (around < 1.25 * radius)
    if not spot.fills_image and ring.any() and float(spot.inside[ring].mean()) < 0.4:
        labels, _ = ndimage.label(spot.inside > 0.3)
        within = labels[(around < radius) & (labels > 0)]
        if len(within):
            thing = ndimage.binary_dilation(labels == np.bincount(within).argmax(), iterations=2)
            return np.clip(blur(thing, 0.8) * 1.3, 0, 1), spot.behind
    region = _disc(spot.n, radius, softness=0.06)
    return region, _healed(spot, rng, region, grow=1.0)


def _disc(n: int, radius: float, *, softness: float) -> Field:
    x, y = grid(n)
    fade = max(0.7, softness * radius)
    return smoothstep(radius - np.hypot(x, y), -fade, fade)


def _changed(spot: Spot, pixels: Pixels) -> Field:
    """Where two versions of the patch differ by more than their noise, closed over small gaps, [n, n] in 0..1."""
    change = np.abs(luminance(pixels) - luminance(spot.pixels))
    near = blur(ndimage.maximum_filter(change, 3), 1.2)
    return np.clip(near / max(1.2 * spot.grain, 0.012), 0, 1)


def _healed(spot: Spot, rng: Random, region: Field, *, grow: float) -> Pixels:
    """The patch as if the region had never held anything: its surroundings carried on, with the texture of a place beside it."""
    n = spot.n
    keep = 1 - np.clip(blur(region, 1 + grow) * 3, 0, 1)
    near = max(2.0, spot.size_px * 0.12)
    total, weight = np.zeros((n, n, 3)), np.full((n, n, 1), 1e-6)
    for sigma, share in ((near, 1.0), (3 * near, 0.01)):
        kept = blur(keep, sigma)[..., None].clip(0)
        filled = np.stack([blur(spot.pixels[..., c] * keep, sigma) for c in range(3)], -1)
        total, weight = total + share * filled, weight + share * kept
    smooth = total / weight
    if grow:  # under a part there is plain ground, whatever leads up to it
        around = (np.clip(blur(region, 2 + near) * 4, 0, 1) > 0.05) & (keep > 0.9)
        smooth = np.broadcast_to(np.median(spot.pixels[around], 0), smooth.shape) if around.any() else smooth
    texture = spot.pixels - smooth_surface(spot, near)
    aside = int(min(n * 0.45, spot.size_px * 1.05))
    down, right = [(aside, 0), (-aside, 0), (0, aside), (0, -aside)][int(rng.integers(4))]
    texture = np.roll(texture, (down, right), (0, 1)) * np.roll(keep, (down, right), (0, 1))[..., None]
    return (smooth + texture * (0.9 if grow else 0.25) + 0.4 * grain(spot, rng)[..., None]).astype(np.float32)
