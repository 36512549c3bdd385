"""Pictures of an inspection, drawn when they are asked for: overlay, mask, heat map, the image for a browser."""

from __future__ import annotations

import io
import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from PIL import Image

from blemish.drawing.colours import heat
from blemish.drawing.overlay import draw_overlay
from blemish.errors import ImageError
from blemish.images import Picture, read
from blemish.results import Inspection
from blemish.runs.maps import read_maps
from blemish.runs.records import inspection_of
from blemish.serve.data_folder import DataFolder

__all__ = ["PictureGone", "PictureKind", "Pictures"]

PictureKind = Literal["image", "overlay", "mask", "map"]
MOST_CACHED_BYTES = 64 * 2**20
JPEG_QUALITY = 88


class PictureGone(Exception):  # noqa: N818  (what happened, and no mistake)
    """The files that a picture is made of are there no more, or never were."""


class Pictures:
    """Draws pictures from the files of a data folder, and keeps the last ones in memory."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self._cache: OrderedDict[tuple[str, str, int], tuple[bytes, str]] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()

    def draw(self, row: Any, kind: PictureKind, *, most_px: int = 0) -> tuple[bytes, str]:
        """The picture of an inspection's row, and its media type.

        Args:
            row: Of the table of inspections.
            kind: "image" (JPEG), "overlay" (JPEG), "mask" (PNG, 1 bit) or "map" (PNG with transparency, to lie above the image).
            most_px: The longer side at most; 0 for the original size.

        Raises:
            PictureGone: Image or maps are gone.
        """
        key = (row.id, kind, most_px)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        draw: dict[str, Callable[[Any], Image.Image]] = {
            "image": self._image,
            "overlay": self._overlay,
            "mask": self._mask,
            "map": self._map,
        }
        try:
            picture = draw[kind](row)
        except (OSError, ValueError, KeyError) as error:
            raise PictureGone(str(error)) from error
        if most_px and max(picture.size) > most_px:
            picture.thumbnail((most_px, most_px))
        made = _encoded(picture)
        with self._lock:
            self._cache[key] = made
            self._held += len(made[0])
            while self._held > MOST_CACHED_BYTES and len(self._cache) > 1:
                _, (dropped, _) = self._cache.popitem(last=False)
                self._held -= len(dropped)
        return made

    def inspection(self, row: Any) -> Inspection:
        """The inspection of a row with its maps; PictureGone where they are gone."""
        if row.record is None or row.maps is None:
            raise PictureGone("there are no maps of it")
        record = json.loads(row.record)
        path = self._folder.path_of(row.maps)
        if not path.is_file():
            raise PictureGone("its maps are gone")
        maps = read_maps(path, width_px=record["width_px"], height_px=record["height_px"])
        return inspection_of(record, maps)

    def _picture(self, row: Any, value_range: tuple[float, float] | None) -> Picture:
        if row.image is None:
            raise PictureGone("its image is kept no more")
        try:
            return read(self._folder.path_of(row.image), value_range=value_range, max_megapixels=float("inf"))
        except ImageError as error:
            raise PictureGone(error.reason) from error

    def _image(self, row: Any) -> Image.Image:
        record = json.loads(row.record) if row.record else {}
        value_range = record.get("value_range")
        picture = self._picture(row, None if value_range is None else (value_range[0], value_range[1]))
        return Image.fromarray(picture.pixels if picture.pixels.dtype == np.uint8 else picture.as_bytes())

    def _overlay(self, row: Any) -> Image.Image:
        inspection = self.inspection(row)
        return draw_overlay(self._picture(row, inspection.value_range), inspection)

    def _mask(self, row: Any) -> Image.Image:
        return Image.fromarray(self.inspection(row).mask())

    def _map(self, row: Any) -> Image.Image:
        inspection = self.inspection(row)
        return Image.fromarray(heat(inspection.map_at_original(), inspection.thresholds.pixel))


def _encoded(picture: Image.Image) -> tuple[bytes, str]:
    held = io.BytesIO()
    if picture.mode == "RGB":
        picture.save(held, "JPEG", quality=JPEG_QUALITY)
        return held.getvalue(), "image/jpeg"
    picture.save(held, "PNG", compress_level=1)
    return held.getvalue(), "image/png"
