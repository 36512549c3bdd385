"""Typed defects drawn into a good image, each defined by what a person could see, each with the mask of what it changed.

A defect is a function (scene, rng) -> (pixels [n, n, 3], coverage [n, n] in 0..1). Coverage is where it is, pixels are what the
image looks like with it. `add_defect` places one that can be seen and returns its mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.data.synthetic.fields import (
    Field,
    Random,
    blob_coverage,
    coordinates,
    line_coverage,
    log_uniform,
    noise,
    soften,
    wander,
)
from blemish.data.synthetic.scenes import MATERIALS, Pixels, Scene, material_pixels

__all__ = ["DEFECTS", "Defective", "add_defect"]

Painted = tuple[Pixels, Field]


@dataclass(frozen=True)
class Defective:
    """A defective image: pixels [n, n, 3] in 0..1, mask [n, n] bool, the defect's type, its mean contrast inside the mask."""

    pixels: Pixels
    mask: NDArray[np.bool_]
    defect_type: str
    contrast: float


def _spot(scene: Scene, rng: Random) -> tuple[float, float]:
    """A place (x, y in pixels) on the inspected thing."""
    n = scene.foreground.shape[0]
    for _ in range(30):
        x, y = rng.uniform(0.06, 0.94, 2) * n
        if scene.foreground[int(y), int(x)] > 0.5:
            return float(x), float(y)
    y, x = np.unravel_index(int(scene.foreground.argmax()), scene.foreground.shape)
    return float(x), float(y)


def _radius(n: int, rng: Random, low: float = 0.018, high: float = 0.16) -> float:
    return n * log_uniform(rng, low, high)


def _over(pixels: Pixels, coverage: Field, colour: NDArray[np.floating] | float, opacity: float = 1.0) -> Pixels:
    alpha = (coverage * opacity)[..., None]
    return (pixels * (1 - alpha) + alpha * colour).astype(np.float32)


def _signed(rng: Random, low: float, high: float, *, dark: float = 0.5) -> float:
    return float(rng.uniform(low, high)) * (-1 if rng.random() < dark else 1)


def scratch(scene: Scene, rng: Random) -> Painted:
    """Thin, nearly straight, even width; a bright burr on one side of a dark groove, or one of the two; sometimes several."""
    n = scene.pixels.shape[0]
    heading, start = rng.uniform(0, 2 * np.pi), _spot(scene, rng)
    length = n * log_uniform(rng, 0.08, 0.7)
    paths = []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3, 5]))):
        offset = rng.normal(0, 6, 2)
        steps = max(4, int(length / 3))
        paths.append(
            wander(
                rng,
                steps=steps,
                step=3,
                turn=rng.uniform(0, 0.03),
                start=(start[0] + offset[0], start[1] + offset[1]),
                heading=heading + rng.normal(0, 0.08),
            )
        )
    width = log_uniform(rng, 0.6, 3.0)
    groove = line_coverage(n, paths, width_px=width)
    normal = np.array([-np.sin(heading), np.cos(heading)]) * max(width * 0.8, 0.8)
    burr = line_coverage(n, [path + normal for path in paths], width_px=width * 0.7)
    depth, gleam = _signed(rng, 0.06, 0.5, dark=0.4), rng.uniform(0, 0.35)
    pixels = scene.pixels + (groove * depth)[..., None] + (burr * gleam * (depth < 0))[..., None]
    return pixels, np.maximum(groove, burr * (gleam > 0.1) * (depth < 0))


def crack(scene: Scene, rng: Random) -> Painted:
    """Dark, jagged, branching, tapering: where the material has come apart."""
    n = scene.pixels.shape[0]
    start, heading = _spot(scene, rng), rng.uniform(0, 2 * np.pi)
    coverage = np.zeros((n, n), np.float32)
    length, width = n * log_uniform(rng, 0.12, 0.8), log_uniform(rng, 0.7, 3.2)
    branches: list[tuple[tuple[float, float], float, float, float]] = [(start, heading, length, width)]
    for generation in range(int(rng.integers(1, 9))):
        if generation >= len(branches):
            break
        origin, direction, reach, wide = branches[generation]
        steps = max(4, int(reach / 4))
        path = wander(rng, steps=steps, step=4, turn=rng.uniform(0.2, 0.5), start=origin, heading=direction)
        half = max(2, steps // 2)
        coverage = np.maximum(coverage, line_coverage(n, [path[:half]], width_px=wide))
        coverage = np.maximum(coverage, line_coverage(n, [path[half - 1 :]], width_px=wide * 0.6))
        for _ in range(int(rng.integers(0, 3))):
            at = path[int(rng.integers(steps))]
            branches.append(
                (
                    (float(at[0]), float(at[1])),
                    direction + _signed(rng, 0.4, 1.2),
                    reach * rng.uniform(0.2, 0.6),
                    wide * 0.7,
                )
            )
    coverage = coverage * np.maximum(scene.foreground, 0.0)
    darkness = rng.uniform(0.35, 0.95)
    lip = soften(coverage, 1.5) * rng.uniform(0, 0.12)
    return _over(scene.pixels + lip[..., None], coverage, scene.pixels * rng.uniform(0, 0.35), darkness), coverage


def cut(scene: Scene, rng: Random) -> Painted:
    """A short, straight, clean opening, widest in its middle, dark inside, with a thin light lip."""
    n = scene.pixels.shape[0]
    centre, heading = _spot(scene, rng), rng.uniform(0, np.pi)
    half_length, half_width = n * log_uniform(rng, 0.04, 0.22), log_uniform(rng, 1.2, 5.0)
    x, y = (c * n for c in coordinates(n))
    dx, dy = x - centre[0], y - centre[1]
    along, across = dx * np.cos(heading) + dy * np.sin(heading), dy * np.cos(heading) - dx * np.sin(heading)
    bow = rng.normal(0, 0.15) * along**2 / half_length
    opening = half_width * np.clip(1 - (along / half_length) ** 2, 0, 1)
    gap = np.clip(opening - np.abs(across + bow) + 0.5, 0, 1) * (opening > 0.15)
    lip = np.clip(opening + 1.6 - np.abs(across + bow) + 0.5, 0, 1) * (np.abs(along) < half_length)
    gleam = rng.uniform(0.0, 0.3)
    inside = scene.behind if rng.random() < 0.3 else scene.pixels * rng.uniform(0, 0.3)
    pixels = scene.pixels + ((lip - gap).clip(0) * gleam)[..., None]
    coverage = np.maximum(gap, lip * (gleam > 0.12)).astype(np.float32)
    return _over(pixels, gap.astype(np.float32), inside, rng.uniform(0.75, 1)), coverage


def hole(scene: Scene, rng: Random) -> Painted:
    """Round or nearly so, sharp-edged, dark (or showing what is behind), with a lit and a shaded rim; singly or a few pores."""
    n = scene.pixels.shape[0]
    several = rng.random() < 0.3
    coverage, rim = np.zeros((n, n), np.float32), np.zeros((n, n), np.float32)
    centre = _spot(scene, rng)
    for _ in range(int(rng.integers(2, 7)) if several else 1):
        place = (centre[0] + rng.normal(0, n * 0.06), centre[1] + rng.normal(0, n * 0.06)) if several else centre
        radius = _radius(n, rng, 0.012, 0.03 if several else 0.1)
        one = blob_coverage(n, rng, centre=place, radius_px=radius, raggedness=rng.uniform(0, 0.12), softness=0.12)
        coverage = np.maximum(coverage, one)
    gradient_y, gradient_x = np.gradient(soften(coverage, 1.2))
    angle = rng.uniform(0, 2 * np.pi)
    rim = (gradient_x * np.cos(angle) + gradient_y * np.sin(angle)) * rng.uniform(0, 1.2)
    inside = scene.behind if rng.random() < 0.25 else scene.pixels * rng.uniform(0, 0.3)
    return _over(scene.pixels + rim[..., None], coverage, inside, rng.uniform(0.8, 1)), coverage


def dent(scene: Scene, rng: Random) -> Painted:
    """Only shading: one side of a hollow or bump lighter, the other darker; colour and texture stay."""
    n = scene.pixels.shape[0]
    radius = _radius(n, rng, 0.03, 0.18)
    coverage = blob_coverage(
        n,
        rng,
        centre=_spot(scene, rng),
        radius_px=radius,
        raggedness=rng.uniform(0, 0.2),
        softness=rng.uniform(0.15, 0.6),
    )
    depth = soften(coverage, radius * rng.uniform(0.12, 0.3))
    gradient_y, gradient_x = np.gradient(depth)
    angle = rng.uniform(0, 2 * np.pi)
    shade = (gradient_x * np.cos(angle) + gradient_y * np.sin(angle)) * radius
    shade = shade / (np.abs(shade).max() + 1e-6) * rng.uniform(0.1, 0.45)
    return (scene.pixels * (1 + shade[..., None]) + 0.4 * shade[..., None]).astype(np.float32), coverage


def stain(scene: Scene, rng: Random) -> Painted:
    """A liquid has dried: irregular, see-through and darker or tinted by absorption, often with a darker rim."""
    n = scene.pixels.shape[0]
    coverage = blob_coverage(
        n,
        rng,
        centre=_spot(scene, rng),
        radius_px=_radius(n, rng, 0.03, 0.2),
        raggedness=rng.uniform(0.1, 0.45),
        softness=rng.uniform(0.1, 0.6),
    )
    rim = coverage * (1 - soften(coverage, 2.5)) * rng.uniform(0, 2.0)
    absorb = rng.uniform(0.15, 0.75) * (np.ones(3) if rng.random() < 0.4 else rng.uniform(0.2, 1, 3))
    amount = np.clip(coverage + rim, 0, 1.6)[..., None]
    return (scene.pixels * np.exp(-amount * absorb)).astype(np.float32), coverage


def discolouration(scene: Scene, rng: Random) -> Painted:
    """A wide region of another tone or hue, its texture unchanged, its border soft or straight."""
    n = scene.pixels.shape[0]
    if rng.random() < 0.35:  # a band or corner
        x, y = coordinates(n)
        angle = rng.uniform(0, 2 * np.pi)
        side = (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle)
        middle, width = rng.uniform(-0.2, 0.3), rng.uniform(0.08, 0.35)
        coverage = np.clip((width - np.abs(side - middle)) / rng.uniform(0.02, 0.2) + 0.5, 0, 1).astype(np.float32)
    else:
        coverage = blob_coverage(
            n,
            rng,
            centre=_spot(scene, rng),
            radius_px=_radius(n, rng, 0.1, 0.35),
            raggedness=rng.uniform(0, 0.3),
            softness=rng.uniform(0.2, 0.9),
        )
    coverage = coverage * scene.foreground
    level = _signed(rng, 0.07, 0.35, dark=0.55)
    tint = np.ones(3) if rng.random() < 0.45 else rng.normal(0.4, 0.9, 3)
    return (scene.pixels * (1 + coverage[..., None] * level * tint)).astype(np.float32), coverage


def contamination(scene: Scene, rng: Random) -> Painted:
    """Something foreign lies on the surface: compact, opaque, of its own material, with a contact shadow."""
    n = scene.pixels.shape[0]
    coverage, centre = np.zeros((n, n), np.float32), _spot(scene, rng)
    crumbs = int(rng.integers(3, 14)) if rng.random() < 0.3 else 1
    for _ in range(crumbs):
        place = (centre[0] + rng.normal(0, n * 0.07), centre[1] + rng.normal(0, n * 0.07)) if crumbs > 1 else centre
        radius = _radius(n, rng, 0.01, 0.025) if crumbs > 1 else _radius(n, rng, 0.02, 0.13)
        coverage = np.maximum(
            coverage,
            blob_coverage(n, rng, centre=place, radius_px=radius, raggedness=rng.uniform(0.1, 0.4), softness=0.12),
        )
    own = material_pixels(
        n, rng, name=str(rng.choice(list(MATERIALS))), grey=bool(rng.random() < 0.3), contrast=rng.uniform(0.02, 0.15)
    )
    height_y, height_x = np.gradient(soften(coverage, rng.uniform(1.5, 4)))
    angle = rng.uniform(0, 2 * np.pi)
    own = own + ((height_x * np.cos(angle) + height_y * np.sin(angle)) * rng.uniform(0, 3))[..., None]
    shift = tuple(int(s) for s in rng.integers(-4, 5, 2))
    shadow = soften(np.roll(coverage, shift, (0, 1)), 1.5) * rng.uniform(0, 0.5)
    return _over(scene.pixels * (1 - shadow[..., None]), coverage, own, rng.uniform(0.85, 1)), coverage


def thread(scene: Scene, rng: Random) -> Painted:
    """A loose fibre: a long smooth curl of even width with light along its middle and a shadow beside it."""
    n = scene.pixels.shape[0]
    bend = _signed(rng, 0.01, 0.09)
    steps = int(rng.integers(25, 90))
    headings = rng.uniform(0, 6.3) + np.cumsum(bend + rng.normal(0, 0.06, steps))
    path = np.asarray(_spot(scene, rng)) + np.cumsum(np.stack([np.cos(headings), np.sin(headings)], 1) * 3, 0)
    width = log_uniform(rng, 1.0, 3.6)
    coverage, core = line_coverage(n, [path], width_px=width), line_coverage(n, [path - 0.3], width_px=width * 0.4)
    shift = tuple(int(s) for s in rng.integers(-3, 4, 2))
    shadow = soften(np.roll(coverage, shift, (0, 1)), 1.2) * rng.uniform(0.0, 0.4)
    colour = np.clip(rng.uniform(0.05, 1.0) + (rng.normal(0, 0.25, 3) if rng.random() < 0.5 else np.zeros(3)), 0, 1)
    pixels = _over(scene.pixels * (1 - shadow[..., None]), coverage, colour, rng.uniform(0.7, 1))
    return (pixels + (core * rng.uniform(0, 0.25))[..., None]).astype(np.float32), coverage


def missing_part(scene: Scene, rng: Random) -> Painted:
    """What should be there is not: one of several equal parts is gone, or a piece of the outline has broken off."""
    n = scene.pixels.shape[0]
    if scene.elements:
        x0, y0, radius = scene.elements[int(rng.integers(len(scene.elements)))]
        x, y = (c * n for c in coordinates(n))
        coverage = np.clip((radius - np.hypot(x - x0, y - y0)) + 0.5, 0, 1).astype(np.float32)
        uniform = float(scene.foreground.min()) > 0.5
        fill = _plain_patch(scene, rng, coverage) if uniform else scene.behind
        if not uniform:
            coverage = coverage * (scene.foreground > 0.02)
        return _over(scene.pixels, coverage, fill), coverage
    border = (scene.foreground > 0.5) & (soften(scene.foreground, 3) < 0.8)
    if border.any():
        places = np.argwhere(border)
        y0, x0 = places[int(rng.integers(len(places)))]
        coverage = blob_coverage(
            n,
            rng,
            centre=(float(x0), float(y0)),
            radius_px=_radius(n, rng, 0.05, 0.2),
            raggedness=rng.uniform(0.05, 0.3),
            softness=0.06,
        )
        coverage = coverage * (scene.foreground > 0.02)
        return _over(scene.pixels, coverage, scene.behind), coverage.astype(np.float32)
    corner = (float(rng.choice([0, n])), float(rng.uniform(0, n)))
    if rng.random() < 0.5:
        corner = (corner[1], corner[0])
    coverage = blob_coverage(
        n, rng, centre=corner, radius_px=_radius(n, rng, 0.08, 0.3), raggedness=rng.uniform(0.05, 0.3), softness=0.05
    )
    return _over(scene.pixels, coverage, scene.behind), coverage


def _plain_patch(scene: Scene, rng: Random, coverage: Field) -> Pixels:
    """The surface without its part: what lies around it, continued."""
    ring = (soften(coverage, 4) > 0.02) & (coverage < 0.05)
    around = scene.pixels[ring].mean(0) if ring.any() else scene.pixels.mean((0, 1))
    n = coverage.shape[0]
    return (around + 0.015 * noise(n, rng, slope=1.0)[..., None]).astype(np.float32)


def burn(scene: Scene, rng: Random) -> Painted:
    """Scorched: black or deep brown in the middle, fading outwards through brown, texture lost where it is darkest."""
    n = scene.pixels.shape[0]
    coverage = blob_coverage(
        n,
        rng,
        centre=_spot(scene, rng),
        radius_px=_radius(n, rng, 0.035, 0.18),
        raggedness=rng.uniform(0.1, 0.35),
        softness=rng.uniform(0.7, 1.3),
    )
    char = np.array([0.06, 0.045, 0.035]) + 0.02 * noise(n, rng, slope=0.8)[..., None]
    brown = scene.pixels * np.array([0.75, 0.55, 0.38])
    heat = np.clip(coverage * rng.uniform(1.1, 1.7), 0, 1)[..., None]
    pixels = scene.pixels * (1 - heat) + heat * (brown * (1 - heat) + char * heat)
    return pixels.astype(np.float32), np.clip(coverage * 1.3, 0, 1).astype(np.float32)


def corrosion(scene: Scene, rng: Random) -> Painted:
    """Rust: a crowd of rough orange-brown speckles, denser in the middle, the surface pitted."""
    n = scene.pixels.shape[0]
    region = blob_coverage(
        n,
        rng,
        centre=_spot(scene, rng),
        radius_px=_radius(n, rng, 0.05, 0.25),
        raggedness=rng.uniform(0.2, 0.5),
        softness=rng.uniform(0.4, 1.0),
    )
    speckle = noise(n, rng, slope=rng.uniform(0.7, 1.4))
    density = np.clip((speckle + region * 3 - 1.6) * 2, 0, 1) * (region > 0.05)
    rust = np.array([0.48, 0.24, 0.1]) * rng.uniform(0.6, 1.4) + 0.07 * noise(n, rng, slope=0.6)[..., None] * np.array(
        [1, 0.7, 0.4]
    )
    coverage = np.clip(soften(density, 1.5) * 1.6, 0, 1).astype(np.float32)
    return _over(scene.pixels, density.astype(np.float32), rust, rng.uniform(0.7, 1)), coverage


def bubble(scene: Scene, rng: Random) -> Painted:
    """A blister: a round bump with a thin ring, a bright glint on one side and shade on the other; singly or in groups."""
    n = scene.pixels.shape[0]
    coverage, pixels = np.zeros((n, n), np.float32), scene.pixels
    x, y = (c * n for c in coordinates(n))
    centre, angle = _spot(scene, rng), rng.uniform(0, 2 * np.pi)
    count = int(rng.integers(2, 8)) if rng.random() < 0.45 else 1
    for _ in range(count):
        spread = n * 0.08 if count > 1 else 0.0
        cx, cy = centre[0] + rng.normal(0, 1) * spread, centre[1] + rng.normal(0, 1) * spread
        radius = _radius(n, rng, 0.014, 0.045 if count > 1 else 0.09)
        distance = np.hypot(x - cx, y - cy) / radius
        inside = np.clip((1 - distance) * radius + 0.5, 0, 1)
        side = ((x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)) / radius
        ring = np.exp(-(((distance - 0.92) / 0.12) ** 2))
        glint = np.exp(
            -((x - cx - 0.45 * radius * np.cos(angle)) ** 2 + (y - cy - 0.45 * radius * np.sin(angle)) ** 2)
            / (2 * (0.18 * radius) ** 2)
        )
        shade = inside * side * rng.uniform(0.05, 0.2) + ring * _signed(rng, 0.1, 0.3) + glint * rng.uniform(0.15, 0.6)
        pixels = pixels + (shade * (distance < 1.3))[..., None]
        coverage = np.maximum(coverage, inside)
    return pixels.astype(np.float32), coverage.astype(np.float32)


DEFECTS: dict[str, Callable[[Scene, Random], Painted]] = {
    "scratch": scratch,
    "crack": crack,
    "cut": cut,
    "hole": hole,
    "dent": dent,
    "stain": stain,
    "discolouration": discolouration,
    "contamination": contamination,
    "thread": thread,
    "missing part": missing_part,
    "burn": burn,
    "corrosion": corrosion,
    "bubble": bubble,
}

_MIN_CONTRAST = 0.03
_MIN_AREA_PX = 14
_MAX_SHARE = 0.45
_TRIES = 6


def add_defect(scene: Scene, rng: Random, *, defect_type: str) -> Defective | None:
    """The scene with one defect of this type, or None where no try could be seen (contrast, size) on this subject.

    The mask is where the defect covers the image by more than a third; contrast is the mean absolute change inside it.
    """
    for _ in range(_TRIES):
        pixels, coverage = DEFECTS[defect_type](scene, rng)
        pixels = np.clip(pixels, 0, 1)
        mask = coverage > 0.35
        area = int(mask.sum())
        if not _MIN_AREA_PX <= area <= _MAX_SHARE * mask.size:
            continue
        contrast = float(np.abs(pixels - np.clip(scene.pixels, 0, 1)).mean(-1)[mask].mean())
        if contrast >= _MIN_CONTRAST and scene.foreground[mask].mean() > 0.3:
            return Defective(pixels, mask, defect_type, contrast)
    return None
