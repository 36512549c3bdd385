"""The outline of a connected region as a polygon, exact and simplified.

Our own, as no library that is light enough follows the edges of pixels: OpenCV goes through their centres, contourpy and
scikit-image cut their corners, and either way the polygon loses half a pixel all round, which is all of a thin scratch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blemish.maps.components import Blob

__all__ = ["outline", "polygon"]

TOLERANCE_PX = 0.75  # of a simplified outline: a slanting edge of pixels (0.71 px off its line) becomes straight
TOLERANCE_SHARE = 0.003  # of the box's diagonal, where that is more: far below what maps resolve
AREA_TOLERANCE = 0.05  # what a simplified outline may gain or lose of the area


def polygon(blob: Blob) -> tuple[tuple[int, int], ...]:
    """The outer outline of a blob, simplified: corners (x, y) of pixels of the image, clockwise, the first not repeated.

    Every left-out corner is within 0.75 px of the polygon, or 0.3 % of the box's diagonal where that is more, and the area
    within 5 % of the blob's with its holes filled; where that cannot be (a thin line), it is the exact outline. Holes are not
    in it: area and masks know them.

    Example:
        >>> polygon(Blob((10, 20, 14, 22), np.ones((2, 4), bool)))
        ((10, 20), (14, 20), (14, 22), (10, 22))
    """
    exact = outline(blob.pixels)
    simple = _simplified(exact, max(TOLERANCE_PX, TOLERANCE_SHARE * float(np.hypot(*blob.pixels.shape))))
    area = _area(exact)
    chosen = simple if len(simple) > 2 and abs(_area(simple) - area) <= AREA_TOLERANCE * area else exact
    x0, y0 = blob.box_px[:2]
    return tuple((int(x) + x0, int(y) + y0) for x, y in chosen)


def outline(pixels: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The exact outer outline [n, 2] of one 8-connected region: the (x, y) where it turns, along the edges of its pixels.

    Clockwise from the left end of its top row, with the region on the right hand. Pixels that touch at a corner belong
    together, so that it may pass a point twice.

    Example:
        >>> outline(np.array([[1, 0], [1, 1]], bool)).tolist()
        [[0, 0], [1, 0], [1, 1], [2, 1], [2, 2], [0, 2]]
    """
    width = pixels.shape[1] + 2
    filled = np.pad(pixels, 1).tobytes()
    ahead_left = (-width, 0, -1, -width - 1)  # of a point, going east, south, west, north
    ahead_right = (0, -1, -width - 1, -width)
    steps = (1, width, -1, -width)
    start = filled.index(1)
    here, direction, turns = start + 1, 0, [start]
    while here != start:
        if filled[here + ahead_left[direction]]:
            direction = (direction + 3) % 4
            turns.append(here)
        elif not filled[here + ahead_right[direction]]:
            direction = (direction + 1) % 4
            turns.append(here)
        here += steps[direction]
    points = np.array(turns)
    return np.stack([points % width - 1, points // width - 1], axis=1)


def _simplified(points: NDArray[np.intp], tolerance_px: float) -> NDArray[np.intp]:
    """The outline [n, 2] without corners that lie within the tolerance of what remains (Douglas, Peucker 1973)."""
    farthest = int(((points - points[0]) ** 2).sum(1).argmax())
    closed = np.concatenate([points, points[:1]]).astype(np.float64)
    keep = np.zeros(len(closed), bool)
    keep[[0, farthest]] = True
    pending = [(0, farthest), (farthest, len(points))]
    while pending:
        first, last = pending.pop()
        if last - first < 2:
            continue
        distances = _distances(closed[first + 1 : last], closed[first], closed[last])
        worst = int(distances.argmax())
        if distances[worst] > tolerance_px:
            middle = first + 1 + worst
            keep[middle] = True
            pending += [(first, middle), (middle, last)]
    return points[keep[:-1]]


def _distances(
    points: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Of points [n, 2] from the straight line between two others [n]."""
    along = end - start
    share = np.clip((points - start) @ along / max(float(along @ along), 1e-12), 0, 1)
    return np.hypot(*(points - start - share[:, None] * along).T)


def _area(points: NDArray[np.intp]) -> float:
    x, y = points.T.astype(np.float64)
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
