"""What is long and thin: scratches, cracks, cuts, threads. Each looks like what made it, not like the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blemish.synthesis.fields import Field, Path, Random, log_uniform
from blemish.synthesis.shapes import Point, blob, blur, fracture, grid, shifted, smoothstep, strokes
from blemish.synthesis.spots import Painted, Spot, over, tint

__all__ = ["crack", "cut", "scratch", "thread"]

Stroke = tuple[Path, NDArray[np.floating], NDArray[np.floating]]  # points, widths, strengths


def scratch(spot: Spot, rng: Random) -> Painted:
    """A hard point was drawn over the surface: straight or evenly bent, a groove with a gleaming burr on one side, pressed in
    and lifted off gradually; alone, a few side by side, or a scuff of many."""
    n, length = spot.n, spot.size_px
    heading = rng.uniform(0, np.pi)
    count = int(rng.choice([1, 1, 1, 2, 3, 9]))
    width = log_uniform(rng, 0.7, max(0.9, min(4.0, length * 0.02)))
    ways = [_sweep(spot, rng, heading, length, count) for _ in range(count)]
    pressed = [_pressure(rng, len(way)) for way in ways]
    widths = [np.full(len(way), width * (0.7 if count > 3 else 1.0)) for way in ways]
    groove = strokes(n, zip(ways, widths, pressed, strict=True))
    aside = np.array([-np.sin(heading), np.cos(heading)])
    lit = float(np.sign(aside @ (np.cos(spot.light), np.sin(spot.light))) or 1.0)
    aside = aside * lit * max(0.9, 0.8 * width)  # the burr stands where it catches the light
    burr = strokes(
        n, [(way + aside, wide * 0.7, press) for way, wide, press in zip(ways, widths, pressed, strict=True)]
    )
    kind = rng.random()
    if kind < 0.6:  # groove and burr
        dark, bright = rng.uniform(0.7, 1.0), rng.uniform(0.4, 1.1)
    elif kind < 0.85:  # bare metal, a scraped layer: light all over
        dark, bright = -rng.uniform(0.7, 1.0), rng.uniform(0.2, 0.6)
    else:
        dark, bright = rng.uniform(0.7, 1.0), rng.uniform(0.1, 0.3)
    shade = (burr * bright - groove * dark) * spot.contrast * 2.0
    hue = tint(rng, grey=spot.grey, strength=0.08)
    return Painted(spot.pixels + shade[..., None] * hue, np.maximum(groove, burr * min(1.0, 1.2 * bright)))


def _sweep(spot: Spot, rng: Random, heading: float, length: float, count: int) -> Path:
    """One stroke through the middle of the patch: an arc of constant bend."""
    length = length * (rng.uniform(0.3, 0.9) if count > 1 else 0.95)
    steps = max(6, int(length / 4))
    bend = rng.normal(0, 0.25) if rng.random() < 0.6 else 0.0
    headings = heading + rng.normal(0, 0.04) + np.linspace(-bend, bend, steps)
    path = np.cumsum(np.stack([np.cos(headings), np.sin(headings)], 1), 0) * (length / steps)
    across = np.array([-np.sin(heading), np.cos(heading)])
    spread = 0.0 if count == 1 else min(12.0 + 2 * count, 0.25 * spot.size_px)
    start = np.full(2, spot.n / 2) - path.mean(0) + across * rng.uniform(-spread, spread)
    if count > 1:
        start = start + (path[-1] - path[0]) * rng.uniform(-0.12, 0.12)
    return path + start


def _pressure(rng: Random, steps: int) -> NDArray[np.floating]:
    """Strength along a stroke: rises, falls, sometimes skips."""
    along = np.linspace(0, 1, steps)
    pressure = np.minimum(1.0, along / rng.uniform(0.02, 0.3)) * np.minimum(1.0, (1 - along) / rng.uniform(0.02, 0.4))
    if rng.random() < 0.25:
        pressure = pressure * (np.sin(along * rng.uniform(10, 60) + rng.uniform(0, 6)) > -0.6)
    return np.clip(pressure, 0.0, 1.0) ** 0.7


def crack(spot: Spot, rng: Random) -> Painted:
    """The material has come apart: dark, thin, jagged at every scale, branching, tapering to nothing; no burr, no gleam."""
    n = spot.n
    width = log_uniform(rng, 0.9, max(1.2, min(4.0, spot.size_px * 0.022)))
    if rng.random() < 0.18 and spot.size_px > 40:
        coverage = _crazing(spot, rng, width)
    else:
        coverage = strokes(n, _branches(spot, rng, width))
    wall = blur(coverage, 0.9) * rng.uniform(0.0, 0.35)  # a thin shade where the lips fall inwards
    dark = np.clip(coverage * rng.uniform(0.85, 1.0) + wall, 0, 1)
    depth = 0.25 + 1.2 * spot.contrast / max(
        float(spot.pixels[coverage > 0.3].mean()) if coverage.max() > 0.3 else 0.5, 0.05
    )
    pixels = spot.pixels * (1 - dark * min(depth, 0.97))[..., None]
    return Painted(pixels, np.maximum(coverage, np.clip(wall * 1.5, 0, 1)), most=1.6)


def _branches(spot: Spot, rng: Random, width: float) -> list[Stroke]:
    middle, heading, length = spot.n / 2, rng.uniform(0, 2 * np.pi), spot.size_px * 0.95
    half = np.array([np.cos(heading), np.sin(heading)]) * length / 2
    rough = rng.uniform(0.12, 0.3)
    waiting = [((middle - half[0], middle - half[1]), (middle + half[0], middle + half[1]), width, 0)]
    drawn: list[Stroke] = []
    most = int(rng.integers(1, 11))
    while waiting and len(drawn) < most:
        start, end, wide, depth = waiting.pop(0)
        reach = float(np.hypot(end[0] - start[0], end[1] - start[1]))
        path = fracture(rng, start, end, rough=rough, levels=int(np.clip(np.log2(max(reach, 8) / 2), 2, 7)))
        taper = 1 - np.linspace(0, 1, len(path)) ** 2 * 0.75
        taper = taper * rng.uniform(0.75, 1.1, len(path))
        drawn.append((path, wide * taper, np.clip(taper + 0.35, 0, 1)))
        direction = np.arctan2(end[1] - start[1], end[0] - start[0])
        for _ in range(int(rng.integers(1, 4)) if depth < 2 else 0):
            at = path[int(rng.integers(len(path) // 6, len(path) - 1))]
            turned = direction + rng.uniform(0.45, 1.15) * rng.choice([-1, 1])
            far = reach * rng.uniform(0.2, 0.5)
            tip: Point = (float(at[0] + far * np.cos(turned)), float(at[1] + far * np.sin(turned)))
            waiting.append(((float(at[0]), float(at[1])), tip, wide * rng.uniform(0.45, 0.8), depth + 1))
    return drawn


def _crazing(spot: Spot, rng: Random, width: float) -> Field:
    """A net of cracks, as in glaze, varnish or dried mud: the borders of cells, fading outwards."""
    n, radius = spot.n, spot.size_px * 0.46
    count = int(rng.integers(6, 40))
    at = rng.uniform(-radius, radius, (count, 2)) * 1.1
    x, y = grid(n)
    x = x + blob(n, rng, radius_px=radius, softness=1.0) * rng.normal(0, 4)
    first = np.full((n, n), np.inf, np.float32)
    second = first.copy()
    for px, py in at:
        distance = np.hypot(x - px, y - py).astype(np.float32)
        second = np.minimum(second, np.maximum(first, distance))
        first = np.minimum(first, distance)
    border = smoothstep(-(second - first), -1.3 * width, -0.3 * width)
    return border * (blob(n, rng, radius_px=radius, softness=0.5, ragged=0.3) > 0.25)


def cut(spot: Spot, rng: Random) -> Painted:
    """A blade went in: one clean, nearly straight opening, widest in its middle, its ends pointed, dark within, its lips lit on
    one side and shaded on the other."""
    n, heading = spot.n, rng.uniform(0, np.pi)
    half_length = spot.size_px * 0.48
    half_width = float(np.clip(half_length * log_uniform(rng, 0.04, 0.16), 0.9, 14))
    x, y = grid(n)
    along, across = x * np.cos(heading) + y * np.sin(heading), y * np.cos(heading) - x * np.sin(heading)
    across = across + rng.normal(0, 0.12) * along**2 / half_length
    opening = half_width * np.clip(1 - (along / half_length) ** 2, 0, 1)
    within = np.abs(along) < half_length
    gap = (np.clip(opening - np.abs(across) + 0.5, 0, 1) * within).astype(np.float32)
    lip_px = rng.uniform(1.0, 2.0) + 0.4 * half_width
    lips = (np.clip(opening + lip_px - np.abs(across), 0, 1) * within * (opening > 0.1)).astype(np.float32)
    side = np.sign(across) * np.sign(np.sin(spot.light - heading) or 1.0)
    shade = (lips - gap).clip(0) * side * rng.uniform(0.3, 0.9) * spot.contrast
    pixels = spot.pixels + shade[..., None]
    if rng.random() < 0.3:
        inside = spot.behind
    else:
        inside = spot.pixels * max(0.05, 1 - 2.2 * spot.contrast / max(float(spot.pixels.mean()), 0.1))
    return Painted(over(pixels, gap, inside), np.maximum(gap, lips * 0.8), most=1.3)


def thread(spot: Spot, rng: Random) -> Painted:
    """A loose fibre lies on the surface: a long smooth curl of even width, lit along its middle, with a shadow beside it."""
    n, length = spot.n, spot.size_px * rng.uniform(1.0, 1.8)
    steps = max(12, int(length / 2.5))
    curl = rng.choice([-1, 1]) * rng.uniform(0.5, 4.5) / steps
    drift = np.convolve(rng.normal(0, 1, steps + 8), np.ones(9) / 9, "valid") * rng.uniform(0.05, 0.25)
    headings = rng.uniform(0, 2 * np.pi) + np.cumsum(curl + drift)
    path = np.cumsum(np.stack([np.cos(headings), np.sin(headings)], 1), 0) * 2.5
    low, high = path.min(0), path.max(0)
    path = (path - (low + high) / 2) * min(1.0, spot.size_px / max(float((high - low).max()), 1.0)) + n / 2
    width = log_uniform(rng, 1.0, max(1.3, min(4.0, spot.size_px * 0.03)))
    even = np.ones(len(path))
    fibre = strokes(n, [(path, even * width, even)])
    lit = path + np.array([np.cos(spot.light), np.sin(spot.light)]) * 0.25 * width
    core = strokes(n, [(lit, even * width * 0.4, even)])
    far = width * rng.uniform(0.5, 1.6)
    shadow = blur(shifted(fibre, -far * np.cos(spot.light), -far * np.sin(spot.light)), 0.7) * rng.uniform(0.1, 0.5)
    level = float(spot.pixels[fibre > 0.3].mean()) if fibre.max() > 0.3 else 0.5
    bright = rng.random() < (0.75 if level < 0.6 else 0.25)
    colour = level + (1.2 if bright else -1.2) * spot.contrast * tint(rng, grey=spot.grey, strength=0.35)
    pixels = over(spot.pixels * (1 - shadow * min(1.0, 2 * spot.contrast))[..., None], fibre, colour)
    pixels = pixels + (core * spot.contrast * rng.uniform(0.1, 0.6))[..., None]
    return Painted(pixels, np.maximum(fibre, shadow * 1.2 * (shadow > 0.1)), most=1.6)
