"""The pictures of an inspection: overlay, mask and, where they are kept, raw maps, below the folder of results."""

from __future__ import annotations

import errno
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from blemish.drawing.overlay import draw_overlay
from blemish.errors import OutputError
from blemish.images import save
from blemish.inspection.inspector import Inspected
from blemish.io.atomic import reason
from blemish.io.run_files import MAPS, MASKS, OVERLAYS
from blemish.maps import grow_blobs, visible_part
from blemish.runs.maps import write_maps
from blemish.runs.records import record_of

__all__ = ["PictureWriter"]

JPEG_MOST_PX = 65_500  # what libjpeg writes, across or down
# What the name or the size of one picture can cause (None: Pillow's encoder); anything else befalls all that follow.
OF_ONE_PICTURE = {
    *(None, errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG),
    *(errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
}


class PictureWriter:
    """Writes the pictures of inspections; safe in any thread.

    Args:
        path: The folder of results.
        keep_maps: The raw maps are kept, too.
        overlays: Overlays are written.
        masks: Masks are written.
    """

    def __init__(self, path: Path, *, keep_maps: bool = False, overlays: bool = True, masks: bool = True) -> None:
        self.path = path
        self.keep_maps = keep_maps
        self.overlays = overlays
        self.masks = masks

    def record_of(self, inspected: Inspected, name: PurePosixPath) -> dict[str, Any]:
        """The record of an inspection whose pictures have this name (relative, without suffix)."""
        inspection = inspected.inspection
        too_large = max(inspection.width_px, inspection.height_px) > JPEG_MOST_PX
        return record_of(
            inspection,
            overlay=f"{OVERLAYS}/{name}{'.png' if too_large else '.jpg'}" if self.overlays else None,
            mask=f"{MASKS}/{name}.png" if self.masks else None,
            maps=f"{MAPS}/{name}.npz" if self.keep_maps else None,
        )

    def write(self, inspected: Inspected, record: dict[str, Any]) -> dict[str, Any]:
        """Writes the pictures that a record names; the record, with an error where this image alone stands in the way.

        Raises:
            OutputError: Something else stands in the way.
        """
        inspection, part = inspected.inspection, inspected.part
        try:
            if record["maps"] is not None:
                write_maps(inspection, self.path / record["maps"])
            level = inspection.region_level
            if part is None and (record["mask"] is not None or record["overlay"] is not None):
                part = visible_part(inspection.anomaly_map, inspection.map_at_original(), pixel_threshold=level)
            if record["mask"] is not None and part is not None:
                marked = np.zeros((inspection.height_px, inspection.width_px), bool)
                within = marked[part.slices]
                for blob in grow_blobs(part.scores, threshold=level):
                    within[blob.slices] |= blob.pixels
                save(marked, self.path / record["mask"])
            if record["overlay"] is not None:
                save(draw_overlay(inspected.picture, inspection, part=part), self.path / record["overlay"])
        except MemoryError:
            return _without(record, "its pictures cannot be drawn (they do not fit into memory)")
        except OutputError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in OF_ONE_PICTURE:
                return _without(record, f"its pictures cannot be written ({reason(error.__cause__)})")
            raise
        return record


def _without(record: dict[str, Any], why: str) -> dict[str, Any]:
    """The record of an inspection whose pictures are not there."""
    return {**record, "error": why, "overlay": None, "mask": None, "maps": None}
