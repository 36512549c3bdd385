"""Every official download, and a user's own layouts, as a handful of tiny files, with what a reader must find in them."""

from __future__ import annotations

from miniatures.downloads import aitex, kvasir_split
from miniatures.expected import Found, Miniature, found_in
from miniatures.files import BLOB, BLOB_PX, SIZE, image, mask, packed, table
from miniatures.official import OFFICIAL
from miniatures.own import LIST, LISTED, OWN, listed_files

__all__ = [
    "BLOB",
    "BLOB_PX",
    "LIST",
    "LISTED",
    "OFFICIAL",
    "OWN",
    "SIZE",
    "Found",
    "Miniature",
    "aitex",
    "found_in",
    "image",
    "kvasir_split",
    "listed_files",
    "mask",
    "packed",
    "table",
]
