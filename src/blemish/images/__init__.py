"""The only room that reads or writes an image: files, bytes, arrays and Pillow images in, upright RGB out."""

from __future__ import annotations

from blemish.images.depth import Picture, RangeGiven, Samples, ValueRanges
from blemish.images.files import SUFFIXES, FoundImage, find_images, list_images
from blemish.images.masks import MaskValues, read_mask, read_size
from blemish.images.reader import DEFAULT_MEGAPIXELS, Header, ImageInput, decode, read, read_header
from blemish.images.watching import watch_images
from blemish.images.writer import save

__all__ = [
    "DEFAULT_MEGAPIXELS",
    "SUFFIXES",
    "FoundImage",
    "Header",
    "ImageInput",
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
