"""Which part of a map a picture shows anything of: the rest is transparent, and need not be kept or coloured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blemish.maps.components import Part, part_above

__all__ = ["COLOUR_LEVELS", "TRANSPARENT_SHARE", "visible_from", "visible_part"]

TRANSPARENT_SHARE = 0.3  # of the pixel threshold: scores up to it have no colour (blemish.drawing.colours)
COLOUR_LEVELS = 1024  # steps of the colour scale


def visible_from(pixel_threshold: float) -> float:
    """A score (0..1) below which no pixel has a colour or belongs to a region.

    Example:
        >>> visible_from(0.5) < 0.3 * 0.5
        True
    """
    return max(0.0, TRANSPARENT_SHARE * pixel_threshold - 1 / COLOUR_LEVELS)


def visible_part(anomaly_map: NDArray[np.float32], scores: NDArray[np.float32], *, pixel_threshold: float) -> Part:
    """The part of a map at original size that an overlay or a mask shows anything of; often small, or empty.

    Args:
        anomaly_map: The map at model size [h, w], 0..1.
        scores: The same map at original size [height_px, width_px].
        pixel_threshold: The pixel score (0..1) from which a pixel belongs to a region.
    """
    return part_above(anomaly_map, scores, visible_from(pixel_threshold))
