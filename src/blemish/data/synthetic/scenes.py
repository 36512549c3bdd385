"""Good images: materials, parts and objects under light, with everything that is *not* a defect.

Edges, seams, bars, holes by design, marks, highlights and repeated structure belong to good images: a detector that never saw
them unmarked would call every edge an anomaly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from blemish.data.synthetic.fields import (
    Field,
    Random,
    blob_coverage,
    cells,
    coordinates,
    log_uniform,
    noise,
    pattern,
    rings,
    soften,
    standardised,
)

__all__ = ["MATERIALS", "Scene", "good_scene"]

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """A good image and what its defects need to know of it.

    pixels: [n, n, 3] in 0..1. foreground: [n, n] in 0..1, where the inspected thing is. behind: [n, n, 3], what shows where a
    part of it is missing. elements: centres and radii (x, y, r in pixels) of repeated parts, if there are any.
    """

    pixels: Pixels
    foreground: Field
    behind: Pixels
    material: str
    elements: tuple[tuple[float, float, float], ...] = ()


def _plastic(n: int, rng: Random) -> Field:
    return noise(n, rng, slope=rng.uniform(1.5, 3)) * 0.5 + noise(n, rng, slope=0.2) * 0.15


def _brushed_metal(n: int, rng: Random) -> Field:
    return noise(n, rng, slope=rng.uniform(0.4, 1.2), stretch=log_uniform(rng, 3, 12), angle=rng.uniform(0, np.pi))


def _cast_metal(n: int, rng: Random) -> Field:
    return noise(n, rng, slope=rng.uniform(0.2, 1.3)) + 0.4 * noise(n, rng, slope=2.2)


def _fabric(n: int, rng: Random) -> Field:
    return pattern(n, rng) + rng.uniform(0.1, 0.8) * noise(n, rng, slope=0.6)


def _wood(n: int, rng: Random) -> Field:
    grain = noise(n, rng, slope=0.8, stretch=log_uniform(rng, 3, 10), angle=rng.uniform(0, np.pi))
    return rings(n, rng) + 0.7 * grain


def _leather(n: int, rng: Random) -> Field:
    return cells(n, rng, count=int(log_uniform(rng, 60, 2500)), edges=True) + 0.4 * noise(n, rng, slope=1.0)


def _stone(n: int, rng: Random) -> Field:
    return cells(n, rng, count=int(log_uniform(rng, 200, 6000)), edges=False) + noise(n, rng, slope=1.5)


def _paper(n: int, rng: Random) -> Field:
    return noise(n, rng, slope=rng.uniform(0.6, 1.6)) * 0.5


def _tissue(n: int, rng: Random) -> Field:
    folds = noise(n, rng, slope=rng.uniform(1.6, 2.6)) + 0.3 * np.abs(noise(n, rng, slope=1.6))
    return folds.astype(np.float32, copy=False)


def _tile(n: int, rng: Random) -> Field:
    speckle = noise(n, rng, slope=rng.uniform(0.5, 1.5))
    bright = (speckle > rng.uniform(0.3, 1.5)).astype(np.float32)
    return (bright + 0.3 * noise(n, rng, slope=2)).astype(np.float32)


def _mixture(n: int, rng: Random) -> Field:
    first, second = (
        noise(n, rng, slope=rng.uniform(0.2, 2.5), stretch=log_uniform(rng, 1, 6), angle=rng.uniform(0, np.pi))
        for _ in range(2)
    )
    return first * rng.uniform(0.3, 1) + second * rng.uniform(0.1, 0.7)


MATERIALS: dict[str, Callable[[int, Random], Field]] = {
    "plastic": _plastic,
    "brushed metal": _brushed_metal,
    "cast metal": _cast_metal,
    "fabric": _fabric,
    "wood": _wood,
    "leather": _leather,
    "stone": _stone,
    "paper": _paper,
    "tissue": _tissue,
    "tile": _tile,
    "mixed surface": _mixture,
}


def _colour(rng: Random, *, grey: bool) -> NDArray[np.float32]:
    base = rng.uniform(0.12, 0.88) + (0 if grey else rng.normal(0, 0.14, 3))
    return np.clip(base * np.ones(3), 0.03, 0.97).astype(np.float32)


def material_pixels(n: int, rng: Random, *, name: str, grey: bool, contrast: float | None = None) -> Pixels:
    """A flat sheet of a material, [n, n, 3], colours at random."""
    field = standardised(MATERIALS[name](n, rng))
    contrast = log_uniform(rng, 0.01, 0.16) if contrast is None else contrast
    tint = np.ones(3, np.float32) if grey else (1 + rng.normal(0, 0.3, 3)).astype(np.float32)
    return (_colour(rng, grey=grey) + contrast * field[..., None] * tint).astype(np.float32)


def _light(n: int, rng: Random, pixels: Pixels) -> Pixels:
    x, y = coordinates(n)
    slope_x, slope_y = rng.normal(0, 0.16, 2)
    pixels = pixels * (1 + slope_x * (x - 0.5) + slope_y * (y - 0.5))[..., None]
    if rng.random() < 0.3:
        centre_x, centre_y = rng.uniform(0.3, 0.7, 2)
        pixels = pixels * (1 - rng.uniform(0, 1.1) * ((x - centre_x) ** 2 + (y - centre_y) ** 2))[..., None]
    if rng.random() < 0.2:  # a broad highlight
        centre_x, centre_y = rng.uniform(0, 1, 2)
        spot = np.exp(-((x - centre_x) ** 2 + (y - centre_y) ** 2) / (2 * rng.uniform(0.08, 0.4) ** 2))
        pixels = pixels + (rng.uniform(0.05, 0.35) * spot)[..., None]
    return pixels.astype(np.float32)


def _bars(n: int, rng: Random, pixels: Pixels) -> Pixels:
    """Seams, bus bars, ribs: straight, through the whole image, often several at an even distance."""
    x, y = coordinates(n)
    along = (x if rng.random() < 0.5 else y) * n
    count, width = int(rng.integers(1, 6)), log_uniform(rng, 1.5, 12)
    pitch, first = n / count * rng.uniform(0.6, 1.0), rng.uniform(0, n / count)
    profile = np.zeros_like(along)
    for index in range(count):
        offset = np.abs(along - first - index * pitch)
        profile += np.clip((width / 2 - offset) / 0.8 + 0.5, 0, 1)
    shade = rng.normal(0, 0.22) if rng.random() < 0.8 else rng.normal(0, 0.5)
    return (pixels + profile[..., None] * shade).astype(np.float32)


def _marks(n: int, rng: Random, pixels: Pixels) -> Pixels:
    """Printed marks: rows of strokes, letters or boxes that belong there."""
    canvas = Image.new("L", (n * 2, n * 2))
    draw = ImageDraw.Draw(canvas)
    height = log_uniform(rng, 0.03, 0.12) * n * 2
    left, top = rng.uniform(0.05, 0.6, 2) * n * 2
    for row in range(int(rng.integers(1, 4))):
        for column in range(int(rng.integers(3, 12))):
            x0, y0 = left + column * height * 0.7, top + row * height * 1.4
            for _ in range(int(rng.integers(1, 4))):
                ends = rng.random((2, 2)) * (height * 0.5, height) + (x0, y0)
                draw.line([tuple(map(float, end)) for end in ends], fill=255, width=max(1, int(height * 0.12)))
    coverage = np.asarray(canvas.reduce(2), np.float32)[..., None] / 255
    ink = _colour(rng, grey=bool(rng.random() < 0.6))
    return (pixels * (1 - coverage) + coverage * ink).astype(np.float32)


def _holes_by_design(n: int, rng: Random, pixels: Pixels) -> tuple[Pixels, tuple[tuple[float, float, float], ...]]:
    """Rows of round holes, studs or pads, all alike."""
    x, y = (c * n for c in coordinates(n))
    columns, rows = int(rng.integers(2, 7)), int(rng.integers(1, 7))
    radius = n / max(columns, rows) * rng.uniform(0.12, 0.35)
    shade, rim = rng.normal(0, 0.3, 2)
    square = rng.random() < 0.3
    elements = []
    for row in range(rows):
        for column in range(columns):
            cx, cy = (column + 0.5) * n / columns, (row + 0.5) * n / rows
            dx, dy = np.abs(x - cx), np.abs(y - cy)
            distance = np.maximum(dx, dy) if square else np.hypot(dx, dy)
            inside = np.clip(radius - distance + 0.5, 0, 1)
            edge = np.clip(1.5 - np.abs(distance - radius), 0, 1)
            pixels = pixels + (inside * shade + edge * rim * 0.5)[..., None].astype(np.float32)
            elements.append((cx, cy, radius * 1.25))
    return pixels, tuple(elements)


def _solar_cell(n: int, rng: Random) -> Pixels:
    """An electroluminescence-like picture: mottled grey silicon, dark grid fingers, bus bars, darker rim."""
    x, y = coordinates(n)
    base = rng.uniform(0.3, 0.7) + noise(n, rng, slope=rng.uniform(1.2, 2.2)) * rng.uniform(0.01, 0.06)
    if rng.random() < 0.5:  # grains of polycrystalline silicon
        base = base + cells(n, rng, count=int(rng.integers(20, 250)), edges=False) * rng.uniform(0.01, 0.07)
        base = base - (cells(n, rng, count=int(rng.integers(30, 200)), edges=True) < -0.8) * rng.uniform(0, 0.08)
    base = base * (1 - ((np.abs(x - 0.5) * 2) ** 6 + (np.abs(y - 0.5) * 2) ** 6) * rng.uniform(0, 0.5))
    base = base + np.sin(2 * np.pi * y * n / rng.uniform(3, 8)) * rng.uniform(0, 0.02)
    for centre in ([0.25, 0.75], [1 / 6, 0.5, 5 / 6], [0.2, 0.4, 0.6, 0.8])[int(rng.integers(3))]:
        base = base - np.clip(1.5 - np.abs(y - centre) * n / rng.uniform(1.5, 4), 0, 1) * rng.uniform(0.1, 0.4)
    margin = rng.uniform(0, 0.03)
    inside = (np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y)) > margin).astype(np.float32)
    if rng.random() < 0.5:
        inside = inside * (np.abs(x - 0.5) + np.abs(y - 0.5) < rng.uniform(0.85, 1.0))  # cut corners
    pixels = np.repeat((base * soften(inside, 0.8) * 0.97 + 0.03)[..., None], 3, -1).astype(np.float32)
    return np.rot90(pixels).copy() if rng.random() < 0.5 else pixels


def _circuit(n: int, rng: Random, *, grey: bool) -> tuple[Pixels, tuple[tuple[float, float, float], ...]]:
    """A board-like picture: rectangular traces and round pads on a dark lacquer."""
    canvas = Image.new("L", (n * 2, n * 2))
    draw = ImageDraw.Draw(canvas)
    elements = []
    pitch, width = rng.uniform(10, 34) * 2, rng.uniform(2, 7) * 2
    for _ in range(int(rng.integers(6, 22))):
        x0, y0 = (np.floor(rng.random(2) * n * 2 / pitch) * pitch).tolist()
        x1, y1 = (np.floor(rng.random(2) * n * 2 / pitch) * pitch).tolist()
        draw.line([(x0, y0), (x1, y0), (x1, y1)], fill=200, width=int(width))
        for px, py in ((x0, y0), (x1, y1)):
            radius = width * rng.uniform(0.9, 1.3)
            draw.ellipse((px - radius, py - radius, px + radius, py + radius), fill=255)
            elements.append((px / 2, py / 2, radius / 2 * 1.3))
    copper = np.asarray(canvas.reduce(2), np.float32)[..., None] / 255
    lacquer, metal = _colour(rng, grey=grey), _colour(rng, grey=grey)
    pixels = lacquer * (1 - copper) + metal * copper + 0.02 * noise(n, rng, slope=1.0)[..., None]
    inside = tuple((x, y, r) for x, y, r in elements if 0.1 * n < x < 0.9 * n and 0.1 * n < y < 0.9 * n)
    return pixels.astype(np.float32), inside


def _silhouette(n: int, rng: Random, centre: tuple[float, float], radius: float) -> Field:
    x, y = (c * n for c in coordinates(n))
    angle = rng.uniform(0, 2 * np.pi)
    dx, dy = x - centre[0], y - centre[1]
    u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    aspect = np.exp(rng.normal(0, 0.25))
    kind = rng.integers(4)
    if kind == 0:  # from diamond over ellipse to box
        power = rng.uniform(1.4, 7)
        distance = (np.abs(u / radius * aspect) ** power + np.abs(v / radius / aspect) ** power) ** (1 / power)
    elif kind == 1:  # a smooth natural outline
        theta = np.arctan2(v, u)
        outline = 1 + sum(rng.normal(0, 0.12 / k) * np.cos(k * theta + rng.uniform(0, 6.3)) for k in range(1, 6))
        distance = np.hypot(u, v) / radius / outline
    elif kind == 2:  # a ring
        distance = np.abs(np.hypot(u, v) - radius * 0.7) / (radius * rng.uniform(0.12, 0.3))
    else:  # a regular outline with teeth or lobes
        theta = np.arctan2(v, u)
        lobes, depth = rng.integers(3, 16), rng.uniform(0.03, 0.2)
        distance = np.hypot(u, v) / radius / (1 + depth * np.tanh(3 * np.cos(lobes * theta)))
    return np.clip((1 - distance) * radius / 1.5 + 0.5, 0, 1).astype(np.float32)


def _shaded(rng: Random, pixels: Pixels, coverage: Field) -> Pixels:
    """Roundness: darker towards the outline, lighter towards a lamp."""
    depth = soften(coverage, rng.uniform(4, 20))
    gradient_y, gradient_x = np.gradient(depth)
    angle = rng.uniform(0, 2 * np.pi)
    lamp = gradient_x * np.cos(angle) + gradient_y * np.sin(angle)
    return (pixels * (0.55 + 0.45 * depth)[..., None] + lamp[..., None] * rng.uniform(0, 5)).astype(np.float32)


def _objects(n: int, rng: Random, *, material: str, grey: bool) -> Scene:
    """One large object, or several alike, in front of a background."""
    background = material_pixels(
        n,
        rng,
        name=str(rng.choice(["plastic", "paper", "cast metal", "fabric"])),
        grey=grey,
        contrast=log_uniform(rng, 0.004, 0.05),
    )
    if rng.random() < 0.35:
        background = background * np.float32(0) + np.float32(rng.choice([rng.uniform(0.0, 0.1), rng.uniform(0.9, 1.0)]))
    several = rng.random() < 0.25
    sheet = material_pixels(n, rng, name=material, grey=grey)
    elements: list[tuple[float, float, float]] = []
    if several:
        side = int(rng.integers(2, 5))
        radius = n / side * rng.uniform(0.25, 0.45)
        shape = _silhouette(n, rng, (n / 2, n / 2), radius)
        coverage = np.zeros((n, n), np.float32)
        for row in range(side):
            for column in range(side):
                cx, cy = (column + 0.5) * n / side, (row + 0.5) * n / side
                shifted = np.roll(shape, (round(cy - n / 2), round(cx - n / 2)), (0, 1))
                coverage = np.maximum(coverage, shifted)
                elements.append((cx, cy, radius * 1.3))
    else:
        coverage = _silhouette(n, rng, tuple(rng.uniform(0.42, 0.58, 2) * n), n * rng.uniform(0.25, 0.47))
    front = _shaded(rng, sheet, coverage)
    if rng.random() < 0.4:  # a second tone that belongs to the object: a cap, a label, a coating
        centre = tuple(rng.uniform(0.25, 0.75, 2) * n)
        patch = blob_coverage(
            n, rng, centre=centre, radius_px=n * rng.uniform(0.1, 0.35), raggedness=rng.uniform(0, 0.15), softness=0.1
        )
        tone = material_pixels(n, rng, name=material, grey=grey)
        front = front * (1 - patch[..., None]) + patch[..., None] * (0.5 * front + 0.5 * tone)
    if rng.random() < 0.15:
        front = _marks(n, rng, front)
    shadow = soften(np.roll(coverage, tuple(rng.integers(-8, 9, 2)), (0, 1)), rng.uniform(2, 8)) * rng.uniform(0, 0.5)
    behind = background * (1 - shadow[..., None])
    pixels = behind * (1 - coverage[..., None]) + front * coverage[..., None]
    return Scene(pixels.astype(np.float32), coverage, behind.astype(np.float32), material, tuple(elements))


def good_scene(n: int, rng: Random) -> Scene:
    """A good image of n×n pixels with a random subject, before the camera adds blur and noise."""
    grey = bool(rng.random() < 0.35)
    material = str(rng.choice(list(MATERIALS)))
    kind = rng.random()
    everywhere = np.ones((n, n), np.float32)
    if kind < 0.42:
        scene = _objects(n, rng, material=material, grey=grey)
        pixels = scene.pixels
        if rng.random() < 0.3:
            pixels = _light(n, rng, pixels)
        return Scene(pixels, scene.foreground, scene.behind, material, scene.elements)
    elements: tuple[tuple[float, float, float], ...] = ()
    if kind < 0.52:
        pixels, material = _solar_cell(n, rng), "solar cell"
    elif kind < 0.58:
        pixels, elements = _circuit(n, rng, grey=grey)
        material = "circuit board"
    else:
        pixels = material_pixels(n, rng, name=material, grey=grey)
        if rng.random() < 0.15:
            pixels = pixels + 0.5 * log_uniform(rng, 0.02, 0.2) * pattern(n, rng)[..., None]
        if rng.random() < 0.15:
            pixels, elements = _holes_by_design(n, rng, pixels)
        if rng.random() < 0.1:
            pixels = _marks(n, rng, pixels)
        if rng.random() < 0.3:
            pixels = _bars(n, rng, pixels)
        pixels = _light(n, rng, pixels)
    behind = np.full_like(pixels, rng.uniform(0, 0.25) if rng.random() < 0.7 else rng.uniform(0.75, 1))
    return Scene(pixels.astype(np.float32), everywhere, behind, material, elements)
