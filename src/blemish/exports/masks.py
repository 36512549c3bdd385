"""Masks as plain PNG: one of all regions, and one that says which type each pixel has."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from blemish.errors import UsageError
from blemish.exports.common import blobs_of, empty_folder, inspected, picture_path, type_names, type_of
from blemish.exports.formats import Format
from blemish.images import save
from blemish.io.atomic import write_text
from blemish.io.json_files import json_text
from blemish.runs.reading import Run

__all__ = ["FORMAT", "write_masks"]

MOST_TYPES = 255


def write_masks(run: Run, out: Path) -> int:
    """Writes the new folder `out`; how many images are in it.

    masks/NAME.png: 255 in the listed regions, else 0. types/NAME.png: 0, or the number of the region's type, where
    types.json has the names of the numbers. 8-bit grey, at the images' size.
    """
    types = type_names(run)
    if len(types) > MOST_TYPES:
        raise UsageError(f"masks of 8 bits hold {MOST_TYPES} types, not {len(types)}: use --format coco")
    empty_folder(out)
    count = 0
    for count, record in enumerate(inspected(run), start=1):
        name = f"{picture_path(record, count)}.png"
        numbers = np.zeros((record["height_px"], record["width_px"]), np.uint8)
        for region, blob in zip(record["regions"], blobs_of(run, record), strict=True):
            numbers[blob.slices][blob.pixels] = types.index(type_of(region)) + 1
        save(np.where(numbers > 0, np.uint8(255), np.uint8(0)), out / "masks" / name)
        save(numbers, out / "types" / name)
    write_text(out / "types.json", json_text({str(number): name for number, name in enumerate(types, start=1)}))
    return count


FORMAT = Format(write=write_masks, writes_folder=True)
