"""Large images by overlapping tiles: where they lie, and how their maps become one with the view of the whole image.

Tiles lie on the cells of one canvas: each is as many cells large as the model's patch grid, so that maps are added up without
resampling. Where tiles overlap, their weights rise and fall in straight lines and add up to one at every cell: a map that is
smooth stays so. The whole view and the tiles count half each, for maps, image score and types alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from blemish.engines.base import RawScores
from blemish.errors import UsageError
from blemish.maps import enlarge

__all__ = ["Axis", "Blend", "Plan", "Tile", "Tiles", "check_tiles", "plan_tiles"]

Tiles: TypeAlias = str | int
Box: TypeAlias = tuple[int, int, int, int]

OVERLAP = 0.25  # of a tile, at least
MOST_ACROSS = 8  # tiles along the longer side that "auto" makes, about
TILED_FROM = 2  # times the model's input: smaller images are not tiled by "auto"
WHOLE_WEIGHT = 0.5


@dataclass(frozen=True)
class Axis:
    """One side of an image in tiles: its length, the canvas's cells along it, a tile's cells, and the tiles' first cells."""

    length_px: int
    cells: int
    tile_cells: int
    starts: tuple[int, ...]

    def span_px(self, start: int) -> tuple[int, int]:
        """First and last pixel, half-open, of the tile that begins at this cell."""
        return tuple(round(cell * self.length_px / self.cells) for cell in (start, start + self.tile_cells))  # type: ignore[return-value]

    def weights(self, factor: int = 1) -> NDArray[np.float32]:
        """Of each tile's cells, cut `factor` times finer, [tiles, tile cells × factor]; they add up to 1 at every cell."""
        size = self.tile_cells * factor
        ramp = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
        weights = np.tile(ramp, (len(self.starts), 1))
        total = np.zeros(self.cells * factor)
        for start, row in zip(self.starts, weights, strict=True):
            total[start * factor :][:size] += row
        shares = [row / total[start * factor :][:size] for start, row in zip(self.starts, weights, strict=True)]
        return np.array(shares, np.float32)


@dataclass(frozen=True)
class Tile:
    """One tile: its box in pixels (x0, y0, x1, y1), half-open, and its number along (rows, columns)."""

    box_px: Box
    index: tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """The tiles of one image, row by row."""

    rows: Axis
    columns: Axis

    @property
    def tiles(self) -> list[Tile]:
        tiles = []
        for i, down in enumerate(self.rows.starts):
            (y0, y1) = self.rows.span_px(down)
            for j, across in enumerate(self.columns.starts):
                (x0, x1) = self.columns.span_px(across)
                tiles.append(Tile((x0, y0, x1, y1), (i, j)))
        return tiles

    @property
    def cell_px(self) -> float:
        """The area of one patch of a tile."""
        return self.rows.length_px * self.columns.length_px / (self.rows.cells * self.columns.cells)


def check_tiles(text: str | int) -> Tiles:
    """ "off", "auto" or the side of a tile in pixels, from text; UsageError for anything else."""
    if text in ("off", "auto"):
        return str(text)
    try:
        side_px = int(text)
    except ValueError:
        side_px = 0
    if side_px < 1:
        raise UsageError(f"--tiles takes auto, off or the side of a tile in pixels, as 512, not {text!r}")
    return side_px


def plan_tiles(size: tuple[int, int], tiles: Tiles, *, input_px: int, grid: tuple[int, int]) -> Plan | None:
    """The tiles of an image of this size (width, height), None where the whole view is all there is.

    "auto" leaves images up to twice the model's input alone; larger ones get tiles of the input's size, or as large as makes
    about eight along the longer side. A tile is square, but where the image itself is narrower.
    """
    if tiles == "off" or (tiles == "auto" and max(size) <= TILED_FROM * input_px):
        return None
    at_least_px = max(size) / ((MOST_ACROSS - 1) * (1 - OVERLAP) + 1)
    side_px = max(input_px, math.ceil(at_least_px)) if tiles == "auto" else int(tiles)
    columns, rows = (_axis(length, side_px, cells) for length, cells in zip(size, grid[::-1], strict=True))
    return None if len(columns.starts) == len(rows.starts) == 1 else Plan(rows, columns)


class Blend:
    """One image's scores from its whole view and its tiles, which are added one by one and not kept."""

    def __init__(self, whole: RawScores, plan: Plan) -> None:
        self.whole = whole
        finer = max(1, whole.anomaly_map.shape[0] // whole.grid[0])
        factor = min(finer, max(1, round(math.sqrt(plan.cell_px))))  # never finer than the image itself
        self._anomaly = _Canvas(plan, factor)
        self._typed = [_Canvas(plan, 1) for _ in range(0 if whole.type_maps is None else len(whole.type_maps))]
        self._highest = 0.0
        self._type_highest = np.zeros_like(whole.type_scores)

    def add(self, tile: Tile, scores: RawScores) -> None:
        """Adds the scores of one tile."""
        self._anomaly.add(tile, scores.anomaly_map)
        for canvas, type_map in zip(self._typed, () if scores.type_maps is None else scores.type_maps, strict=True):
            canvas.add(tile, type_map)
        self._highest = max(self._highest, scores.image_score)
        self._type_highest = np.maximum(self._type_highest, scores.type_scores)

    def result(self) -> RawScores:
        """The scores of the image; every tile must have been added."""
        whole = self.whole
        type_maps = None
        if whole.type_maps is not None:
            views = zip(self._typed, whole.type_maps, strict=True)
            type_maps = np.stack([canvas.with_whole(view) for canvas, view in views])
        return RawScores(
            image_score=float(np.float32(WHOLE_WEIGHT * whole.image_score + (1 - WHOLE_WEIGHT) * self._highest)),
            anomaly_map=self._anomaly.with_whole(whole.anomaly_map),
            types=whole.types,
            type_scores=WHOLE_WEIGHT * whole.type_scores + (1 - WHOLE_WEIGHT) * self._type_highest,
            type_maps=type_maps,
            grid=whole.grid,
        )


class _Canvas:
    """A map that tiles are added to, `factor` cells a patch."""

    def __init__(self, plan: Plan, factor: int) -> None:
        self.plan = plan
        self.size = (plan.columns.tile_cells * factor, plan.rows.tile_cells * factor)
        self.factor = factor
        self.down, self.across = plan.rows.weights(factor), plan.columns.weights(factor)
        self.sum = np.zeros((plan.rows.cells * factor, plan.columns.cells * factor), np.float32)

    def add(self, tile: Tile, part: NDArray[np.float32]) -> None:
        i, j = tile.index
        y, x = self.plan.rows.starts[i] * self.factor, self.plan.columns.starts[j] * self.factor
        weights = self.down[i][:, None] * self.across[j]
        self.sum[y : y + self.size[1], x : x + self.size[0]] += weights * enlarge(part, self.size)

    def with_whole(self, whole: NDArray[np.float32]) -> NDArray[np.float32]:
        np.clip(self.sum, 0, 1, out=self.sum)  # the weights sum to 1 only up to rounding
        view = enlarge(whole, (self.sum.shape[1], self.sum.shape[0]))
        return WHOLE_WEIGHT * view + (1 - WHOLE_WEIGHT) * self.sum


def _axis(length_px: int, side_px: int, tile_cells: int) -> Axis:
    if length_px <= side_px:
        return Axis(length_px, tile_cells, tile_cells, (0,))
    cells = max(tile_cells + 1, round(length_px * tile_cells / side_px))
    longest_step = max(1, math.floor(tile_cells * (1 - OVERLAP)))
    steps = math.ceil((cells - tile_cells) / longest_step)
    return Axis(length_px, cells, tile_cells, tuple(round(i * (cells - tile_cells) / steps) for i in range(steps + 1)))
