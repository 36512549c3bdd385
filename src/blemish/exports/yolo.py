"""YOLO segmentation: a folder of images, one of labels, and data.yaml, as Ultralytics and supervision read it.

Format: https://docs.ultralytics.com/datasets/segment: a line `class x1 y1 x2 y2 ...` a region, in shares of width and height.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blemish.errors import ImageError, UsageError
from blemish.exports.common import empty_folder, inspected, picture_path, type_names, type_of
from blemish.exports.formats import Format
from blemish.images import read, save
from blemish.io.atomic import write_text
from blemish.runs.reading import Run

__all__ = ["FORMAT", "write_yolo"]

DIGITS = 6


def write_yolo(run: Run, out: Path) -> int:
    """Writes images, labels and data.yaml to the new folder `out`; how many images.

    Images are written as they were inspected, upright, as 8-bit PNG: readers take only some formats, and some of them ignore
    EXIF. Those that could not be inspected, or are no longer there, are left out (UsageError where that is so of all).
    """
    empty_folder(out)
    types = type_names(run)
    count = 0
    for number, record in enumerate(inspected(run), start=1):
        name = (
            picture_path(record, number).as_posix().replace("/", "__")
        )  # readers look into one folder, without those in it
        if not _write_image(record, out / "images" / f"{name}.png"):
            continue
        lines = [_line(types.index(type_of(region)), region, record) for region in record["regions"]]
        write_text(out / "labels" / f"{name}.txt", "".join(f"{line}\n" for line in lines))
        count += 1
    if not count:
        raise UsageError(f"{run.path}: none of its images is where it was when it was inspected")
    listed = ", ".join(json.dumps(name, ensure_ascii=False) for name in types)
    write_text(out / "data.yaml", f"path: .\ntrain: images\nval: images\nnc: {len(types)}\nnames: [{listed}]\n")
    return count


def _write_image(record: Mapping[str, Any], path: Path) -> bool:
    """Writes the image as it was inspected; whether it is still there."""
    try:
        picture = read(record["source"], value_range=record["value_range"], max_megapixels=float("inf"))
    except ImageError:
        return False
    save(picture.as_bytes(), path)
    return True


def _line(number: int, region: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    width, height = record["width_px"], record["height_px"]
    places = [f"{x / width:.{DIGITS}f} {y / height:.{DIGITS}f}" for x, y in region["polygon_px"]]
    return f"{number} {' '.join(places)}"


FORMAT = Format(write=write_yolo, writes_folder=True)
