"""The inspector: images in, inspections out. `blemish.load` makes one; the command line, Python and everything later use it.

Files are read and prepared in background threads a bounded number ahead (`loader`); the engine runs in the caller's thread;
regions are found in the background again. Results come in the order of the images.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, overload

from blemish.calibration import Calibration, Setup, vocabulary_hash
from blemish.engines.base import Engine
from blemish.errors import ImageError, UnknownNameError, UsageError
from blemish.images import DEFAULT_MEGAPIXELS, ImageInput, Learned, Picture, RangeGiven, ValueRanges
from blemish.images.boundary import NO_MEMORY
from blemish.inspection.decide import decide, region_threshold
from blemish.inspection.inputs import is_image, to_image_input
from blemish.inspection.loader import ImageLoader, LoadedImage, default_workers, in_batches
from blemish.inspection.masks import Masks
from blemish.inspection.regions import find_regions
from blemish.inspection.scoring import RawImage, Scorer
from blemish.inspection.tiling import Tiles
from blemish.language import Vocabulary, general
from blemish.maps import Part, visible_part
from blemish.profiles import ProductProfile
from blemish.profiles.statistics import statistics_of
from blemish.results import Inspection, ModelInfo, Thresholds

__all__ = ["BatchPlan", "Inspected", "Inspector"]

OnError: TypeAlias = Literal["raise", "skip", "record"]

MIN_AREA_PATCHES = 0.25  # a region smaller than a quarter of one patch is below what the model resolves
MOST_CACHED_BYTES = 2**24  # of a map at original size, for each image whose pictures wait to be written


@dataclass(frozen=True, eq=False)
class Inspected:
    """An inspection with what it was made of, so that whoever draws it need not make that again."""

    inspection: Inspection
    picture: Picture  # at original size
    part: Part | None = None  # of the map, what pictures show anything of; None where it is too large to wait in memory


@dataclass(frozen=True)
class BatchPlan:
    """What is known of images before the first of them is inspected."""

    starts: tuple[int, ...]  # the number of the first image of each batch
    learned: Learned | None  # of the value range; None where nothing was to be learned


class Inspector:
    """An engine with a vocabulary and thresholds: give it images, it gives inspections. `blemish.load` makes one.

    Args:
        engine: what scores images; it may serve several inspectors.
        thresholds: of the verdicts and the regions.
        vocabulary: the defect types to tell apart; None for the built-in ones.
        min_lead: a region or an image whose type leads by less has an unknown defect (see `results.lead`), 0..1.
        batch_size: images that the engine gets at once.
        value_range: black and white of images with more than 8 bits, as `blemish.images.read` takes it.
        max_megapixels: of the largest image that is decoded.
        min_area_px: area of the smallest region; None for a quarter of a patch.
        mm_per_px: side of a pixel in millimetres; gives regions a size.
        tiles: "off", "auto" or a side in pixels: large images in parts, too.
        masks: the pixels that count; None: all do.
        calibration: where the thresholds come from; it must fit the rest.
        profile: of the product, where the engine remembers its good images; results then say how each image looks.
        workers: threads that read images; None for one a core, up to 8.
        notes: lines worth telling the user about how it was made.

    Raises:
        UsageError: a value is outside its range, or the calibration was made with another setup.

    One inspector is for one thread.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        thresholds: Thresholds,
        vocabulary: Vocabulary | None = None,
        min_lead: float = 0.0,
        batch_size: int = 8,
        value_range: RangeGiven | None = None,
        max_megapixels: float = DEFAULT_MEGAPIXELS,
        min_area_px: float | None = None,
        mm_per_px: float | None = None,
        tiles: Tiles = "off",
        masks: Masks | None = None,
        calibration: Calibration | None = None,
        profile: ProductProfile | None = None,
        workers: int | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        if not max_megapixels > 0:
            raise UsageError(f"the limit of megapixels must be above 0, not {max_megapixels:g}")
        for name, size in (("minimum area", min_area_px), ("size of a pixel", mm_per_px)):
            if size is not None and not size > 0:
                raise UsageError(f"the {name} must be above 0, not {size:g}")
        if masks is not None and not thresholds.pixel > 0:
            raise UsageError("where only some pixels count, the pixel threshold must be above 0")
        ValueRanges(value_range)  # a senseless range is refused here, not at the first image
        self.engine = engine
        self.thresholds = thresholds
        self.vocabulary = vocabulary or general()
        self.min_lead = min_lead
        self.batch_size = batch_size
        self.value_range = value_range
        self.max_megapixels = max_megapixels
        self.min_area_px = min_area_px
        self.mm_per_px = mm_per_px
        self.masks = masks
        self.calibration = calibration
        self.profile = profile
        self.workers = workers or default_workers()
        self.notes = notes
        self._scorer = Scorer(engine, self.vocabulary, batch_size=batch_size, tiles=tiles, masks=masks)
        if calibration is not None:
            calibration.check(self.setup)

    def with_engine(
        self, engine: Engine, *, value_range: RangeGiven | None = None, thresholds: Thresholds | None = None
    ) -> Inspector:
        """This inspector with another engine, without calibration and profile; with other range or thresholds if given."""
        return Inspector(
            engine,
            thresholds=thresholds or self.thresholds,
            vocabulary=self.vocabulary,
            min_lead=self.min_lead,
            batch_size=self.batch_size,
            value_range=value_range or self.value_range,
            max_megapixels=self.max_megapixels,
            min_area_px=self.min_area_px,
            mm_per_px=self.mm_per_px,
            tiles=self.tiles,
            masks=self.masks,
            workers=self.workers,
            notes=self.notes,
        )

    @property
    def model(self) -> ModelInfo:
        """The model that scores the images."""
        return self.engine.model

    @property
    def types(self) -> tuple[str, ...]:
        """The names of the defect types, in their order."""
        return self.vocabulary.names

    @property
    def tiles(self) -> Tiles:
        """How large images are looked at in parts: "off", "auto" or a side in pixels."""
        return self._scorer.tiles

    @property
    def setup(self) -> Setup:
        """What decides the scores, apart from the image; a value range that is learned from images is not known yet."""
        engine, masks = self.engine, self.masks or Masks()
        return Setup(
            model=self.model,
            vocabulary=vocabulary_hash(self.vocabulary) if engine.scores_depend_on_vocabulary else "",
            input_px=engine.input.size,
            mean=engine.input.mean,
            std=engine.input.std,
            tiles=self.tiles,
            roi="" if masks.roi is None else masks.roi.identity,
            ignore="" if masks.ignore is None else masks.ignore.identity,
            value_range=ValueRanges(self.value_range).fixed,
            peers=engine.references,
            references=engine.good_references,
            engine=engine.name,
            precision=engine.precision,
            deviation=engine.deviation,
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
        """The inspection of one image, or of each of several.

        Args:
            images: a path, the bytes of a file or an open one, a NumPy array, a tensor or a Pillow image; or a list, a tuple
                or any other iterable of them. In a list, images with more than 8 bits share one value range; in another
                iterable the first of them sets it, and a result comes when its batch is full: for a camera, load with
                `batch_size=1`.
            on_error: what becomes of an image of several that cannot be read: "raise" ends with its ImageError, "skip"
                leaves it out, "record" puts the ImageError in its place.

        Returns:
            An Inspection; a list of them for a list or a tuple; else an iterator.

        Raises:
            ImageError: the image cannot be read.
            UsageError: what was given is a folder, or no image.

        Example:
            >>> import blemish
            >>> import numpy as np
            >>> inspector = blemish.load(defects="scratch, hole")
            >>> inspector.inspect(np.full((64, 64, 3), 200, np.uint8)).verdict
            <Verdict.OK: 'ok'>
        """
        if on_error not in ("raise", "skip", "record"):
            raise UnknownNameError("on_error", str(on_error), ("raise", "skip", "record"))
        if is_image(images) or not isinstance(images, Iterable):
            return self._inspect_one(to_image_input(images))
        if isinstance(images, list | tuple):
            return list(self._results([to_image_input(image) for image in images], on_error))
        return self._results(map(to_image_input, images), on_error)

    def stream(
        self, images: Iterable[ImageInput], *, start: int = 0, learned: Learned | None = None
    ) -> Iterator[Inspected | ImageError]:
        """Inspections with their pictures, in order; an ImageError stands for each image that cannot be read.

        Of a sequence the first `start` images are left out: they only have their say in the value range. `learned` is what
        `plan_batches` learned of the value range from all images of which these are some.
        """
        lazy = not isinstance(images, Sequence)
        with ThreadPoolExecutor(self.workers, thread_name_prefix="blemish") as pool:
            loader = self._loader(pool, ValueRanges(self.value_range, learned=learned))
            finished: deque[Future[Inspected | ImageError] | ImageError] = deque()
            try:
                for batch in loader.batches(images, start=start):
                    finished.extend(self.submit(batch, pool))
                    # one batch of a sequence stays behind, so that its regions are found meanwhile
                    while len(finished) > (0 if lazy else len(batch)):
                        yield _result(finished.popleft())
                while finished:
                    yield _result(finished.popleft())
            finally:  # a consumer that stops early does not wait for what was read ahead
                pool.shutdown(wait=True, cancel_futures=True)

    def submit(
        self, batch: Sequence[LoadedImage | ImageError], pool: ThreadPoolExecutor
    ) -> Iterator[Future[Inspected | ImageError] | ImageError]:
        """Scores a batch of loaded images now, and finds their regions in threads of the pool."""
        for scored in self._scorer.score(batch, pool):
            yield pool.submit(self._inspected, scored) if isinstance(scored, RawImage) else scored

    def plan_batches(self, images: Sequence[ImageInput]) -> BatchPlan:
        """What must be known of all images before some of them are inspected elsewhere: batches, and the value range.

        Only headers are read, but for images with more than 8 bits whose value range nobody gave.
        """
        with ThreadPoolExecutor(self.workers, thread_name_prefix="blemish") as pool:
            ranges = ValueRanges(self.value_range)
            sizes = self._loader(pool, ranges).read_headers(images)
        numbered = enumerate(sizes)
        starts = [batch[0] for batch in in_batches(numbered, self.batch_size)]
        return BatchPlan(starts=tuple(starts), learned=None if ranges.learned == Learned() else ranges.learned)

    def _loader(self, pool: ThreadPoolExecutor, ranges: ValueRanges) -> ImageLoader:
        return ImageLoader(
            preprocess=self.engine.input,
            ranges=ranges,
            pool=pool,
            workers=self.workers,
            batch_size=self.batch_size,
            max_megapixels=self.max_megapixels,
        )

    def _inspect_one(self, image: ImageInput) -> Inspection:
        outcome = next(self.stream([image]))
        if isinstance(outcome, ImageError):
            raise outcome
        if isinstance(image, str | os.PathLike):
            return outcome.inspection
        return replace(outcome.inspection, picture=outcome.picture)  # what is no file cannot be read again

    def _results(self, images: Iterable[ImageInput], on_error: OnError) -> Iterator[Inspection | ImageError]:
        for outcome in self.stream(images):
            if isinstance(outcome, Inspected):
                yield outcome.inspection
            elif on_error == "raise":
                raise outcome
            elif on_error == "record":
                yield outcome

    def _inspected(self, raw: RawImage) -> Inspected | ImageError:
        scored = self._scorer.finish(raw)
        if isinstance(scored, ImageError):
            return scored
        image, scores = scored.image, scored.scores
        picture = image.picture
        min_area_px = self.min_area_px or max(1.0, MIN_AREA_PATCHES * scored.patch_area_px)
        map_peak = float(scored.full_map.max())
        verdict = decide(scores.image_score, self.thresholds)
        threshold = region_threshold(verdict, self.thresholds, map_peak=map_peak)
        try:
            regions = find_regions(
                scored.full_map,
                image.size_px,
                threshold=threshold,
                min_area_px=min_area_px,
                types=scores.types,
                type_maps=scores.type_maps,
                mm_per_px=self.mm_per_px,
                min_lead=self.min_lead,
            )
        except MemoryError:
            return ImageError(image.source, NO_MEMORY)
        inspection = Inspection(
            source=image.source,
            width_px=picture.width_px,
            height_px=picture.height_px,
            image_score=scores.image_score,
            verdict=verdict,
            thresholds=self.thresholds,
            anomaly_map=scores.anomaly_map,
            types=scores.types,
            type_scores=scores.type_scores,
            type_maps=scores.type_maps,
            regions=regions,
            value_range=picture.value_range,
            model=self.model,
            map_peak=map_peak,
            image_score_from=scored.image_score_from,
            inside=scored.inside,
            region_threshold=threshold,
            min_area_px=min_area_px,
            mm_per_px=self.mm_per_px,
            min_lead=self.min_lead,
            tags=picture.tags,
            statistics={} if self.profile is None else statistics_of(picture),
            reasons=scores.reasons,
        )
        part = visible_part(scores.anomaly_map, scored.full_map, pixel_threshold=threshold)
        return Inspected(inspection, picture, part if part.scores.nbytes <= MOST_CACHED_BYTES else None)


def _result(finished: Future[Inspected | ImageError] | ImageError) -> Inspected | ImageError:
    return finished if isinstance(finished, ImageError) else finished.result()
