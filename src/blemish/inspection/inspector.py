"""The inspector: images in, inspections out. `blemish.load` makes one; the command line, Python and everything later use it.

Files are read and prepared in background threads a bounded number ahead (`intake`); the model runs in the caller's thread;
regions are found in the background again. Results come in the order of the images.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from blemish._version import __version__
from blemish.backbones.config import PreprocessConfig
from blemish.backbones.preprocess import to_tensor
from blemish.calibration import Calibration, Setup, vocabulary_hash
from blemish.errors import ImageError, ModelError, UnknownNameError, UsageError
from blemish.images import DEFAULT_MEGAPIXELS, ImageInput, Picture, RangeGiven, ValueRanges
from blemish.inspection.loader import NO_MEMORY, Intake, Prepared
from blemish.inspection.masks import Interest
from blemish.inspection.regions import find_regions, peaks_inside
from blemish.inspection.tiling import Plan, RawScores, Tile, Tiles, blend, check_tiles, plan_tiles
from blemish.maps import Part, at_original
from blemish.methods.base import Method, Scores
from blemish.report.overlay import visible_part
from blemish.results import Inspection, ModelInfo, Thresholds, decide

__all__ = ["Inspected", "Inspector", "device_of"]

OnError: TypeAlias = Literal["raise", "skip", "record"]

MIN_AREA_CELLS = 0.25  # a region smaller than a quarter of one patch is below what the model resolves
MOST_KEPT_BYTES = 2**24  # of a map at original size, for each image whose pictures wait to be written


@dataclass(frozen=True)
class Inspected:
    """An inspection together with the picture it was made of, and what pictures of it show of its map (`visible_part`),
    where that is small enough to be kept: whoever writes them need not enlarge the map again."""

    inspection: Inspection
    picture: Picture
    part: Part | None = None


class Inspector:
    """A method with its preprocessing and thresholds: give it images, it gives inspections. `blemish.load` makes one.

    The method must be prepared. `value_range` and `max_megapixels` are those of `blemish.images.read`. Regions smaller
    than `min_area_px`, or else than `min_area_cells` cells of the model's patch grid, are dropped. `tiles` ("off", "auto" or
    a side in pixels) looks at large images in parts, too; see `blemish.inspection.tiling`. With `interest` only some pixels count.
    `mm_per_px` gives regions a size in millimetres; a region or an image whose type leads by less than `min_lead` has
    an unknown defect (see `results.lead`).
    `calibration` says where the thresholds come from, and must fit: UsageError else. One inspector is for one thread.
    """

    def __init__(
        self,
        method: Method,
        *,
        preprocess: PreprocessConfig,
        thresholds: Thresholds,
        backbone: str = "custom",
        prompts: str = "",
        device: str = "cpu",
        batch_size: int = 8,
        value_range: RangeGiven | None = None,
        max_megapixels: float = DEFAULT_MEGAPIXELS,
        min_area_cells: float = MIN_AREA_CELLS,
        min_area_px: float | None = None,
        mm_per_px: float | None = None,
        min_lead: float = 0.0,
        tiles: Tiles = "off",
        interest: Interest | None = None,
        calibration: Calibration | None = None,
        workers: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"the batch size must be at least 1, not {batch_size}")
        if not max_megapixels > 0:
            raise UsageError(f"the limit of megapixels must be above 0, not {max_megapixels:g}")
        for name, size in (("minimum area", min_area_px), ("size of a pixel", mm_per_px)):
            if size is not None and not size > 0:
                raise UsageError(f"the {name} must be above 0, not {size:g}")
        if interest is not None and not thresholds.pixel > 0:
            raise UsageError("where only some pixels count, the pixel threshold must be above 0")
        ValueRanges(value_range)  # a senseless range is refused here, not at the first image
        self.device = device_of(device)
        self.method = method.to(self.device).eval()
        self.preprocess = preprocess
        self.thresholds = thresholds
        self.batch_size = batch_size
        self.value_range = value_range
        self.max_megapixels = max_megapixels
        self.min_area_cells = min_area_cells
        self.min_area_px = min_area_px
        self.mm_per_px = mm_per_px
        self.min_lead = min_lead
        self.tiles = check_tiles(tiles)
        self.interest = interest
        self.calibration = calibration
        self.workers = workers or min(8, os.cpu_count() or 1)
        self.model = ModelInfo(
            backbone=backbone,
            method=method.name,
            prompts=prompts,
            fingerprint=method.fingerprint(),
            version=__version__,
        )
        if calibration is not None:
            calibration.check(self.setup)

    @property
    def setup(self) -> Setup:
        """What decides the scores, apart from the image; a value range that is learned from images is not known yet."""
        method, masks = self.method, self.interest or Interest()
        return Setup(
            model=self.model,
            vocabulary=vocabulary_hash(method.vocabulary) if method.scores_depend_on_vocabulary else "",
            input_px=self.preprocess.size,
            mean=self.preprocess.mean,
            std=self.preprocess.std,
            tiles=self.tiles,
            roi="" if masks.roi is None else masks.roi.identity,
            ignore="" if masks.ignore is None else masks.ignore.identity,
            value_range=ValueRanges(self.value_range).fixed,
            peers=method.peers,
        )

    @overload
    def inspect(self, images: ImageInput) -> Inspection: ...
    @overload
    def inspect(
        self, images: list[Any] | tuple[Any, ...], *, on_error: Literal["raise", "skip"] = ...
    ) -> list[Inspection]: ...
    @overload
    def inspect(
        self, images: list[Any] | tuple[Any, ...], *, on_error: Literal["record"]
    ) -> list[Inspection | ImageError]: ...
    @overload
    def inspect(self, images: Iterator[Any], *, on_error: Literal["raise", "skip"] = ...) -> Iterator[Inspection]: ...
    @overload
    def inspect(self, images: Iterator[Any], *, on_error: Literal["record"]) -> Iterator[Inspection | ImageError]: ...

    def inspect(self, images: Any, *, on_error: OnError = "raise") -> Any:
        """One image: its Inspection. A list or tuple: a list. Any other iterable: an iterator, read by batches.

        An image is a path, the bytes of a file, a NumPy array or a Pillow image. One that cannot be read raises
        ImageError; with `on_error` "skip" it is left out, with "record" the ImageError stands in its place. In a list,
        images with more than 8 bits share one value range; in an iterator the first of them sets it. An iterator's
        result comes when its batch is full: for a camera, load with `batch_size=1`.
        """
        if on_error not in ("raise", "skip", "record"):
            raise UnknownNameError("on_error", str(on_error), ("raise", "skip", "record"))
        if isinstance(images, str | os.PathLike | bytes | bytearray | memoryview | np.ndarray | Image.Image):
            return next(self._results([cast(ImageInput, images)], "raise"))
        if isinstance(images, list | tuple):
            return list(self._results(images, on_error))
        if not isinstance(images, Iterable):
            raise UsageError(f"an image is a path, bytes, a NumPy array or a Pillow image, not {type(images).__name__}")
        return self._results(images, on_error)

    def stream(self, images: Iterable[ImageInput], *, start: int = 0) -> Iterator[Inspected | ImageError]:
        """Inspections with their pictures, in order; an ImageError stands for each image that cannot be read.

        Of a sequence the first `start` images are left out: they only have their say in the value range.
        """
        lazy = not isinstance(images, Sequence)
        with ThreadPoolExecutor(self.workers, thread_name_prefix="blemish") as pool:
            finished: deque[Future[Inspected | ImageError] | ImageError] = deque()
            try:
                intake = Intake(
                    preprocess=self.preprocess,
                    ranges=ValueRanges(self.value_range),
                    pool=pool,
                    workers=self.workers,
                    batch_size=self.batch_size,
                    max_megapixels=self.max_megapixels,
                )
                for batch in intake.batches(images, start=start):
                    finished.extend(self._run(batch, pool))
                    # one batch of a sequence stays behind, so that its regions are found meanwhile
                    while len(finished) > (0 if lazy else len(batch)):
                        yield _result(finished.popleft())
                while finished:
                    yield _result(finished.popleft())
            finally:  # a consumer that stops early does not wait for what was read ahead
                pool.shutdown(wait=True, cancel_futures=True)

    def _results(self, images: Iterable[ImageInput], on_error: OnError) -> Iterator[Inspection | ImageError]:
        for outcome in self.stream(images):
            if isinstance(outcome, Inspected):
                yield outcome.inspection
            elif on_error == "raise":
                raise outcome
            elif on_error == "record":
                yield outcome

    def _run(
        self, batch: list[Prepared | ImageError], pool: ThreadPoolExecutor
    ) -> Iterator[Future[Inspected | ImageError] | ImageError]:
        tensors = [item.tensor for item in batch if isinstance(item, Prepared)]
        rows = iter(self._score(tensors) if tensors else ())
        for item in batch:
            if isinstance(item, ImageError):
                yield item
            else:
                picture, row = item.picture, next(rows)
                plan = self._plan(picture, row)
                try:
                    if plan is not None:
                        row = blend(row, plan, self._tiles_of(picture, plan, pool))
                except MemoryError:
                    yield ImageError(picture.source, NO_MEMORY)
                    continue
                yield pool.submit(self._assemble, picture, row, plan)

    def _plan(self, picture: Picture, whole: RawScores) -> Plan | None:
        size = (picture.width_px, picture.height_px)
        return plan_tiles(size, self.tiles, input_px=self.preprocess.size, grid=whole.grid)

    def _tiles_of(self, picture: Picture, plan: Plan, pool: ThreadPoolExecutor) -> Iterator[tuple[Tile, RawScores]]:
        """The tiles of a picture with their scores, as many of them in memory as a batch has images."""

        def prepare(tile: Tile) -> Tensor:
            x0, y0, x1, y1 = tile.box_px
            return to_tensor(replace(picture, pixels=picture.pixels[y0:y1, x0:x1]), self.preprocess)

        for start in range(0, len(tiles := plan.tiles), self.batch_size):
            batch = tiles[start : start + self.batch_size]
            yield from zip(batch, self._score(list(pool.map(prepare, batch))), strict=True)

    def _score(self, tensors: list[Tensor]) -> list[RawScores]:
        with torch.inference_mode():
            features = self.method.encode(torch.stack(tensors).to(self.device))  # [B, 3, S, S]
            scores = self.method.score(features)
        return _rows(scores, features.grid)

    def _inside(self, picture: Picture) -> NDArray[np.bool_] | None:
        """The pixels [H, W] that count: of the region of interest, and not the padding of the image; None: all."""
        size = (picture.width_px, picture.height_px)
        inside = None if self.interest is None else self.interest.inside(picture.source, size)
        if picture.inside is None or inside is None:
            return picture.inside if inside is None else inside
        both = inside & picture.inside
        if not both.any():
            raise ImageError(picture.source, "no pixel of it counts (the region of interest lies in its padding)")
        return both

    def _assemble(self, picture: Picture, row: RawScores, plan: Plan | None) -> Inspected | ImageError:
        size = (picture.width_px, picture.height_px)
        cell_px = size[0] * size[1] / (row.grid[0] * row.grid[1]) if plan is None else plan.cell_px
        min_area_px = self.min_area_px or max(1.0, self.min_area_cells * cell_px)
        try:
            inside = self._inside(picture)
            scores = at_original(row.anomaly_map, size, inside)
            regions = find_regions(
                scores,
                size,
                threshold=self.thresholds.pixel,
                min_area_px=min_area_px,
                types=row.types,
                type_maps=row.type_maps,
                mm_per_px=self.mm_per_px,
                min_lead=self.min_lead,
            )
        except ImageError as error:
            return error
        except MemoryError:
            return ImageError(picture.source, NO_MEMORY)
        peak = float(scores.max())
        image_score, type_scores = row.image_score, row.type_scores
        if inside is not None:  # the method's own score would see what does not count
            image_score = peak
            type_scores = type_scores if row.type_maps is None else peaks_inside(row.type_maps, inside)
        inspection = Inspection(
            source=picture.source,
            width_px=size[0],
            height_px=size[1],
            image_score=image_score,
            verdict=decide(image_score, self.thresholds),
            thresholds=self.thresholds,
            anomaly_map=row.anomaly_map,
            types=row.types,
            type_scores=type_scores,
            type_maps=row.type_maps,
            regions=regions,
            value_range=picture.value_range,
            model=self.model,
            map_peak=peak,
            image_score_from="roi" if inside is not None else "method" if plan is None else "tiles",
            inside=inside,
            min_area_px=min_area_px,
            mm_per_px=self.mm_per_px,
            min_lead=self.min_lead,
            tags=picture.tags,
        )
        part = visible_part(inspection, scores=scores)
        return Inspected(inspection, picture, part if part.scores.nbytes <= MOST_KEPT_BYTES else None)


def _rows(scores: Scores, grid: tuple[int, int]) -> list[RawScores]:
    image_score, anomaly_map, type_scores = map(_numpy, (scores.image_score, scores.anomaly_map, scores.type_scores))
    type_maps = None if scores.type_maps is None else _numpy(scores.type_maps)
    if not (np.isfinite(image_score).all() and np.isfinite(anomaly_map).all()):
        raise ModelError("the model gave scores that are not numbers: its weights or the chosen device are at fault")
    return [
        RawScores(
            float(image_score[i]),
            anomaly_map[i],
            tuple(scores.types),
            type_scores[i],
            None if type_maps is None else type_maps[i],
            grid,
        )
        for i in range(len(image_score))
    ]


def _numpy(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().to("cpu", torch.float32).numpy()


def _result(finished: Future[Inspected | ImageError] | ImageError) -> Inspected | ImageError:
    return finished if isinstance(finished, ImageError) else finished.result()


def device_of(name: str) -> torch.device:
    """The device of this name; UsageError where it cannot be used."""
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"the device {name!r} cannot be used here; try --device cpu") from error
    return device
