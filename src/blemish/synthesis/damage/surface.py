"""What changes the colour of a surface and leaves it whole: stain, burn, corrosion, discolouration, uneven tone, misprint."""

from __future__ import annotations

import numpy as np

from blemish.synthesis.fields import Random, log_uniform
from blemish.synthesis.shapes import blob, blur, clouds, grid, lumps, shifted, smoothstep, strokes
from blemish.synthesis.spots import Painted, Spot, grain, luminance, over, smooth_surface, tint

__all__ = ["burn", "corrosion", "discolouration", "print_error", "stain", "uneven"]


def stain(spot: Spot, rng: Random) -> Painted:
    """A liquid has soaked in and dried: light is absorbed, so the texture shows through, darker; a wavy outline with the darker
    rim that drying leaves, satellites, sometimes a run."""
    n, radius = spot.n, spot.size_px * 0.42
    body = blob(n, rng, radius_px=radius, ragged=rng.uniform(0.15, 0.5), softness=rng.uniform(0.12, 0.5))
    if rng.random() < 0.5:
        drops = lumps(
            n, rng, count=int(rng.integers(2, 9)), radius_px=(max(1.2, 0.05 * radius), max(1.6, 0.25 * radius)),
            spread_px=0.75 * radius, ragged=0.15, softness=0.35,
        )  # fmt: skip
        body = np.maximum(body, drops)
    if rng.random() < 0.25:  # it ran
        x, y = grid(n)
        run = smoothstep(-np.abs(x - rng.normal(0, 0.3) * radius), -0.28 * radius, -0.1 * radius)
        body = np.maximum(
            body, run * smoothstep(y, -1.0, 1.0) * smoothstep(-y, -1.1 * spot.size_px, -spot.size_px * 0.6)
        )
    inner = blur(body, max(1.0, radius * rng.uniform(0.05, 0.14)))
    rim = np.clip(body - inner, 0, 1) * rng.uniform(0.5, 3.0)
    wash = 1 + 0.25 * clouds(n, rng, scale_px=max(3.0, radius * 0.6))
    amount = np.clip(body * wash * rng.uniform(0.5, 1.0) + rim, 0, 2)
    absorb = tint(rng, grey=spot.grey, strength=0.45).clip(0.15, 3)
    if not spot.grey and rng.random() < 0.5:  # oil, coffee, rust water: blue goes first
        absorb = np.array([0.55, 0.95, 1.5], np.float32)
    density = 2.2 * spot.contrast / max(float(spot.pixels.mean()), 0.1)
    return Painted(spot.pixels * np.exp(-amount[..., None] * absorb * density), np.clip(body * 1.4, 0, 1), most=1.6)


def burn(spot: Spot, rng: Random) -> Painted:
    """Heat came from one point: charred black in the middle, where the texture is gone, scorched brown around it, fading away."""
    n, radius = spot.n, spot.size_px * 0.48
    flame = clouds(n, rng, scale_px=max(3.0, radius * 0.5), octaves=4, roughness=0.6)
    x, y = grid(n)
    aspect = float(np.exp(rng.normal(0, 0.2)))
    distance = np.hypot(x * aspect, y / aspect) / radius + 0.13 * flame
    heat = np.clip(1 - distance, 0, 1)
    scorch = smoothstep(heat, 0.0, rng.uniform(0.4, 0.7))
    char = smoothstep(heat, rng.uniform(0.3, 0.5), rng.uniform(0.55, 0.8)) * (rng.random() < 0.75)
    warm = np.full(3, 0.7) if spot.grey else np.array([0.9, 0.62, 0.38])
    brown = spot.pixels * (1 - scorch[..., None] * (1 - warm.astype(np.float32)))
    ash = (0.05 + 0.03 * np.abs(clouds(n, rng, scale_px=max(2.0, radius * 0.08))) + grain(spot, rng))[..., None]
    pixels = over(brown, char, ash * (np.ones(3) if spot.grey else np.array([1.1, 0.95, 0.85])))
    if not spot.grey and rng.random() < 0.25:  # temper colours at the rim, as on hot steel
        ring = np.exp(-(((heat - 0.16) / 0.09) ** 2)).astype(np.float32)
        pixels = pixels + ring[..., None] * np.array([-0.12, -0.03, 0.16], np.float32)
    return Painted(pixels, np.clip(scorch * 1.3, 0, 1), most=1.3)


def corrosion(spot: Spot, rng: Random) -> Painted:
    """The surface has been eaten: a crowd of rough pits and crusts, denser in the middle, each with a halo; mostly rust."""
    n, radius = spot.n, spot.size_px * 0.48
    region = blob(n, rng, radius_px=radius, ragged=0.45, softness=rng.uniform(0.5, 1.0))
    fine = clouds(n, rng, scale_px=max(2.0, min(radius * 0.25, 14)), octaves=4, roughness=0.8)
    crust = smoothstep(fine + region * 3.2, 1.5, 2.6) * (region > 0.03)
    pits = smoothstep(clouds(n, rng, scale_px=max(1.6, min(radius * 0.1, 6)), octaves=2), 0.9, 1.6) * crust
    halo = blur(crust, max(0.8, radius * 0.03))
    kind = rng.random()
    if spot.grey:
        colour = np.full(3, rng.choice([0.2, 0.75]))
    elif kind < 0.75:
        colour = np.array([0.46, 0.22, 0.08]) * rng.uniform(0.7, 1.5)
    elif kind < 0.88:
        colour = np.array([0.25, 0.55, 0.48])
    else:
        colour = np.array([0.8, 0.82, 0.78])
    mottle = 1 + 0.28 * clouds(n, rng, scale_px=3.0, octaves=2, roughness=0.9)
    rust = (colour * mottle[..., None] + grain(spot, rng)[..., None]).astype(np.float32)
    pixels = spot.pixels * (1 - 0.3 * halo)[..., None]
    pixels = over(pixels, crust * rng.uniform(0.75, 1.0), rust) * (1 - 0.55 * pits)[..., None]
    return Painted(pixels, np.maximum(crust, smoothstep(halo, 0.25, 0.6)), most=1.4)


def discolouration(spot: Spot, rng: Random) -> Painted:
    """One region has another hue or tone, evenly, its texture untouched: a patch, or a band with a straight border."""
    n, extent = spot.n, spot.size_px
    if rng.random() < 0.4:
        x, y = grid(n)
        angle = rng.uniform(0, np.pi)
        across, along = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        fade = extent * rng.uniform(0.02, 0.15)
        wide = extent * rng.uniform(0.12, 0.35)
        region = smoothstep(-np.abs(across), -wide, -wide + fade) * smoothstep(
            -np.abs(along), -extent * 0.5, -extent * 0.5 + fade
        )
    else:
        region = blob(n, rng, radius_px=extent * 0.45, ragged=rng.uniform(0.1, 0.35), softness=rng.uniform(0.1, 0.5))
    if spot.grey:
        hue = np.ones(3, np.float32) * rng.choice([-1.0, 1.0])
    else:  # towards another colour at about the same brightness, or bleached, or yellowed
        hue = rng.normal(0, 1, 3).astype(np.float32)
        hue = hue - hue.mean() * rng.uniform(0.2, 1.0)
        hue = hue / max(float(np.abs(hue).mean()), 0.2)
        pale = min(1.0, max(0.25, 0.05 / spot.contrast))  # a strong change is one of tone, or it would glow
        hue = pale * hue + (1 - pale) * rng.choice([-1.0, 1.0])
    level = np.clip(spot.pixels / max(float(spot.pixels.mean()), 0.05), 0.5, 1.6)
    return Painted(spot.pixels + region[..., None] * level * hue * spot.contrast, region)


def uneven(spot: Spot, rng: Random) -> Painted:
    """The tone of the whole surface wanders: broad, cloudy, without any border, lighter or darker, without a hue of its own."""
    n, extent = spot.n, spot.size_px
    broad = clouds(n, rng, scale_px=extent * rng.uniform(0.25, 0.5), octaves=2, roughness=0.35)
    x, y = grid(n)
    angle, aspect = rng.uniform(0, np.pi), float(np.exp(rng.normal(0, 0.22)))
    u, v = (x * np.cos(angle) + y * np.sin(angle)) * aspect, (y * np.cos(angle) - x * np.sin(angle)) / aspect
    near = smoothstep(1 - np.hypot(u, v) / (extent * 0.5), 0.0, 0.75)
    amount = near * np.clip(0.85 + 0.35 * broad, 0.1, 1.6)
    if rng.random() < 0.3:  # streaks, as from a roller or a brush
        streaks = clouds(n, rng, scale_px=max(3.0, extent * 0.12), octaves=2)
        row = streaks[n // 2][np.clip((u + n / 2).astype(int), 0, n - 1)]
        amount = amount * np.clip(0.9 + 0.18 * row, 0.5, 1.4)
    sign = -1.0 if rng.random() < 0.6 else 1.0
    shade = spot.pixels * (sign * spot.contrast * 1.6 * amount)[..., None] / max(float(spot.pixels.mean()), 0.1)
    return Painted(spot.pixels + shade, np.clip(amount * 0.9, 0, 1), most=2.0)


def print_error(spot: Spot, rng: Random) -> Painted:
    """Ink is where it should not be, or is not where it should be: a ghost beside the print, a smear, a void, a streak."""
    n, extent = spot.n, spot.size_px
    paper = smooth_surface(spot, max(3.0, extent * 0.15))
    ink = luminance(spot.pixels) - luminance(paper)
    marked = float(ink.std()) > 0.05
    window = blob(n, rng, radius_px=extent * 0.46, ragged=0.2, softness=0.15, aspect=rng.uniform(0.6, 1.6))
    kind = rng.random()
    if marked and kind < 0.35:  # ghost: the print once more, a little aside
        far, angle = max(2.0, extent * rng.uniform(0.03, 0.1)), rng.uniform(0, 2 * np.pi)
        moved = shifted(np.minimum(ink, 0) + np.maximum(ink, 0), far * np.cos(angle), far * np.sin(angle)) * window
        strength = np.clip(np.abs(moved) / max(float(np.abs(ink).max()), 1e-3) * 1.6, 0, 1)
        return Painted(spot.pixels + moved[..., None] * 0.8, np.where(strength > 0.2, strength, 0).astype(np.float32))
    if marked and kind < 0.7:  # void: the print has not taken
        strength = smoothstep(np.abs(ink), 0.3 * float(np.abs(ink).std()), 1.2 * float(np.abs(ink).std())) * window
        return Painted(over(spot.pixels, window, paper), strength, fixed=True)
    if kind < 0.85:  # streak of a dirty blade: a straight band of ink through all
        return _streak(spot, rng)
    return _smear(spot, rng)


def _streak(spot: Spot, rng: Random) -> Painted:
    n, extent = spot.n, spot.size_px
    x, y = grid(n)
    along, across = (x, y) if rng.random() < 0.5 else (y, x)
    total = np.zeros((n, n), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        wide, at = log_uniform(rng, 0.8, max(1.2, extent * 0.03)), rng.normal(0, extent * 0.12)
        total = np.maximum(total, smoothstep(-np.abs(across - at), -wide - 0.7, -wide + 0.5))
    ends = smoothstep(-np.abs(along), -extent * 0.5, -extent * 0.5 + 2)
    broken = np.clip(1 + 0.5 * clouds(n, rng, scale_px=max(4.0, extent * 0.1)), 0.2, 1)
    amount = total * ends * broken
    ink = tint(rng, grey=spot.grey, strength=0.6)
    sign = -1.0 if rng.random() < 0.75 else 1.0
    return Painted(spot.pixels + amount[..., None] * ink * sign * spot.contrast, amount)


def _smear(spot: Spot, rng: Random) -> Painted:
    """Wet ink dragged to one side: a row of letter-like strokes with a tail."""
    n, extent = spot.n, spot.size_px
    height = extent * rng.uniform(0.15, 0.4)
    paths = []
    for column in range(max(2, int(extent / height / 0.8))):
        left = n / 2 - extent / 2 + column * height * 0.8
        for _ in range(int(rng.integers(2, 4))):
            ends = rng.random((2, 2)) * (height * 0.6, height) + (left, n / 2 - height / 2)
            paths.append((ends, np.full(2, max(1.2, height * 0.13)), np.ones(2)))
    letters = strokes(n, paths)
    tail = np.zeros_like(letters)
    reach = int(max(3, height * rng.uniform(0.3, 0.9)))
    for step in range(reach):
        np.maximum(tail, shifted(letters, step, 0) * (1 - step / reach) * 0.6, out=tail)
    amount = np.maximum(letters, tail)
    ink = tint(rng, grey=spot.grey, strength=0.6)
    return Painted(spot.pixels - amount[..., None] * ink * spot.contrast * 1.5, np.where(amount > 0.12, amount, 0))
