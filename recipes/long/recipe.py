"""The numbers of the long training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LongRecipe:
    """Numbers of the training."""

    seed: int = 0
    steps: int = 10_000
    seconds: float = 1e9
    pixels: int = 128 * 224 * 224  # of a batch's views; 24,000,000 keep an H100 busy
    sides_px: tuple[int, ...] = (192, 256, 320, 384)  # each costs a GPU ten seconds once
    rate: float = 1e-3
    trunk_rate: float = 5e-5
    warm_up: int = 150  # steps
    decay: float = 0.05
    averaging: float = 0.997
    places: int = 12_000  # of pairs in the device's memory, half of them renders
    fill: int = 40  # shards of each kind that are waited for
