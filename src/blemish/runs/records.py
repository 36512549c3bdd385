"""Records of inspections, and of images that could not be inspected, as JSON lines and as rows of a table.

docs/results.md describes every field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from blemish.errors import ImageError
from blemish.results import SCHEMA, Inspection, ModelInfo, Thresholds

__all__ = ["CSV_COLUMNS", "csv_row", "error_record", "json_line", "json_text", "record_of", "text_cell"]

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
    "min_area_px",
    "mm_per_px",
    "value_low",
    "value_high",
    "tags",
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
    """The record of an inspection, with the places of its pictures below the folder of results."""
    return {**inspection.to_dict(), "error": None, "overlay": overlay, "mask": mask, "maps": maps}


def error_record(error: ImageError, *, thresholds: Thresholds, model: ModelInfo) -> dict[str, Any]:
    """The record of an image that could not be inspected: all fields, with `error` saying why and no verdict."""
    nothing = dict.fromkeys(("width_px", "height_px", "verdict", "image_score", "image_score_from", "map_peak"))
    return {
        "schema": SCHEMA,
        "source": error.source,
        **nothing,
        "thresholds": thresholds.to_dict(),
        "top_type": None,
        "types": {},
        "regions": [],
        **dict.fromkeys(("min_area_px", "mm_per_px", "value_range")),
        "tags": {},
        "model": model.to_dict(),
        "error": error.reason,
        **dict.fromkeys(("overlay", "mask", "maps")),
    }


def json_line(record: Mapping[str, Any] | Sequence[Any], *, ascii_only: bool = False) -> str:
    """The record as one line of JSON without its line feed; `ascii_only` for streams of unknown encoding."""
    return _dump(record, ascii_only=ascii_only, separators=(",", ":"))


def json_text(record: Mapping[str, Any]) -> str:
    """The record as indented JSON with a line feed at its end."""
    return _dump(record, indent=2) + "\n"


def csv_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record flattened to CSV_COLUMNS; `types` and `regions` are JSON in their cells, None is an empty cell."""
    thresholds, model = record["thresholds"], record["model"]
    low, high = record["value_range"] or (None, None)
    row = {
        **{name: record.get(name) for name in CSV_COLUMNS},
        "threshold": thresholds["image"],
        "review_threshold": thresholds["review"],
        "pixel_threshold": thresholds["pixel"],
        "calibration": thresholds["calibration"],
        "pixel_calibration": thresholds["pixel_calibration"],
        "types": json_line(record["types"]),
        "region_count": len(record["regions"]),
        "regions": _dump(record["regions"], separators=(",", ":")),
        "tags": json_line(record.get("tags") or {}),
        "value_low": low,
        "value_high": high,
        **model,
    }
    return {name: text_cell(value) for name, value in row.items()}


def text_cell(value: Any) -> Any:
    """The value; text that is not valid Unicode (an odd file name) with escapes."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value


def _dump(value: Any, *, ascii_only: bool = False, **options: Any) -> str:
    text = json.dumps(value, ensure_ascii=ascii_only, allow_nan=False, **options)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a file name that is not valid text: JSON can still escape it
        return json.dumps(value, ensure_ascii=True, allow_nan=False, **options)
    return text
