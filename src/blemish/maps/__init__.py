"""Maps of scores: enlarged, cut into connected regions, outlined."""

from __future__ import annotations

from blemish.maps.components import Blob, Part, find_blobs, label, part_above
from blemish.maps.hysteresis import grow_blobs
from blemish.maps.morphology import dilate
from blemish.maps.polygons import outline, polygon
from blemish.maps.resize import at_original, enlarge, mask_at
from blemish.maps.visible import visible_from, visible_part

__all__ = [
    "Blob",
    "Part",
    "at_original",
    "dilate",
    "enlarge",
    "find_blobs",
    "grow_blobs",
    "label",
    "mask_at",
    "outline",
    "part_above",
    "polygon",
    "visible_from",
    "visible_part",
]
