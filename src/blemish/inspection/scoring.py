"""The one way from loaded images to their scores: the engine, the tiles of large images, the pixels that count.

Inspection, calibration, evaluation and the benchmarks all go this way. B batch, S side of the model's input in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blemish.backbones.preprocess import to_array
from blemish.engines.base import Engine, RawScores
from blemish.errors import ImageError, ModelError, UsageError
from blemish.images import Picture
from blemish.images.boundary import NO_MEMORY
from blemish.inspection.loader import LoadedImage
from blemish.inspection.masks import Masks
from blemish.inspection.regions import peaks_inside
from blemish.inspection.tiling import Blend, Plan, Tile, Tiles, check_tiles, plan_tiles
from blemish.language import Vocabulary
from blemish.maps import at_original
from blemish.results import ScoreFrom

__all__ = ["Encoder", "RawImage", "ScoredImage", "Scorer", "counted", "inside_of"]


Encoder: TypeAlias = Callable[[Sequence[LoadedImage]], Any]


@dataclass(frozen=True, eq=False)
class RawImage:
    """A loaded image with its scores, before they are at original size."""

    image: LoadedImage
    scores: tuple[RawScores, ...]  # one for each vocabulary of the scorer
    plan: Plan | None  # of its tiles; None where the whole view is all there is


@dataclass(frozen=True, eq=False)
class ScoredImage:
    """An image with its scores and its map at original size."""

    image: LoadedImage
    scores: RawScores  # the map at the model's own size; the image score is that of the pixels that count
    full_map: NDArray[np.float32]  # [height, width] at original size, 0 where pixels do not count
    inside: NDArray[np.bool_] | None  # [height, width], the pixels that count; None: all do
    image_score_from: ScoreFrom
    patch_area_px: float  # pixels of the original that one patch stands for


class Scorer:
    """An engine with the texts of one vocabulary or several, tiles and masks.

    Args:
        engine: what scores images. It may serve several scorers.
        vocabularies: the defect types to tell apart; an image is encoded once and scored with each of them.
        batch_size: images, or tiles, that the engine gets at once.
        tiles: "off", "auto" or a side in pixels (`blemish.inspection.tiling`).
        masks: the pixels that count; None: all do.
        encoder: what encodes loaded images instead of the engine itself, as a cache of features does; not with tiles.
    """

    def __init__(
        self,
        engine: Engine,
        *vocabularies: Vocabulary,
        batch_size: int = 8,
        tiles: Tiles = "off",
        masks: Masks | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"the batch size must be at least 1, not {batch_size}")
        self.engine = engine
        self.batch_size = batch_size
        self.tiles = check_tiles(tiles)
        self.masks = masks
        self._texts = [engine.encode_texts(vocabulary) for vocabulary in vocabularies]
        self._encode = encoder or self._encode_pixels

    def score(
        self, batch: Sequence[LoadedImage | ImageError], pool: ThreadPoolExecutor
    ) -> Iterator[RawImage | ImageError]:
        """The scores of each image of a batch, tiles and all; errors stay in their places."""
        images = [image for image in batch if isinstance(image, LoadedImage)]
        rows = iter(self._rows(self._encode(images)) if images else ())
        for image in batch:
            if isinstance(image, ImageError):
                yield image
                continue
            scores = next(rows)
            plan = plan_tiles(image.size_px, self.tiles, input_px=self.engine.input.size, grid=scores[0].grid)
            try:
                if plan is not None:
                    scores = self._blended(scores, plan, image.picture, pool)
            except MemoryError:
                yield ImageError(image.source, NO_MEMORY)
                continue
            yield RawImage(image, scores, plan)

    def finish(self, raw: RawImage, *, vocabulary: int = 0) -> ScoredImage | ImageError:
        """The map at original size, and the scores of the pixels that count, with one of the vocabularies.

        Safe in any thread.
        """
        image, scores, plan = raw.image, raw.scores[vocabulary], raw.plan
        width, height = image.size_px
        try:
            inside = inside_of(self.masks, image.source, image.size_px, image.picture.inside)
            scores, full_map = counted(scores, image.size_px, inside)
            score_from: ScoreFrom = "roi" if inside is not None else "method" if plan is None else "tiles"
        except ImageError as error:
            return error
        except MemoryError:
            return ImageError(image.source, NO_MEMORY)
        area = width * height / (scores.grid[0] * scores.grid[1]) if plan is None else plan.cell_px
        return ScoredImage(image, scores, full_map, inside, score_from, area)

    def _encode_pixels(self, images: Sequence[LoadedImage]) -> Any:
        return self.engine.encode(np.stack([image.pixels for image in images]))

    def _rows(self, features: Any) -> list[tuple[RawScores, ...]]:
        """The scores of each encoded image, with each vocabulary; ModelError where they are not numbers."""
        rows = list(zip(*(self.engine.score(features, texts) for texts in self._texts), strict=True))
        for scores in (scores for row in rows for scores in row):
            if not (math.isfinite(scores.image_score) and np.isfinite(scores.anomaly_map).all()):
                raise ModelError(
                    f"the method {self.engine.model.method!r} gave scores that are not numbers: its weights or the chosen "
                    "device are at fault"
                )
        return rows

    def _blended(
        self, whole: tuple[RawScores, ...], plan: Plan, picture: Picture, pool: ThreadPoolExecutor
    ) -> tuple[RawScores, ...]:
        """The scores of a picture from its whole view and its tiles; as many tiles in memory as a batch has images."""

        def load(tile: Tile) -> NDArray[np.float32]:
            x0, y0, x1, y1 = tile.box_px
            return to_array(replace(picture, pixels=picture.pixels[y0:y1, x0:x1]), self.engine.input)

        blends = [Blend(view, plan) for view in whole]
        tiles = plan.tiles
        for start in range(0, len(tiles), self.batch_size):
            batch = tiles[start : start + self.batch_size]
            rows = self._rows(self.engine.encode(np.stack(list(pool.map(load, batch)))))
            for tile, row in zip(batch, rows, strict=True):
                for blend, scores in zip(blends, row, strict=True):
                    blend.add(tile, scores)
        return tuple(blend.result() for blend in blends)


def counted(
    scores: RawScores, size_px: tuple[int, int], inside: NDArray[np.bool_] | None
) -> tuple[RawScores, NDArray[np.float32]]:
    """The scores of the pixels [H, W] that count (None: all), and the map at original size [H, W], 0 where they do not."""
    full_map = at_original(scores.anomaly_map, size_px, inside)
    if inside is None:
        return scores, full_map
    # the method's own score would see what does not count
    typed = scores.type_scores if scores.type_maps is None else peaks_inside(scores.type_maps, inside)
    return replace(scores, image_score=float(full_map.max()), type_scores=typed), full_map


def inside_of(
    masks: Masks | None, source: str, size_px: tuple[int, int], own: NDArray[np.bool_] | None
) -> NDArray[np.bool_] | None:
    """The pixels [H, W] of an image that count: inside the masks, and its own, not its padding; None: all do.

    Raises:
        ImageError: A mask does not fit the image, or nothing is left.
    """
    inside = None if masks is None else masks.inside(source, size_px)
    if own is None or inside is None:
        return own if inside is None else inside
    if not (inside & own).any():
        raise ImageError(source, "no pixel of it counts (the masks leave nothing but its padding)")
    return inside & own
