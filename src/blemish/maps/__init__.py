"""Maps of scores: enlarged, cut into connected regions, outlined. NumPy only."""

from __future__ import annotations

from blemish.maps.components import Blob, Part, find_blobs, label, part_above
from blemish.maps.polygons import outline, polygon
from blemish.maps.resize import at_original, enlarge

__all__ = ["Blob", "Part", "at_original", "enlarge", "find_blobs", "label", "outline", "part_above", "polygon"]
