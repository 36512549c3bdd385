"""Materials, each a flat sheet as a camera sees it: structure, typical colours, gloss.

A material is a function (n, rng) -> texture [n, n] with zero mean and about unit spread, with typical colours and contrasts.
Colours are typical more often than not, and anything at all otherwise, so that nothing learns a colour by heart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.synthesis.fields import Field, Random, cells, log_uniform, noise, pattern, rings, standardised
from blemish.synthesis.shapes import Pixels, blur, clouds, grid, hillshade, resized

__all__ = ["SURFACES", "Surface", "photographed", "sheet"]

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Surface:
    """A material: its texture, colours it often has, range of its contrast, and whether it is only ever grey."""

    texture: Callable[[int, Random], Field]
    colours: tuple[Colour, ...] = ()
    contrast: tuple[float, float] = (0.01, 0.1)
    always_grey: bool = False


def sheet(n: int, rng: Random, *, name: str, grey: bool, contrast: float | None = None) -> Pixels:
    """A flat sheet [n, n, 3] of a material, evenly lit; values may leave 0..1 a little."""
    surface = SURFACES[name]
    texture = surface.texture(n, rng)
    contrast = log_uniform(rng, *surface.contrast) if contrast is None else contrast
    if surface.always_grey or grey:
        base, hue = np.full(3, rng.uniform(0.12, 0.88)), np.ones(3)
    elif surface.colours and rng.random() < 0.6:
        base = np.array(surface.colours[int(rng.integers(len(surface.colours)))]) * rng.uniform(0.75, 1.2)
        base, hue = base + rng.normal(0, 0.03, 3), 0.4 + 0.6 * base / max(float(base.mean()), 0.05)
    else:
        base, hue = rng.uniform(0.12, 0.88) + rng.normal(0, 0.14, 3), 1 + rng.normal(0, 0.3, 3)
    return (np.clip(base, 0.03, 0.97) + contrast * texture[..., None] * hue).astype(np.float32)


def photographed(n: int, rng: Random, photo: NDArray[np.uint8], *, grey: bool) -> Pixels:
    """A sheet [n, n, 3] cut from a photo of a material [H, W, 3]: at any scale, turned, paler, often in another colour."""
    height, width = photo.shape[:2]
    side = min(height, width, round(n * log_uniform(rng, 0.4, 4.0)))
    left, top = int(rng.integers(width - side + 1)), int(rng.integers(height - side + 1))
    image = Image.fromarray(photo[top : top + side, left : left + side]).resize((n, n), Image.Resampling.BICUBIC)
    pixels = np.rot90(np.asarray(image, np.float32) / np.float32(255), int(rng.integers(4)))
    if grey:
        pixels = np.repeat(pixels.mean(-1, keepdims=True), 3, -1)
    mean = pixels.mean((0, 1))
    other = rng.uniform(0.15, 0.85) + (0 if grey else rng.normal(0, 0.12, 3))
    base = np.clip(other if rng.random() < 0.5 else mean, 0.05, 0.95)
    return (base + log_uniform(rng, 0.12, 1.0) * (pixels - mean)).astype(np.float32)


def _mixed(*parts: tuple[float, NDArray[np.floating]]) -> Field:
    return standardised(sum(weight * part for weight, part in parts))  # type: ignore[arg-type]


def _brushed(n: int, rng: Random) -> Field:
    angle = float(rng.choice([0.0, np.pi / 2])) if rng.random() < 0.5 else rng.uniform(0, np.pi)
    lines = noise(n, rng, slope=rng.uniform(0.3, 1.0), stretch=log_uniform(rng, 3, 14), angle=angle)
    return _mixed((1, lines), (0.35, clouds(n, rng, scale_px=n / 3, octaves=2)))


def _turned(n: int, rng: Random) -> Field:
    x, y = grid(n, tuple(rng.uniform(0.2, 0.8, 2) * n))
    radius = np.hypot(x, y)
    profile = rng.standard_normal(2 * n).astype(np.float32)
    profile = np.convolve(profile, np.ones(3) / 3, "same") + 0.8 * np.sin(
        np.arange(2 * n) * 2 * np.pi / rng.uniform(3, 12)
    )
    sheen = np.cos(2 * np.arctan2(y, x) + rng.uniform(0, 6))
    return _mixed((0.7, profile[radius.astype(int)]), (0.7, sheen), (0.2, noise(n, rng, slope=0.3)))


def _cast(n: int, rng: Random) -> Field:
    bumps = hillshade(clouds(n, rng, scale_px=log_uniform(rng, 2.5, 8), octaves=2, roughness=0.8), rng.uniform(0, 6.3))
    return _mixed((1, standardised(bumps)), (0.6, clouds(n, rng, scale_px=n / 4)), (0.3, noise(n, rng, slope=0.2)))


def _woven(n: int, rng: Random) -> Field:
    """Warp over weft: each thread round, crossing over and under its neighbours."""
    x, y = grid(n)
    angle = rng.choice([0.0, np.pi / 4]) + rng.normal(0, 0.06)
    wave = clouds(n, rng, scale_px=n / 3, octaves=1) * rng.uniform(0, 1.2)
    u, v = x * np.cos(angle) + y * np.sin(angle) + wave, y * np.cos(angle) - x * np.sin(angle) + wave
    pitch, ratio = log_uniform(rng, 3.5, 14), rng.uniform(0.7, 1.4)
    shift = int(rng.choice([1, 1, 2, 3]))  # plain weave, or twills
    column, row = np.floor(u / pitch), np.floor(v / (pitch * ratio))
    warp = ((column * shift + row) % (shift + 1)) == 0
    round_u = np.sqrt(np.clip(1 - (2 * (u / pitch - column) - 1) ** 2, 0, 1))
    round_v = np.sqrt(np.clip(1 - (2 * (v / (pitch * ratio) - row) - 1) ** 2, 0, 1))
    level = np.where(warp, 0.5 + round_u, rng.uniform(-0.3, 0.5) + round_v)
    return _mixed((1, standardised(blur(level, 0.6))), (0.35, noise(n, rng, slope=0.5)))


def _knit(n: int, rng: Random) -> Field:
    x, y = grid(n)
    pitch = log_uniform(rng, 5, 16)
    u, v = x / pitch, y / pitch * rng.uniform(1.0, 1.6)
    stitch = np.abs(np.sin(np.pi * u)) + 0.8 * np.sin(2 * np.pi * (v + 0.35 * np.abs(np.cos(np.pi * u))))
    return _mixed((1, standardised(stitch)), (0.35, noise(n, rng, slope=0.5)))


def _leather(n: int, rng: Random) -> Field:
    fold = _cells(n, rng, count=int(log_uniform(rng, 60, 1600)), edges=True)
    lit = hillshade(blur(fold, 0.8), rng.uniform(0, 6.3))
    return _mixed((0.6, fold), (0.7, standardised(lit)), (0.3, clouds(n, rng, scale_px=n / 4)))


def _cells(n: int, rng: Random, *, count: int, edges: bool) -> Field:
    """As `cells`, drawn at half the size, where nothing is lost."""
    half = (n + 1) // 2
    return standardised(resized(cells(half, rng, count=count, edges=edges), n, n, smooth=False))


def _wood(n: int, rng: Random) -> Field:
    angle = float(rng.choice([0.0, np.pi / 2])) + rng.normal(0, 0.04)
    grain = noise(n, rng, slope=0.8, stretch=log_uniform(rng, 4, 12), angle=angle)
    return _mixed((rng.uniform(0.5, 1), rings(n, rng)), (0.7, grain))


def _stone(n: int, rng: Random) -> Field:
    return _mixed(
        (1, _cells(n, rng, count=int(log_uniform(rng, 200, 3000)), edges=False)), (0.8, clouds(n, rng, scale_px=n / 6))
    )


def _speckled(n: int, rng: Random) -> Field:
    speckle = clouds(n, rng, scale_px=log_uniform(rng, 1.5, 6), octaves=2)
    bright = (speckle > rng.uniform(0.3, 1.3)).astype(np.float32) * rng.choice([-1, 1])
    return _mixed((1, blur(bright, 0.5)), (0.25, clouds(n, rng, scale_px=n / 3)))


def _smooth(n: int, rng: Random) -> Field:
    return _mixed((0.8, clouds(n, rng, scale_px=n / 2, octaves=2)), (rng.uniform(0.1, 0.6), noise(n, rng, slope=0.3)))


def _ripple_glass(n: int, rng: Random) -> Field:
    high = clouds(n, rng, scale_px=log_uniform(rng, 10, 60), octaves=2, roughness=0.4)
    lit = np.abs(hillshade(high, rng.uniform(0, 6.3))) ** 0.7
    return _mixed((1, standardised(lit)), (0.2, noise(n, rng, slope=0.4)))


def _paper(n: int, rng: Random) -> Field:
    fibres = noise(n, rng, slope=0.7, stretch=2.0, angle=rng.uniform(0, np.pi))
    return _mixed((0.8, fibres), (0.4, clouds(n, rng, scale_px=n / 5)))


def _tissue(n: int, rng: Random) -> Field:
    folds = clouds(n, rng, scale_px=n / 3, octaves=4, roughness=0.45)
    vessel = np.abs(clouds(n, rng, scale_px=n / 5, octaves=3))
    wet = np.clip(hillshade(clouds(n, rng, scale_px=n / 6, octaves=2), rng.uniform(0, 6.3)) * 8 - 1.2, 0, 1.5)
    return _mixed((1, folds), (-0.7, np.exp(-vessel * 12)), (0.3, wet))


def _skin(n: int, rng: Random) -> Field:
    lines = _cells(n, rng, count=int(log_uniform(rng, 300, 2500)), edges=True)
    return _mixed((0.7, lines), (0.8, clouds(n, rng, scale_px=n / 4)), (0.3, noise(n, rng, slope=0.6)))


def _xray(n: int, rng: Random) -> Field:
    """What a ray passed through: soft overlapping bodies, grain on top."""
    thick = clouds(n, rng, scale_px=n / 2.5, octaves=2)
    for _ in range(int(rng.integers(0, 4))):
        x, y = grid(n, tuple(rng.uniform(0, 1, 2) * n))
        angle, wide = rng.uniform(0, np.pi), n * rng.uniform(0.05, 0.25)
        across = x * np.cos(angle) + y * np.sin(angle)
        thick = thick + rng.uniform(-1.5, 1.5) * np.sqrt(np.clip(1 - (across / wide) ** 2, 0, 1))
    return _mixed((1, thick), (rng.uniform(0.1, 0.3), noise(n, rng, slope=0.2)))


def _film(n: int, rng: Random) -> Field:
    return _mixed(
        (1, noise(n, rng, slope=rng.uniform(0.4, 2.5), stretch=log_uniform(rng, 1, 6), angle=rng.uniform(0, np.pi)))
    )


def _patterned(n: int, rng: Random) -> Field:
    return _mixed((1, pattern(n, rng)), (rng.uniform(0.05, 0.5), noise(n, rng, slope=0.6)))


STEEL, BRASS, COPPER = (0.62, 0.63, 0.65), (0.70, 0.58, 0.32), (0.66, 0.42, 0.3)
SURFACES: dict[str, Surface] = {
    "brushed metal": Surface(_brushed, (STEEL, BRASS, COPPER, (0.4, 0.41, 0.43))),
    "turned metal": Surface(_turned, (STEEL, BRASS, (0.5, 0.5, 0.5))),
    "cast metal": Surface(_cast, ((0.38, 0.38, 0.38), (0.5, 0.5, 0.52), (0.3, 0.28, 0.27)), (0.02, 0.1)),
    "woven fabric": Surface(_woven, ((0.72, 0.7, 0.64), (0.25, 0.3, 0.42), (0.5, 0.2, 0.2)), (0.03, 0.16)),
    "knitted fabric": Surface(_knit, ((0.8, 0.78, 0.74), (0.3, 0.32, 0.35), (0.55, 0.3, 0.35)), (0.03, 0.14)),
    "leather": Surface(_leather, ((0.42, 0.27, 0.17), (0.22, 0.18, 0.16), (0.6, 0.48, 0.36)), (0.02, 0.1)),
    "wood": Surface(_wood, ((0.66, 0.5, 0.34), (0.45, 0.3, 0.2), (0.78, 0.66, 0.5)), (0.02, 0.12)),
    "stone": Surface(_stone, ((0.55, 0.53, 0.5), (0.35, 0.36, 0.38), (0.7, 0.66, 0.6)), (0.02, 0.12)),
    "tile": Surface(_speckled, ((0.72, 0.7, 0.66), (0.45, 0.45, 0.45)), (0.01, 0.09)),
    "plastic": Surface(
        _smooth, ((0.85, 0.85, 0.84), (0.15, 0.15, 0.16), (0.2, 0.35, 0.6), (0.7, 0.2, 0.18)), (0.004, 0.04)
    ),
    "glass": Surface(_ripple_glass, ((0.7, 0.8, 0.78), (0.55, 0.62, 0.66)), (0.004, 0.07)),
    "paper": Surface(_paper, ((0.88, 0.86, 0.82), (0.7, 0.56, 0.42)), (0.006, 0.05)),
    "ceramic": Surface(_smooth, ((0.9, 0.89, 0.86), (0.75, 0.72, 0.66), (0.4, 0.5, 0.55)), (0.003, 0.03)),
    "skin": Surface(_skin, ((0.8, 0.6, 0.5), (0.55, 0.38, 0.3), (0.85, 0.68, 0.6)), (0.01, 0.07)),
    "tissue": Surface(_tissue, ((0.72, 0.4, 0.34), (0.8, 0.55, 0.45), (0.6, 0.3, 0.28)), (0.03, 0.13)),
    "an X-ray image": Surface(_xray, (), (0.04, 0.18), always_grey=True),
    "film": Surface(_film, (), (0.01, 0.14)),
    "patterned surface": Surface(_patterned, (), (0.02, 0.18)),
}
