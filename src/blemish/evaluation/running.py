"""One model on one data set: image by image, in bounded memory, saved on the way.

B batch, H×W the size at which pixels are compared.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blemish._version import __version__
from blemish.data import DataSet, Sample
from blemish.errors import ImageError, ModelError, UsageError
from blemish.evaluation.feeding import Encoder, Seen, feed, in_chunks
from blemish.evaluation.finding import by_product, describe, why_no_pixels
from blemish.evaluation.models import Model
from blemish.evaluation.ranks import own_ap
from blemish.evaluation.settings import DATA_TYPES, Settings
from blemish.evaluation.states import Counts, Progress, RunFolder, merged
from blemish.evaluation.typing import Typing
from blemish.inspection.inspector import device_of
from blemish.language import Vocabulary, parse_defects
from blemish.maps import enlarge
from blemish.methods.base import Features
from blemish.metrics import AnomalyAccumulator, SteppedAupro, Value
from blemish.models.feature_cache import CacheDtype, FeatureStore, feature_store
from blemish.training.log import Log
from blemish.training.recipe import Reporter

__all__ = ["Run", "Scored"]

SCORE_RANGE = (0.0, 1.0)  # of every method's maps
LEGACY_FILE = "legacy"


@dataclass(frozen=True)
class Scored:
    """What a method says of one image: its score, and its map [h, w] at the method's own size, both in 0..1."""

    seen: Seen
    image_score: float
    anomaly_map: NDArray[np.float32]

    def map_at(self, size_px: tuple[int, int]) -> NDArray[np.float32]:
        """The map [height, width] for `size_px` (width, height), bilinear."""
        return enlarge(self.anomaly_map, size_px)


class Run:
    """One evaluation in its folder below `out`, which follows from everything that decides a number.

    The method is moved to the device and prepared. UsageError where the data cannot be measured at all.
    """

    def __init__(self, model: Model, data: DataSet, *, out: Path, settings: Settings, reporter: Reporter) -> None:
        if not data.samples:
            raise UsageError(f"{data.name}: there are no images to evaluate ({data.variant or 'no samples'})")
        self.model, self.data, self.settings, self.reporter = model, data, settings, reporter
        self.products = by_product(data.samples)
        self.no_pixels = why_no_pixels(data)
        self.device = device_of(settings.device)
        method = model.method.to(self.device).eval()
        method.prepare(_vocabulary(settings, data))
        self.typing = Typing(model, data) if settings.typed else None
        self.store = self._store()
        self.encoder = Encoder(model, device=self.device, store=self.store)
        identity = self._identity()
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:10]
        name = re.sub(r"[^A-Za-z0-9._]+", "-", f"{data.name}-{model.name}").strip("-")
        self.folder = RunFolder(out / f"{name}-{key}", identity)

    def count(self) -> Counts:
        """Goes on where the folder stands, to the end; all counts."""
        progress = self.folder.progress()
        before = self._images_before(progress)
        if progress.log_bytes:
            what = "measured before" if before == len(self.data.samples) else "going on after"
            self.reporter.say(
                f"{self.data.name}, {self.model.name}: {what}: {before} of {len(self.data.samples)} images"
            )
        elif self.store is not None:
            self.encoder.reserve(len(self.data.samples))
        what = f"{self.data.name}, {self.model.name}"
        with (
            torch.inference_mode(),
            closing(self.folder.open_log(progress)) as log,
            self.reporter.progress(what, len(self.data.samples), done=before) as advance,
        ):
            for number in range(progress.product, len(self.products)):
                if number > progress.product:
                    progress.product, progress.chunks = number, 0
                for images in self._count_product(progress, log):
                    for _ in range(images):
                        advance()
        return merged(self.folder.counts(n, len(c), self._empty()) for n, c in enumerate(self._chunks()))

    def _count_product(self, progress: Progress, log: Log) -> Iterator[int]:
        """Counts what is left of one product; the number of images after each chunk."""
        chunks = self._chunks()[progress.product]
        counts = self._empty()
        if progress.chunks:
            counts = self.folder.counts(progress.product, progress.chunks, counts)
        left = chunks[progress.chunks :]
        saved = begun = time.monotonic()
        spent = progress.seconds
        for chunk, (scored, features, errors) in zip(left, self._scored(left), strict=True):
            self._add(counts, scored, features, log)
            for sample, error in errors:
                log.write({"name": sample.name, "product": sample.product, "error": str(error)})
            progress.chunks += 1
            progress.seconds = round(spent + time.monotonic() - begun, 3)
            if progress.chunks == len(chunks) or time.monotonic() - saved >= self.settings.save_every_s:
                self.folder.save(progress, counts, log)
                saved = time.monotonic()
            yield len(chunk)

    def _add(self, counts: Counts, scored: Sequence[Scored], features: Features | None, log: Log) -> None:
        told: list[dict[str, object]] = [{} for _ in scored]
        if self.typing is not None and features is not None:
            told = self.typing.add(counts, [one.seen for one in scored], features)
        for one, types in zip(scored, told, strict=True):
            sample, mask = one.seen.sample, one.seen.mask
            large = None if mask is None else one.map_at((mask.shape[1], mask.shape[0]))
            counts.anomaly.add(
                large,
                mask,
                name=sample.name,
                product=sample.product,
                anomalous=sample.anomalous,
                defect_type=sample.defect_type,
                image_score=one.image_score,
            )
            record = {
                "name": sample.name,
                "product": sample.product,
                "anomalous": sample.anomalous,
                "defect_type": sample.defect_type,
                "folder": sample.folder,
                "image_score": one.image_score,
                "map_peak": round(float(one.anomaly_map.max()), 6),
                "size_px": list(one.seen.size_px),
                "digest": one.seen.digest,
            }
            if large is not None and mask is not None and mask.any():
                record["own_pixel_ap"] = round(own_ap(large, mask), 4)
            log.write(record | types)

    def legacy(self, tally: AnomalyAccumulator) -> dict[str, Value]:
        """The papers' AUPRO of each product, in a second pass over the images: its thresholds need the extremes first."""
        found = self.folder.read_extra(LEGACY_FILE)
        values = dict(found.get("products", {})) if found.get("limit") == self.settings.limit else {}
        with self.reporter.progress(f"{self.data.name}, 200 steps", len(self.data.samples)) as advance:
            for product, chunks in zip(self.products, self._chunks(), strict=True):
                extremes = None if self.no_pixels else tally.extremes(product)
                if product not in values and extremes is not None:
                    lowest, highest = (np.float32(one) for one in extremes)
                    stepped = SteppedAupro(lowest, highest, limit=self.settings.limit)
                    for scored in self.again(chunks):
                        if scored.seen.mask is not None:
                            height, width = scored.seen.mask.shape
                            stepped.add(scored.map_at((width, height)), scored.seen.mask)
                        advance()
                    value = stepped.value()
                    values[product] = {"value": value.value, "why": value.why}
                    facts = {"limit": self.settings.limit, "products": values}
                    self.folder.write_extra(LEGACY_FILE, facts)
        return {product: Value(**value) for product, value in values.items()}

    def again(self, chunks: Sequence[Sequence[Sample]]) -> Iterator[Scored]:
        """The readable ones of these images scored once more, exactly as before where the chunks are the same."""
        with torch.inference_mode():
            for scored, _, _ in self._scored(chunks):
                yield from scored

    def _scored(
        self, chunks: Sequence[Sequence[Sample]]
    ) -> Iterator[tuple[list[Scored], Features | None, list[tuple[Sample, ImageError]]]]:
        """The images of each chunk with their scores, their features as one batch, and those that cannot be read."""
        fed = feed(chunks, self.model, size=self.settings.size, masks=not self.no_pixels, store=self.store)
        for chunk, looked in zip(chunks, fed, strict=True):
            errors = [(sample, one) for sample, one in zip(chunk, looked, strict=True) if isinstance(one, ImageError)]
            seen = [one for one in looked if isinstance(one, Seen)]
            features = self.encoder.features(seen) if seen else None
            yield ([] if features is None else self._score(seen, features)), features, errors

    def _score(self, seen: Sequence[Seen], features: Features) -> list[Scored]:
        scores = self.model.method.score(features)
        images, maps = (
            part.detach().to("cpu", torch.float32).numpy() for part in (scores.image_score, scores.anomaly_map)
        )
        found = []
        for one, image_score, anomaly_map in zip(seen, images, maps, strict=True):
            if not (np.isfinite(image_score) and np.isfinite(anomaly_map).all()):
                raise ModelError(f"{one.sample.name}: the method {self.model.name!r} gave scores that are not numbers")
            found.append(Scored(one, float(image_score), anomaly_map.clip(*SCORE_RANGE)))
        return found

    def _empty(self) -> Counts:
        pixel_types, image_types = None, None
        if self.typing is not None:
            pixel_types, image_types = self.typing.tallies(pixels=not self.no_pixels)
        return Counts(
            AnomalyAccumulator(score_range=SCORE_RANGE, rounds=self.settings.rounds), pixel_types, image_types
        )

    def _chunks(self) -> list[list[Sequence[Sample]]]:
        return [in_chunks(samples, self.settings.batch_size) for samples in self.products.values()]

    def _images_before(self, progress: Progress) -> int:
        chunks = self._chunks()
        done = [chunk for product in chunks[: progress.product] for chunk in product]
        current = chunks[progress.product][: progress.chunks]
        return sum(len(chunk) for chunk in [*done, *current])

    def _store(self) -> FeatureStore | None:
        if self.settings.cache == "none":
            return None
        if not self.model.method.worth_keeping:
            self.reporter.say(
                f"{self.model.name}: all it does with an image depends on trained parts, so nothing is kept"
            )
            return None
        kept: CacheDtype = self.settings.cache
        return feature_store(self.model.method, dtype=kept)

    def _identity(self) -> dict[str, Any]:
        deciding: Mapping[str, Any] = self.settings.deciding()
        told = describe(self.data)
        model = self.model.to_dict()
        del model["prompts"]  # the fingerprint says which they are, wherever they lie
        return {
            "blemish": __version__,
            "model": model,
            "data": {name: told[name] for name in ("name", "variant", "split", "images", "list_digest")},
            "settings": dict(deciding),
            "vocabulary": list(self.model.method.types),
            "types": None if self.typing is None else {p: list(names) for p, names in self.typing.types.items()},
        }


def _vocabulary(settings: Settings, data: DataSet) -> Vocabulary | None:
    if settings.defects is None:
        return None
    if settings.defects != DATA_TYPES:
        return parse_defects(settings.defects)
    if not data.types:
        raise UsageError(f"{data.name}: names no defect types to take as a vocabulary; leave --defects away")
    return parse_defects(data.types)
