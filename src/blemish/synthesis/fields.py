"""Scalar fields that materials are made of: noise, patterns, cells, rings.

Every function takes a side length in pixels and a random generator and returns float32 [n, n] with zero mean and unit spread.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.spatial import cKDTree

__all__ = ["Field", "Path", "Random", "cells", "log_uniform", "noise", "pattern", "rings", "standardised"]

Field = NDArray[np.float32]
Path = NDArray[np.float64]  # [k, 2], x and y in pixels
Random = np.random.Generator


def log_uniform(rng: Random, low: float, high: float) -> float:
    """A positive number whose logarithm is uniform between those of `low` and `high`."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def coordinates(n: int) -> tuple[Field, Field]:
    """x and y of the pixel centres, each [n, n], in 0..1."""
    steps = (np.arange(n, dtype=np.float32) + 0.5) / n
    x, y = np.meshgrid(steps, steps)
    return x.astype(np.float32, copy=False), y.astype(np.float32, copy=False)


def standardised(field: NDArray[np.floating]) -> Field:
    spread = float(field.std())
    return ((field - field.mean()) / (spread + 1e-6)).astype(np.float32)


def soften(field: NDArray[np.floating] | NDArray[np.bool_], sigma: float) -> Field:
    """The field blurred by a Gaussian of `sigma` pixels."""
    return ndimage.gaussian_filter(np.asarray(field, np.float32), sigma, truncate=3.0)


def noise(n: int, rng: Random, *, slope: float, stretch: float = 1.0, angle: float = 0.0) -> Field:
    """Random texture with a power-law spectrum: `slope` 0 is white, 2 and more is cloudy; `stretch` makes it directional."""
    fy = fft.fftfreq(n).astype(np.float32)[:, None]
    fx = fft.rfftfreq(n).astype(np.float32)[None, :]
    along = fx * np.cos(angle) + fy * np.sin(angle)
    across = fy * np.cos(angle) - fx * np.sin(angle)
    frequency = np.sqrt((along * stretch) ** 2 + (across / stretch) ** 2) + 1.0 / n
    amplitude = frequency**-slope
    phase = rng.random(amplitude.shape, dtype=np.float32) * np.float32(2 * np.pi)
    spectrum = amplitude * (np.cos(phase) + 1j * np.sin(phase))
    return standardised(fft.irfft2(spectrum.astype(np.complex64), s=(n, n)))


def pattern(n: int, rng: Random) -> Field:
    """A regular texture: stripes, a grid, a weave, dots or a chequer, slightly warped at random."""
    x, y = (c * n for c in coordinates(n))
    angle = rng.uniform(0, np.pi) if rng.random() < 0.6 else rng.choice([0.0, np.pi / 2])
    warp = noise(n, rng, slope=2.5) * rng.uniform(0, 1.5) if rng.random() < 0.5 else np.float32(0)
    u = x * np.cos(angle) + y * np.sin(angle) + warp
    v = y * np.cos(angle) - x * np.sin(angle) + warp
    period_u, period_v = log_uniform(rng, 4, 60), log_uniform(rng, 4, 60)
    wave_u, wave_v = np.sin(2 * np.pi * u / period_u), np.sin(2 * np.pi * v / period_v)
    kind = rng.integers(6)
    if kind == 0:
        field = wave_u
    elif kind == 1:
        field = wave_u * wave_v
    elif kind == 2:
        duty = rng.uniform(0.05, 0.35)
        field = ((u % period_u < period_u * duty) | (v % period_v < period_v * duty)).astype(np.float32)
    elif kind == 3:
        field = np.maximum(wave_u, wave_v)  # dots
    elif kind == 4:
        field = np.where((u // period_u + v // period_v) % 2 == 0, np.abs(wave_u), -np.abs(wave_v))  # weave
    else:
        field = (u % period_u < period_u * rng.uniform(0.1, 0.4)).astype(np.float32)
    return standardised(soften(field, rng.uniform(0.3, 1.8)))


def cells(n: int, rng: Random, *, count: int, edges: bool) -> Field:
    """Voronoi cells of `count` points: a random level a cell, or (with `edges`) the distance to the nearest border."""
    jitter = rng.random((count, 2))
    points = np.concatenate([jitter + shift for shift in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))])
    x, y = coordinates(n)
    if edges:
        x = x + noise(n, rng, slope=2.0) * np.float32(0.1 / np.sqrt(count))
    nearest = cKDTree(points).query(np.stack([x.ravel(), y.ravel()], 1), k=2)
    distance, index = np.asarray(nearest[0]), np.asarray(nearest[1])
    if edges:
        return standardised(np.minimum(distance[:, 1] - distance[:, 0], 0.5 / np.sqrt(count)).reshape(n, n))
    levels = rng.standard_normal(count)
    return standardised(levels[index[:, 0] % count].reshape(n, n))


def rings(n: int, rng: Random) -> Field:
    """Warped rings or bands, as in wood, polished metal or agate."""
    x, y = coordinates(n)
    centre_x, centre_y = rng.uniform(-1.5, 2.5, 2)
    radius = np.hypot(x - centre_x, (y - centre_y) * rng.uniform(0.05, 1.0))
    warp = noise(n, rng, slope=2.2) * log_uniform(rng, 0.004, 0.05)
    count = log_uniform(rng, 6, 60)
    wave = (radius + warp) * count % 1.0
    return standardised(soften(wave ** rng.uniform(0.5, 3.0), 0.7))
