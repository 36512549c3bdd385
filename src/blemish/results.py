"""What an inspection says of one image: frozen, NumPy, in pixels of the original image.

Pixels are x, y from the top left of the upright image (EXIF orientation applied), boxes half-open. Higher scores are
more anomalous; every decision is `score >= threshold`.
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from blemish.errors import ImageError, UsageError
from blemish.images import Picture, read, save
from blemish.maps import Blob, at_original, grow_blobs

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "INSPECTION_SCHEMA",
    "UNKNOWN",
    "Inspection",
    "ModelInfo",
    "Origin",
    "Reasons",
    "Region",
    "ScoreFrom",
    "Thresholds",
    "Verdict",
    "lead",
]

INSPECTION_SCHEMA = "blemish.inspection/1"
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
class Reasons:
    """What sets the highest patches of an image apart from the most alike patches of good images, means over these patches."""

    words: float  # log odds of the words beyond those at the alike good patches
    distance: float  # distance to the nearest good patch, in multiples of the usual one there

    def __str__(self) -> str:
        return f"words {self.words:+.1f} over alike good patches, distance {self.distance:.1f}×"

    def to_dict(self) -> dict[str, Any]:
        return {"words": _rounded(self.words), "distance": _rounded(self.distance)}


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
    best_guess: str | None = None  # the likeliest type's name, also where that is too unsure to be the region's type

    def to_dict(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "type_probability": _rounded(self.type_probability),
            "type_margin": _rounded(self.type_margin),
            "best_guess": self.best_guess,
            "box_px": list(self.box_px),
            "area_px": self.area_px,
            "mean_score": _rounded(self.mean_score),
            "peak_score": _rounded(self.peak_score),
            "polygon_px": [list(point) for point in self.polygon_px],
            "area_mm2": _rounded(self.area_mm2),
            "size_mm": None if self.size_mm is None else [_rounded(side) for side in self.size_mm],
        }


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Inspection:
    """Everything about one image. Pixels are those of the original image, turned upright."""

    source: str  # the path of the image, or what it was given as
    width_px: int
    height_px: int
    image_score: float  # 0..1, raw: no decision changes it
    verdict: Verdict
    thresholds: Thresholds
    anomaly_map: NDArray[np.float32]  # [h, w], 0..1, at the model's size; [0, 0] where a run kept no maps
    types: tuple[str, ...]  # T names
    type_scores: NDArray[np.float32]  # [T], 0..1
    type_maps: NDArray[np.float32] | None  # [T, h', w'], 0..1; None where the method has none
    regions: tuple[Region, ...]  # the highest peak first
    value_range: tuple[float, float] | None  # source values of black and white; None for 8 bits
    model: ModelInfo
    map_peak: float | None = None  # the highest score of the map at original size, 0..1
    image_score_from: ScoreFrom = (
        "method"  # "tiles": the mean of the whole view's and the highest tile's; "roi": the map's peak
    )
    inside: NDArray[np.bool_] | None = None  # [height_px, width_px], the pixels that count; None: all do
    region_threshold: float | None = None  # 0..1, what the peak of a region reaches; None for the pixel threshold
    min_area_px: float = 1.0  # of the smallest region that is listed
    mm_per_px: float | None = None
    min_lead: float = 0.0  # a type that leads the next by less is unknown (see `lead`), 0..1
    tags: Mapping[str, str] = field(default_factory=dict)  # what a DICOM file says of itself
    statistics: Mapping[str, float] = field(default_factory=dict)  # how it looks; empty without a profile
    reasons: Reasons | None = None  # what raised the image score beside good images; None without such
    picture: Picture | None = None  # the image itself, where it was given alone and not as a file

    def __repr__(self) -> str:
        regions = f"{len(self.regions)} region{'' if len(self.regions) == 1 else 's'}"
        note = f"; note: {self.tags['note']}" if "note" in self.tags else ""
        return (
            f"<Inspection {self.source}: {self.verdict.value.upper()}, image score {self.image_score:.3f}, "
            f"{self.top_type or 'no types'}, {regions}{note}>"
        )

    def _repr_html_(self) -> str:
        """The overlay with a caption, for notebooks; words alone where the image is not at hand."""
        words = html.escape(repr(self)[1:-1])
        try:
            overlay = self.overlay()
        except (ImageError, UsageError):
            return f"<p>{words}</p>"
        held = io.BytesIO()
        overlay.save(held, "PNG")
        uri = f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"
        return (
            f'<figure><img src="{uri}" alt="{words}" style="max-width:100%"><figcaption>{words}</figcaption></figure>'
        )

    @property
    def top_type(self) -> str | None:
        """The type of the region with the highest peak; without regions, that of the highest type score.

        "unknown defect" where it leads the next by less than `min_lead`; None without types.
        """
        if self.regions and self.regions[0].type is not None:
            return self.regions[0].type
        if not len(self.types):
            return None
        best = int(self.type_scores.argmax())
        first, second = float(self.type_scores[best]), float(np.delete(self.type_scores, best).max(initial=0.0))
        return UNKNOWN if lead(first, first - second) < self.min_lead else self.types[best]

    def overlay(self) -> Image.Image:
        """The image under its heat map, with outlined regions and a caption, as a Pillow image at original size.

        Raises:
            ImageError: the file is gone, or is another image now.
            UsageError: the image was neither a file nor given alone, or the run kept no maps.
        """
        from blemish.drawing.overlay import draw_overlay

        return draw_overlay(self._own_picture(), self)

    def save(self, path: str | Path) -> Path:
        """Writes the overlay into a file, whose suffix says the format; its path. OutputError where it cannot be written."""
        return save(self.overlay(), path)

    def _own_picture(self) -> Picture:
        picture = self.picture
        if picture is None:
            if not Path(self.source.partition("#")[0]).is_file():
                raise UsageError(f"{self.source}: the image is not at hand; blemish.drawing.draw_overlay takes it")
            picture = read(self.source, value_range=self.value_range, max_megapixels=math.inf)
        if (picture.width_px, picture.height_px) != (self.width_px, self.height_px):
            raise ImageError(
                self.source,
                f"is {picture.width_px} x {picture.height_px} px now, not {self.width_px} x {self.height_px}",
            )
        return picture

    def map_at_original(self) -> NDArray[np.float32]:
        """The anomaly map [height_px, width_px], enlarged bilinearly, 0 where pixels do not count; an array of its own.

        Raises:
            UsageError: The inspection was read from a run that kept no maps.
        """
        if not self.anomaly_map.size:
            raise UsageError(f"{self.source}: the run kept no maps (blemish inspect --keep-maps)")
        return at_original(self.anomaly_map, (self.width_px, self.height_px), self.inside)

    def region_blobs(self) -> list[Blob]:
        """The pixels of all regions, also of those below the smallest area; see `maps.grow_blobs`."""
        return grow_blobs(self.map_at_original(), threshold=self.region_level)

    @property
    def region_level(self) -> float:
        """The score that the peak of every region reaches, 0..1."""
        return self.thresholds.pixel if self.region_threshold is None else self.region_threshold

    def mask(self) -> NDArray[np.bool_]:
        """The pixels of all regions, also of those below the smallest area, [height_px, width_px]."""
        mask = np.zeros((self.height_px, self.width_px), bool)
        for blob in self.region_blobs():
            mask[blob.slices] |= blob.pixels
        return mask

    def to_dict(self) -> dict[str, Any]:
        """The documented record (docs/results.md), ready for JSON; maps are not in it."""
        return {
            "schema": INSPECTION_SCHEMA,
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
            "region_threshold": self.region_threshold,
            "min_area_px": _rounded(self.min_area_px),
            "mm_per_px": self.mm_per_px,
            "value_range": None if self.value_range is None else list(self.value_range),
            "tags": dict(self.tags),
            "statistics": dict(self.statistics),
            "reasons": None if self.reasons is None else self.reasons.to_dict(),
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
