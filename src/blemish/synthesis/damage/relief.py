"""What changes the shape of a surface: dents, bubbles, holes, and foreign matter that lies on it."""

from __future__ import annotations

import numpy as np

from blemish.synthesis.fields import Random
from blemish.synthesis.shapes import blob, blur, clouds, grid, hillshade, lumps, shifted, smoothstep
from blemish.synthesis.spots import Painted, Spot, grain, matter, over

__all__ = ["bubble", "contamination", "dent", "hole"]


def dent(spot: Spot, rng: Random) -> Painted:
    """Something pressed it in (or out): only shading, one side lighter and the other darker; colour and texture stay."""
    n, radius = spot.n, spot.size_px * 0.48
    x, y = grid(n)
    angle, aspect = rng.uniform(0, np.pi), float(np.exp(rng.normal(0, 0.3)))
    u, v = (x * np.cos(angle) + y * np.sin(angle)) * aspect, (y * np.cos(angle) - x * np.sin(angle)) / aspect
    wobble = 1 + 0.12 * clouds(n, rng, scale_px=max(4.0, radius), octaves=1)
    squared = (u**2 + v**2) / (radius * wobble) ** 2
    flat = rng.choice([1.0, 1.0, 2.0, 4.0])  # from a bowl to a flat-bottomed stamp
    hollow = np.clip(1 - squared**flat, 0, 1) ** 2
    height = -hollow if rng.random() < 0.75 else hollow
    shade = hillshade(height.astype(np.float32) * radius, spot.light)
    shade = shade / max(float(np.abs(shade).max()), 1e-6)
    gleam = np.clip(shade - 0.55, 0, 1) * rng.uniform(0, 1.2)  # where the light is mirrored
    gain = (shade + gleam) * spot.contrast * 3
    pixels = spot.pixels * (1 + gain[..., None] * 0.8) + 0.3 * gain[..., None]
    return Painted(pixels, smoothstep(hollow, 0.0, 0.12), most=2.5)


def bubble(spot: Spot, rng: Random) -> Painted:
    """Gas under a skin: round domes with a thin ring, a small bright glint towards the light, shade away; often several."""
    n, reach = spot.n, spot.size_px * 0.48
    many = rng.random() < 0.45 and reach > 9
    places = [(n / 2, n / 2, reach * 0.95)]
    if many:
        places = [
            (n / 2 + rng.normal(0, 0.4) * reach, n / 2 + rng.normal(0, 0.4) * reach, reach * rng.uniform(0.12, 0.4))
            for _ in range(int(rng.integers(3, 10)))
        ]
    coverage, shade = np.zeros((n, n), np.float32), np.zeros((n, n), np.float32)
    edge, bright = rng.uniform(-0.9, 0.5), rng.uniform(0.8, 2.0)
    for cx, cy, wanted in places:
        radius = max(wanted, 2.0)
        x, y = grid(n, (cx, cy))
        distance = np.hypot(x, y) / radius
        inside = np.clip((1 - distance) * radius + 0.5, 0, 1)
        side = (x * np.cos(spot.light) + y * np.sin(spot.light)) / radius
        ring = np.exp(-(((distance - 0.9) / max(0.09, 0.8 / radius)) ** 2))
        gx, gy = 0.45 * radius * np.cos(spot.light), 0.45 * radius * np.sin(spot.light)
        glint = np.exp(-((x - gx) ** 2 + (y - gy) ** 2) / (2 * max(0.16 * radius, 0.6) ** 2))
        one = (0.55 * side + edge * ring + bright * glint) * inside
        shade = np.where(inside > coverage, one, shade).astype(np.float32)
        coverage = np.maximum(coverage, inside)
    return Painted(spot.pixels + (shade * spot.contrast * 1.8)[..., None], coverage.astype(np.float32))


def hole(spot: Spot, rng: Random) -> Painted:
    """Material is gone, all through or deep: round, sharp rim, dark within (darkest below the edge that shades it), the far wall
    lit; or a few pores."""
    n, radius = spot.n, spot.size_px * 0.46
    if rng.random() < 0.25 and radius > 8:
        coverage = lumps(
            n, rng, count=int(rng.integers(3, 10)), radius_px=(max(1.2, 0.08 * radius), max(2.0, 0.25 * radius)),
            spread_px=0.4 * radius, ragged=0.1, softness=0.1,
        )  # fmt: skip
    else:
        round_ = rng.random() < 0.6
        coverage = blob(
            n, rng, radius_px=radius, ragged=0.04 if round_ else 0.2, softness=0.02, aspect=1.0 if round_ else None
        )
    level = float(spot.pixels[coverage > 0.5].mean()) if (coverage > 0.5).any() else 0.5
    dark = max(0.02, level - 1.3 * spot.contrast - 0.03)
    deep = blur(coverage, max(0.8, radius * 0.2))
    wall = hillshade(deep * radius * 0.6, spot.light + np.pi)  # the side away from the light is lit
    inside = dark * (1.15 - 0.5 * deep) + np.clip(wall, 0, 1) * rng.uniform(0.1, 0.5) * spot.contrast
    within = (
        np.repeat((inside + 0.5 * grain(spot, rng))[..., None], 3, -1)
        * (spot.pixels.mean((0, 1)) / max(level, 0.05)) ** 0.5
    )
    rim_px = max(1.0, radius * 0.1)
    rim = np.clip(blur(coverage, rim_px) * 2, 0, 1) * (1 - coverage)
    lit = np.clip(hillshade(blur(coverage, rim_px), spot.light) * rim_px * 3, -1, 1)
    chamfer = rng.uniform(0, 0.9) * rim * lit * spot.contrast
    pixels = over(spot.pixels + chamfer[..., None], coverage, within.astype(np.float32))
    return Painted(
        pixels, np.maximum(coverage, np.clip(np.abs(chamfer) / max(spot.contrast, 1e-3) * 2, 0, 1)), most=1.3
    )


def contamination(spot: Spot, rng: Random) -> Painted:
    """Something else lies on it: opaque, of its own material and colour, with body (lit and shaded sides) and a cast shadow; a
    flake, a crumb, grains, a smear of paste."""
    n, radius = spot.n, spot.size_px * 0.4
    if rng.random() < 0.3 and radius > 7:
        body = lumps(
            n, rng, count=int(rng.integers(4, 18)), radius_px=(max(1.2, 0.05 * radius), max(1.8, 0.2 * radius)),
            spread_px=0.45 * radius, ragged=0.3, softness=0.12,
        )  # fmt: skip
    else:
        body = blob(n, rng, radius_px=radius, ragged=rng.uniform(0.15, 0.45), softness=0.05)
    own = matter(spot, rng, body, dark=0.5, rough=rng.uniform(0.15, 0.6), hue=0.5)
    thick = blur(body, max(0.9, radius * rng.uniform(0.08, 0.3)))
    own = (
        own
        + (np.clip(hillshade(thick * radius * 0.5, spot.light), -1, 1) * rng.uniform(0.2, 1.0) * spot.contrast)[
            ..., None
        ]
    )
    far = max(1.0, radius * rng.uniform(0.05, 0.2))
    shadow = blur(shifted(body, -far * np.cos(spot.light), -far * np.sin(spot.light)), max(0.7, 0.3 * far)) * (1 - body)
    shadow = shadow * rng.uniform(0.1, 0.6)
    ground = spot.pixels * (1 - shadow * min(1.0, 2.0 * spot.contrast))[..., None]
    return Painted(over(ground, body, own), np.maximum(body, np.where(shadow > 0.12, shadow, 0)), most=1.3)
