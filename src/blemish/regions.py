"""Connected regions of a map: the one labelling and the one enlargement of maps in the house."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Blob", "enlarge", "find_blobs", "label"]


@dataclass(frozen=True)
class Blob:
    """One connected region: its box (x0, y0, x1, y1), half-open, and the pixels [y1-y0, x1-x0] of it inside."""

    box_px: tuple[int, int, int, int]
    pixels: NDArray[np.bool_]

    @property
    def slices(self) -> tuple[slice, slice]:
        x0, y0, x1, y1 = self.box_px
        return slice(y0, y1), slice(x0, x1)


def enlarge(array: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """A map [h, w] as [height, width] for `size` (width, height), bilinear; values never leave its own range."""
    if array.shape == (size[1], size[0]):
        return array
    image = Image.fromarray(np.ascontiguousarray(array, dtype=np.float32))
    resized = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
    return np.clip(resized, array.min(), array.max())  # the weights sum to 1 only up to rounding


def label(mask: NDArray[np.bool_]) -> tuple[NDArray[np.integer], int]:
    """Numbers 1..n for the 8-connected regions of a mask [H, W], 0 elsewhere; and n."""
    from scipy import ndimage

    labels, count = ndimage.label(mask, structure=np.ones((3, 3), dtype=int))
    return labels, count


def find_blobs(mask: NDArray[np.bool_], *, min_area_px: float = 1) -> list[Blob]:
    """The 8-connected regions of a mask [H, W] with at least `min_area_px` pixels, from top to bottom."""
    if not mask.any():
        return []
    from scipy import ndimage

    labels, _ = label(mask)
    blobs = []
    for number, slices in enumerate(ndimage.find_objects(labels), start=1):
        if slices is None:
            continue
        pixels = labels[slices] == number
        if np.count_nonzero(pixels) >= min_area_px:
            rows, columns = slices
            box = (int(columns.start), int(rows.start), int(columns.stop), int(rows.stop))
            blobs.append(Blob(box, pixels))
    return blobs
