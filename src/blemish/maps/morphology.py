"""Masks that grow: the one dilation in the package."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["dilate"]


def dilate(mask: NDArray[np.bool_], radius_px: int) -> NDArray[np.bool_]:
    """The mask [H, W] grown by a square of this radius; outside of it there is nothing.

    Example:
        >>> dilate(np.array([[0, 0, 0, 1]], bool), 1).astype(int).tolist()
        [[0, 0, 1, 1]]
    """
    from scipy import ndimage

    grown: NDArray[np.bool_] = ndimage.maximum_filter(mask, size=2 * radius_px + 1, mode="constant")
    return grown
