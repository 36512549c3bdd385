"""Connected regions of a map: the one labelling, the one outline and the one enlargement of maps in the house."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Blob", "Part", "at_original", "enlarge", "find_blobs", "label", "outline", "part_above", "polygon"]

BAND_PX = (
    2**20
)  # of a map that is enlarged, at a time: what the processor keeps at hand; thrice as fast for large images
TOLERANCE_PX = 0.75  # of a simplified outline: a slanting edge of pixels (0.71 px off its line) becomes straight
TOLERANCE_SHARE = 0.003  # of the box's diagonal, where that is more: far below what maps resolve
AREA_TOLERANCE = 0.05  # what a simplified outline may gain or lose of the area


@dataclass(frozen=True)
class Blob:
    """One connected region: its box (x0, y0, x1, y1), half-open, and the pixels [y1-y0, x1-x0] of it inside."""

    box_px: tuple[int, int, int, int]
    pixels: NDArray[np.bool_]

    @property
    def slices(self) -> tuple[slice, slice]:
        x0, y0, x1, y1 = self.box_px
        return slice(y0, y1), slice(x0, x1)


@dataclass(frozen=True)
class Part:
    """Part of a map at original size: its box (x0, y0, x1, y1), half-open, and the scores [y1-y0, x1-x0] inside."""

    box_px: tuple[int, int, int, int]
    scores: NDArray[np.float32]

    @property
    def slices(self) -> tuple[slice, slice]:
        x0, y0, x1, y1 = self.box_px
        return slice(y0, y1), slice(x0, x1)


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


def label(mask: NDArray[np.bool_]) -> tuple[NDArray[np.integer], int]:
    """Numbers 1..n for the 8-connected regions of a mask [H, W], 0 elsewhere; and n."""
    from scipy import ndimage

    labels, count = ndimage.label(mask, structure=np.ones((3, 3), dtype=int))
    return labels, count


def find_blobs(mask: NDArray[np.bool_], *, min_area_px: float = 1) -> list[Blob]:
    """The 8-connected regions of a mask [H, W] with at least `min_area_px` pixels, from top to bottom."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return []
    from scipy import ndimage

    top, left = int(rows[0]), int(columns[0])
    labels, _ = label(
        mask[top : rows[-1] + 1, left : columns[-1] + 1]
    )  # a large image needs no labels where it is clean
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


def polygon(blob: Blob) -> tuple[tuple[int, int], ...]:
    """The outer outline of a blob, simplified: corners (x, y) of pixels of the image, clockwise, the first not repeated.

    Every left-out corner is within 0.75 px of the polygon, or 0.3 % of the box's diagonal where that is more, and the area
    within 5 % of the blob's with its holes filled; where that cannot be (a thin line), it is the exact outline. Holes are not
    in it: area and masks know them.
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
