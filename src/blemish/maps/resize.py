"""Maps at the size of their image: the one enlargement in the package."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["at_original", "enlarge", "mask_at"]

# Pixels of a map that are enlarged at a time: what the processor keeps at hand; three times as fast for large images.
BAND_PX = 2**20


def enlarge(array: NDArray[np.float32], size: tuple[int, int], *, aligned_corners: bool = False) -> NDArray[np.float32]:
    """A map [h, w] as [height, width], bilinear; values never leave its own range.

    Args:
        array: the map [h, w], float32.
        size: (width, height) in pixels.
        aligned_corners: the centres of the outer cells lie on the border, as some releases have it; else where their cells are.

    Example:
        >>> enlarge(np.array([[0, 1]], np.float32), (4, 1)).tolist()
        [[0.0, 0.25, 0.75, 1.0]]
    """
    if array.shape == (size[1], size[0]):
        return array
    if aligned_corners:
        from scipy import ndimage

        factors = (size[1] / array.shape[0], size[0] / array.shape[1])
        corners: NDArray[np.float32] = ndimage.zoom(array, factors, order=1, mode="nearest")
        return corners
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


def mask_at(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """A mask [H, W] at [size, size]: bilinear over 0 and 1, then above one half (FAPrompt's own reduction of masks)."""
    grey = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    return np.asarray(grey.resize((size, size), Image.Resampling.BILINEAR)) > 127
