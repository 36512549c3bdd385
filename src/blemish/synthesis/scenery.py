"""Good scenes: surfaces, objects with parts, rows of alike things, solar cells, boards, X-ray images.

Edges, seams, holes by design, print, highlights and dust belong to them, unmarked: who never saw them so would take each for an
anomaly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from blemish.synthesis import benign
from blemish.synthesis.fields import Field, Random, cells, log_uniform, noise, pattern
from blemish.synthesis.shapes import (
    Pixels,
    Point,
    blob,
    blur,
    clouds,
    grid,
    hillshade,
    resized,
    shifted,
    smoothstep,
)
from blemish.synthesis.spots import Circle, over
from blemish.synthesis.subjects import Subject
from blemish.synthesis.surfaces import SURFACES, photographed, sheet

__all__ = ["MATERIALS", "good_subject"]

BACKGROUNDS = ("plastic", "paper", "cast metal", "woven fabric", "film", "wood")
NATURAL = "a natural material"  # from a photo
MATERIALS = (*SURFACES, "a solar cell", "a circuit board")  # what captions call the subject


Photos = Sequence[NDArray[np.uint8]]


def good_subject(
    n: int, rng: Random, *, material: str | None = None, plain: bool = False, photos: Photos = ()
) -> Subject:
    """A good image of n x n pixels, float32, before the camera; its material at random where none of `MATERIALS` is asked for.

    plain: a sheet of the material that fills the image, with nothing on it.
    """
    grey, light = bool(rng.random() < 0.35), rng.uniform(0, 2 * np.pi)
    kind = rng.random()
    asked = material in SURFACES
    name = material if asked and material is not None else str(rng.choice(list(SURFACES)))
    grey = grey or SURFACES[name].always_grey
    if material == "a solar cell" or (material is None and kind < 0.09):
        subject = _plain(_solar_cell(n, rng), rng, light, grey=True, material="a solar cell")
    elif material == "a circuit board" or (material is None and kind < 0.16):
        subject = _board(n, rng, light, grey=grey)
    elif plain:
        subject = _plain(
            benign.lit(sheet(n, rng, name=name, grey=grey), rng, light), rng, light, grey=grey, material=name
        )
    elif kind < 0.55:
        subject = _object(n, rng, light, name=name, grey=grey, photos=photos)
    else:
        subject = _surface(n, rng, light, name=name, grey=grey, photos=photos)
    pixels = np.clip(subject.pixels, 0, 1)
    if grey or subject.grey:
        pixels = np.repeat(pixels.mean(-1, keepdims=True), 3, -1)
    return replace(subject, pixels=pixels, grey=grey or subject.grey, behind=np.clip(subject.behind, 0, 1))


def _plain(
    pixels: Pixels, rng: Random, light: float, *, grey: bool, material: str, parts: tuple[Circle, ...] = ()
) -> Subject:
    """What fills the whole image; behind it is dark, or a lit table."""
    n = pixels.shape[0]
    level = rng.uniform(0, 0.25) if rng.random() < 0.65 else rng.uniform(0.7, 1)
    behind = np.full((n, n, 3), level, np.float32) + 0.02 * clouds(n, rng, scale_px=n / 4)[..., None]
    return Subject(pixels, np.ones((n, n), np.float32), behind, light, parts, grey=grey, material=material)


def _surface(n: int, rng: Random, light: float, *, name: str, grey: bool, photos: Photos) -> Subject:
    pixels, name = _material(n, rng, name=name, grey=grey, photos=photos)
    parts: tuple[Circle, ...] = ()
    everywhere = np.ones((n, n), np.float32)
    if rng.random() < 0.1:
        pixels = pixels + 0.5 * log_uniform(rng, 0.02, 0.2) * pattern(n, rng)[..., None]
    if rng.random() < 0.25:
        pixels = benign.seamed(pixels, rng)
    if rng.random() < 0.22:
        pixels, parts = benign.fitted(pixels, rng, light, inside=everywhere)
    if rng.random() < 0.15:
        pixels = benign.printed(pixels, rng, grey=grey)
    if rng.random() < 0.12:
        pixels = benign.dusty(pixels, rng)
    return _plain(benign.lit(pixels, rng, light), rng, light, grey=grey, material=name, parts=parts)


def _material(n: int, rng: Random, *, name: str, grey: bool, photos: Photos) -> tuple[Pixels, str]:
    """A sheet of the material, or as often of a photo's, with tones of its own; and what it is called."""
    if photos and rng.random() < 0.5:
        pixels, name = photographed(n, rng, photos[int(rng.integers(len(photos)))], grey=grey), NATURAL
    else:
        pixels = sheet(n, rng, name=name, grey=grey)
    return benign.toned(pixels, rng, grey=grey) if rng.random() < 0.6 else pixels, name


def _object(n: int, rng: Random, light: float, *, name: str, grey: bool, photos: Photos) -> Subject:
    """One large thing, or several alike in rows, before a background."""
    ground = sheet(n, rng, name=str(rng.choice(BACKGROUNDS)), grey=grey, contrast=log_uniform(rng, 0.004, 0.05))
    if photos and rng.random() < 0.25:
        ground = photographed(n, rng, photos[int(rng.integers(len(photos)))], grey=grey)
    if rng.random() < 0.35:
        ground = np.full_like(ground, rng.uniform(0.0, 0.1) if rng.random() < 0.5 else rng.uniform(0.88, 1.0))
    front, name = _material(n, rng, name=name, grey=grey, photos=photos)
    parts: tuple[Circle, ...] = ()
    if rng.random() < 0.22:
        thing, parts = _rows(n, rng)
    else:
        size = n * rng.uniform(0.26, 0.5 if rng.random() < 0.8 else 0.75)  # some reach beyond the image
        middle = (float(rng.uniform(0.42, 0.58) * n), float(rng.uniform(0.42, 0.58) * n))
        thing = _silhouette(n, rng, middle, size)
        front = _dressed(front, rng, name=name if name in SURFACES else str(rng.choice(list(SURFACES))), grey=grey)
        if rng.random() < 0.35:
            front, parts = benign.fitted(front, rng, light, inside=thing)
        if rng.random() < 0.2:
            front = benign.printed(front, rng, grey=grey)
    front = _rounded(front, rng, thing, light)
    far = rng.uniform(1, 0.04 * n)
    shadow = blur(shifted(thing, -far * np.cos(light), -far * np.sin(light)), rng.uniform(2, 8)) * rng.uniform(0, 0.5)
    behind = ground * (1 - shadow[..., None])
    pixels = over(behind, thing, front)
    if rng.random() < 0.3:
        pixels = benign.lit(pixels, rng, light)
    return Subject(pixels, thing, behind.astype(np.float32), light, parts, grey=grey, material=name)


def _dressed(front: Pixels, rng: Random, *, name: str, grey: bool) -> Pixels:
    """A second tone that belongs to the thing: a cap, a label, a coating, a groove."""
    n = front.shape[0]
    kind = rng.random()
    if kind < 0.3:
        centre: Point = (float(rng.uniform(0.25, 0.75) * n), float(rng.uniform(0.25, 0.75) * n))
        patch = blob(
            n, rng, radius_px=n * rng.uniform(0.1, 0.3), ragged=rng.uniform(0, 0.1), softness=0.04, centre=centre
        )
        tone = sheet(n, rng, name=name if rng.random() < 0.5 else str(rng.choice(list(SURFACES))), grey=grey)
        return over(front, patch, 0.4 * front + 0.6 * tone)
    if kind < 0.45:
        x, y = grid(n)
        ring = np.abs(np.hypot(x, y) - n * rng.uniform(0.1, 0.3))
        return (front + (smoothstep(-ring, -3, -1) * rng.normal(0, 0.25))[..., None]).astype(np.float32)
    return front


def _silhouette(n: int, rng: Random, centre: Point, radius: float) -> Field:
    x, y = grid(n, centre)
    angle = rng.uniform(0, 2 * np.pi)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    aspect = float(np.exp(rng.normal(0, 0.3)))
    kind = int(rng.integers(6))
    if kind == 0:  # from diamond over ellipse to box
        power = rng.uniform(1.4, 7)
        distance = (np.abs(u / radius * aspect) ** power + np.abs(v / radius / aspect) ** power) ** (1 / power)
    elif kind == 1:  # a natural outline
        return blob(n, rng, radius_px=radius, ragged=rng.uniform(0.05, 0.25), softness=0.0, centre=centre)
    elif kind == 2:  # a ring
        distance = np.abs(np.hypot(u, v) - radius * 0.7) / (radius * rng.uniform(0.12, 0.3))
    elif kind == 3:  # teeth or lobes
        turn, lobes = np.arctan2(v, u), int(rng.integers(3, 16))
        distance = np.hypot(u, v) / radius / (1 + rng.uniform(0.03, 0.2) * np.tanh(3 * np.cos(lobes * turn)))
    elif kind == 4:  # a rod, a cable, a tube, right through the image
        distance = np.abs(v + 0.1 * radius * np.sin(u / n * rng.uniform(0, 6))) / (radius * rng.uniform(0.12, 0.5))
    else:  # a bottle, a pin, a screw: a shaft with a head
        shaft = np.where(u > 0, radius * rng.uniform(0.12, 0.3), radius * rng.uniform(0.35, 0.6))
        distance = np.maximum(np.abs(v) / shaft, np.abs(u) / radius)
    return smoothstep((1 - distance) * radius, -0.8, 0.8)


def _rows(n: int, rng: Random) -> tuple[Field, tuple[Circle, ...]]:
    side = int(rng.integers(2, 5))
    radius = n / side * rng.uniform(0.25, 0.42)
    shape = _silhouette(n, rng, (n / 2, n / 2), radius)
    x, y = grid(n)
    shape = shape * (np.hypot(x, y) < 0.5 * n / side)
    thing, parts = np.zeros((n, n), np.float32), []
    for row in range(side):
        for column in range(side):
            cx, cy = (column + 0.5) * n / side, (row + 0.5) * n / side
            thing = np.maximum(thing, shifted(shape, cx - n / 2, cy - n / 2))
            parts.append((cx, cy, radius * 1.15))
    return thing, tuple(parts)


def _rounded(pixels: Pixels, rng: Random, thing: Field, light: float) -> Pixels:
    """Body: darker towards the outline, lighter towards the lamp, a gleam."""
    deep = blur(thing, rng.uniform(3, 0.09 * thing.shape[0]))
    lamp = np.clip(hillshade(deep * 10, light), -1, 1) * rng.uniform(0, 0.5)
    gleam = np.clip(lamp - 0.2, 0, 1) * rng.uniform(0, 1)
    return (pixels * (0.6 + 0.4 * deep + lamp)[..., None] + gleam[..., None]).astype(np.float32)


def _solar_cell(n: int, rng: Random) -> Pixels:
    """Electroluminescence: mottled silicon (one crystal or many), fingers, bus bars, a darker rim, cut corners."""
    x, y = (c / n + 0.5 for c in grid(n))
    base = rng.uniform(0.3, 0.7) + clouds(n, rng, scale_px=n / rng.uniform(2, 6)) * rng.uniform(0.01, 0.06)
    if rng.random() < 0.5:
        half = (n + 1) // 2
        levels = cells(half, rng, count=int(rng.integers(20, 250)), edges=False)
        base = base + resized(levels, n, n, smooth=False) * rng.uniform(0.01, 0.08)
        dark = np.abs(clouds(n, rng, scale_px=n / 6, octaves=3)) < rng.uniform(0.0, 0.06)
        base = base - blur(dark, 0.7) * rng.uniform(0, 0.12)
    base = base * (1 - ((np.abs(x - 0.5) * 2) ** 6 + (np.abs(y - 0.5) * 2) ** 6) * rng.uniform(0, 0.5))
    base = base + np.sin(2 * np.pi * y * n / rng.uniform(3, 8)) * rng.uniform(0, 0.02)
    for middle in ([0.25, 0.75], [1 / 6, 0.5, 5 / 6], [0.2, 0.4, 0.6, 0.8], [])[int(rng.integers(4))]:
        base = base - np.clip(1.5 - np.abs(y - middle) * n / rng.uniform(1.5, 4), 0, 1) * rng.uniform(0.1, 0.4)
    inside = (np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y)) > rng.uniform(0, 0.03)).astype(np.float32)
    if rng.random() < 0.5:
        inside = inside * (np.abs(x - 0.5) + np.abs(y - 0.5) < rng.uniform(0.85, 1.0))
    pixels = np.repeat((base * blur(inside, 0.8) * 0.97 + 0.03)[..., None], 3, -1).astype(np.float32)
    return np.rot90(pixels).copy() if rng.random() < 0.5 else pixels


def _board(n: int, rng: Random, light: float, *, grey: bool) -> Subject:
    """A circuit board: traces, pads, vias, and chips with legs, on lacquer."""
    canvas = Image.new("L", (2 * n, 2 * n))
    draw = ImageDraw.Draw(canvas)
    pitch, width = rng.uniform(10, 30) * 2, rng.uniform(1.5, 5) * 2
    parts: list[Circle] = []
    for _ in range(int(rng.integers(6, 24))):
        x0, y0, x1, y1 = (float(v) for v in np.floor(rng.random(4) * n * 2 / pitch) * pitch)
        draw.line([(x0, y0), (x1, y0), (x1, y1)], fill=200, width=int(width))
        for px, py in ((x0, y0), (x1, y1)):
            radius = width * rng.uniform(0.9, 1.4)
            draw.ellipse((px - radius, py - radius, px + radius, py + radius), fill=255)
    copper = np.asarray(canvas.reduce(2), np.float32) / 255
    lacquer = np.array([(0.08, 0.32, 0.2), (0.1, 0.16, 0.35), (0.3, 0.08, 0.08), (0.1, 0.1, 0.1)][int(rng.integers(4))])
    metal = np.array([(0.8, 0.68, 0.4), (0.78, 0.78, 0.78), (0.2, 0.5, 0.3)][int(rng.integers(3))])
    if grey or rng.random() < 0.25:
        lacquer, metal = np.full(3, rng.uniform(0.1, 0.5)), np.full(3, rng.uniform(0.4, 0.95))
    pixels = lacquer * (1 - copper[..., None]) + metal * copper[..., None] + 0.015 * noise(n, rng, slope=1.0)[..., None]
    pixels = (pixels + (hillshade(blur(copper, 0.8), light) * 0.25)[..., None]).astype(np.float32)
    for _ in range(int(rng.integers(0, 7))):
        px, py = rng.uniform(0.15, 0.85, 2) * n
        wide, tall = n * log_uniform(rng, 0.03, 0.11), n * log_uniform(rng, 0.025, 0.08)
        x, y = grid(n, (float(px), float(py)))
        legs = (np.abs(x) < wide) & (np.abs(y) < tall * 1.35) & (np.sin(x * 2 * np.pi / max(4.0, wide / 3)) > 0)
        body = smoothstep(np.minimum(wide - np.abs(x), tall - np.abs(y)), -0.6, 0.6)
        pixels = over(pixels, blur(legs, 0.5), 0.75)
        pixels = over(pixels, body, float(rng.uniform(0.05, 0.25)) + 0.1 * hillshade(blur(body, 1.0), light)[..., None])
        if max(wide, tall) * 1.35 < 0.16 * n:
            parts.append((float(px), float(py), float(np.hypot(wide, tall * 1.35)) * 1.05))
    if rng.random() < 0.4:
        pixels = benign.printed(pixels, rng, grey=grey)
    return _plain(benign.lit(pixels, rng, light), rng, light, grey=grey, material="a circuit board", parts=tuple(parts))
