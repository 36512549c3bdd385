"""Maps at the size of their image: the one enlargement in the package."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["at_original", "enlarge"]

# Pixels of a map that are enlarged at a time: what the processor keeps at hand; three times as fast for large images.
BAND_PX = 2**20


def enlarge(array: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """A map [h, w] as [height, width] for `size` (width, height), bilinear; values never leave its own range."""
    if array.shape == (size[1], size[0]):
        return array
    image = Image.fromarray(np.ascontiguousarray(array, dtype=np.float32))
    enlarged = np.empty((size[1], size[0]), np.float32)
    rows = max(1, BAND_PX // size[0])  # a large map needs no second and third copy on its way
    for top in range(0, size[1], rows):
        bottom = min(top + rows, size[1])
        part = (0, top * image.height / size[1], image.width, bottom * image.height / size[1])
        enlarged[top:bottom] = np.asarray(image.resize((size[0], bottom - top), Image.Resampling.BILINEAR, box=part))
    np.clip(enlarged, array.min(), array.max(), out=enlarged)  # the weights sum to 1 only up to rounding
    return enlarged


def at_original(
    array: NDArray[np.float32], size: tuple[int, int], inside: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """A map [h, w] at original size, an array of its own; 0 outside of `inside` [height, width] where that is given."""
    enlarged = enlarge(array, size)
    enlarged = enlarged.copy() if enlarged is array else enlarged
    if inside is not None:
        enlarged[~inside] = 0
    return enlarged
