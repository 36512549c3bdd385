"""One candidate on one data set: image by image, in bounded memory, saved on the way.

H×W the size at which pixels are compared.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from blemish._version import __version__
from blemish.calibration import vocabulary_hash
from blemish.data import DataSet, Sample
from blemish.engines.base import RawScores
from blemish.errors import ImageError, UsageError
from blemish.evaluation.candidates import Candidate
from blemish.evaluation.comparing import ProductEngines
from blemish.evaluation.finding import by_product, describe, why_no_pixels
from blemish.evaluation.ranks import own_ap
from blemish.evaluation.settings import DATA_TYPES, EvaluationSettings
from blemish.evaluation.states import Counts, EvaluationProgress, RunFolder, merged
from blemish.evaluation.typing import Typing
from blemish.inspection.loader import default_workers
from blemish.inspection.masks import Masks
from blemish.inspection.samples import CachedEncoder, LoadedSample, SampleLoader
from blemish.inspection.scoring import Scorer
from blemish.io.log import Log
from blemish.io.prefetch import in_chunks
from blemish.io.progress import Reporter
from blemish.language import Vocabulary, general, load_vocabulary, parse_defects
from blemish.maps import at_original
from blemish.metrics import AnomalyAccumulator, SteppedAupro, Value
from blemish.profiles import ProductProfile, read_profile

if TYPE_CHECKING:
    from blemish.models.feature_cache import FeatureStore

__all__ = ["EvaluationRun", "ScoredSample"]

SCORE_RANGE = (0.0, 1.0)  # of every method's maps
LEGACY_FILE = "legacy"
APART = "apart"  # the folder of products that other processes have counted


@dataclass(frozen=True, eq=False)
class ScoredSample:
    """A sample with its scores."""

    image: LoadedSample
    scores: RawScores  # with the vocabulary that anomalies are measured with; the map in 0..1
    typed: RawScores | None  # with the types of its own product; None where nobody asks
    inside: NDArray[np.bool_] | None  # [height, width], the pixels that count; None: all do

    def map_at(self, size_px: tuple[int, int]) -> NDArray[np.float32]:
        """The map [height, width] for `size_px` (width, height), bilinear; 0 where pixels do not count."""
        return at_original(self.scores.anomaly_map, size_px, self.inside)


class EvaluationRun:
    """One evaluation in its folder below `out`, which follows from everything that decides a number.

    Raises:
        UsageError: the data cannot be measured at all.
    """

    def __init__(
        self, candidate: Candidate, data: DataSet, *, out: Path, settings: EvaluationSettings, reporter: Reporter
    ) -> None:
        if not data.samples:
            raise UsageError(f"{data.name}: there are no images to evaluate ({data.variant or 'no samples'})")
        self.candidate, self.data, self.settings, self.reporter = candidate, data, settings, reporter
        self.products = by_product(data.samples)
        self.no_pixels = why_no_pixels(data)
        self.profile = None if settings.profile is None else read_profile(settings.profile)
        self.vocabulary = _vocabulary(settings, data, self.profile)
        self.masks = Masks.open(settings.roi, settings.ignore)
        if self.masks is None and self.profile is not None:
            self.masks = Masks.of_pixels(self.profile.roi, self.profile.ignore, path=Path(settings.profile or ""))
        self.typing = Typing(data, aligned_corners=candidate.engine.aligned_corners) if settings.typed else None
        self.store = self._store()
        self._scorer: tuple[str, Scorer] | None = None
        identity = self._identity()
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:10]
        name = re.sub(r"[^A-Za-z0-9._]+", "-", f"{data.name}-{candidate.name}").strip("-")
        self.folder = RunFolder(out / f"{name}-{key}", identity)
        self.engines = ProductEngines(
            candidate,
            self.products,
            settings=settings,
            profile=self.profile,
            vocabulary=self.vocabulary,
            folder=self.folder,
        )

    def count(self) -> Counts:
        """Goes on where the folder stands, to the end; all counts."""
        progress = self.folder.progress()
        self._adopt(progress)
        before = self._images_before(progress)
        if progress.log_bytes:
            what = "measured before" if before == len(self.data.samples) else "going on after"
            self.reporter.say(
                f"{self.data.name}, {self.candidate.name}: {what}: {before} of {len(self.data.samples)} images"
            )
        elif self.store is not None:
            self._encoder(self.store).reserve(len(self.data.samples))
        what = f"{self.data.name}, {self.candidate.name}"
        with (
            closing(self.folder.open_log(progress)) as log,
            self.reporter.progress(what, len(self.data.samples), done=before) as advance,
        ):
            for number in range(progress.product, len(self.products)):
                if number > progress.product:
                    progress.product, progress.chunks = number, 0
                for images in self._count_product(progress, log, self.folder):
                    for _ in range(images):
                        advance()
        return merged(self.folder.counts(n, len(c), self._empty()) for n, c in enumerate(self._chunks()))

    def count_apart(self, product: int) -> int:
        """Counts one product into a folder of its own, for `count` in another process to adopt; its images.

        A stopped count goes on.
        """
        folder = self._apart(product)
        progress = folder.progress()
        progress.product = product
        with closing(folder.open_log(progress)) as log:
            return sum(self._count_product(progress, log, folder))

    def _apart(self, product: int) -> RunFolder:
        return RunFolder(self.folder.path / APART / f"{product:03d}", self._identity())

    def _adopt(self, progress: EvaluationProgress) -> None:
        """Takes over products that were counted apart, from the place on where this evaluation stands, one after the other."""
        chunks = self._chunks()
        if not (self.folder.path / APART).is_dir():
            return
        with closing(self.folder.open_log(progress)) as log:
            for product in range(progress.product, len(chunks)):
                if product == progress.product and progress.chunks == len(chunks[product]):
                    continue  # counted here
                path = self.folder.path / APART / f"{product:03d}"
                if not path.is_dir():
                    break
                apart = self._apart(product)
                theirs = apart.progress()
                if theirs.chunks < len(chunks[product]) or (product == progress.product and progress.chunks):
                    break
                for record in apart.records():
                    log.write(record)
                progress.product, progress.chunks = product, theirs.chunks
                progress.seconds = round(progress.seconds + theirs.seconds, 3)
                self.folder.save(progress, apart.counts(product, theirs.chunks, self._empty()), log)
        if progress.product + 1 == len(chunks) and progress.chunks == len(chunks[-1]):
            shutil.rmtree(self.folder.path / APART, ignore_errors=True)

    def _count_product(self, progress: EvaluationProgress, log: Log, folder: RunFolder) -> Iterator[int]:
        """Counts what is left of one product; the number of images after each chunk."""
        chunks = self._chunks()[progress.product]
        counts = self._empty()
        if progress.chunks:
            counts = folder.counts(progress.product, progress.chunks, counts)
        remaining = chunks[progress.chunks :]
        saved = begun = time.monotonic()
        spent = progress.seconds
        for chunk, outcomes in zip(remaining, self._scored(remaining), strict=True):
            for sample, outcome in zip(chunk, outcomes, strict=True):
                if isinstance(outcome, ImageError):
                    log.write({"name": sample.name, "product": sample.product, "error": str(outcome)})
                else:
                    log.write(self._add(counts, outcome))
            progress.chunks += 1
            progress.seconds = round(spent + time.monotonic() - begun, 3)
            if progress.chunks == len(chunks) or time.monotonic() - saved >= self.settings.save_every_s:
                folder.save(progress, counts, log)
                saved = time.monotonic()
            yield len(chunk)

    def _add(self, counts: Counts, scored: ScoredSample) -> dict[str, Any]:
        """Counts one image; its record."""
        image, scores = scored.image, scored.scores
        sample, mask = image.sample, image.mask
        full_map = None if mask is None else scored.map_at((mask.shape[1], mask.shape[0]))
        counts.anomaly.add(
            full_map,
            mask,
            name=sample.name,
            product=sample.product,
            anomalous=sample.anomalous,
            defect_type=sample.defect_type,
            image_score=scores.image_score,
        )
        record: dict[str, Any] = {
            "name": sample.name,
            "product": sample.product,
            "anomalous": sample.anomalous,
            "defect_type": sample.defect_type,
            "folder": sample.folder,
            "image_score": scores.image_score,
            "map_peak": round(float(scores.anomaly_map.max()), 6),
            "size_px": list(image.size_px),
            "digest": image.digest,
        }
        if full_map is not None and mask is not None and mask.any():
            record["own_pixel_ap"] = round(own_ap(full_map, mask), 4)
        if self.typing is not None and scored.typed is not None:
            record |= self.typing.add(counts, image, scored.typed)
        return record

    def legacy(self, accumulator: AnomalyAccumulator) -> dict[str, Value]:
        """The papers' AUPRO of each product, in a second pass over the images: its thresholds need the extremes first."""
        found = self.folder.read_extra(LEGACY_FILE)
        values = dict(found.get("products", {})) if found.get("limit") == self.settings.limit else {}
        with self.reporter.progress(f"{self.data.name}, 200 steps", len(self.data.samples)) as advance:
            for product, chunks in zip(self.products, self._chunks(), strict=True):
                extremes = None if self.no_pixels else accumulator.extremes(product)
                if product not in values and extremes is not None:
                    lowest, highest = (np.float32(end) for end in extremes)
                    stepped = SteppedAupro(lowest, highest, limit=self.settings.limit)
                    for scored in self.again(chunks):
                        mask = scored.image.mask
                        if mask is not None:
                            stepped.add(scored.map_at((mask.shape[1], mask.shape[0])), mask)
                        advance()
                    value = stepped.value()
                    values[product] = {"value": value.value, "reason": value.reason}
                    facts = {"limit": self.settings.limit, "products": values}
                    self.folder.write_extra(LEGACY_FILE, facts)
        return {
            product: Value(value=stored["value"], reason=stored.get("reason", stored.get("why", "")))  # as before 0.2
            for product, stored in values.items()
        }

    def again(self, chunks: Sequence[Sequence[Sample]]) -> Iterator[ScoredSample]:
        """The readable ones of these images scored once more, exactly as before where the chunks are the same."""
        for outcomes in self._scored(chunks):
            yield from (outcome for outcome in outcomes if isinstance(outcome, ScoredSample))

    def _scored(self, chunks: Sequence[Sequence[Sample]]) -> Iterator[list[ScoredSample | ImageError]]:
        """The images of each chunk with their scores; an ImageError stands for one that cannot be read."""
        loader = SampleLoader(
            preprocess=self.engines.input,
            size=self.settings.size,
            masks=not self.no_pixels,
            store=self.store,
        )
        with ThreadPoolExecutor(default_workers(), thread_name_prefix="blemish") as pool:
            try:
                for chunk, loaded in zip(chunks, loader.chunks(chunks, pool), strict=True):
                    yield self._score(self._scorer_of(chunk[0].product), loaded, pool)
            finally:  # a consumer that stops early does not wait for what was read ahead
                pool.shutdown(wait=True, cancel_futures=True)

    def _score(
        self, scorer: Scorer, loaded: Sequence[LoadedSample | ImageError], pool: ThreadPoolExecutor
    ) -> list[ScoredSample | ImageError]:
        outcomes: list[ScoredSample | ImageError] = []
        for raw in scorer.score(loaded, pool):
            if isinstance(raw, ImageError):
                outcomes.append(raw)
                continue
            image = cast(LoadedSample, raw.image)
            scores, *typed = raw.scores
            inside = None
            if self.masks is not None:
                finished = scorer.finish(raw)
                if isinstance(finished, ImageError):
                    outcomes.append(finished)
                    continue
                scores, inside = finished.scores, finished.inside
            scores = replace(scores, anomaly_map=scores.anomaly_map.clip(*SCORE_RANGE))
            outcomes.append(ScoredSample(image, scores, typed[0] if typed else None, inside))
        return outcomes

    def _scorer_of(self, product: str) -> Scorer:
        """The scorer of a product: its references and, where types are told apart, its own vocabulary beside the asked one."""
        if self._scorer is None or self._scorer[0] != product:
            typed = None if self.typing is None else self.typing.vocabulary(product)
            scorer = Scorer(
                self.engines.of(product),
                *([self.vocabulary] if typed is None else [self.vocabulary, typed]),
                batch_size=self.settings.batch_size,
                tiles=self.settings.tiles,
                masks=self.masks,
                encoder=None if self.store is None else self._encoder(self.store),
            )
            self._scorer = product, scorer
        return self._scorer[1]

    def _encoder(self, store: FeatureStore) -> CachedEncoder:
        from blemish.engines.torch import TorchEngine

        assert isinstance(self.candidate.engine, TorchEngine)  # others have no store
        return CachedEncoder(self.candidate.engine, store)

    def _empty(self) -> Counts:
        pixel_types, image_types = None, None
        if self.typing is not None:
            pixel_types, image_types = self.typing.accumulators(pixels=not self.no_pixels)
        return Counts(
            AnomalyAccumulator(score_range=SCORE_RANGE, rounds=self.settings.rounds), pixel_types, image_types
        )

    def _chunks(self) -> list[list[Sequence[Sample]]]:
        return [in_chunks(samples, self.settings.batch_size) for samples in self.products.values()]

    def _images_before(self, progress: EvaluationProgress) -> int:
        chunks = self._chunks()
        done = [chunk for product in chunks[: progress.product] for chunk in product]
        current = chunks[progress.product][: progress.chunks]
        return sum(len(chunk) for chunk in [*done, *current])

    def _store(self) -> FeatureStore | None:
        if self.settings.cache == "none":
            return None
        from blemish.engines.torch import TorchEngine
        from blemish.models.feature_cache import CacheDtype, feature_store

        engine = self.candidate.engine
        if not isinstance(engine, TorchEngine) or not engine.method.worth_caching:
            self.reporter.say(
                f"{self.candidate.name}: all it does with an image depends on trained parts, so nothing is kept"
            )
            return None
        dtype: CacheDtype = self.settings.cache
        return feature_store(engine.method, dtype=dtype)

    def _identity(self) -> dict[str, Any]:
        deciding: Mapping[str, Any] = self.settings.deciding()
        told = describe(self.data)
        model = self.candidate.to_dict()
        del model["prompts"]  # the fingerprint says which they are, wherever they lie
        return {
            "blemish": __version__,
            "model": model,
            "data": {name: told[name] for name in ("name", "variant", "split", "images", "list_digest")},
            "settings": dict(deciding),
            "vocabulary": list(self.vocabulary.names),
            **({} if self.profile is None else {"profile": self.profile.identity}),
            **({} if self.settings.vocabulary is None else {"words": vocabulary_hash(self.vocabulary)}),
            "types": None if self.typing is None else {p: list(names) for p, names in self.typing.types.items()},
        }


def _vocabulary(settings: EvaluationSettings, data: DataSet, profile: ProductProfile | None) -> Vocabulary:
    if settings.vocabulary is not None:
        return load_vocabulary(settings.vocabulary, product=settings.product)
    if settings.defects is None:
        return general() if profile is None or profile.vocabulary is None else profile.vocabulary
    if settings.defects != DATA_TYPES:
        return parse_defects(settings.defects)
    if not data.types:
        raise UsageError(f"{data.name}: names no defect types to take as a vocabulary; leave --defects away")
    return parse_defects(data.types)
