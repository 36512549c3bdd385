"""Rendered samples that are drawn once and stay in memory, for work that looks at them many times."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from blemish.data.samples import DataSet, Split
from blemish.images import Picture
from blemish.synthesis.dataset import RenderedSample, rendered

__all__ = ["DrawnSample", "drawn"]


@dataclass(frozen=True)
class DrawnSample:
    """A rendered sample with its pixels [n, n, 3] and its mask, eight pixels a byte; 157 kB at 224 px."""

    name: str
    product: str
    split: Split
    anomalous: bool
    defect_type: str
    folder: str
    pixels: NDArray[np.uint8]
    bits: NDArray[np.uint8]
    content: str
    has_mask: bool = True

    def digest(self) -> str:
        return self.content

    def picture(self) -> Picture:
        return Picture(self.pixels, self.name)

    def mask(self) -> NDArray[np.bool_]:
        height, width = self.pixels.shape[:2]
        return np.unpackbits(self.bits, count=height * width).reshape(height, width).astype(bool)


def drawn(count: int, *, first_seed: int = 0, size_px: int = 224, workers: int = 1) -> DataSet:
    """The data set that `rendered` gives, drawn by `workers` processes; its samples have the same digests."""
    data = rendered(count, first_seed=first_seed, size_px=size_px)
    lazy = [sample for sample in data.samples if isinstance(sample, RenderedSample)]
    if workers == 1:
        return replace(data, samples=tuple(map(_draw, lazy)))
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return replace(data, samples=tuple(pool.imap(_draw, lazy, chunksize=16)))


def _draw(sample: RenderedSample) -> DrawnSample:
    mask, pixels = sample.mask(), sample.picture().pixels
    assert mask is not None  # every render has one
    return DrawnSample(
        name=sample.name,
        product=sample.product,
        split=sample.split,
        anomalous=sample.anomalous,
        defect_type=sample.defect_type,
        folder=sample.folder,
        pixels=np.asarray(pixels, np.uint8),
        bits=np.packbits(mask),
        content=sample.digest(),
    )
