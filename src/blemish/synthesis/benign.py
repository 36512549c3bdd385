"""What good images have that is no defect: light, seams, holes by design, print, parts, dust, and all that a camera adds."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from blemish.synthesis.fields import Random, log_uniform
from blemish.synthesis.shapes import Pixels, blur, clouds, grid, hillshade, lumps, resized, smoothstep
from blemish.synthesis.spots import Circle, over

__all__ = ["camera", "dusty", "fitted", "lit", "printed", "seamed", "toned", "varied"]

LETTERS = "ABCDEFGHJKLMNPRSTUVXYZ0123456789-/."


def lit(pixels: Pixels, rng: Random, light: float) -> Pixels:
    """Light that falls off to one side, a darker rim, a broad highlight."""
    n = pixels.shape[0]
    x, y = grid(n)
    slope = abs(rng.normal(0, 0.18))
    gain = 1 + slope * (x * np.cos(light) + y * np.sin(light)) / n
    if rng.random() < 0.3:
        gain = gain * (1 - rng.uniform(0, 0.9) * (x**2 + y**2) / n**2)
    pixels = pixels * gain[..., None]
    if rng.random() < 0.25:
        cx, cy = rng.uniform(0, 1, 2) * n
        spot = np.exp(-((x + n / 2 - cx) ** 2 + (y + n / 2 - cy) ** 2) / (2 * (rng.uniform(0.08, 0.4) * n) ** 2))
        pixels = pixels + (rng.uniform(0.04, 0.3) * spot)[..., None]
    return pixels.astype(np.float32)


def toned(pixels: Pixels, rng: Random, *, grey: bool) -> Pixels:
    """Tones that a grown, fired or dyed thing has: clouds of brightness and, where there is colour, of hue, at a few scales."""
    n = pixels.shape[0]
    strength = log_uniform(rng, 0.005, 0.12)
    shade = strength * clouds(n, rng, scale_px=n / rng.uniform(1.5, 10), octaves=int(rng.integers(1, 4)))
    hue = np.ones(3) if grey else 1 + rng.normal(0, 0.5, 3)
    return (pixels + shade[..., None] * hue).astype(np.float32)


def seamed(pixels: Pixels, rng: Random) -> Pixels:
    """Seams, ribs, joints, weld or stitch lines: straight, right through, often several at an even distance."""
    n = pixels.shape[0]
    x, y = grid(n)
    angle = float(rng.choice([0.0, np.pi / 2])) + (rng.normal(0, 0.25) if rng.random() < 0.3 else 0.0)
    across, along = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    count, width = int(rng.integers(1, 6)), log_uniform(rng, 1.2, 0.06 * n)
    pitch = n / count * rng.uniform(0.7, 1.0)
    offset = (across + rng.uniform(0, pitch)) % pitch - pitch / 2
    if count == 1:
        offset = across - rng.uniform(-0.3, 0.3) * n
    line = smoothstep(-np.abs(offset), -width / 2 - 0.7, -width / 2 + 0.7)
    if rng.random() < 0.25:  # stitches
        line = line * (np.sin(along * 2 * np.pi / rng.uniform(5, 14)) > -0.2)
    shade = rng.normal(0, 0.2)
    bevel = hillshade(blur(line, 1.0), angle) * rng.normal(0, 0.6)
    return (pixels + (line * shade + bevel)[..., None]).astype(np.float32)


def printed(pixels: Pixels, rng: Random, *, grey: bool) -> Pixels:
    """Lines of letters and figures, sometimes a frame, a bar code or a logo-like ring, in one ink."""
    n = pixels.shape[0]
    canvas = Image.new("L", (2 * n, 2 * n))
    draw = ImageDraw.Draw(canvas)
    size = log_uniform(rng, 0.05, 0.16) * 2 * n
    left, top = rng.uniform(0.05, 0.5, 2) * 2 * n
    font = ImageFont.load_default(size)
    for row in range(int(rng.integers(1, 4))):
        word = "".join(rng.choice(list(LETTERS), int(rng.integers(3, 11))))
        draw.text((left, top + row * size * 1.2), word, fill=255, font=font)
    kind = rng.random()
    if kind < 0.2:
        draw.rectangle(
            (left - size, top - size, left + 5 * size, top + 4 * size), outline=255, width=max(2, int(size * 0.1))
        )
    elif kind < 0.35:
        at = left
        while at < left + 5 * size:
            wide = size * rng.uniform(0.04, 0.2)
            draw.rectangle((at, top - 1.5 * size, at + wide, top - 0.3 * size), fill=255)
            at += wide + size * rng.uniform(0.06, 0.2)
    elif kind < 0.45:
        draw.ellipse(
            (left - 2.5 * size, top, left - 0.3 * size, top + 2.2 * size), outline=255, width=max(2, int(size * 0.2))
        )
    if rng.random() < 0.3:
        canvas = canvas.rotate(float(rng.uniform(-180, 180)), Image.Resampling.BILINEAR)
    ink = np.full(3, rng.uniform(0.03, 0.95)) if grey or rng.random() < 0.6 else rng.uniform(0.03, 0.9, 3)
    return over(pixels, np.asarray(canvas.reduce(2), np.float32) / 255 * rng.uniform(0.6, 1), ink.astype(np.float32))


def fitted(
    pixels: Pixels, rng: Random, light: float, *, inside: NDArray[np.floating]
) -> tuple[Pixels, tuple[Circle, ...]]:
    """Parts all alike in rows or on a circle: holes by design, studs, screws, pads, windows; with their places."""
    n = pixels.shape[0]
    if rng.random() < 0.65:
        columns, rows = (int(count) for count in rng.integers(1, 6, 2))
        columns = max(columns, 2 if rows == 1 else 1)
        left, top = rng.uniform(0.1, 0.25, 2) * n
        places = [
            (left + (n - 2 * left) * (c + 0.5) / columns, top + (n - 2 * top) * (r + 0.5) / rows)
            for r in range(rows)
            for c in range(columns)
        ]
        radius = min((n - 2 * left) / columns, (n - 2 * top) / rows) * rng.uniform(0.16, 0.36)
    else:
        count, ring = int(rng.integers(3, 9)), n * rng.uniform(0.18, 0.36)
        turns = rng.uniform(0, 6.3) + np.arange(count) * 2 * np.pi / count
        places = [(n / 2 + ring * float(np.cos(turn)), n / 2 + ring * float(np.sin(turn))) for turn in turns]
        radius = ring * np.pi / count * rng.uniform(0.2, 0.5)
    radius = float(np.clip(radius, 3.0, 0.16 * n))
    square = bool(rng.random() < 0.3)
    stamp, alpha = _part(int(radius * 2.6) + 3, radius, rng, light, square=square)
    half = stamp.shape[0] // 2
    parts = []
    pixels = pixels.copy()
    for px, py in places:
        x0, y0 = int(px) - half, int(py) - half
        x1, y1 = x0 + stamp.shape[0], y0 + stamp.shape[0]
        if x0 < 0 or y0 < 0 or x1 > n or y1 > n or inside[y0:y1, x0:x1].min() < 0.5:
            continue
        pixels[y0:y1, x0:x1] = over(pixels[y0:y1, x0:x1], alpha, stamp)
        parts.append((x0 + stamp.shape[0] / 2, y0 + stamp.shape[0] / 2, radius * (1.5 if square else 1.12)))
    return pixels, tuple(parts)


def _part(side: int, radius: float, rng: Random, light: float, *, square: bool) -> tuple[Pixels, NDArray[np.float32]]:
    """One part, seen from above: pixels [s, s, 3] and coverage [s, s]."""
    x, y = grid(side)
    turn = rng.uniform(0, np.pi)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    distance = np.maximum(np.abs(x), np.abs(y)) if square else np.hypot(x, y)
    alpha = smoothstep(radius - distance, -0.7, 0.7)
    level, kind = rng.uniform(0.05, 0.9), rng.random()
    pixels = np.full((side, side, 3), level)
    if kind < 0.35:  # a hole: dark, its far wall lit
        pixels = (
            pixels * 0
            + level * 0.3
            + np.clip(hillshade(blur(alpha, radius * 0.25) * radius, light + np.pi), 0, 1)[..., None] * 0.3
        )
    else:  # a head or pad: domed or flat, perhaps with a slot or a bore
        dome = np.sqrt(np.clip(1 - (distance / radius) ** 2, 0, 1)) if rng.random() < 0.5 else blur(alpha, 1.2)
        pixels = pixels + (np.clip(hillshade(dome * radius * 0.5, light), -1, 1) * 0.25)[..., None]
        if kind > 0.6:
            slot = np.maximum(
                smoothstep(np.minimum(radius * 0.7 - np.abs(u), radius * 0.12 - np.abs(v)), -0.6, 0.6),
                smoothstep(np.minimum(radius * 0.7 - np.abs(v), radius * 0.12 - np.abs(u)), -0.6, 0.6) * (kind > 0.8),
            )
            pixels = pixels * (1 - 0.7 * slot)[..., None]
    tone = 1 + (rng.normal(0, 0.15, 3) if rng.random() < 0.4 else np.zeros(3))
    return (np.clip(pixels, 0, 1) * tone).astype(np.float32), alpha


def dusty(pixels: Pixels, rng: Random) -> Pixels:
    """Fine dust everywhere: tiny faint specks, alike all over."""
    n = pixels.shape[0]
    specks = lumps(
        n, rng, count=int(rng.integers(15, 60)), radius_px=(0.6, 1.2), spread_px=n * 0.4, ragged=0.1, softness=0.8
    )
    return (pixels + (specks * rng.uniform(0.02, 0.09) * rng.choice([-1, 1]))[..., None]).astype(np.float32)


def camera(pixels: Pixels, rng: Random, *, mild: bool = False) -> NDArray[np.uint8]:
    """Pixels [H, W, 3] in 0..1 as a camera and a file hand them on: tone, blur, noise, compression. uint8.

    `mild` keeps to what differs between two photos of one series.
    """
    if rng.random() < 0.3:
        pixels = np.clip(pixels, 0, 1) ** (rng.uniform(0.92, 1.08) if mild else rng.uniform(0.7, 1.4))
    if rng.random() < 0.35:
        gain, lift = (
            (rng.uniform(0.93, 1.07), rng.uniform(-0.03, 0.03))
            if mild
            else (rng.uniform(0.6, 1.5), rng.uniform(-0.12, 0.12))
        )
        pixels = np.clip((pixels - 0.5) * gain + 0.5 + lift, 0, 1)
    if rng.random() < 0.3:
        sigma = float(rng.uniform(0.2, 0.5) if mild else rng.uniform(0.3, 1.2))
        pixels = np.stack([blur(pixels[..., channel], sigma) for channel in range(3)], -1)
    spread = rng.uniform(0, 0.008 if mild else 0.03) if rng.random() < 0.8 else 0.0
    shape = (
        pixels.shape if rng.random() < 0.5 else (*pixels.shape[:2], 1)
    )  # a mono sensor has one grain for all channels
    pixels = pixels + rng.standard_normal(shape, dtype=np.float32) * np.float32(spread)
    if not mild and rng.random() < 0.15:
        pixels = np.repeat(pixels.mean(-1, keepdims=True), 3, -1)
    image = (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)
    if rng.random() < 0.25:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=int(rng.integers(80 if mild else 50, 95)))
        image = np.asarray(Image.open(buffer).convert("RGB"))
    return image


def varied(pixels: NDArray[np.uint8], rng: Random) -> NDArray[np.uint8]:
    """A good photo [H, W, 3] as the same thing might look in the next photo: other light, a little blur, noise, compression.

    Works on bands of rows, with the same choices for each, so that a large photo needs little more memory than itself.
    """
    height, width = pixels.shape[:2]
    field = resized(clouds(8, rng, scale_px=6, octaves=1), width, height) if height * width <= 4_000_000 else None
    strength, seed = rng.uniform(0, 0.035), int(rng.integers(2**31))
    out = np.empty_like(pixels)
    band = max(64, 2_000_000 // max(width, 1))
    for top in range(0, height, band):
        part = pixels[top : top + band].astype(np.float32) / np.float32(255)
        if field is not None:
            part = part * (1 + strength * field[top : top + band, :, None])
        out[top : top + band] = camera(part, np.random.default_rng(seed), mild=True)
    return out
