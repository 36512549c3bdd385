"""What an inspection says of one image: frozen, NumPy, in pixels of the original image.

Pixels are x, y from the top left of the upright image (EXIF orientation applied), boxes half-open. Higher scores are
more anomalous; every decision is `score >= threshold`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from blemish.errors import UsageError
from blemish.maps import at_original

__all__ = [
    "SCHEMA",
    "UNKNOWN",
    "Inspection",
    "ModelInfo",
    "Origin",
    "Region",
    "ScoreFrom",
    "Thresholds",
    "Verdict",
    "lead",
]

SCHEMA = "blemish.inspection/1"
UNKNOWN = "unknown defect"  # where no type stands out
DIGITS = 6  # of scores in files: float32 holds no more

Origin = Literal["uncalibrated", "calibrated", "user"]
ScoreFrom = Literal["method", "tiles", "roi"]


class Verdict(StrEnum):
    """OK, look again, or not good."""

    OK = "ok"
    REVIEW = "review"
    NG = "ng"


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """The lines between verdicts (image score) and around regions (pixel score), in 0..1.

    `review` is the lower end of the review band, None for none. "uncalibrated" marks the model card's values, which
    come from synthetic images; "calibrated" those of `blemish calibrate`; "user" values given by the user.
    """

    image: float
    pixel: float
    review: float | None = None
    calibration: Origin = "uncalibrated"
    pixel_calibration: Origin = "uncalibrated"

    def __post_init__(self) -> None:
        for name in ("image", "pixel", "review"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"the {name} threshold must be in 0..1, not {value:g}")
        if self.review is not None and self.review >= self.image:
            raise UsageError(f"the review threshold {self.review:g} must be below the image threshold {self.image:g}")

    def to_dict(self) -> dict[str, Any]:
        return {
            "image": self.image,
            "review": self.review,
            "pixel": self.pixel,
            "calibration": self.calibration,
            "pixel_calibration": self.pixel_calibration,
        }


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What looked at the image. `prompts` names the trained prompts, "" where the method has none; `fingerprint` are 16 hex
    digits that stand for backbone, method, options and prompts together."""

    backbone: str
    method: str
    version: str
    prompts: str = ""
    fingerprint: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "backbone": self.backbone,
            "method": self.method,
            "prompts": self.prompts,
            "fingerprint": self.fingerprint,
            "version": self.version,
        }


@dataclass(frozen=True, kw_only=True)
class Region:
    """One connected region of pixels at or above the pixel threshold.

    `box_px` is (x0, y0, x1, y1), half-open, in pixels of the original image; scores are pixel scores in 0..1.
    `type_probability` is the type's share of all types over the region, 0..1, and `type_margin` its lead over the next
    one; all three are None where the method tells no types. `polygon_px` is the outer outline, see `regions.polygon`.
    `area_mm2` and `size_mm` (width and height of the box) are None where nobody said how large a pixel is.
    """

    box_px: tuple[int, int, int, int]
    area_px: int
    mean_score: float
    peak_score: float
    type: str | None = None
    type_probability: float | None = None
    type_margin: float | None = None
    polygon_px: tuple[tuple[int, int], ...] = ()
    area_mm2: float | None = None
    size_mm: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "type_probability": _rounded(self.type_probability),
            "type_margin": _rounded(self.type_margin),
            "box_px": list(self.box_px),
            "area_px": self.area_px,
            "mean_score": _rounded(self.mean_score),
            "peak_score": _rounded(self.peak_score),
            "polygon_px": [list(point) for point in self.polygon_px],
            "area_mm2": _rounded(self.area_mm2),
            "size_mm": None if self.size_mm is None else [_rounded(side) for side in self.size_mm],
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Inspection:
    """Everything about one image.

    image_score: raw, 0..1. anomaly_map [h, w] float32 in 0..1, at model size; `map_at_original` enlarges it, and map_peak is
    that one's maximum. image_score_from: "method"; "tiles", the mean of the whole view's score and the highest tile's; "roi",
    where only some pixels count: the map's peak among them. inside [height_px, width_px] are those, None for all. Regions
    smaller than min_area_px are not listed.
    type_scores [T] and type_maps [T, h, w] follow `types`; their maps are None where the method has none. value_range:
    the source values that were read as black and white where the image holds more than 8 bits, else None. tags: what a DICOM
    file says of itself. min_lead: a type that leads the next by less is unknown (see `lead`); 0: every type keeps its name.
    """

    source: str
    width_px: int
    height_px: int
    image_score: float
    verdict: Verdict
    thresholds: Thresholds
    anomaly_map: NDArray[np.float32]
    types: tuple[str, ...]
    type_scores: NDArray[np.float32]
    type_maps: NDArray[np.float32] | None
    regions: tuple[Region, ...]
    value_range: tuple[float, float] | None
    model: ModelInfo
    map_peak: float | None = None
    image_score_from: ScoreFrom = "method"
    inside: NDArray[np.bool_] | None = None
    min_area_px: float = 1.0
    mm_per_px: float | None = None
    min_lead: float = 0.0
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def top_type(self) -> str | None:
        """The type with the highest score, or "unknown defect" where it leads the next by less than `min_lead`; None without
        types. The regions say where, the verdict whether it matters."""
        if not len(self.types):
            return None
        best = int(self.type_scores.argmax())
        first, second = float(self.type_scores[best]), float(np.delete(self.type_scores, best).max(initial=0.0))
        return UNKNOWN if lead(first, first - second) < self.min_lead else self.types[best]

    def map_at_original(self) -> NDArray[np.float32]:
        """The anomaly map [height_px, width_px], enlarged bilinearly, 0 where pixels do not count; an array of its own.

        Raises:
            UsageError: The inspection was read from a run that kept no maps.
        """
        if not self.anomaly_map.size:
            raise UsageError(f"{self.source}: the run kept no maps (blemish inspect --keep-maps)")
        return at_original(self.anomaly_map, (self.width_px, self.height_px), self.inside)

    def mask(self) -> NDArray[np.bool_]:
        """Where the map at original size is at or above the pixel threshold, [height_px, width_px]."""
        return self.map_at_original() >= np.float32(self.thresholds.pixel)

    def to_dict(self) -> dict[str, Any]:
        """The documented record (docs/results.md), ready for JSON; maps are not in it."""
        return {
            "schema": SCHEMA,
            "source": self.source,
            "width_px": self.width_px,
            "height_px": self.height_px,
            "verdict": self.verdict.value,
            "image_score": self.image_score,  # exact, as the peak is: readers may decide again
            "image_score_from": self.image_score_from,
            "map_peak": self.map_peak,
            "thresholds": self.thresholds.to_dict(),
            "top_type": self.top_type,
            "types": {name: _rounded(float(score)) for name, score in zip(self.types, self.type_scores, strict=True)},
            "regions": [region.to_dict() for region in self.regions],
            "min_area_px": _rounded(self.min_area_px),
            "mm_per_px": self.mm_per_px,
            "value_range": None if self.value_range is None else list(self.value_range),
            "tags": dict(self.tags),
            "model": self.model.to_dict(),
        }


def lead(probability: float, margin: float) -> float:
    """p1 / (p1 + p2), of the likeliest type's probability p1 and its margin p1 - p2: 0.5 for a tie, 1 where nothing competes.

    Unlike p1 itself it does not shrink when a vocabulary has more names.
    """
    both = 2 * probability - margin
    return probability / both if both > 0 else 0.5


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
