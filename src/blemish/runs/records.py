"""Records of inspections, and of images that could not be inspected, as JSON lines and as rows of a table.

docs/results.md describes every field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import ImageError
from blemish.io.json_files import json_line
from blemish.results import INSPECTION_SCHEMA, Inspection, ModelInfo, Reasons, Region, Thresholds, Verdict

__all__ = ["CSV_COLUMNS", "csv_row", "error_record", "inspection_of", "record_of", "text_cell"]

CSV_COLUMNS = (
    "source",
    "error",
    "width_px",
    "height_px",
    "verdict",
    "image_score",
    "image_score_from",
    "map_peak",
    "threshold",
    "review_threshold",
    "pixel_threshold",
    "calibration",
    "pixel_calibration",
    "top_type",
    "types",
    "region_count",
    "regions",
    "region_threshold",
    "min_area_px",
    "mm_per_px",
    "value_low",
    "value_high",
    "tags",
    "words_beyond_good",
    "distance_from_good",
    "backbone",
    "method",
    "prompts",
    "fingerprint",
    "version",
    "overlay",
    "mask",
    "maps",
    "schema",
)


def record_of(
    inspection: Inspection, *, overlay: str | None = None, mask: str | None = None, maps: str | None = None
) -> dict[str, Any]:
    """The record of an inspection, with the paths of its pictures below the folder of results."""
    return {**inspection.to_dict(), "error": None, "overlay": overlay, "mask": mask, "maps": maps}


def error_record(error: ImageError, *, thresholds: Thresholds, model: ModelInfo) -> dict[str, Any]:
    """The record of an image that could not be inspected: all fields, with `error` saying why and no verdict."""
    nothing = dict.fromkeys(("width_px", "height_px", "verdict", "image_score", "image_score_from", "map_peak"))
    return {
        "schema": INSPECTION_SCHEMA,
        "source": error.source,
        **nothing,
        "thresholds": thresholds.to_dict(),
        "top_type": None,
        "types": {},
        "regions": [],
        **dict.fromkeys(("region_threshold", "min_area_px", "mm_per_px", "value_range")),
        "tags": {},
        "statistics": {},
        "reasons": None,
        "model": model.to_dict(),
        "error": error.reason,
        **dict.fromkeys(("overlay", "mask", "maps")),
    }


def inspection_of(
    record: Mapping[str, Any], maps: Mapping[str, NDArray[Any]] | None = None, *, min_lead: float = 0.0
) -> Inspection:
    """The inspection that a record came from.

    Args:
        record: A record of an image that could be inspected.
        maps: Its kept maps (`blemish.runs.maps.read_maps`); without them the inspection's anomaly map is empty, [0, 0].
        min_lead: That of the run, 0..1.
    """
    maps, reasons = maps or {}, record.get("reasons")
    return Inspection(
        source=record["source"],
        width_px=record["width_px"],
        height_px=record["height_px"],
        image_score=record["image_score"],
        verdict=Verdict(record["verdict"]),
        thresholds=Thresholds(**record["thresholds"]),
        anomaly_map=maps.get("anomaly_map", np.zeros((0, 0), np.float32)),
        types=tuple(record["types"]),
        type_scores=np.array(list(record["types"].values()), np.float32),
        type_maps=maps.get("type_maps"),
        regions=tuple(_region(region) for region in record["regions"]),
        value_range=None if record["value_range"] is None else tuple(record["value_range"]),
        model=ModelInfo(**record["model"]),
        map_peak=record.get("map_peak"),
        image_score_from=record.get("image_score_from", "method"),
        inside=maps.get("inside"),
        region_threshold=record.get("region_threshold"),
        min_area_px=record.get("min_area_px", 1.0),
        mm_per_px=record.get("mm_per_px"),
        min_lead=min_lead,
        tags=dict(record.get("tags") or {}),
        statistics=dict(record.get("statistics") or {}),
        reasons=None if reasons is None else Reasons(**reasons),
    )


def csv_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record flattened to CSV_COLUMNS; `types` and `regions` are JSON in their cells, None is an empty cell."""
    thresholds, model = record["thresholds"], record["model"]
    low, high = record["value_range"] or (None, None)
    reasons = record.get("reasons") or {}
    row = {
        **{name: record.get(name) for name in CSV_COLUMNS},
        "threshold": thresholds["image"],
        "review_threshold": thresholds["review"],
        "pixel_threshold": thresholds["pixel"],
        "calibration": thresholds["calibration"],
        "pixel_calibration": thresholds["pixel_calibration"],
        "types": json_line(record["types"]),
        "region_count": len(record["regions"]),
        "regions": json_line(record["regions"]),
        "tags": json_line(record.get("tags") or {}),
        "words_beyond_good": reasons.get("words"),
        "distance_from_good": reasons.get("distance"),
        "value_low": low,
        "value_high": high,
        **model,
    }
    return {name: text_cell(value) for name, value in row.items()}


def text_cell(value: Any) -> Any:
    """The value; text that is not valid Unicode (an odd file name) with escapes."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value


def _region(region: Mapping[str, Any]) -> Region:
    outline = tuple((x, y) for x, y in region["polygon_px"])
    size = region.get("size_mm")
    return Region(
        **{
            **region,
            "box_px": tuple(region["box_px"]),
            "polygon_px": outline,
            "size_mm": None if size is None else tuple(size),
        }
    )
