"""Pixel metrics of one product, map by map, in memory that does not grow with the images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.errors import UsageError
from blemish.metrics import steps as step_metrics
from blemish.metrics.bins import Histogram, pooled
from blemish.metrics.checks import MaskRegions, checked_map, find_mask_regions
from blemish.metrics.codes import Codes, ScoreEncoding
from blemish.metrics.resamples import Resamples
from blemish.metrics.state import Arrays, nested, renamed, under
from blemish.metrics.steps import AUPIMO_BOUNDS, AUPRO_LIMIT, Steps
from blemish.metrics.values import Value

__all__ = ["BINS", "NORMAL_TYPE", "ROUNDS", "SIZE_EDGES", "PixelRanking"]

BINS = 1 << 16
ROUNDS = 200
SIZE_EDGES = (0.001, 0.01, 0.1)  # shares of the image
NORMAL_TYPE = "normal"
_UNIT = 1 << 38  # the weight of one region, so that 1 / area is an integer and sums are exact; 2**24 regions fit

Kind = Literal["type", "size"]


@dataclass
class _Part:
    """The pixels of the images of one type ("normal" is one), or of the regions of one size."""

    histogram: Histogram
    images: int = 0
    regions: int = 0


class PixelRanking:
    """Pixel AUROC, AP, F1-max, AUPRO and AUPIMO over images added one by one, with bootstrap intervals over images.

    Args:
        score_range: The range (low, high) that the method promises; None where nobody knows it.
        bins: The most bins that scores are counted in. More of them lower the `error_bound` that every value has, and cost
            memory: at most 2.5 MB for each defect type with 65,536.
        rounds: The number of bootstrap resamples, 0 for none.
        size_edges: The shares of the image between which regions are classed by area.

    Example:
        >>> ranking = PixelRanking(rounds=0)
        >>> ranking.add(np.array([[0.1, 0.2], [0.3, 0.9]]), np.array([[0, 0], [0, 1]]))
        >>> ranking.auroc().value
        1.0
        >>> ranking.aupimo().reason
        'AUPIMO needs a normal image, and there is none'
    """

    def __init__(
        self,
        *,
        score_range: tuple[float, float] | None = (0.0, 1.0),
        bins: int = BINS,
        rounds: int = ROUNDS,
        size_edges: Sequence[float] = SIZE_EDGES,
    ) -> None:
        if list(size_edges) != sorted(set(size_edges)) or not all(0 < edge < 1 for edge in size_edges):
            raise UsageError(f"size edges are shares of the image that rise between 0 and 1, not {list(size_edges)}")
        self.encoding = ScoreEncoding(None if score_range is None else (float(score_range[0]), float(score_range[1])))
        self.bins = Histogram(bins=bins).bins
        self.size_edges = tuple(float(edge) for edge in size_edges)
        self.lowest, self.highest = np.inf, -np.inf
        self._parts: dict[tuple[Kind, str], _Part] = {}
        self._resamples = Resamples(rounds)

    def add(
        self,
        anomaly_map: ArrayLike,
        mask: ArrayLike,
        *,
        name: str | None = None,
        anomalous: bool | None = None,
        defect_type: str = "",
    ) -> None:
        """Add one image.

        Args:
            anomaly_map: Its map [H, W].
            mask: Its mask [H, W], booleans or 0 and 1.
            name: Decides which bootstrap resamples the image is in; without one its number does.
            anomalous: Whether the image is, by default whether its mask has a pixel. An anomalous image with an empty mask
                counts as normal pixels.
            defect_type: The type of an anomalous image.

        Raises:
            UsageError: Map and mask cannot be compared, a score is not finite or outside the range, or a normal image has a
                mask or a type.
        """
        scores, truth = checked_map(anomaly_map, mask)
        has_pixels = bool(truth.any())
        anomalous = has_pixels if anomalous is None else bool(anomalous)
        if not anomalous and (has_pixels or defect_type):
            raise UsageError(f"a normal image has no {'anomalous pixels' if has_pixels else 'defect type'}")
        if anomalous and defect_type == NORMAL_TYPE:
            raise UsageError(f"a defect type cannot be called {NORMAL_TYPE!r}")
        codes = self.encoding.encode(scores)
        part = self._part("type", defect_type if anomalous else NORMAL_TYPE)
        amounts = {"normal": part.histogram.count(codes.reshape(-1))}
        if has_pixels:
            regions = find_mask_regions(truth)
            amounts |= _of_regions(part.histogram, codes[truth], regions)
            amounts["normal"] -= amounts["anomalous"]
            part.regions += len(regions.areas_px)
            self._add_sizes(codes[truth], regions, truth.size)
        elif not anomalous:
            amounts["share"] = amounts["normal"] * (_UNIT // truth.size)
        for channel, counts in amounts.items():
            part.histogram.add(channel, counts)
        self._resamples.add(part.histogram, amounts, name=str(self.images) if name is None else name)
        part.images += 1
        self.lowest, self.highest = min(self.lowest, float(scores.min())), max(self.highest, float(scores.max()))

    def _add_sizes(self, codes: Codes, regions: MaskRegions, image_px: int) -> None:
        classes = np.searchsorted(self.size_edges, regions.areas_px / image_px, side="right")
        for size in np.unique(classes):
            chosen = classes == size
            own = chosen[regions.region_of]
            part = self._part("size", self.size_names[size])
            part.histogram.add_at("anomalous", codes[own], 1)
            part.histogram.add_at("region", codes[own], (_UNIT // regions.areas_px)[regions.region_of[own]])
            part.images += 1
            part.regions += int(chosen.sum())

    def _part(self, kind: Kind, name: str) -> _Part:
        return self._parts.setdefault((kind, name), _Part(Histogram(bins=self.bins)))

    @property
    def size_names(self) -> tuple[str, ...]:
        """All size classes, from small to large, in percent of the image."""
        edges = [f"{100 * edge:g}" for edge in self.size_edges]
        if not edges:
            return ("any size",)
        between = [f"{low}–{high} %" for low, high in pairwise(edges)]
        return (f"below {edges[0]} %", *between, f"{edges[-1]} % and more")

    @property
    def images(self) -> int:
        """How many images were added."""
        return sum(part.images for (kind, _), part in self._parts.items() if kind == "type")

    @property
    def defect_types(self) -> tuple[str, ...]:
        """The types that came, in alphabetical order; "" stands for anomalous images whose type nobody named."""
        return tuple(sorted(name for kind, name in self._parts if kind == "type" and name != NORMAL_TYPE))

    @property
    def sizes(self) -> tuple[str, ...]:
        """The size classes that have regions, from small to large."""
        return tuple(name for name in self.size_names if ("size", name) in self._parts)

    def regions(self, *, defect_type: str | None = None, size: str | None = None) -> int:
        """How many anomalous regions there were: all, of one type, or of one size class."""
        wanted: tuple[Kind, str | None] = ("type", defect_type) if size is None else ("size", size)
        return sum(
            part.regions
            for (kind, name), part in self._parts.items()
            if kind == wanted[0] and wanted[1] in (None, name)
        )

    def images_of_size(self, size: str) -> int:
        """How many images have regions of this size class."""
        return self._parts[("size", size)].images if ("size", size) in self._parts else 0

    def steps(self, *, defect_type: str | None = None, size: str | None = None) -> Steps:
        """The table behind the metrics: of all images; of one type, which is its images and the normal ones; or of the regions of
        one size against the normal pixels of all images."""
        everything = [self._parts[key].histogram for key in sorted(self._parts) if key[0] == "type"]
        if size is not None:
            sized = [part.histogram for key, part in self._parts.items() if key == ("size", size)]
            total = pooled([pooled(everything, names=("normal",), bins=self.bins), *sized], bins=self.bins)
        elif defect_type is not None:
            keys: list[tuple[Kind, str]] = [("type", NORMAL_TYPE), ("type", defect_type)]
            total = pooled([self._parts[key].histogram for key in keys if key in self._parts], bins=self.bins)
        else:
            total = pooled(everything, bins=self.bins)
        return total.steps(self.encoding)

    def metrics(
        self,
        *,
        limit: float = AUPRO_LIMIT,
        bounds: tuple[float, float] = AUPIMO_BOUNDS,
        confidence: float = 0.95,
        defect_type: str | None = None,
        size: str | None = None,
    ) -> dict[str, Value]:
        """auroc, average_precision, f1_max, aupro and aupimo by name, from one table (see `steps`).

        Args:
            limit: Of the false positive rate of AUPRO, in (0, 1].
            bounds: Of the false positive rate of AUPIMO.
            confidence: Of the intervals, which the metrics of all images have, but for AUPIMO.
            defect_type: Of the images of this type and the normal ones.
            size: Of the regions of this size class against the normal pixels of all images.
        """
        table = self.steps(defect_type=defect_type, size=size)
        of_all_images = defect_type is None and size is None
        chosen: dict[str, Callable[[Steps], Value]] = {
            "auroc": step_metrics.auroc,
            "average_precision": step_metrics.average_precision,
            "f1_max": step_metrics.f1_max,
            "aupro": partial(step_metrics.aupro, limit=limit),
        }
        values = {
            name: self._resamples.interval(metric, metric(table), confidence=confidence)
            if of_all_images
            else metric(table)
            for name, metric in chosen.items()
        }
        return values | {"aupimo": step_metrics.aupimo(table, bounds=bounds)}

    def auroc(self, *, confidence: float = 0.95) -> Value:
        """Pixel AUROC over all pixels of all images."""
        return self._with_interval(step_metrics.auroc, confidence)

    def average_precision(self, *, confidence: float = 0.95) -> Value:
        """Pixel AP, the step sum."""
        return self._with_interval(step_metrics.average_precision, confidence)

    def f1_max(self, *, confidence: float = 0.95) -> Value:
        """The highest pixel F1 and its threshold."""
        return self._with_interval(step_metrics.f1_max, confidence)

    def aupro(self, *, limit: float = AUPRO_LIMIT, confidence: float = 0.95) -> Value:
        """AUPRO up to the false positive rate `limit`, in (0, 1]."""
        return self._with_interval(partial(step_metrics.aupro, limit=limit), confidence)

    def aupimo(self, *, bounds: tuple[float, float] = AUPIMO_BOUNDS) -> Value:
        """The mean AUPIMO of the anomalous images; without an interval."""
        return step_metrics.aupimo(self.steps(), bounds=bounds)

    def _with_interval(self, metric: Callable[[Steps], Value], confidence: float) -> Value:
        return self._resamples.interval(metric, metric(self.steps()), confidence=confidence)

    def merge(self, other: PixelRanking) -> None:
        """Add what another one counted of other images; the result is exactly that of one that got all.

        UsageError where the two were set up differently.
        """
        if self.setup() != other.setup():
            raise UsageError(f"rankings with different settings cannot be merged: {self.setup()} and {other.setup()}")
        for (kind, name), theirs in other._parts.items():
            part = self._part(kind, name)
            part.histogram.merge(theirs.histogram)
            part.images += theirs.images
            part.regions += theirs.regions
        self._resamples.histogram.merge(other._resamples.histogram)
        self.lowest, self.highest = min(self.lowest, other.lowest), max(self.highest, other.highest)

    def setup(self) -> dict[str, Any]:
        """The settings, as `PixelRanking(**setup)` takes them."""
        return {
            "score_range": self.encoding.low_high,
            "bins": self.bins,
            "rounds": self._resamples.rounds,
            "size_edges": self.size_edges,
        }

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """What `restored` needs: a part for JSON, and arrays."""
        arrays: Arrays = {}
        parts = []
        for number, ((kind, name), part) in enumerate(self._parts.items()):
            facts, of_part = part.histogram.state()
            parts.append({"kind": kind, "name": name, "images": part.images, "regions": part.regions, "cells": facts})
            arrays |= nested(f"part{number}", of_part)
        facts, of_resamples = self._resamples.histogram.state()
        extremes = [self.lowest, self.highest] if self._parts else None
        arrays |= nested("resamples", of_resamples)
        return {"setup": self.setup(), "parts": parts, "resamples": facts, "extremes": extremes}, arrays

    @classmethod
    def restored(cls, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> PixelRanking:
        """The ranking whose `state` this is."""
        ranking = cls(**renamed(facts["setup"]))
        for number, part in enumerate(facts["parts"]):
            histogram = Histogram.restored(part["cells"], under(f"part{number}", arrays))
            ranking._parts[(part["kind"], part["name"])] = _Part(histogram, part["images"], part["regions"])
        ranking._resamples.histogram = Histogram.restored(facts["resamples"], under("resamples", arrays))
        if facts["extremes"]:
            ranking.lowest, ranking.highest = facts["extremes"]
        return ranking


def _of_regions(histogram: Histogram, codes: Codes, regions: MaskRegions) -> dict[str, NDArray[np.int64]]:
    """What the anomalous pixels [M], some of the codes that the histogram counted last, add to its bins, by channel."""
    indices = histogram.indices(codes)
    anomalous = np.bincount(indices, minlength=histogram.size)
    weights = np.zeros(histogram.size, np.int64)
    np.add.at(weights, indices, (_UNIT // regions.areas_px)[regions.region_of])
    return {"anomalous": anomalous, "region": weights, "image": anomalous * (_UNIT // len(codes))}
