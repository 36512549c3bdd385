"""The only room that reads or writes an image: files, bytes, arrays and Pillow images in, upright RGB out."""

from __future__ import annotations

from blemish.images.depth import Learned, Picture, RangeGiven, Samples, ValueRanges
from blemish.images.files import FoundImage, FoundImages, find_images, list_images
from blemish.images.kinds import SUFFIXES
from blemish.images.limits import DEFAULT_MEGAPIXELS
from blemish.images.masks import MaskValues
from blemish.images.reader import Header, ImageInput, decode, read, read_header, read_mask, read_size
from blemish.images.watching import REST_S, Arrivals, watch_images
from blemish.images.writer import save

__all__ = [
    "DEFAULT_MEGAPIXELS",
    "REST_S",
    "SUFFIXES",
    "Arrivals",
    "FoundImage",
    "FoundImages",
    "Header",
    "ImageInput",
    "Learned",
    "MaskValues",
    "Picture",
    "RangeGiven",
    "Samples",
    "ValueRanges",
    "decode",
    "find_images",
    "list_images",
    "read",
    "read_header",
    "read_mask",
    "read_size",
    "save",
    "watch_images",
]
