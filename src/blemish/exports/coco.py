"""COCO: one JSON file with images, regions and types, as pycocotools, CVAT, FiftyOne and supervision read it.

Format: https://cocodataset.org/#format-data. Polygons are outlines through corners of pixels; run lengths (`rle`) are exact.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blemish.exports.common import blobs_of, common_folder, inspected, type_names, type_of
from blemish.exports.formats import Format
from blemish.io.atomic import write_text
from blemish.io.json_files import json_line
from blemish.maps import Blob
from blemish.runs.reading import Run

__all__ = ["FORMAT", "write_coco"]


def write_coco(run: Run, path: Path, *, rle: bool = False) -> int:
    """Writes the run to a JSON file: a category for each type, an annotation with its score for each region; how many images.

    `file_name` is relative to the folder named under info. With `rle` regions are uncompressed run lengths, column by column,
    holes and all, instead of polygons. Images that could not be inspected are left out.
    """
    root = common_folder(run)
    types = type_names(run)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, record in enumerate(inspected(run), start=1):
        size = (record["width_px"], record["height_px"])
        images.append(
            {
                "id": number,
                "file_name": Path(os.path.relpath(record["source"], root)).as_posix(),
                "width": size[0],
                "height": size[1],
                "score": record["image_score"],
                "verdict": record["verdict"],
            }
        )
        blobs = blobs_of(run, record) if rle else [None] * len(record["regions"])
        for region, blob in zip(record["regions"], blobs, strict=True):
            shape = [_flat(region)] if blob is None else {"counts": run_lengths(blob, size), "size": [size[1], size[0]]}
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": types.index(type_of(region)) + 1,
                    "segmentation": shape,
                    "bbox": _box(region),
                    "area": region["area_px"],
                    "iscrowd": 0,
                    "score": region["peak_score"],
                }
            )
    content = {
        "info": {
            "description": "Regions found by Blemish",
            "version": run.record["model"]["version"],
            "folder": str(root),
        },
        "images": images,
        "categories": [{"id": number, "name": name} for number, name in enumerate(types, start=1)],
        "annotations": annotations,
    }
    write_text(path, json_line(content) + "\n")
    return len(images)


def run_lengths(blob: Blob, size: tuple[int, int]) -> list[int]:
    """How many pixels of an image of `size` (width, height) are outside, inside, outside ... the blob, down its columns."""
    rows, across = blob.slices
    columns = np.zeros((across.stop - across.start, size[1]), bool)  # of the box alone: a large image has many more
    columns[:, rows] = blob.pixels.T
    turns = np.flatnonzero(np.diff(columns.ravel(), prepend=False, append=False)) + across.start * size[1]
    lengths = [int(length) for length in np.diff(turns, prepend=0, append=size[0] * size[1])]
    return lengths if lengths[-1] else lengths[:-1]


def _flat(region: Mapping[str, Any]) -> list[int]:
    return [value for point in region["polygon_px"] for value in point]


def _box(region: Mapping[str, Any]) -> list[int]:
    x0, y0, x1, y1 = region["box_px"]
    return [x0, y0, x1 - x0, y1 - y0]


FORMAT = Format(write=write_coco, options=("rle",))
