"""A finished run in the formats that other tools read: one module a format."""

from __future__ import annotations

from blemish.plugins import Registry

__all__ = ["FORMATS"]

# A name stands for a `blemish.exports.formats.Format`.
FORMATS = Registry(
    "blemish.exports",
    "format",
    {
        "coco": "blemish.exports.coco:FORMAT",
        "csv": "blemish.exports.tables:CSV",
        "fiftyone": "blemish.exports.fiftyone:FORMAT",
        "label-studio": "blemish.exports.label_studio:FORMAT",
        "masks": "blemish.exports.masks:FORMAT",
        "parquet": "blemish.exports.tables:PARQUET",
        "yolo-seg": "blemish.exports.yolo:FORMAT",
    },
)
