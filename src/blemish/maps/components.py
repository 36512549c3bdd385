"""Connected regions of a map: the one labelling in the package."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Blob", "Part", "find_blobs", "label", "part_above"]


@dataclass(frozen=True)
class Blob:
    """One connected region."""

    box_px: tuple[int, int, int, int]  # (x0, y0, x1, y1), half-open, pixels of the map
    pixels: NDArray[np.bool_]  # [y1 - y0, x1 - x0], which pixels of the box belong to it

    @property
    def slices(self) -> tuple[slice, slice]:
        x0, y0, x1, y1 = self.box_px
        return slice(y0, y1), slice(x0, x1)


@dataclass(frozen=True)
class Part:
    """Part of a map at original size."""

    box_px: tuple[int, int, int, int]  # (x0, y0, x1, y1), half-open, pixels of the image
    scores: NDArray[np.float32]  # [y1 - y0, x1 - x0]

    @property
    def slices(self) -> tuple[slice, slice]:
        x0, y0, x1, y1 = self.box_px
        return slice(y0, y1), slice(x0, x1)


def label(mask: NDArray[np.bool_]) -> tuple[NDArray[np.integer], int]:
    """Numbers 1..n for the 8-connected regions of a mask [H, W], 0 elsewhere; and n."""
    from scipy import ndimage

    labels, count = ndimage.label(mask, structure=np.ones((3, 3), dtype=int))
    return labels, count


def find_blobs(mask: NDArray[np.bool_], *, min_area_px: float = 1) -> list[Blob]:
    """The 8-connected regions of a mask [H, W] with at least `min_area_px` pixels, from top to bottom.

    Example:
        >>> [blob.box_px for blob in find_blobs(np.array([[1, 0, 0, 1], [0, 1, 0, 0]], bool))]
        [(0, 0, 2, 2), (3, 0, 4, 1)]
    """
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return []
    from scipy import ndimage

    top, left = int(rows[0]), int(columns[0])
    labels, _ = label(mask[top : rows[-1] + 1, left : columns[-1] + 1])  # no labels where a large image is clean
    blobs = []
    for number, slices in enumerate(ndimage.find_objects(labels), start=1):
        if slices is None:
            continue
        pixels = labels[slices] == number
        if np.count_nonzero(pixels) >= min_area_px:
            down, across = slices
            box = (left + across.start, top + down.start, left + across.stop, top + down.stop)
            blobs.append(Blob((int(box[0]), int(box[1]), int(box[2]), int(box[3])), pixels))
    return blobs


def part_above(array: NDArray[np.float32], enlarged: NDArray[np.float32], level: float) -> Part:
    """The part of an `enlarged` map [height, width] outside of which it is below `level`, in an array of its own.

    `array` [h, w] is what was enlarged, and tells the box without a look at every pixel; it may be a cell too wide.
    """
    high = array >= np.float32(level)
    y0, y1 = _reached(np.any(high, axis=1, keepdims=True), enlarged.shape[0])
    x0, x1 = _reached(np.any(high, axis=0, keepdims=True), enlarged.shape[1])
    return Part((x0, y0, x1, y1), enlarged[y0:y1, x0:x1].copy())


def _reached(cells: NDArray[np.bool_], length_px: int) -> tuple[int, int]:
    """The first and one past the last pixel of `length_px` that the marked cells (n of them) have a say in; 0, 0 for none."""
    marked = np.flatnonzero(cells)
    if not len(marked):
        return 0, 0
    cell_px = length_px / cells.size
    wide = max(1.0, 1 / cell_px)  # bilinear: a cell's weight ends one cell (or one pixel) from its middle
    first, last = (marked[0] + 0.5 - wide) * cell_px, (marked[-1] + 0.5 + wide) * cell_px
    return max(0, int(np.floor(first)) - 1), min(length_px, int(np.ceil(last)) + 1)
