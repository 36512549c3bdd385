"""Regions that follow a map's own level: they begin where it is high and reach down to a share of their own peak."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blemish.maps.components import Blob, find_blobs

__all__ = ["PEAK_SHARE", "grow_blobs"]

# Of its peak, down to which a region reaches. Chosen on rendered defects never trained on: docs/results.md, "Regions".
PEAK_SHARE = 0.7


def grow_blobs(
    scores: NDArray[np.float32], *, threshold: float, min_area_px: float = 1, share: float = PEAK_SHARE
) -> list[Blob]:
    """The 8-connected regions that reach the threshold somewhere, each down to a share of its own peak, from top to bottom.

    Args:
        scores: a map [height, width].
        threshold: a score that some pixel of a region reaches.
        min_area_px: pixels of the smallest region.
        share: of its peak, down to which a region reaches, 0..1; what reaches the threshold belongs to it in any case.

    Example:
        >>> scores = np.array([[0.2, 0.7, 0.9, 0.5, 0.8]], np.float32)
        >>> [blob.box_px for blob in grow_blobs(scores, threshold=0.85)]
        [(1, 0, 3, 1)]
    """
    grown = []
    for wide in find_blobs(scores >= np.float32(share * threshold)):
        inside = np.where(wide.pixels, scores[wide.slices], np.float32(-np.inf))
        peak = inside.max()
        if peak < np.float32(threshold):
            continue
        x0, y0 = wide.box_px[:2]
        level = min(np.float32(threshold), np.float32(share) * peak)  # what reaches the threshold is always inside
        for blob in find_blobs(inside >= level, min_area_px=min_area_px):
            left, top, right, bottom = blob.box_px
            if inside[blob.slices][blob.pixels].max() >= np.float32(threshold):
                grown.append(Blob((x0 + left, y0 + top, x0 + right, y0 + bottom), blob.pixels))
    return sorted(grown, key=lambda blob: (blob.box_px[1], blob.box_px[0]))
